// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
)

const (
	testDomain = "example.test"
	testRealm  = "EXAMPLE.TEST"
	testBase   = "DC=example,DC=test"
)

var (
	testGUID       = identity.GUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	testInvocation = identity.GUID{0xaa, 0xbb}
)

// fakeDC answers LDAP on pipes: the ping, the bind, and searches by a handler.
type fakeDC struct {
	kdc     *krbtest.KDC
	account *krbtest.Account
	addr    netip.Addr
	host    string

	layers  byte // offered; 0 means all three
	noProof bool // success at once, without AP-REP
	clear   bool // answers in clear after the bind
	silent  bool // takes connections and says nothing
	mute    bool // does not answer pings

	// search answers one search; nil entries and false says nothing at all.
	search func(q fakeQuery) (entries []Entry, ok bool)

	mu   sync.Mutex
	raw  []byte // everything that clients sent
	live []net.Conn
}

type fakeQuery struct {
	base   string
	scope  int
	filter string
	attrs  []string
	page   uint32
	cookie string
	oids   []string
}

// network is the DCs of one domain and the client side's way to them.
type network struct {
	kdc *krbtest.KDC
	dcs map[netip.Addr]*fakeDC
}

func newNetwork(t testing.TB, n int) (*network, []*fakeDC) {
	t.Helper()
	kdc := krbtest.New(testRealm)
	kdc.Add(krbtest.Account{Name: []string{"alice"}, Password: "pw"})
	net := &network{kdc: kdc, dcs: map[netip.Addr]*fakeDC{}}
	var all []*fakeDC
	for i := range n {
		host := string(rune('a'+i)) + "." + testDomain
		d := &fakeDC{kdc: kdc, host: host, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}
		d.account = kdc.Add(krbtest.Account{Name: []string{strings.ToUpper(host[:1]) + "$"}, Password: "dc" + host, DC: true, Aliases: [][]string{{"ldap", host}}})
		d.search = d.standard
		net.dcs[d.addr] = d
		all = append(all, d)
	}
	return net, all
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ap := netip.MustParseAddrPort(address)
	d := n.dcs[ap.Addr()]
	if ap.Port() == 88 {
		return n.kdc.Dial(ctx, network, address)
	}
	if d == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.live = append(d.live, ours)
	d.mu.Unlock()
	if network == "udp" {
		go d.servePing(ours)
	} else {
		go func() {
			defer ours.Close()
			_ = d.serve(ours)
		}()
	}
	return theirs, nil
}

// socketPair is net.Pipe with buffers, as TCP has.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	for i, into := range []*net.Conn{&a, &b} {
		f := os.NewFile(uintptr(fds[i]), "socketpair")
		defer f.Close()
		if *into, err = net.FileConn(f); err != nil {
			return nil, nil, err
		}
	}
	return a, b, nil
}

func (n *network) locator(t testing.TB, hosts ...string) *Locator {
	t.Helper()
	if len(hosts) == 0 {
		for a := range n.dcs {
			hosts = append(hosts, a.String())
		}
	}
	l, err := NewLocator(LocatorConfig{Domain: testDomain, DCs: hosts, Dial: n.dial, PingTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (n *network) client(t testing.TB, l *Locator) *Client {
	t.Helper()
	kc := kerberos.NewClient(kerberos.Config{Realm: testRealm, Servers: l, Dial: n.dial})
	s := kerberos.NewSession(kc, kerberos.Account("alice", testRealm), password("pw"))
	c := NewClient(Config{Locator: l, Credential: s, Dial: n.dial})
	t.Cleanup(func() { _ = c.Close(); s.Close() })
	return c
}

// hangUp closes every connection, as a DC that restarts.
func (d *fakeDC) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.live {
		_ = c.Close()
	}
	d.live = nil
}

func (d *fakeDC) servePing(conn net.Conn) {
	defer conn.Close()
	for {
		p, err := ber.ReadPacket(conn)
		if err != nil {
			return
		}
		if d.mute || d.silent {
			continue
		}
		if a := p.Children[1].Children[7].Children; a[0].Value.(string) != "Netlogon" {
			_ = (&session{d: d, conn: conn}).answer(p.Children[0].Value.(int64), p)
			continue
		}
		dc := DC{Host: d.host, DNSDomain: testDomain, Forest: testDomain, NetBIOS: "EXAMPLE", Computer: "X", Site: "S", ClientSite: "S",
			DomainGUID: testGUID, Flags: DCIsKDC | DCIsLDAP | DCIsDS | DCIsWritable}
		e := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 4, nil, "")
		e.AppendChild(octets(""))
		e.AppendChild(attributes([]Attribute{{"Netlogon", [][]byte{appendNetlogon(dc)}}}))
		_, _ = conn.Write(message(1, e).Bytes())
	}
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func message(id int64, op *ber.Packet) *ber.Packet {
	m := ber.NewSequence("")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	m.AppendChild(op)
	return m
}

func attributes(as []Attribute) *ber.Packet {
	list := ber.NewSequence("")
	for _, a := range as {
		one := ber.NewSequence("")
		one.AppendChild(octets(a.Name))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
		for _, v := range a.Values {
			set.AppendChild(octets(string(v)))
		}
		one.AppendChild(set)
		list.AppendChild(one)
	}
	return list
}

// result makes an LDAPResult under the application tag given.
func result(tag ber.Tag, code int64, text string) *ber.Packet {
	r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	r.AppendChild(octets(""))
	r.AppendChild(octets(text))
	return r
}

// session is the server's side of one connection.
type session struct {
	d    *fakeDC
	conn net.Conn
	gss  *kerberos.Context
	in   []byte // opened, not yet parsed
	on   bool   // sealing
	step int
}

// Read gives the parser the bytes behind the frames.
func (s *session) Read(p []byte) (int, error) {
	for len(s.in) == 0 {
		if !s.on {
			n, err := s.conn.Read(p)
			s.d.mu.Lock()
			s.d.raw = append(s.d.raw, p[:n]...)
			s.d.mu.Unlock()
			return n, err
		}
		var head [4]byte
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return 0, err
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(s.conn, frame); err != nil {
			return 0, err
		}
		s.d.mu.Lock()
		s.d.raw = append(s.d.raw, frame...)
		s.d.mu.Unlock()
		plain, sealed, err := s.gss.Open(frame)
		if err != nil || !sealed {
			return 0, errors.New("the client does not seal")
		}
		s.in = plain
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *session) write(p *ber.Packet) error {
	b := p.Bytes()
	if s.on && !s.d.clear {
		// In pieces: a frame need not hold whole messages.
		for len(b) > 0 {
			n := min(len(b), 700)
			token, err := s.gss.Seal(b[:n])
			if err != nil {
				return err
			}
			if _, err := s.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
	if s.on && s.d.clear {
		token, err := s.gss.Sign(b)
		if err != nil {
			return err
		}
		b = append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)
	}
	_, err := s.conn.Write(b)
	return err
}

func (d *fakeDC) serve(conn net.Conn) error {
	s := &session{d: d, conn: conn}
	for {
		p, err := ber.ReadPacket(s)
		if err != nil {
			return err
		}
		if d.silent {
			continue
		}
		id := p.Children[0].Value.(int64)
		op := p.Children[1]
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			err = s.bind(id, op)
		case ldap.ApplicationSearchRequest:
			err = s.answer(id, p)
		case ldap.ApplicationUnbindRequest:
			return nil
		case ldap.ApplicationAddRequest:
			err = s.write(message(id, result(ldap.ApplicationAddResponse, 68, "00002071: UpdErr: exists")))
		case ldap.ApplicationModifyRequest:
			err = s.write(message(id, result(ldap.ApplicationModifyResponse, 50, "00002098: SecErr: no right")))
		case ldap.ApplicationDelRequest:
			err = s.write(message(id, result(ldap.ApplicationDelResponse, 0, "")))
		}
		if err != nil {
			return err
		}
	}
}

// bind is the acceptor of RFC 4752.
func (s *session) bind(id int64, op *ber.Packet) error {
	reply := func(code int64, token []byte) error {
		r := result(ldap.ApplicationBindResponse, code, "")
		r.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 7, string(token), ""))
		return s.write(message(id, r))
	}
	var token []byte
	if auth := op.Children[2]; len(auth.Children) > 1 {
		token = auth.Children[1].Data.Bytes()
	}
	if s.d.noProof {
		return reply(0, nil)
	}
	s.step++
	switch s.step {
	case 1:
		a, err := kerberos.NewAcceptor(s.d.kdc.Keytab(s.d.account)).Accept(token, nil)
		if err != nil {
			return reply(49, nil)
		}
		s.gss = a.Context
		return reply(14, a.Reply)
	case 2:
		layers := s.d.layers
		if layers == 0 {
			layers = layerNone | layerSign | layerSeal
		}
		offer, err := s.gss.Sign([]byte{layers, 0, 4, 0}) // 1024 bytes at a time
		if err != nil {
			return err
		}
		return reply(14, offer)
	}
	choice, _, err := s.gss.Open(token)
	if err != nil || len(choice) < 4 || choice[0] != layerSeal {
		return reply(49, nil)
	}
	err = reply(0, nil)
	s.on = true
	return err
}

func (s *session) answer(id int64, p *ber.Packet) error {
	op := p.Children[1]
	q := fakeQuery{base: op.Children[0].Value.(string), scope: int(op.Children[1].Value.(int64))}
	q.filter, _ = ldap.DecompileFilter(op.Children[6])
	for _, a := range op.Children[7].Children {
		q.attrs = append(q.attrs, a.Value.(string))
	}
	if len(p.Children) > 2 {
		for _, c := range p.Children[2].Children {
			q.oids = append(q.oids, c.Children[0].Value.(string))
			if ctl, err := ldap.DecodeControl(c); err == nil {
				if pg, ok := ctl.(*ldap.ControlPaging); ok {
					q.page, q.cookie = pg.PagingSize, string(pg.Cookie)
				}
			}
		}
	}
	entries, ok := s.d.search(q)
	if !ok {
		return nil
	}
	cookie := ""
	if q.page > 0 {
		from := len(q.cookie)
		to := min(from+int(q.page), len(entries))
		if to < len(entries) {
			cookie = strings.Repeat("x", to)
		}
		entries = entries[from:to]
	}
	for _, e := range entries {
		r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
		r.AppendChild(octets(e.DN))
		r.AppendChild(attributes(e.Attributes))
		if err := s.write(message(id, r)); err != nil {
			return err
		}
	}
	code := int64(0)
	if entries == nil && q.scope == int(Base) {
		code = ldap.LDAPResultNoSuchObject
	}
	m := message(id, result(ldap.ApplicationSearchResultDone, code, ""))
	if q.page > 0 {
		pg := ldap.NewControlPaging(0)
		pg.SetCookie([]byte(cookie))
		list := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		list.AppendChild(pg.Encode())
		m.AppendChild(list)
	}
	return s.write(m)
}

// standard answers what every connection asks.
func (d *fakeDC) standard(q fakeQuery) ([]Entry, bool) {
	switch {
	case q.base == "":
		return []Entry{{Attributes: []Attribute{Text("dnsHostName", d.host), Text("defaultNamingContext", testBase),
			Text("configurationNamingContext", "CN=Configuration,"+testBase), Text("rootDomainNamingContext", testBase),
			Text("dsServiceName", "CN=NTDS,"+testBase), Text("highestCommittedUSN", "4711"), Text("domainFunctionality", "7"),
			Text("currentTime", "20261122030632.0Z"), Text("supportedControl", "1.2.840.113556.1.4.528")}}}, true
	case q.base == "CN=NTDS,"+testBase:
		return []Entry{{DN: q.base, Attributes: []Attribute{{"invocationId", [][]byte{testInvocation.Bytes()}}}}}, true
	case q.base == "CN=Partitions,CN=Configuration,"+testBase && q.scope == int(OneLevel):
		return []Entry{{DN: "CN=EXAMPLE," + q.base, Attributes: []Attribute{Text("nETBIOSName", "EXAMPLE"), Text("dnsRoot", testDomain)}}}, true
	}
	return nil, true
}

// with answers what handler knows, and the rest as every DC does.
func (d *fakeDC) with(handler func(fakeQuery) ([]Entry, bool)) {
	d.search = func(q fakeQuery) ([]Entry, bool) {
		if q.base == "" || strings.Contains(q.base, "NTDS") || strings.Contains(q.base, "Partitions") {
			return d.standard(q)
		}
		return handler(q)
	}
}
