// SPDX-License-Identifier: Apache-2.0

package join

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// register puts the machine's name into the domain's DNS. t is the directory
// with the rights of whoever joins.
func (j *Joiner) register(ctx context.Context, s *Step, m *store.Machine, dc directory.DC, t tree) error {
	const remedy = "have an administrator of the domain's DNS add the record (%s), or delete one that somebody else made; --no-dns-update leaves this out"
	addrs, err := j.net.addresses(dc.Addr)
	if err != nil {
		return err
	}
	list := texts(addrs)
	z, err := j.openZone(ctx, m, dc)
	if err == nil {
		defer z.close()
		var done registered
		if done, err = z.register(ctx, m.FQDN, addrs); err != nil && dropDeadNode(ctx, t, m) {
			done, err = z.register(ctx, m.FQDN, addrs)
		}
		if err == nil {
			s.Detail = m.FQDN + " is " + list
			if len(done.ptr) > 0 {
				s.Detail += "; reverse names for " + texts(done.ptr)
			}
			if len(done.notes) > 0 {
				s.Detail += "; no others: " + strings.Join(done.notes, "; ")
			}
			return nil
		}
	}
	if told, asked := j.net.resolver(netip.AddrPortFrom(dc.Addr, 53)).Addrs(ctx, m.FQDN); asked == nil && sameAddrs(told, addrs) {
		s.warn(fmt.Sprintf("%s is %s already, registered by an account that was here before: a new address could not be told (%s)", m.FQDN, list, cause(err)),
			"when this machine's address changes, have an administrator of the domain's DNS delete the entry")
		return nil
	}
	return fault.WithRemedy(err, fmt.Sprintf(remedy, m.FQDN+" = "+list))
}

// sameAddrs compares addresses in any order.
func sameAddrs(a, b []netip.Addr) bool {
	order := func(all []netip.Addr) []netip.Addr { return slices.SortedFunc(slices.Values(all), netip.Addr.Compare) }
	return slices.Equal(order(a), order(b))
}

// openZone opens the DNS server of dc with the machine's own ticket.
func (j *Joiner) openZone(ctx context.Context, m *store.Machine, dc directory.DC) (zone, error) {
	k := j.net.kdc(dc.Realm(), dc.Addr)
	login, err := k.Login(ctx, kerberos.Account(m.ComputerAccount, dc.Realm()), kerberos.Password(m.Password))
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "sign in as "+m.ComputerAccount, err)
	}
	defer login.TGT.Wipe()
	ticket, err := k.ServiceTicket(ctx, login.TGT, kerberos.Service("DNS", dc.Host, dc.Realm()))
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "get a ticket for the DNS server", err)
	}
	defer ticket.Wipe()
	return j.net.zone(ctx, dc, ticket)
}

func texts(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// kdcs returns what krb5.conf has to name because the machine's own DNS does
// not know the domain: the addresses of the DCs, as names would not help.
func (j *Joiner) kdcs(ctx context.Context, p *plan, dc directory.DC) []string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if found, err := j.net.resolver().SRV(ctx, "_kerberos._tcp."+p.domain); err == nil && len(found) > 0 {
		return nil
	}
	all := []string{dc.Addr.String()}
	if others, err := j.net.discover(ctx, p); err == nil {
		for _, o := range others {
			if a := o.Addr.String(); a != all[0] {
				all = append(all, a)
			}
		}
	}
	return all
}

// hostKeys asks for root's copy of the host keys.
func (j *Joiner) hostKeys(ctx context.Context, m *store.Machine) error {
	text, err := os.ReadFile(j.cfg.KeytabPath)
	if err != nil {
		return fault.Wrap(fault.Internal, "read the keytab", err)
	}
	defer secret.Wipe(text)
	err = j.cfg.HostKeys.Install(ctx, krb5conf.HostKeys{Host: host(m), Keytab: secret.Own(text)})
	return fault.WithRemedy(err, cmp.Or(fault.Remedy(err), "sshd cannot take Kerberos tickets until /etc/krb5.keytab has the keys"))
}
