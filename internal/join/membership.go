// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// examine looks whether a membership still works: the domain's idea of the
// machine's key beside ours, and its DNS beside our addresses.
func (j *Joiner) examine(ctx context.Context, r *run, m *store.Machine, dc directory.DC) error {
	err := r.step(StepVerify, "Compare the machine's key with the domain's", 90, func(s *Step) error { return j.sameKey(ctx, s, m, dc) })
	r.try(StepRegister, "Look up "+m.FQDN+" in the domain's DNS", 100, func(s *Step) error { return j.known(ctx, s, m, dc) })
	return err
}

// sameKey signs in as the machine and opens a ticket for it with the keytab: what
// a domain controller sealed with a key that is not in there, no program of this
// machine can take.
func (j *Joiner) sameKey(ctx context.Context, s *Step, m *store.Machine, dc directory.DC) error {
	const again = "latchkey machine rotate; if the domain refuses that: latchkey join again"
	kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
	if err != nil {
		return fault.WithRemedy(err, again)
	}
	defer kt.Wipe()
	k, who := j.net.kdc(dc.Realm(), dc.Addr), kerberos.Account(m.ComputerAccount, m.Domain.Realm)
	login, err := k.Login(ctx, who, kerberos.Password(m.Password))
	lags := false
	if fault.Is(err, fault.BadCredential) && m.PreviousPassword.Len() > 0 {
		if login, err = k.Login(ctx, who, kerberos.Password(m.PreviousPassword)); err == nil {
			lags = true
		}
	}
	if err != nil {
		kind := signInKind(err)
		if kind == fault.Unreachable {
			return fault.Wrap(kind, "sign in as "+m.ComputerAccount, err)
		}
		return fault.WithRemedy(fault.Wrap(kind, dc.Host+" does not take the key of "+m.ComputerAccount, err), again)
	}
	defer login.TGT.Wipe()
	if _, err := k.Verify(ctx, login.TGT, kerberos.Service("host", m.FQDN, m.Domain.Realm), kt); err != nil {
		return fault.WithRemedy(fault.Wrap(signInKind(err), fmt.Sprintf("open a ticket for host/%s with %s", m.FQDN, j.cfg.KeytabPath), err), again)
	}
	s.Detail = fmt.Sprintf("%s opens a ticket of %s, version %d", j.cfg.KeytabPath, dc.Host, kt.Newest(who))
	if lags {
		s.warn(dc.Host+" has not heard of the last change of the key yet", "nothing for now; if it stays so, look at the replication between the domain controllers")
	}
	return nil
}

// known compares what a domain controller's DNS says of this machine with the
// addresses that it is reached by. Clients find shares and pages by that name.
func (j *Joiner) known(ctx context.Context, s *Step, m *store.Machine, dc directory.DC) error {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	own, err := j.net.addresses(dc.Addr)
	if err != nil {
		return err
	}
	remedy := fmt.Sprintf("have an administrator of the domain's DNS set %s = %s, or register it anew: latchkey leave, latchkey join", m.FQDN, texts(own))
	told, err := j.net.resolver(netip.AddrPortFrom(dc.Addr, 53)).Addrs(ctx, m.FQDN)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && len(told) == 0:
		return fault.WithRemedy(fault.Errorf(fault.NotFound, "%s does not know it: browsers and clients of shares cannot find this machine by that name", dc.Host), remedy)
	case err != nil:
		return err
	}
	var strange []string
	for _, a := range told {
		if !slices.Contains(own, a) {
			strange = append(strange, a.String())
		}
	}
	if len(strange) > 0 {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "it is %s there, and this machine is %s", strings.Join(strange, ", "), texts(own)), remedy)
	}
	s.Detail = texts(told)
	return nil
}
