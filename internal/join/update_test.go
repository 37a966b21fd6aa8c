// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
)

// dnsServer is a DNS server in memory that takes signed updates as RFC 3645
// says, or misbehaves.
type dnsServer struct {
	acceptor *kerberos.Acceptor
	gss      *kerberos.Context
	reverse  string // the reverse zone it holds
	rcode    int    // for updates
	how      string // "", "samba", "unsigned", "forged", "other id", "silent", "no key", "bad key", "refused"

	key     string
	updates []*dns.Msg
	reqMAC  string
}

// Generate signs as the server; Samba leaves out the length in front of the
// question's signature.
func (s *dnsServer) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) {
	if s.how == "samba" && s.reqMAC != "" {
		msg = msg[2:]
	}
	mic, err := s.gss.MIC(msg)
	if s.how == "forged" && s.reqMAC != "" {
		mic[len(mic)-1] ^= 1
	}
	return mic, err
}

func (s *dnsServer) Verify(msg []byte, t *dns.TSIG) error {
	mic, _ := hex.DecodeString(t.MAC)
	return s.gss.VerifyMIC(msg, mic)
}

func (s *dnsServer) dial(_ context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" || address != "10.0.0.4:53" {
		return nil, fault.Errorf(fault.Internal, "dialled %s %s", network, address)
	}
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		conn := &dns.Conn{Conn: b}
		raw, err := conn.ReadMsgHeader(nil)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if err := q.Unpack(raw); err != nil {
			return
		}
		if reply := s.answer(q, raw); reply != nil {
			_, _ = conn.Write(reply)
			_, _ = io.Copy(io.Discard, b)
		}
	}()
	return a, nil
}

func (s *dnsServer) answer(q *dns.Msg, raw []byte) []byte {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	s.reqMAC = ""
	sign := true
	switch {
	case q.Opcode == dns.OpcodeUpdate:
		t := q.IsTsig()
		if t == nil || dns.TsigVerifyWithProvider(raw, s, "", false) != nil {
			m.Rcode, sign = dns.RcodeNotAuth, false
			break
		}
		s.reqMAC = t.MAC
		s.updates = append(s.updates, q)
		m.Rcode = s.rcode
		switch s.how {
		case "silent":
			return nil
		case "unsigned":
			sign = false
		case "other id":
			m.Id++
		}
	case q.Question[0].Qtype == dns.TypeTKEY:
		tkey := *q.Extra[0].(*dns.TKEY)
		s.key = tkey.Hdr.Name
		switch s.how {
		case "refused":
			m.Rcode, sign = dns.RcodeRefused, false
		case "bad key":
			tkey.Error, tkey.Key, tkey.KeySize, sign = dns.RcodeBadKey, "", 0, false
			m.Answer = []dns.RR{&tkey}
		case "no key":
			sign = false
		default:
			token, _ := hex.DecodeString(tkey.Key)
			in, err := s.acceptor.Accept(token, nil)
			if err != nil {
				m.Rcode, sign = dns.RcodeRefused, false
				break
			}
			s.gss = in.Context
			tkey.Key, tkey.KeySize = hex.EncodeToString(in.Reply), uint16(len(in.Reply))
			m.Answer = []dns.RR{&tkey}
		}
	default:
		sign = false
		if s.reverse != "" && dns.IsSubDomain(s.reverse, q.Question[0].Name) {
			m.Ns = []dns.RR{&dns.SOA{Hdr: header(s.reverse, dns.TypeSOA), Ns: "dc1.", Mbox: "x."}}
		} else {
			m.Ns = []dns.RR{&dns.SOA{Hdr: header("in-addr.arpa.", dns.TypeSOA), Ns: "a.", Mbox: "x."}}
		}
	}
	if !sign {
		out, _ := m.Pack()
		return out
	}
	m.SetTsig(s.key, gssTSIG, 300, time.Now().Unix())
	out, _, err := dns.TsigGenerateWithProvider(m, s, s.reqMAC, false)
	if err != nil {
		panic(err)
	}
	return out
}

// openTestZone agrees on a key with a server.
func openTestZone(t *testing.T, s *dnsServer) (*updater, error) {
	t.Helper()
	k := krbtest.New(testRealm)
	dc := k.Add(krbtest.Account{Name: []string{"DC1$"}, Password: "dc", Aliases: [][]string{{"DNS", "dc1." + testDomain}}})
	s.acceptor = kerberos.NewAcceptor(k.Keytab(dc))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return openZone(ctx, s.dial, directory.DC{Host: "dc1." + testDomain, Addr: dcAddr, DNSDomain: testDomain}, k.Ticket("NAS$", []string{"DNS", "dc1." + testDomain}, dc))
}

func TestSignedUpdates(t *testing.T) {
	for _, how := range []string{"", "samba"} {
		s := &dnsServer{how: how, reverse: "1.168.192.in-addr.arpa."}
		u, err := openTestZone(t, s)
		if err != nil {
			t.Fatal(err)
		}
		addrs := []netip.Addr{netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("2001:db8::7")}
		done, err := u.register(t.Context(), "nas."+testDomain, addrs)
		if err != nil {
			t.Fatalf("%q: %v", how, err)
		}
		if !slices.Equal(done.addrs, addrs) || !slices.Equal(done.ptr, addrs[:1]) || len(done.notes) != 1 {
			t.Errorf("%q: done %+v", how, done)
		}
		if len(s.updates) != 2 {
			t.Fatalf("%q: %d updates, want the name and one reverse name", how, len(s.updates))
		}
		var text []string
		for _, m := range s.updates {
			text = append(text, m.Question[0].Name)
			for _, rr := range m.Ns {
				text = append(text, strings.Join(strings.Fields(rr.String()), " "))
			}
		}
		want := []string{testDomain + ".",
			"nas." + testDomain + ". 0 CLASS255 A", "nas." + testDomain + ". 0 CLASS255 AAAA",
			"nas." + testDomain + ". 1200 IN A 192.168.1.7", "nas." + testDomain + ". 1200 IN AAAA 2001:db8::7",
			s.reverse, "7.1.168.192.in-addr.arpa. 0 CLASS255 PTR", "7.1.168.192.in-addr.arpa. 1200 IN PTR nas." + testDomain + "."}
		for i, line := range text {
			text[i] = strings.ReplaceAll(line, " ANY ", " CLASS255 ")
		}
		if !slices.Equal(text, want) {
			t.Errorf("%q: sent\n%s\nwant\n%s", how, strings.Join(text, "\n"), strings.Join(want, "\n"))
		}
		if err := u.unregister(t.Context(), "nas."+testDomain, addrs); err != nil {
			t.Errorf("%q: %v", how, err)
		}
		if last := s.updates[len(s.updates)-1]; len(last.Ns) != 2 || last.Ns[0].Header().Class != dns.ClassANY {
			t.Errorf("%q: removal sent %v", how, last)
		}
	}
}

func TestUpdatesThatFail(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("192.168.1.7")}
	for name, tc := range map[string]struct {
		server dnsServer
		kind   fault.Kind
		say    string
	}{
		"no key for us":       {dnsServer{how: "refused"}, fault.Denied, "REFUSED"},
		"key with an error":   {dnsServer{how: "bad key"}, fault.Denied, "BAD"},
		"answer without key":  {dnsServer{how: "no key"}, fault.Malformed, "without a key"},
		"update refused":      {dnsServer{rcode: dns.RcodeRefused}, fault.Denied, "REFUSED"},
		"refused, not signed": {dnsServer{rcode: dns.RcodeRefused, how: "unsigned"}, fault.Denied, "REFUSED"},
		"the server's fault":  {dnsServer{rcode: dns.RcodeServerFailure}, fault.Unreachable, "SERVFAIL"},
		"not signed":          {dnsServer{how: "unsigned"}, fault.BadCredential, "did not sign"},
		"forged":              {dnsServer{how: "forged"}, fault.Unreachable, "bad signature"},
		"another's answer":    {dnsServer{how: "other id"}, fault.Malformed, "another question"},
		"no answer":           {dnsServer{how: "silent"}, fault.Unreachable, "EOF"},
	} {
		u, err := openTestZone(t, &tc.server)
		if err == nil {
			_, err = u.register(t.Context(), "nas."+testDomain, addrs)
		}
		if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%s: %v %v, want %v that says %q", name, fault.KindOf(err), err, tc.kind, tc.say)
		}
	}
}

func TestForgedKeyAnswer(t *testing.T) {
	s := &dnsServer{}
	if _, err := openTestZone(t, s); err != nil {
		t.Fatal(err)
	}
	// A server that does not hold the DC's key cannot answer.
	other := krbtest.New(testRealm)
	acc := other.Add(krbtest.Account{Name: []string{"DC1$"}, Password: "another", Aliases: [][]string{{"DNS", "dc1." + testDomain}}})
	mine := krbtest.New(testRealm)
	dc := mine.Add(krbtest.Account{Name: []string{"DC1$"}, Password: "dc", Aliases: [][]string{{"DNS", "dc1." + testDomain}}})
	s = &dnsServer{acceptor: kerberos.NewAcceptor(other.Keytab(acc))}
	if _, err := openZone(t.Context(), s.dial, directory.DC{Host: "dc1." + testDomain, Addr: dcAddr, DNSDomain: testDomain}, mine.Ticket("NAS$", []string{"DNS", "dc1." + testDomain}, dc)); err == nil {
		t.Error("a server without the key was believed")
	}
}

// FuzzKeyAnswer gives openZone any answer to its TKEY question.
func FuzzKeyAnswer(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("x.", dns.TypeTKEY)
	m.Answer = []dns.RR{&dns.TKEY{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeTKEY, Class: dns.ClassANY}, Algorithm: gssTSIG, Mode: tkeyGSS, KeySize: 2, Key: "abcd"}}
	good, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, token, err := readKeyAnswer(b, "x.")
		if err != nil {
			return
		}
		again, err := reply.Pack()
		if err != nil {
			return // the library reads names that it does not write
		}
		if _, token2, err := readKeyAnswer(again, "x."); err != nil || !bytes.Equal(token, token2) {
			t.Fatalf("%x came back as %x, %v", token, token2, err)
		}
	})
}
