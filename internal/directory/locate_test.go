// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// nameServer is a DNS server on the loopback.
func nameServer(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// zone answers from records in the text form of zone files.
func zone(t *testing.T, records ...string) dns.HandlerFunc {
	var rrs []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		known := false
		for _, rr := range rrs {
			if strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				known = true
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
		if size := m.Len(); size > 512 && w.LocalAddr().Network() == "udp" {
			m.Answer, m.Truncated = nil, true
		}
		_ = w.WriteMsg(m)
	}
}

func TestResolverOrdersAndFallsBackToTCP(t *testing.T) {
	var records []string
	for i := range 20 {
		records = append(records, "_ldap._tcp.dc._msdcs.example.test. 60 IN SRV 1 0 389 a-long-host-name-number-"+string(rune('a'+i))+".example.test.")
	}
	records = append(records, "_ldap._tcp.dc._msdcs.example.test. 60 IN SRV 0 100 389 First.Example.test.",
		"_none._tcp.example.test. 60 IN SRV 0 0 0 .", "first.example.test. 60 IN AAAA 2001:db8::1", "first.example.test. 60 IN A 192.0.2.1", "six.example.test. 60 IN AAAA 2001:db8::2")
	r := NewResolver(nameServer(t, zone(t, records...)))
	got, err := r.SRV(ctxFor(t), "_ldap._tcp.dc._msdcs.example.test")
	if err != nil || len(got) != 21 || got[0].Host != "first.example.test" {
		t.Errorf("SRV = %+v, %v, want 21 with first.example.test in front", got, err)
	}
	addrs, err := r.Addrs(ctxFor(t), "first.example.test")
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}; err != nil || !slices.Equal(addrs, want) {
		t.Errorf("Addrs = %v, %v, want %v", addrs, err, want)
	}
	if addrs, err := r.Addrs(ctxFor(t), "six.example.test"); err != nil || len(addrs) != 1 {
		t.Errorf("IPv6 only: %v, %v", addrs, err)
	}
	for _, name := range []string{"_none._tcp.example.test", "_ldap._tcp.nowhere.test", "_ldap._tcp.first.example.test"} {
		if got, err := r.SRV(ctxFor(t), name); !fault.Is(err, fault.NotFound) {
			t.Errorf("SRV(%s) = %v, %v, want not found", name, got, err)
		}
	}
	if _, err := r.SRV(ctxFor(t), strings.Repeat("x", 300)); !fault.Is(err, fault.Malformed) {
		t.Errorf("an endless name: %v, want malformed", err)
	}
}

func TestResolverAsksTheNextServer(t *testing.T) {
	var asked atomic.Int32
	sick := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeServerFailure)
		_ = w.WriteMsg(m)
	})
	quiet := nameServer(t, func(dns.ResponseWriter, *dns.Msg) { asked.Add(1) })
	good := nameServer(t, zone(t, "a.example.test. 60 IN A 192.0.2.1"))
	if _, err := NewResolver(sick, quiet, good).Addrs(ctxFor(t), "a.example.test"); err != nil || asked.Load() < 2 {
		t.Errorf("Addrs = %v after %d questions to the others", err, asked.Load())
	}
	if _, err := NewResolver(sick).Addrs(ctxFor(t), "a.example.test"); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a failing server alone: %v, want unreachable", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := NewResolver(quiet).Addrs(ctx, "a.example.test"); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a silent server alone: %v, want unreachable", err)
	}
}

func TestSRVWeightsAreDrawn(t *testing.T) {
	first := map[string]int{}
	for range 400 {
		records := []SRV{{Host: "rare", Priority: 1, Weight: 1}, {Host: "often", Priority: 1, Weight: 9}, {Host: "later", Priority: 2, Weight: 1000}, {Host: "zero", Priority: 1}}
		order(records)
		first[records[0].Host]++
		if records[3].Host != "later" {
			t.Fatalf("priority is not kept: %v", records)
		}
	}
	if first["often"] < 200 || first["rare"] == 0 {
		t.Errorf("first places: %v, want often far ahead and rare sometimes", first)
	}
}

func TestDiscoverByDNS(t *testing.T) {
	n, dcs := newNetwork(t, 2)
	server := nameServer(t, zone(t, "_ldap._tcp.dc._msdcs.example.test. 60 IN SRV 0 100 389 a.example.test.",
		"_ldap._tcp.dc._msdcs.example.test. 60 IN SRV 0 100 389 b.example.test.", "a.example.test. 60 IN A 192.0.2.1", "b.example.test. 60 IN A 192.0.2.2"))
	l, err := NewLocator(LocatorConfig{Domain: "Example.Test.", DNS: []netip.AddrPort{server}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == server.String() {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
		return n.dial(ctx, network, address)
	}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Discover(ctxFor(t))
	if err != nil || len(found) != 2 || found[0].DNSDomain != testDomain || found[0].Realm() != testRealm {
		t.Fatalf("Discover = %+v, %v", found, err)
	}
	l.Good(dcs[1].addr)
	if best, err := l.Best(ctxFor(t)); err != nil || best.Host != "b.example.test" {
		t.Errorf("Best = %+v, %v, want the last good one", best, err)
	}
	l.Bad(dcs[1].addr)
	if best, err := l.Best(ctxFor(t)); err != nil || best.Host != "a.example.test" {
		t.Errorf("Best = %+v, %v, want the other one", best, err)
	}
}

func TestDiscoverByAddress(t *testing.T) {
	n, dcs := newNetwork(t, 3)
	dcs[1].silent = true
	for name, tc := range map[string]struct {
		domain string
		dcs    []string
		want   int
		kind   fault.Kind
	}{
		"domain and address":    {testDomain, []string{"192.0.2.1"}, 1, 0},
		"address alone":         {"", []string{"192.0.2.1"}, 1, 0},
		"one is silent":         {testDomain, []string{"192.0.2.2", "192.0.2.1", "192.0.2.3"}, 2, 0},
		"nobody there":          {testDomain, []string{"192.0.2.99"}, 0, fault.Unreachable},
		"serves another domain": {"other.test", []string{"192.0.2.1"}, 0, fault.NotFound},
	} {
		l, err := NewLocator(LocatorConfig{Domain: tc.domain, DCs: tc.dcs, Dial: n.dial, PingTimeout: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Discover(ctxFor(t))
		if len(got) != tc.want || fault.KindOf(err) != tc.kind {
			t.Errorf("%s: %+v, %v, want %d DCs or %v", name, got, err, tc.want, tc.kind)
		}
		if err != nil && fault.Remedy(err) == "" {
			t.Errorf("%s: no remedy in %v", name, err)
		}
		if tc.want > 0 && (got[0].DNSDomain != testDomain || got[0].Host == "") {
			t.Errorf("%s: %+v", name, got[0])
		}
	}
}

func TestDiscoverThroughTCPAlone(t *testing.T) {
	n, dcs := newNetwork(t, 1)
	dcs[0].mute = true
	l, err := NewLocator(LocatorConfig{Domain: testDomain, DCs: []string{"192.0.2.1"}, Dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.Discover(ctxFor(t))
	if err != nil || got[0].Host != "a.example.test" || !got[0].Flags.Has(DCIsKDC) {
		t.Errorf("Discover = %+v, %v, want what the rootDSE says", got, err)
	}
}

func TestLocatorConfigIsChecked(t *testing.T) {
	for _, cfg := range []LocatorConfig{{}, {Domain: "a b"}, {Domain: "192.0.2.1"}, {Domain: "x/y.test"}, {DCs: []string{"a b"}}, {Domain: "a.test", DCs: []string{"-x"}}} {
		if _, err := NewLocator(cfg); !fault.Is(err, fault.Malformed) {
			t.Errorf("NewLocator(%+v) = %v, want malformed", cfg, err)
		}
	}
}

func TestBetterDC(t *testing.T) {
	base := DC{Flags: DCIsKDC | DCIsLDAP | DCIsWritable, Site: "A", ClientSite: "A", RTT: 5}
	fast, far, rodc, noKDC := base, base, base, base
	fast.RTT, far.Site, rodc.Flags, noKDC.Flags = 1, "B", DCIsKDC|DCIsLDAP|DCIsClosest, DCIsLDAP|DCIsWritable|DCIsClosest
	far.RTT = 0
	got := []DC{noKDC, rodc, far, base, fast}
	slices.SortStableFunc(got, better)
	if want := []DC{fast, base, far, rodc, noKDC}; !slices.Equal(got, want) {
		t.Errorf("order = %+v, want %+v", got, want)
	}
}
