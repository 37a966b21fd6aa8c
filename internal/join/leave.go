// SPDX-License-Identifier: Apache-2.0

package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Leave ends the membership. With a user the computer account is deleted,
// without one it is disabled as far as a machine may disable itself; with
// KeepAccount the domain is not asked at all. What is here is forgotten in any
// case but one: a user was given and the domain refused or could not be
// reached; then nothing changes. Rows and their ids stay. The password is
// wiped.
func (j *Joiner) Leave(ctx context.Context, req LeaveRequest, progress func(Step)) error {
	defer req.Password.Wipe()
	if err := j.lock(); err != nil {
		return err
	}
	defer j.busy.Unlock()
	r := &run{tell: progress}
	var user userName
	if err := r.step(StepRequest, "Read the request", 2, func(*Step) (err error) {
		switch {
		case req.User == "":
			return nil
		case req.KeepAccount:
			return fault.WithRemedy(fault.New(fault.Malformed, "a user is named, and the account is to be kept"), "leave out --user or --keep-account")
		case req.Password.Len() == 0:
			return fault.WithRemedy(fault.New(fault.Malformed, "the password is empty"), "type the password of "+req.User+", or give it with --password-stdin")
		}
		user, err = parseUser(req.User)
		return err
	}); err != nil {
		return err
	}
	var m *store.Machine
	defer func() { forget(m) }()
	if err := r.step(StepMember, "Look which domain the machine is in", 4, func(s *Step) (err error) {
		if m, err = j.cfg.Memory.Machine(ctx); fault.Is(err, fault.NotFound) {
			return fault.WithRemedy(fault.New(fault.Conflict, "this machine is in no domain"), "there is nothing to leave")
		}
		if err == nil {
			s.Detail = m.Domain.DNS + ", as " + m.ComputerAccount
		}
		return fault.Wrap(fault.Unknown, "read the machine's record", err)
	}); err != nil {
		return err
	}
	switch {
	case req.KeepAccount:
	case user.name != "":
		if err := j.leaveAs(ctx, r, m, user, &req); err != nil {
			return err
		}
	default:
		j.leaveAlone(ctx, r, m)
	}
	return j.forgetHere(ctx, r, m)
}

// controllerFor finds a DC of the domain that the machine is in.
func (j *Joiner) controllerFor(ctx context.Context, s *Step, m *store.Machine) (directory.DC, error) {
	p := &plan{domain: m.Domain.DNS, dcs: m.DomainControllers}
	for _, server := range m.DNSServers {
		if a, err := parseServer(server); err == nil {
			p.dns = append(p.dns, a)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout+pingTimeout)
	defer cancel()
	found, err := j.net.discover(ctx, p)
	if err != nil {
		return directory.DC{}, err
	}
	for _, dc := range found {
		if dc.Flags.Has(directory.DCIsWritable) {
			s.Detail = fmt.Sprintf("%s (%s)", dc.Host, dc.Addr)
			return dc, nil
		}
	}
	return directory.DC{}, fault.New(fault.Unreachable, "no writable domain controller answers")
}

// leaveAs deletes the computer account with a user's rights.
func (j *Joiner) leaveAs(ctx context.Context, r *run, m *store.Machine, user userName, req *LeaveRequest) error {
	var dc directory.DC
	if err := r.step(StepDC, "Find a domain controller", 15, func(s *Step) (err error) {
		dc, err = j.controllerFor(ctx, s, m)
		return fault.WithRemedy(err, cmp.Or(fault.Remedy(err), "try again when the domain can be reached, or leave its account behind with --keep-account"))
	}); err != nil {
		return err
	}
	p := &plan{domain: m.Domain.DNS, user: user}
	u, err := j.signIn(ctx, r, p, dc, req.Password)
	if err != nil {
		return err
	}
	defer u.tree.Close()
	own := j.openNames(ctx, m, dc) // while the account is there
	defer own.close()
	if err := r.step(StepDelete, "Delete the computer account", 70, func(s *Step) error { return remove(ctx, s, u, m) }); err != nil {
		return err
	}
	j.unregister(ctx, r, m, dc, own)
	return nil
}

// remove deletes the account that is ours by its SID, wherever it is by now.
func remove(ctx context.Context, s *Step, u *joining, m *store.Machine) error {
	e, err := u.tree.Get(ctx, "<SID="+m.ComputerSID.String()+">", "sAMAccountName")
	if fault.Is(err, fault.NotFound) {
		s.warn(m.ComputerDN+" is gone already", "")
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Unknown, "look for "+m.ComputerAccount, err)
	}
	err = u.tree.Delete(ctx, e.DN)
	switch code := ldapCode(err); {
	case code == ldapDenied:
		return fault.WithRemedy(fault.Wrap(fault.Denied, fmt.Sprintf("%s may not delete %s", u.name, e.DN), err),
			"use the user who joined the machine, or a member of AAD DC Administrators; or leave the account behind with --keep-account")
	case code == ldapNotLeaf:
		return fault.WithRemedy(fault.Wrap(fault.Conflict, e.DN+" holds other objects", err),
			"have an administrator delete it with what is in it, or leave it behind with --keep-account")
	case err != nil:
		return fault.Wrap(fault.Unknown, "delete "+e.DN, err)
	}
	s.Detail = e.DN
	return nil
}

// leaveAlone does what a machine may do by itself: it takes its DNS name away,
// and makes its account useless for whoever has a copy of the keys.
func (j *Joiner) leaveAlone(ctx context.Context, r *run, m *store.Machine) {
	var dc directory.DC
	found := false
	r.try(StepDC, "Find a domain controller", 15, func(s *Step) (err error) {
		dc, err = j.controllerFor(ctx, s, m)
		found = err == nil
		if err != nil {
			return fault.WithRemedy(fault.Wrap(fault.Unknown, "the domain is not told", err),
				"have an administrator delete "+m.ComputerDN+" and the DNS name "+m.FQDN)
		}
		return nil
	})
	if !found {
		return
	}
	own := j.openNames(ctx, m, dc)
	defer own.close()
	j.unregister(ctx, r, m, dc, own)
	r.try(StepDisable, "Disable the computer account", 70, func(s *Step) error {
		return j.disable(ctx, s, m, dc)
	})
}

// disable switches the account off. A machine may not do that to itself in
// most domains: then it changes its password to one that nobody knows.
func (j *Joiner) disable(ctx context.Context, s *Step, m *store.Machine, dc directory.DC) error {
	who := kerberos.Account(m.ComputerAccount, dc.Realm())
	remedy := "the account stays: have an administrator, or the user who joined the machine, delete " + m.ComputerDN
	t, err := j.net.bind(ctx, dc, who, kerberos.Password(m.Password))
	if err != nil {
		return fault.WithRemedy(fault.Wrap(fault.Unknown, "sign in as "+m.ComputerAccount, err), remedy)
	}
	defer t.Close()
	off := directory.Change{Op: directory.Replace, Attribute: directory.Text("userAccountControl", strconv.Itoa(int(uacWorkstation|uacDisabled)))}
	if err := t.Modify(ctx, "<SID="+m.ComputerSID.String()+">", []directory.Change{off}); err == nil {
		s.Detail = m.ComputerDN + " is disabled"
		s.Remedy = remedy
		return nil
	}
	nobodys := newPassword()
	defer nobodys.Wipe()
	if err := j.net.kdc(dc.Realm(), dc.Addr).ChangePassword(ctx, who, kerberos.Password(m.Password), nobodys); err != nil {
		return fault.WithRemedy(fault.Wrap(fault.Unknown, "the domain lets the machine neither disable its account nor change its password", err), remedy)
	}
	s.warn("a machine may not disable itself; its password is now one that nobody knows", remedy)
	return nil
}

// unregister takes the machine's name out of DNS, and the object that kept it.
func (j *Joiner) unregister(ctx context.Context, r *run, m *store.Machine, dc directory.DC, own ownNames) {
	r.try(StepUnregister, "Take "+m.FQDN+" out of the domain's DNS", 80, func(s *Step) error {
		err := own.err
		if err == nil {
			addrs, _ := j.net.addresses(dc.Addr) // none: the reverse names stay
			err = own.zone.unregister(ctx, m.FQDN, addrs)
		}
		if err != nil {
			return fault.WithRemedy(err, "have an administrator remove "+m.FQDN)
		}
		if own.tree != nil {
			if err := dropNode(ctx, own.tree, m); err != nil && !fault.Is(err, fault.NotFound) {
				j.cfg.Log.Debug("the object of the machine's DNS name stays", "error", err)
			}
		}
		return nil
	})
}

// forgetHere removes what the join left on this machine, the record last: as
// long as it is there, the same command can be run again.
func (j *Joiner) forgetHere(ctx context.Context, r *run, m *store.Machine) error {
	if j.cfg.HostKeys != nil {
		r.try(StepHostKeys, "Take the host keys out of root's keytab", 90, func(*Step) error {
			return fault.WithRemedy(j.cfg.HostKeys.Remove(ctx, host(m)), "remove the entries of "+m.FQDN+" from /etc/krb5.keytab with ktutil")
		})
	}
	return r.step(StepForget, "Forget the membership", 100, func(s *Step) error {
		if err := os.Remove(j.cfg.KeytabPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, "remove the keytab", err)
		}
		if err := j.cfg.Memory.DeleteMachine(ctx); err != nil {
			return fault.Wrap(fault.Unknown, "remove the machine's record", err)
		}
		s.Detail = "the keytab and the machine's record are gone; every user keeps its uid for a later join"
		j.cfg.Log.Info("left the domain", "domain", m.Domain.DNS, "account", m.ComputerAccount, "after", j.cfg.Now().Sub(m.Joined).Round(time.Second))
		return nil
	})
}
