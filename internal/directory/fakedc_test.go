// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
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
