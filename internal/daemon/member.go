// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/mirror"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/publish"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// member is what runs while the machine is in a domain.
type member struct {
	mirror   *mirror.Mirror
	client   *directory.Client
	session  *kerberos.Session
	kdc      *kerberos.Client
	netlogon *netlogon.Pool
	realm    string
	fqdn     string
	computer string // NetBIOS name
	names    identity.Domain
	tenant   identity.GUID
	people   store.People
	lockout  atomic.Pointer[login.Lockout]
	// delegation is what the machine's account was set up for, when it was read last.
	delegation atomic.Pointer[delegation]
	cancel     context.CancelFunc
	done       chan struct{}
}

// stop ends the mirror and its connections. Safe on nil.
func (m *member) stop() {
	if m == nil {
		return
	}
	m.cancel()
	<-m.done
	m.netlogon.Close()
	_ = m.client.Close()
	m.session.Close()
}

// begin takes up the membership that the store remembers; none is no error.
// The caller holds turn. first, where it is given, is what the mirror's own
// goroutine does before anything else.
func (d *Daemon) begin(ctx context.Context, first func(context.Context, *mirror.Mirror)) error {
	machine, err := d.store.Machine(ctx)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer machine.Wipe()
	if err := d.settle(ctx); err != nil {
		return err
	}
	m, err := d.enter(ctx, machine, first)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil {
		go m.stop()
		return ctx.Err()
	}
	d.member = m
	return nil
}

// enter starts the mirror of a domain.
func (d *Daemon) enter(ctx context.Context, machine *store.Machine, first func(context.Context, *mirror.Mirror)) (*member, error) {
	c := d.settings.now().Directory
	dns, dcs := servers(&c, machine)
	locator, err := directory.NewLocator(directory.LocatorConfig{Domain: machine.Domain.DNS, DNS: dns, DCs: dcs})
	if err != nil {
		return nil, err
	}
	realm := machine.Domain.Realm
	// The password in the store is the truth; the keytab is a copy of its keys
	// for the programs that want one.
	kdc := kerberos.NewClient(kerberos.Config{Realm: realm, Servers: locator, RoundTrip: d.took.kerberos})
	with, others := secrets(machine)
	session := kerberos.NewSession(kdc, kerberos.Account(machine.ComputerAccount, realm), with, others...)
	client := directory.NewClient(directory.Config{Locator: locator, SSHKeys: c.SSHKeys,
		Credential: computer{session, machine.ComputerAccount, machine.Domain.DNS}})
	ctx, cancel := context.WithCancel(ctx)
	m := &member{client: client, session: session, kdc: kdc, netlogon: d.openNetlogon(locator), realm: realm, fqdn: machine.FQDN, computer: computerName(machine.ComputerAccount), names: machine.Domain, tenant: machine.Tenant, people: machine.People, cancel: cancel, done: make(chan struct{}),
		mirror: mirror.New(mirror.Config{Store: d.store, Directory: mirror.LDAP(client), Interval: c.SyncInterval,
			SweepInterval: c.SweepInterval, FullInterval: c.FullInterval, MaxDeletions: int(c.MaxDeletions), Latency: &d.took.passes, Log: d.log})}
	go m.watchLockout(ctx, d.log)
	go m.watchDelegation(ctx, d.log, machine.ComputerSID, machine.ComputerDN)
	go d.watchNTLM(ctx, m.netlogon)
	go func() {
		defer close(m.done)
		if first != nil {
			first(ctx, m.mirror)
		}
		keys := make(chan struct{})
		defer func() { <-keys }()
		go func() { defer close(keys); d.readKeys(ctx, m.mirror, c.SSHKeys) }()
		if err := m.mirror.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the mirror has ended", "error", err)
		}
	}()
	return m, nil
}

// servers are the DNS servers and domain controllers to ask: those of the
// configuration, or else those that the join was told.
func servers(c *config.Directory, machine *store.Machine) (dns []netip.AddrPort, dcs []string) {
	dns, dcs = c.DNS, c.DomainControllers
	if len(dcs) == 0 {
		dcs = machine.DomainControllers
	}
	if len(dns) > 0 {
		return dns, dcs
	}
	for _, s := range machine.DNSServers {
		if a, err := netip.ParseAddrPort(s); err == nil {
			dns = append(dns, a)
		} else if a, err := netip.ParseAddr(s); err == nil {
			dns = append(dns, netip.AddrPortFrom(a, 53))
		}
	}
	return dns, dcs
}

// directoryDiffers says whether the mirror has to be started anew.
func directoryDiffers(a, b *config.Directory) bool {
	return !slices.Equal(a.DNS, b.DNS) || !slices.Equal(a.DomainControllers, b.DomainControllers) ||
		a.SyncInterval != b.SyncInterval || a.SweepInterval != b.SweepInterval || a.FullInterval != b.FullInterval || a.MaxDeletions != b.MaxDeletions || a.SSHKeys != b.SSHKeys
}

// halt stops the mirror, where one runs. Whoever means to begin again holds
// turn meanwhile.
func (d *Daemon) halt() {
	d.mu.Lock()
	m := d.member
	d.member = nil
	d.mu.Unlock()
	m.stop()
}

// restart starts the mirror anew, with what the store and the configuration
// say now. first is as in begin.
func (d *Daemon) restart(ctx context.Context, first func(context.Context, *mirror.Mirror)) error {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.halt()
	return d.begin(ctx, first)
}

// current returns the running membership, nil where there is none.
func (d *Daemon) current() *member {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.member
}

// present gives the doors the domain for what they show.
func (d *Daemon) present(ctx context.Context) {
	p := resolve.Presentation{}
	machine, err := d.store.Machine(ctx)
	p.Unjoined = fault.Is(err, fault.NotFound)
	if err == nil {
		p.Domain = machine.Domain
		machine.Wipe()
		if d.publisher != nil {
			p.Present = d.publisher.Present
		}
	}
	d.resolver.SetPresentation(p)
	d.settleSso(ctx, false)
}

// settle tells the store, the publisher and the doors by which rules rows are
// named, numbered and shown: the configuration's, the machine's own accounts
// and the domain.
func (d *Daemon) settle(ctx context.Context) error {
	d.settling.Lock()
	defer d.settling.Unlock()
	machine, err := d.store.Machine(ctx)
	if fault.Is(err, fault.NotFound) {
		d.publisher.Settle(nil)
		d.present(ctx)
		return nil
	}
	if err != nil {
		return err
	}
	machine.Wipe()
	c := d.settings.now()
	ids, err := c.IDMap.Map(machine.Domain.SID)
	if err != nil {
		return fault.Wrap(fault.Unknown, "set up the ids", err)
	}
	d.mu.Lock()
	local := d.local
	d.mu.Unlock()
	if err := d.store.SetPolicy(ctx, store.Policy{Domain: machine.Domain, IDs: ids, Local: local.Names(), LocalIDs: local.IDs(),
		Reserved: idmap.Privileged(c.Names.Reserved...)}); err != nil {
		return fault.Wrap(fault.Unknown, "name the rows by the new rules", err)
	}
	look, err := publish.NewPolicy(looks(&c.NSS))
	if err != nil {
		return fault.Wrap(fault.Unknown, "read [nss]", err)
	}
	full := ids.Config()
	d.publisher.Settle(&publish.Settled{Domain: machine.Domain, Policy: look,
		Ranges: []snapshot.Range{{Low: full.Base, High: full.Base + full.Size - 1}}})
	d.present(ctx)
	return nil
}

// looks is [nss] as the publisher has it.
func looks(n *config.NSS) publish.Settings {
	s := publish.Settings{Home: n.Home, Shell: n.Shell, Gecos: n.Gecos, Enumerate: n.Enumerate,
		Users: publish.Filter(n.Users), Groups: publish.Filter(n.Groups)}
	for _, o := range n.Overrides {
		s.Overrides = append(s.Overrides, publish.Override(o))
	}
	return s
}

// accountsChanged makes a new set of local accounts count.
func (d *Daemon) accountsChanged(ctx context.Context, set accounts.Set) {
	d.mu.Lock()
	same := d.local.Equal(set)
	d.local = set
	d.mu.Unlock()
	if same {
		return
	}
	d.policy.Set(d.members())
	if d.store == nil {
		return
	}
	if err := d.settle(ctx); err != nil && !errors.Is(err, context.Canceled) {
		d.log.Error("the names cannot be matched with the machine's own accounts", "error", err)
	}
}
