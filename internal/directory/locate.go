// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

const (
	// stragglers is how long the other DCs may take after the first answered.
	stragglers = 150 * time.Millisecond
	// refreshAfter is the age at which the list of DCs is renewed in the
	// background: Entra replaces its DCs, under new names.
	refreshAfter = 15 * time.Minute
	// rediscover is how long a discovery is not repeated while every known DC
	// is silent.
	rediscover = 5 * time.Second
	// maxDCs bounds how many DCs are looked up and pinged.
	maxDCs = 32
)

// LocatorConfig says how to find the domain controllers of a domain.
type LocatorConfig struct {
	// Domain is the DNS name of the domain. It may be empty when DCs holds an
	// IP address: the DC tells.
	Domain string
	// DNS are name servers to ask instead of the machine's own; port 53 where
	// the port is 0.
	DNS []netip.AddrPort
	// DCs are domain controllers by IP address or host name. When given, no
	// SRV record is asked for; with IP addresses only, no DNS at all.
	DCs []string
	// PingTimeout is how long DCs may take to answer a ping; 0 means 2 s.
	PingTimeout time.Duration
	// Dial replaces the net.Dialer, for tests; where DNS is empty, name lookups
	// do not use it.
	Dial Dialer
}

// Locator finds the DCs of one domain and remembers which one is good. It is a
// kerberos.Servers, so that Kerberos and LDAP learn from each other: a DC that
// went silent costs its 300 ms once. Safe for concurrent use.
type Locator struct {
	cfg      LocatorConfig
	resolver *Resolver
	pool     *kerberos.Pool
	looking  chan struct{} // held by the one that discovers; waiting honours ctx

	mu       sync.Mutex
	dcs      []DC
	found    time.Time // of the last discovery that found any
	tried    time.Time // of the last discovery
	renewing bool
}

// NewLocator checks the config (fault.Malformed when it can find nothing); it
// asks nothing yet.
func NewLocator(cfg LocatorConfig) (*Locator, error) {
	cfg.Domain = hostName(strings.TrimSpace(cfg.Domain))
	if cfg.Domain != "" && (!isHostName(cfg.Domain) || isIP(cfg.Domain)) {
		return nil, fault.Errorf(fault.Malformed, "not a DNS name of a domain: %.255q", cfg.Domain)
	}
	for _, d := range cfg.DCs {
		if !isIP(d) && !isHostName(hostName(d)) {
			return nil, fault.Errorf(fault.Malformed, "not a host name or IP address: %.255q", d)
		}
	}
	if cfg.Domain == "" && len(cfg.DCs) == 0 {
		return nil, fault.New(fault.Malformed, "neither a domain nor a domain controller is named")
	}
	if cfg.PingTimeout <= 0 {
		cfg.PingTimeout = 2 * time.Second
	}
	resolver := NewResolver(cfg.DNS...)
	resolver.dial = cfg.Dial
	return &Locator{cfg: cfg, resolver: resolver, pool: kerberos.NewPool(), looking: make(chan struct{}, 1)}, nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// Resolver returns the resolver that the locator asks, for a preflight.
func (l *Locator) Resolver() *Resolver { return l.resolver }

// Discover asks DNS and pings every DC, and returns those that answered, best
// first: KDC and writable before others, the client's site before others, then
// the fastest. What it finds is remembered. No name or no SRV record is
// fault.NotFound, no answer fault.Unreachable, each with a remedy.
func (l *Locator) Discover(ctx context.Context) ([]DC, error) {
	const op = "find the domain controllers"
	select {
	case l.looking <- struct{}{}:
		defer func() { <-l.looking }()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unreachable, op, ctx.Err())
	}
	dcs, err := l.discover(ctx)
	l.mu.Lock()
	l.tried = time.Now()
	l.mu.Unlock()
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	addrs := make([]netip.Addr, len(dcs))
	for i, d := range dcs {
		addrs[i] = d.Addr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dcs, l.found = dcs, time.Now()
	l.pool.Set(addrs...)
	for _, a := range addrs {
		l.pool.Forgive(a) // it answered just now
	}
	return slices.Clone(dcs), nil
}

func (l *Locator) discover(ctx context.Context) ([]DC, error) {
	addrs, err := l.targets(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.PingTimeout)
	defer cancel()
	type result struct {
		dc  DC
		err error
	}
	results := make(chan result, len(addrs))
	for _, a := range addrs {
		go func() {
			d, err := find(ctx, l.cfg.Dial, netip.AddrPortFrom(a, 0), l.cfg.Domain)
			results <- result{d, err}
		}()
	}
	var dcs []DC
	var failures []error
	var late <-chan time.Time
wait:
	for range addrs {
		select {
		case r := <-results:
			if r.err != nil {
				failures = append(failures, r.err)
				continue
			}
			// Two addresses of one DC are two ways to it.
			dcs = append(dcs, r.dc)
			if late == nil {
				t := time.NewTimer(stragglers)
				defer t.Stop()
				late = t.C
			}
		case <-late:
			break wait
		}
	}
	if len(dcs) == 0 {
		err := errors.Join(failures...)
		kind := fault.Unreachable
		if len(failures) > 0 && !slices.ContainsFunc(failures, func(e error) bool { return !fault.Is(e, fault.NotFound) }) {
			kind = fault.NotFound
		}
		return nil, fault.WithRemedy(fault.Wrap(kind, "", err), "check the network between this machine and the domain controllers, and that UDP and TCP port 389 are open")
	}
	slices.SortStableFunc(dcs, better)
	return dcs, nil
}

// better sorts the DC that should be asked first before the other.
func better(a, b DC) int {
	rank := func(d DC) int {
		r := 0
		if !d.Flags.Has(DCIsKDC | DCIsLDAP) {
			r += 4
		}
		if !d.Flags.Has(DCIsWritable) {
			r += 2
		}
		if !(d.Flags.Has(DCIsClosest) || (d.ClientSite != "" && strings.EqualFold(d.Site, d.ClientSite))) {
			r++
		}
		return r
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.RTT, b.RTT))
}

// targets returns the addresses to ping.
func (l *Locator) targets(ctx context.Context) ([]netip.Addr, error) {
	hosts := l.cfg.DCs
	if len(hosts) == 0 {
		records, err := l.resolver.SRV(ctx, "_ldap._tcp.dc._msdcs."+l.cfg.Domain)
		if err != nil {
			remedy := "check the name of the domain, and name its DNS servers with --dns (in the portal: \"IP address on virtual network\")"
			return nil, fault.WithRemedy(err, remedy)
		}
		for _, r := range records[:min(len(records), maxDCs)] {
			hosts = append(hosts, r.Host)
		}
	}
	found := make([][]netip.Addr, len(hosts))
	failures := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { found[i], failures[i] = l.resolver.Addrs(ctx, h) })
	}
	wg.Wait()
	var addrs []netip.Addr
	for _, a := range slices.Concat(found...) {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		err := errors.Join(failures...)
		return nil, fault.WithRemedy(fault.Wrap(fault.KindOf(failures[0]), "find the addresses of the domain controllers", err), "name the domain controllers by IP address with --dc")
	}
	return addrs[:min(len(addrs), maxDCs)], nil
}

// Candidates returns every known DC, best first, those that failed lately
// last; it discovers when none is known or all failed.
func (l *Locator) Candidates(ctx context.Context) ([]DC, error) {
	if none := len(l.Known()) == 0; none || (l.pool.AllBad() && l.idle() > rediscover) {
		if _, err := l.Discover(ctx); err != nil && none {
			return nil, err
		}
	}
	l.renew()
	addrs, err := l.pool.Addrs(ctx)
	if err != nil {
		return nil, err
	}
	known := l.Known()
	var out []DC
	for _, a := range addrs {
		if i := slices.IndexFunc(known, func(d DC) bool { return d.Addr == a }); i >= 0 {
			out = append(out, known[i])
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Unreachable, "no domain controller is known")
	}
	return out, nil
}

// idle is how long ago the last discovery was.
func (l *Locator) idle() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.tried)
}

// renew discovers in the background when the list of DCs is old, so that no
// caller waits for it.
func (l *Locator) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewing || l.found.IsZero() || time.Since(l.found) < refreshAfter {
		return
	}
	l.renewing = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := l.Discover(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.renewing = false
		if err != nil {
			l.found = time.Now().Add(-refreshAfter + time.Minute) // not again for a minute
		}
	}()
}

// Best returns the DC to talk to: the last good one, or the best that Discover
// finds. It asks the network only when nothing good is known.
func (l *Locator) Best(ctx context.Context) (DC, error) {
	dcs, err := l.Candidates(ctx)
	if err != nil {
		return DC{}, err
	}
	return dcs[0], nil
}

// Known returns what the last discovery found, best first, without asking the
// network.
func (l *Locator) Known() []DC {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dcs)
}

// Addrs implements kerberos.Servers.
func (l *Locator) Addrs(ctx context.Context) ([]netip.Addr, error) {
	dcs, err := l.Candidates(ctx)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, len(dcs))
	for i, d := range dcs {
		addrs[i] = d.Addr
	}
	return addrs, nil
}

// Good says that the DC at a answered just now.
func (l *Locator) Good(a netip.Addr) { l.pool.Good(a) }

// Bad says that the DC at a refused, went silent or broke off.
func (l *Locator) Bad(a netip.Addr) { l.pool.Bad(a) }
