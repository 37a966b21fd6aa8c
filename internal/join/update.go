// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Limits of DNS updates.
const (
	updateTTL     = 1200 // seconds; what Windows gives its own records
	updateTimeout = 5 * time.Second
	signedFudge   = 300 // seconds that the clocks may differ (RFC 8945 10)
	tkeyGSS       = 3   // TKEY mode: GSS-API negotiation (RFC 2930 2.5)
	gssTSIG       = "gss-tsig."
)

// registered is what an update did.
type registered struct {
	addrs []netip.Addr
	ptr   []netip.Addr // of these the reverse name as well
	notes []string     // why not of the others
}

// updater sends signed DNS updates (RFC 2136, signed as RFC 3645 says with the
// machine's Kerberos ticket) to the DNS server of one DC.
type updater struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	server string
	domain string // zone of the machine's name
	key    string
	gss    *kerberos.Context
	sent   []byte // signature of the last question
}

// openZone makes the signing context with the DNS server on dc (TKEY).
func openZone(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), dc directory.DC, ticket *kerberos.Ticket) (*updater, error) {
	u := &updater{dial: dial, server: netip.AddrPortFrom(dc.Addr, 53).String(), domain: dns.Fqdn(dc.DNSDomain),
		key: strings.ToLower(rand.Text()) + ".sig-" + dns.Fqdn(dc.Host)}
	initiator, token, err := kerberos.NewInitiator(ticket, nil)
	if err != nil {
		return nil, err
	}
	now := uint32(time.Now().Unix())
	q := new(dns.Msg)
	q.SetQuestion(u.key, dns.TypeTKEY)
	q.Question[0].Qclass = dns.ClassANY
	q.RecursionDesired = false
	q.Extra = []dns.RR{&dns.TKEY{Hdr: dns.RR_Header{Name: u.key, Rrtype: dns.TypeTKEY, Class: dns.ClassANY},
		Algorithm: gssTSIG, Mode: tkeyGSS, Inception: now, Expiration: now + 3600,
		KeySize: uint16(len(token)), Key: hex.EncodeToString(token)}}
	raw, err := u.exchangeRaw(ctx, q)
	if err != nil {
		return nil, err
	}
	reply, token, err := readKeyAnswer(raw, u.key)
	if err != nil {
		return nil, err
	}
	if u.gss, err = initiator.Finish(token); err != nil {
		return nil, err
	}
	// The answer is signed with the context that it brings (RFC 3645 4.1.3).
	if reply.IsTsig() != nil {
		if err := dns.TsigVerifyWithProvider(raw, u, "", false); err != nil {
			return nil, fault.Wrap(fault.BadCredential, "check the DNS server's signature", err)
		}
	}
	return u, nil
}

// readKeyAnswer returns the server's token in the answer to a TKEY question.
func readKeyAnswer(raw []byte, key string) (reply *dns.Msg, token []byte, err error) {
	reply = new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, nil, fault.Wrap(fault.Malformed, "read the DNS server's answer", err)
	}
	if reply.Rcode != dns.RcodeSuccess {
		return nil, nil, refusal("agree on a key", reply.Rcode)
	}
	for _, rr := range reply.Answer {
		tkey, ok := rr.(*dns.TKEY)
		if !ok || !strings.EqualFold(tkey.Hdr.Name, key) {
			continue
		}
		if tkey.Error != 0 {
			return nil, nil, refusal("agree on a key", int(tkey.Error))
		}
		token, err := hex.DecodeString(tkey.Key)
		if err != nil || len(token) == 0 || len(token) != int(tkey.KeySize) {
			return nil, nil, fault.Errorf(fault.Malformed, "the DNS server's token has %d of %d bytes", len(token), tkey.KeySize)
		}
		return reply, token, nil
	}
	return nil, nil, fault.New(fault.Malformed, "the DNS server answered without a key")
}

// Generate and Verify are dns.TsigProvider: a checksum token instead of a HMAC.
func (u *updater) Generate(msg []byte, _ *dns.TSIG) (mic []byte, err error) {
	mic, err = u.gss.MIC(msg)
	u.sent = mic
	return mic, err
}

// Verify checks the server's signature. It covers the signature of the
// question, with its length in front (RFC 8945 4.3.1); Samba's own DNS server
// (4.17 at least) leaves the length out, and its answers are as good.
func (u *updater) Verify(msg []byte, t *dns.TSIG) error {
	mic, err := hex.DecodeString(t.MAC)
	if err != nil {
		return dns.ErrSig
	}
	if u.gss.VerifyMIC(msg, mic) == nil {
		return nil
	}
	question := append(binary.BigEndian.AppendUint16(nil, uint16(len(u.sent))), u.sent...)
	if len(u.sent) > 0 && bytes.HasPrefix(msg, question) && u.gss.VerifyMIC(msg[2:], mic) == nil {
		return nil
	}
	return dns.ErrSig
}

func (u *updater) close() {}

// connect opens a connection whose every read and write ends with ctx.
func (u *updater) connect(ctx context.Context) (*dns.Conn, error) {
	conn, err := u.dial(ctx, "tcp", u.server)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "connect to the DNS server "+u.server, err)
	}
	deadline := time.Now().Add(updateTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = conn.SetDeadline(deadline)
	return &dns.Conn{Conn: conn, TsigProvider: u}, nil
}

// exchangeRaw returns the answer's bytes, whose signature is yet unchecked.
func (u *updater) exchangeRaw(ctx context.Context, q *dns.Msg) ([]byte, error) {
	conn, err := u.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.WriteMsg(q); err != nil {
		return nil, fault.Wrap(fault.Unreachable, "ask the DNS server "+u.server, err)
	}
	raw, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "read the answer of the DNS server "+u.server, err)
	}
	if len(raw) < 2 || raw[0] != byte(q.Id>>8) || raw[1] != byte(q.Id) {
		return nil, fault.New(fault.Malformed, "the DNS server answered another question")
	}
	return raw, nil
}

// send signs an update, sends it and checks the answer.
func (u *updater) send(ctx context.Context, m *dns.Msg, what string) error {
	conn, err := u.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	m.SetTsig(u.key, gssTSIG, signedFudge, time.Now().Unix())
	if err := conn.WriteMsg(m); err != nil {
		return fault.Wrap(fault.Unreachable, what, err)
	}
	reply, err := conn.ReadMsg()
	switch {
	case err != nil && reply != nil && reply.Rcode != dns.RcodeSuccess:
		// A refusal need not be signed; it is believed, since it changes nothing.
		return refusal(what, reply.Rcode)
	case err != nil:
		return fault.Wrap(fault.Unreachable, what, err)
	case reply.Id != m.Id:
		return fault.New(fault.Malformed, what+": the DNS server answered another question")
	case reply.Rcode != dns.RcodeSuccess:
		return refusal(what, reply.Rcode)
	case reply.IsTsig() == nil:
		return fault.New(fault.BadCredential, what+": the DNS server did not sign its answer")
	}
	return nil
}

// refusal is an answer other than success.
func refusal(what string, rcode int) error {
	name, ok := dns.RcodeToString[rcode]
	if !ok {
		name = fmt.Sprintf("code %d", rcode)
	}
	kind := fault.Internal
	switch rcode {
	case dns.RcodeRefused, dns.RcodeNotAuth, dns.RcodeNotZone, dns.RcodeBadSig, dns.RcodeBadKey, dns.RcodeBadTime:
		kind = fault.Denied
	case dns.RcodeServerFailure:
		kind = fault.Unreachable
	}
	return fault.Errorf(kind, "%s: the DNS server answers %s", what, name)
}

// register puts the addresses of host in place of what is there, and the
// reverse names where there is a zone for them.
func (u *updater) register(ctx context.Context, host string, addrs []netip.Addr) (done registered, err error) {
	m := new(dns.Msg)
	m.SetUpdate(u.domain)
	name := dns.Fqdn(host)
	m.RemoveRRset([]dns.RR{&dns.A{Hdr: header(name, dns.TypeA)}, &dns.AAAA{Hdr: header(name, dns.TypeAAAA)}})
	for _, a := range addrs {
		m.Insert([]dns.RR{addressRecord(name, a)})
	}
	if err := u.send(ctx, m, "register "+host); err != nil {
		return done, err
	}
	done.addrs = addrs
	for _, a := range addrs {
		if err := u.reverse(ctx, a, name, true); err != nil {
			done.notes = append(done.notes, cause(err))
			continue
		}
		done.ptr = append(done.ptr, a)
	}
	return done, nil
}

// unregister takes the addresses of host away.
func (u *updater) unregister(ctx context.Context, host string, addrs []netip.Addr) error {
	name := dns.Fqdn(host)
	for _, a := range addrs {
		// Most domains have no reverse zone; where there is one, this is ours.
		_ = u.reverse(ctx, a, name, false)
	}
	m := new(dns.Msg)
	m.SetUpdate(u.domain)
	m.RemoveRRset([]dns.RR{&dns.A{Hdr: header(name, dns.TypeA)}, &dns.AAAA{Hdr: header(name, dns.TypeAAAA)}})
	return u.send(ctx, m, "remove "+host)
}

// reverse sets, or takes away, the PTR record of an address.
func (u *updater) reverse(ctx context.Context, a netip.Addr, name string, set bool) error {
	rev, err := dns.ReverseAddr(a.String())
	if err != nil {
		return fault.Wrap(fault.Internal, "reverse "+a.String(), err)
	}
	zone, err := u.zoneOf(ctx, rev)
	if err != nil {
		return err
	}
	m := new(dns.Msg)
	m.SetUpdate(zone)
	record := &dns.PTR{Hdr: header(rev, dns.TypePTR), Ptr: name}
	if set {
		m.RemoveRRset([]dns.RR{record})
		m.Insert([]dns.RR{record})
	} else {
		m.Remove([]dns.RR{record})
	}
	return u.send(ctx, m, "update the reverse name of "+a.String())
}

// zoneOf returns the reverse zone that the server holds for a name.
func (u *updater) zoneOf(ctx context.Context, rev string) (string, error) {
	q := new(dns.Msg)
	q.SetQuestion(rev, dns.TypeSOA)
	q.RecursionDesired = false
	raw, err := u.exchangeRaw(ctx, q)
	if err != nil {
		return "", err
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return "", fault.Wrap(fault.Malformed, "read the DNS server's answer", err)
	}
	for _, rr := range append(reply.Answer, reply.Ns...) {
		// in-addr.arpa and ip6.arpa themselves are nobody's to update.
		if soa, ok := rr.(*dns.SOA); ok && reply.Authoritative && dns.IsSubDomain(soa.Hdr.Name, rev) && dns.CountLabel(soa.Hdr.Name) > 2 {
			return soa.Hdr.Name, nil
		}
	}
	return "", fault.Errorf(fault.NotFound, "the domain has no reverse zone for %s", strings.TrimSuffix(rev, "."))
}

func header(name string, rtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rtype, Class: dns.ClassINET, Ttl: updateTTL}
}

func addressRecord(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}
