// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"net/netip"
	"time"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
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
}

// Locator finds the DCs of one domain and remembers which one is good. It is a
// kerberos.Servers, so that Kerberos and LDAP learn from each other: a DC that
// went silent costs its 300 ms once. Safe for concurrent use.
type Locator struct {
	cfg  LocatorConfig
	pool *kerberos.Pool
}

// NewLocator checks the config (fault.Malformed when it can find nothing); it
// asks nothing yet.
func NewLocator(cfg LocatorConfig) (*Locator, error) {
	return &Locator{cfg: cfg, pool: kerberos.NewPool()}, nil
}

// Discover asks DNS and pings every DC, and returns those that answered, best
// first: KDC and writable before others, the client's site before others, then
// the fastest. What it finds is remembered. No name or no SRV record is
// fault.NotFound, no answer fault.Unreachable, each with a remedy.
func (l *Locator) Discover(ctx context.Context) ([]DC, error) { return nil, errUnbuilt }

// Best returns the DC to talk to: the last good one, or the best that Discover
// finds. It asks the network only when nothing good is known.
func (l *Locator) Best(ctx context.Context) (DC, error) { return DC{}, errUnbuilt }

// Candidates returns every known DC, best first, those that failed lately
// last; it discovers when none is known or all failed.
func (l *Locator) Candidates(ctx context.Context) ([]DC, error) { return nil, errUnbuilt }

// Known returns what the last discovery found, without asking the network.
func (l *Locator) Known() []DC { return nil }

// Addrs, Good and Bad implement kerberos.Servers.
func (l *Locator) Addrs(ctx context.Context) ([]netip.Addr, error) { return nil, errUnbuilt }

// Good says that the DC at a answered just now.
func (l *Locator) Good(a netip.Addr) { l.pool.Good(a) }

// Bad says that the DC at a refused, went silent or broke off.
func (l *Locator) Bad(a netip.Addr) { l.pool.Bad(a) }

// Resolver returns the resolver that the locator asks, for a preflight.
func (l *Locator) Resolver() *Resolver { return nil }

// Ping sends a CLDAP ping (MS-ADTS 6.3.3) to addr (port 0 means 389) and
// returns what the DC says of itself. domain may be empty: any domain the DC
// serves. No answer before ctx ends is fault.Unreachable, an answer without
// the domain fault.NotFound.
func Ping(ctx context.Context, addr netip.AddrPort, domain string) (DC, error) {
	return DC{}, errUnbuilt
}
