// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// joining is the user who joins, signed in.
type joining struct {
	tree   tree
	domain directory.Domain
	name   string
	sid    identity.SID
	where  string // DN of the container for a new account; see place
}

// signIn proves the user's password to the domain and opens the directory with
// it, everything sealed.
func (j *Joiner) signIn(ctx context.Context, r *run, p *plan, dc directory.DC, password secret.Bytes) (*joining, error) {
	u := &joining{}
	var who kerberos.Principal
	if err := r.step(StepSignIn, "Sign in as "+p.user.String(), 38, func(s *Step) (err error) {
		if who, err = p.user.principal(dc); err != nil {
			return err
		}
		login, err := j.net.kdc(dc.Realm(), dc.Addr).Login(ctx, who, kerberos.Password(password))
		if err != nil {
			return explainSignIn(err, p.user, dc)
		}
		defer login.TGT.Wipe()
		u.name = p.user.String()
		if c := login.TGT.Client; len(c.Name) == 1 {
			u.name = c.Name[0]
		}
		s.Detail = "as " + u.name + "@" + dc.Realm()
		return nil
	}); err != nil {
		return nil, err
	}
	if err := r.step(StepDirectory, "Open the directory", 44, func(s *Step) (err error) {
		if u.tree, err = j.net.bind(ctx, dc, who, kerberos.Password(password)); err != nil {
			return explainBind(err, dc)
		}
		if u.domain, err = u.tree.Domain(ctx); err != nil {
			return fault.Wrap(fault.Unknown, "read what domain this is", err)
		}
		// For a word about who owns what; nothing is decided by it.
		_ = u.tree.Search(ctx, directory.Query{Base: u.domain.DN, Scope: directory.Subtree, Attributes: []string{"objectSid"},
			Filter: "(sAMAccountName=" + directory.EscapeFilter(u.name) + ")"}, func(e directory.Entry) error {
			u.sid, _ = identity.SIDFromBytes([]byte(e.First("objectSid")))
			return nil
		})
		s.Detail = fmt.Sprintf("%s, SID %s, signed and sealed", u.domain.DN, u.domain.SID)
		return nil
	}); err != nil {
		return nil, u.fail(err)
	}
	return u, nil
}

// place finds where a new account goes.
func (u *joining) place(ctx context.Context, r *run, p *plan) error {
	return r.step(StepContainer, "Find the place for the computer account", 48, func(s *Step) (err error) {
		u.where, err = container(ctx, u.tree, u.domain, p.ou)
		s.Detail = u.where
		return err
	})
}

func (u *joining) fail(err error) error {
	if u.tree != nil {
		_ = u.tree.Close()
	}
	return err
}

// enter makes the account, its keys and its names, and proves them. The record
// that comes back is not stored yet.
func (j *Joiner) enter(ctx context.Context, r *run, p *plan, u *joining, dc directory.DC) (m *store.Machine, rejoined bool, err error) {
	password := newPassword()
	defer password.Wipe()
	var c *computer
	if err := r.step(StepAccount, "Make the computer account "+p.account(), 58, func(s *Step) (err error) {
		a := &account{plan: p, tree: u.tree, domain: u.domain, user: u.name, userSID: u.sid, where: u.where, password: password,
			system: [2]string{j.cfg.OperatingSystem, j.cfg.OperatingSystemVersion}}
		if rejoined, err = a.take(ctx, s); err != nil {
			return err
		}
		c, err = findComputer(ctx, u.tree, u.domain, p.account())
		return fault.Wrap(fault.Unknown, "read the account back", err)
	}); err != nil {
		return nil, false, err
	}
	k := j.net.kdc(dc.Realm(), dc.Addr)
	at := j.cfg.Now()
	kvno := c.kvno
	if err := r.step(StepKeytab, "Write the keytab", 66, func(s *Step) error {
		kt, v, err := machineKeytab(ctx, k, p, password, kvno, at)
		if err != nil {
			return err
		}
		defer kt.Wipe()
		kvno = v
		s.Detail = fmt.Sprintf("%s, key version %d, AES256 and AES128", j.cfg.KeytabPath, kvno)
		return kt.WriteFile(j.cfg.KeytabPath)
	}); err != nil {
		return nil, false, err
	}
	if err := r.step(StepNames, "Set the machine's names", 74, func(s *Step) error {
		machine, err := j.asMachine(ctx, p, dc)
		if err != nil {
			return err
		}
		defer machine.Close()
		return settle(ctx, s, machine, u.tree, p, c.dn)
	}); err != nil {
		return nil, false, err
	}
	if err := r.step(StepVerify, "Sign in as the machine", 82, func(s *Step) error {
		s.Detail = "the keytab opens the directory and tickets for host/" + p.fqdn()
		return prove(ctx, k, p, j.cfg.KeytabPath)
	}); err != nil {
		return nil, false, err
	}
	return &store.Machine{
		Domain: u.domain.Domain, ComputerAccount: p.account(), ComputerDN: c.dn, ComputerSID: c.sid, FQDN: p.fqdn(),
		Password: password.Clone(), KVNO: kvno, KeyTime: at, Tenant: p.tenant,
		DomainControllers: p.dcs, DNSServers: serverTexts(p.dns), Joined: at,
	}, rejoined, nil
}

// asMachine opens the directory with the keytab as it was written.
func (j *Joiner) asMachine(ctx context.Context, p *plan, dc directory.DC) (tree, error) {
	kt, err := kerberos.ReadKeytab(j.cfg.KeytabPath)
	if err != nil {
		return nil, err
	}
	defer kt.Wipe()
	t, err := j.net.bind(ctx, dc, kerberos.Account(p.account(), p.realm()), kt)
	if err != nil {
		return nil, fault.Wrap(signInKind(err), "open the directory as "+p.account(), err)
	}
	return t, nil
}

// serverTexts prints name servers as the machine record keeps them: the port
// only where it is not 53.
func serverTexts(servers []netip.AddrPort) (texts []string) {
	for _, s := range servers {
		if s.Port() == 53 {
			texts = append(texts, s.Addr().String())
		} else {
			texts = append(texts, s.String())
		}
	}
	return texts
}
