// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Servers knows the domain controllers of a realm and learns from what their
// callers meet. Implementations are safe for concurrent use.
type Servers interface {
	// Addrs returns the addresses to try, best first. It may ask the network
	// when it knows none. At least one address, or an error of kind
	// fault.Unreachable or fault.NotFound.
	Addrs(ctx context.Context) ([]netip.Addr, error)
	// Good says that the server at a answered just now.
	Good(a netip.Addr)
	// Bad says that the server at a refused, went silent or broke off.
	Bad(a netip.Addr)
}

// badFor is how long a server that failed is tried last.
const badFor = 30 * time.Second

// Pool is an ordered set of domain controllers: the last good one first, then
// the untried in the order given, then those that failed lately. The zero
// value is empty and ready.
type Pool struct {
	mu    sync.Mutex
	addrs []netip.Addr
	good  netip.Addr
	bad   map[netip.Addr]time.Time
}

// NewPool returns a pool of the given addresses, best first.
func NewPool(addrs ...netip.Addr) *Pool {
	p := &Pool{}
	p.Set(addrs...)
	return p
}

// Set replaces the addresses, best first. What is known of an address that
// stays is kept.
func (p *Pool) Set(addrs ...netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs = p.addrs[:0:0]
	for _, a := range addrs {
		if a = a.Unmap(); !slices.Contains(p.addrs, a) {
			p.addrs = append(p.addrs, a)
		}
	}
	if !slices.Contains(p.addrs, p.good) {
		p.good = netip.Addr{}
	}
	for a := range p.bad {
		if !slices.Contains(p.addrs, a) {
			delete(p.bad, a)
		}
	}
}

// Addrs implements Servers; it never asks the network. An empty pool is
// fault.NotFound.
func (p *Pool) Addrs(context.Context) ([]netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.addrs) == 0 {
		return nil, fault.New(fault.NotFound, "no domain controller is known")
	}
	now := time.Now()
	rank := func(a netip.Addr) int {
		since, isBad := p.bad[a]
		switch {
		case isBad && now.Sub(since) < badFor:
			return 2
		case a == p.good:
			return 0
		}
		return 1
	}
	out := slices.Clone(p.addrs)
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	return out, nil
}

// Good implements Servers.
func (p *Pool) Good(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a = a.Unmap(); slices.Contains(p.addrs, a) {
		p.good = a
		delete(p.bad, a)
	}
}

// Bad implements Servers.
func (p *Pool) Bad(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a = a.Unmap()
	if p.good == a {
		p.good = netip.Addr{}
	}
	if slices.Contains(p.addrs, a) {
		if p.bad == nil {
			p.bad = map[netip.Addr]time.Time{}
		}
		p.bad[a] = time.Now()
	}
}

// Forgive takes Bad back without saying Good: the server answers again, and
// takes its place in the order.
func (p *Pool) Forgive(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.bad, a.Unmap())
}

// Failed says whether the server at a failed lately and did not answer since.
func (p *Pool) Failed(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, isBad := p.bad[a.Unmap()]
	return isBad && time.Since(since) < badFor
}

// LastGood returns the server that answered last, if it has not failed since.
func (p *Pool) LastGood() (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.good, p.good.IsValid()
}

// AllBad reports whether every server failed lately: time to look for others.
func (p *Pool) AllBad() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, a := range p.addrs {
		if since, isBad := p.bad[a]; !isBad || now.Sub(since) >= badFor {
			return false
		}
	}
	return true
}
