// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// network is all that a join asks of the world outside. One DC is chosen once
// and everything of one join goes to it: a new account, or a new password,
// takes a while to reach the others.
type network interface {
	// resolver asks the given name servers, or the machine's own.
	resolver(servers ...netip.AddrPort) resolver
	dial(ctx context.Context, network, address string) (net.Conn, error)
	// discover finds the DCs that answer, best first.
	discover(ctx context.Context, p *plan) ([]directory.DC, error)
	ping(ctx context.Context, dc netip.Addr, domain string) (directory.DC, error)
	kdc(realm string, dc netip.Addr) kdc
	// bind opens a sealed LDAP connection to dc.
	bind(ctx context.Context, dc directory.DC, who kerberos.Principal, with kerberos.Secret) (tree, error)
	// addresses are those of this machine that dc's network knows it by.
	addresses(dc netip.Addr) ([]netip.Addr, error)
	// zone opens a signed channel to the DNS server on dc.
	zone(ctx context.Context, dc directory.DC, ticket *kerberos.Ticket) (zone, error)
}

// resolver is what is asked of a *directory.Resolver.
type resolver interface {
	SRV(ctx context.Context, name string) ([]directory.SRV, error)
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// kdc is what is asked of a *kerberos.Client.
type kdc interface {
	Login(ctx context.Context, who kerberos.Principal, with kerberos.Secret) (*kerberos.Login, error)
	ServiceTicket(ctx context.Context, tgt *kerberos.Ticket, service kerberos.Principal) (*kerberos.Ticket, error)
	Verify(ctx context.Context, tgt *kerberos.Ticket, service kerberos.Principal, host *kerberos.Keytab) (*kerberos.Verified, error)
	Time(ctx context.Context) (time.Time, time.Duration, error)
	ChangePassword(ctx context.Context, who kerberos.Principal, with kerberos.Secret, to secret.Bytes) error
}

// tree is what is asked of a *directory.Conn.
type tree interface {
	Domain(ctx context.Context) (directory.Domain, error)
	Get(ctx context.Context, dn string, attributes ...string) (directory.Entry, error)
	Search(ctx context.Context, q directory.Query, fn func(directory.Entry) error) error
	Add(ctx context.Context, dn string, attributes []directory.Attribute) error
	Modify(ctx context.Context, dn string, changes []directory.Change) error
	Delete(ctx context.Context, dn string) error
	Close() error
}

// zone is what is asked of an *updater.
type zone interface {
	// register puts the addresses of host in place of what is there.
	register(ctx context.Context, host string, addrs []netip.Addr) (registered, error)
	// unregister takes the names of host away.
	unregister(ctx context.Context, host string, addrs []netip.Addr) error
	close()
}

// wire is the real network.
type wire struct {
	dialer func(ctx context.Context, network, address string) (net.Conn, error)
}

func (w wire) resolver(servers ...netip.AddrPort) resolver {
	return directory.NewResolver(servers...)
}

func (w wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return w.dialer(ctx, network, address)
}

func (w wire) discover(ctx context.Context, p *plan) ([]directory.DC, error) {
	l, err := directory.NewLocator(directory.LocatorConfig{Domain: p.domain, DNS: p.dns, DCs: p.dcs})
	if err != nil {
		return nil, err
	}
	return l.Discover(ctx)
}

func (w wire) ping(ctx context.Context, dc netip.Addr, domain string) (directory.DC, error) {
	return directory.Ping(ctx, netip.AddrPortFrom(dc, 0), domain)
}

func (w wire) client(realm string, dc netip.Addr) *kerberos.Client {
	return kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(dc), Dial: w.dialer})
}

func (w wire) kdc(realm string, dc netip.Addr) kdc { return w.client(realm, dc) }

// boundTree is a connection with the session that it was opened by.
type boundTree struct {
	*directory.Conn
	client  *directory.Client
	session *kerberos.Session
}

// Close closes the connection and wipes the session's keys.
func (b boundTree) Close() error {
	err := b.client.Close()
	b.session.Close()
	return err
}

func (w wire) bind(ctx context.Context, dc directory.DC, who kerberos.Principal, with kerberos.Secret) (tree, error) {
	l, err := directory.NewLocator(directory.LocatorConfig{Domain: dc.DNSDomain, DCs: []string{dc.Addr.String()}})
	if err != nil {
		return nil, err
	}
	session := kerberos.NewSession(w.client(dc.Realm(), dc.Addr), who, with)
	client := directory.NewClient(directory.Config{Locator: l, Credential: session, Dial: w.dialer})
	conn, err := client.Conn(ctx)
	if err != nil {
		session.Close()
		return nil, err
	}
	return boundTree{conn, client, session}, nil
}

func (w wire) addresses(dc netip.Addr) ([]netip.Addr, error) { return routedAddresses(dc) }

func (w wire) zone(ctx context.Context, dc directory.DC, ticket *kerberos.Ticket) (zone, error) {
	return openZone(ctx, w.dialer, dc, ticket)
}
