// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// What a rotation keeps and when the next one is due.
const (
	MaxKeyAge   = 30 * 24 * time.Hour // the interval is never longer
	keptKeys    = 3                   // versions in the keytab: of now, and two old ones
	keyLife     = 24 * time.Hour      // an old key stays at least that long: no ticket lives longer
	retrySoon   = 15 * time.Minute    // after a failure that may pass
	retryLater  = 12 * time.Hour      // after a refusal
	otherDCTime = 3 * time.Second
)

// Rotation is what a change of the machine's key came to.
type Rotation struct {
	KVNO    uint32
	Time    time.Time
	Next    time.Time // when the next one is due
	DC      string    // the domain controller that has the new key first
	Resumed bool      // it was begun earlier and was interrupted
}

// NextRotation is when a key that was made at a time is to be changed: after the
// interval, at most MaxKeyAge (0 means that), less a tenth of it by chance, so
// that machines which joined together do not ask together.
func NextRotation(made time.Time, interval time.Duration) time.Time {
	if interval <= 0 || interval > MaxKeyAge {
		interval = MaxKeyAge
	}
	return made.Add(interval - time.Duration(rand.Int64N(int64(interval/10)+1)))
}

// Rotate gives the machine's account a new password and writes its keys, or
// ends what an interrupted Rotate began: the new password is remembered before
// the domain is told, so that after a kill at any moment one of the two that are
// remembered is right, and the next Rotate finds out which. The new keys are in
// both keytabs before the domain uses them, the old ones stay for two more
// rotations and a day at least: whoever has a ticket goes on.
//
// One domain controller is asked for all of it. Errors are of the step that
// failed; the membership is as before then, and the record says when to try
// again. fault.Conflict: not in a domain, or none of the passwords that are
// remembered is right.
func (j *Joiner) Rotate(ctx context.Context, interval time.Duration, progress func(Step)) (*Rotation, error) {
	if err := j.lock(); err != nil {
		return nil, err
	}
	defer j.busy.Unlock()
	r := &run{tell: progress}
	t := &rotation{j: j, interval: interval}
	defer t.wipe()
	done, err := t.run(ctx, r)
	if err != nil && t.m != nil {
		t.postpone(ctx, err)
	}
	if err == nil {
		j.cfg.Log.Info("the machine's key was changed", "account", t.m.ComputerAccount, "kvno", done.KVNO, "dc", done.DC, "next", done.Next, "resumed", done.Resumed)
	}
	return done, err
}

// rotation is one under way.
type rotation struct {
	j        *Joiner
	interval time.Duration
	m        *store.Machine
	p        *plan
	dc       directory.DC
	k        kdc
	who      kerberos.Principal

	began   bool            // by this call: before it, no other password was remembered
	reached bool            // the domain has the new password
	login   *kerberos.Login // with the password that counts
}

func (t *rotation) wipe() {
	if t.m != nil {
		t.m.Wipe()
	}
	t.loggedIn(nil)
}

// loggedIn keeps the last sign-in.
func (t *rotation) loggedIn(l *kerberos.Login) {
	if t.login != nil {
		t.login.TGT.Wipe()
	}
	t.login = l
}

func (t *rotation) run(ctx context.Context, r *run) (*Rotation, error) {
	if err := r.step(StepMember, "Look which domain the machine is in", 4, t.read(ctx)); err != nil {
		return nil, err
	}
	var others []directory.DC
	if err := r.step(StepDC, "Find a domain controller", 12, func(s *Step) (err error) {
		others, err = t.find(ctx, s)
		return err
	}); err != nil {
		return nil, err
	}
	if err := r.step(StepPassword, "Find out which password counts", 24, func(s *Step) error { return t.probe(ctx, s, others) }); err != nil {
		return nil, err
	}
	resumed := t.reached
	if !t.reached {
		if err := r.step(StepPrepare, "Remember a new password before the domain has it", 34, func(s *Step) error { return t.prepare(ctx, s) }); err != nil {
			return nil, err
		}
	}
	if err := r.step(StepKeytab, "Write the new keys beside the old ones", 46, func(s *Step) error { return t.keytab(ctx, s) }); err != nil {
		return nil, err
	}
	t.hostKeys(ctx, r, 54)
	if !t.reached {
		if err := r.step(StepChange, "Change the password of "+t.m.ComputerAccount, 68, func(s *Step) error { return t.change(ctx, s) }); err != nil {
			return nil, err
		}
		if err := r.step(StepSignIn, "Sign in with the new password", 76, func(s *Step) error { return t.confirm(ctx, r, s) }); err != nil {
			return nil, err
		}
	}
	var done *Rotation
	if err := r.step(StepRemember, "Remember that it counts", 88, func(s *Step) (err error) {
		done, err = t.remember(ctx, s)
		return err
	}); err != nil {
		return nil, err
	}
	done.Resumed = resumed
	r.try(StepVerify, "Open a ticket for this machine with the new key", 100, func(s *Step) error {
		s.Detail = "host/" + t.p.fqdn()
		return prove(ctx, t.k, t.p, t.j.cfg.KeytabPath)
	})
	return done, nil
}

func (t *rotation) read(ctx context.Context) func(*Step) error {
	return func(s *Step) error {
		m, err := t.j.cfg.Memory.Machine(ctx)
		if fault.Is(err, fault.NotFound) {
			return fault.WithRemedy(fault.New(fault.Conflict, "this machine is in no domain"), "join one: latchkey join DOMAIN --user NAME")
		}
		if err != nil {
			return fault.Wrap(fault.Unknown, "read the machine's record", err)
		}
		t.m = m
		t.p = &plan{domain: m.Domain.DNS, dcs: m.DomainControllers, short: strings.ToLower(strings.TrimSuffix(m.ComputerAccount, "$"))}
		t.who = kerberos.Account(m.ComputerAccount, m.Domain.Realm)
		s.Detail = fmt.Sprintf("%s, as %s, key version %d", m.Domain.DNS, m.ComputerAccount, m.KVNO)
		return nil
	}
}

// find chooses the domain controller, and returns the others that answer.
func (t *rotation) find(ctx context.Context, s *Step) ([]directory.DC, error) {
	for _, server := range t.m.DNSServers {
		if a, err := parseServer(server); err == nil {
			t.p.dns = append(t.p.dns, a)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout+pingTimeout)
	defer cancel()
	found, err := t.j.net.discover(ctx, t.p)
	if err != nil {
		return nil, err
	}
	var writable []directory.DC
	for _, dc := range found {
		if dc.Flags.Has(directory.DCIsWritable) {
			writable = append(writable, dc)
		}
	}
	if len(writable) == 0 {
		return nil, fault.New(fault.Unreachable, "no writable domain controller answers")
	}
	t.use(writable[0])
	s.Detail = fmt.Sprintf("%s (%s)", t.dc.Host, t.dc.Addr)
	return writable[1:], nil
}

func (t *rotation) use(dc directory.DC) { t.dc, t.k = dc, t.j.net.kdc(dc.Realm(), dc.Addr) }

// try signs in with one password. false: it is not the one; an error: nobody
// knows.
func (t *rotation) try(ctx context.Context, k kdc, password secret.Bytes) (bool, error) {
	if password.Len() == 0 {
		return false, nil
	}
	l, err := k.Login(ctx, t.who, kerberos.Password(password))
	if fault.Is(err, fault.BadCredential) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t.loggedIn(l)
	return true, nil
}

// probe finds out which of the passwords that are remembered the domain has.
func (t *rotation) probe(ctx context.Context, s *Step, others []directory.DC) error {
	ok, err := t.try(ctx, t.k, t.m.PendingPassword)
	current := false
	if err == nil && !ok {
		current, err = t.try(ctx, t.k, t.m.Password)
	}
	if err == nil && !ok && !current {
		// What was asked for by somebody who was killed a moment ago may have been
		// done between the two.
		ok, err = t.try(ctx, t.k, t.m.PendingPassword)
	}
	if ok {
		t.reached = true
		s.Detail = "the new one of an interrupted change, begun " + t.m.PendingTime.UTC().Format(time.DateTime)
		return nil
	}
	switch {
	case err != nil:
		return t.refused(err)
	case current && t.m.PendingPassword.Len() > 0:
		// The one that took the change may be another, and not have told this one.
		for _, dc := range others {
			short, cancel := context.WithTimeout(ctx, otherDCTime)
			ok, _ := t.try(short, t.j.net.kdc(dc.Realm(), dc.Addr), t.m.PendingPassword)
			cancel()
			if ok {
				t.use(dc)
				t.reached = true
				s.Detail = "the new one of an interrupted change, which only " + dc.Host + " knows as yet"
				return nil
			}
		}
		s.Detail = "the old one: the interrupted change did not reach the domain, and is made now"
		return nil
	case current:
		s.Detail = "the one of " + t.m.KeyTime.UTC().Format(time.DateTime)
		return nil
	}
	if before, _ := t.try(ctx, t.k, t.m.PreviousPassword); before {
		return fault.WithRemedy(fault.Errorf(fault.Unreachable, "%s still has the password before the last change", t.dc.Host),
			"the domain controllers have not told each other yet: try again in a minute; a change that is due is tried again by itself")
	}
	return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s takes none of the passwords that this machine remembers for %s", t.dc.Host, t.m.ComputerAccount),
		"somebody has reset the account: run latchkey join "+t.m.Domain.DNS+" --user NAME again; every user keeps its uid")
}

// refused says why the machine's own account cannot sign in.
func (t *rotation) refused(err error) error {
	switch fault.KindOf(err) {
	case fault.Disabled, fault.NotFound, fault.Expired, fault.Denied:
		return fault.WithRemedy(fault.Wrap(fault.Conflict, "the domain refuses "+t.m.ComputerAccount, err),
			"have the account enabled again, or run latchkey join "+t.m.Domain.DNS+" --user NAME; every user keeps its uid")
	}
	return fault.Wrap(fault.Unknown, "sign in as "+t.m.ComputerAccount, err)
}

// prepare remembers the new password. One that an interrupted change has left is
// taken again: should a domain controller have it after all, it is the right one.
func (t *rotation) prepare(ctx context.Context, s *Step) error {
	if t.m.PendingPassword.Len() > 0 {
		s.Detail = "the one of the interrupted change is used again"
		return nil
	}
	t.m.PendingPassword, t.m.PendingTime, t.began = newPassword(), t.j.cfg.Now(), true
	return fault.Wrap(fault.Unknown, "write the machine's record", t.update(ctx, func(m *store.Machine) {
		m.PendingPassword, m.PendingTime = t.m.PendingPassword, t.m.PendingTime
	}))
}

// update changes the record, where it still is of the same account.
func (t *rotation) update(ctx context.Context, fn func(*store.Machine)) error {
	return t.j.cfg.Memory.UpdateMachine(ctx, func(m *store.Machine) error {
		if m.ComputerSID != t.m.ComputerSID || !m.Joined.Equal(t.m.Joined) {
			return fault.New(fault.Conflict, "the membership has changed meanwhile")
		}
		fn(m)
		return nil
	})
}

// remember makes the new password the password.
func (t *rotation) remember(ctx context.Context, s *Step) (*Rotation, error) {
	now := t.j.cfg.Now()
	done := &Rotation{KVNO: t.version(), Time: now, Next: NextRotation(now, t.interval), DC: t.dc.Host}
	s.Detail = fmt.Sprintf("key version %d; the next change by %s", done.KVNO, done.Next.UTC().Format(time.DateOnly))
	return done, fault.Wrap(fault.Unknown, "write the machine's record", t.update(ctx, func(m *store.Machine) {
		m.PreviousPassword, m.Password = m.Password, t.m.PendingPassword
		m.PendingPassword, m.PendingTime = secret.Bytes{}, time.Time{}
		m.KVNO, m.KeyTime, m.NextRotation, m.RotationError = done.KVNO, now, done.Next, ""
	}))
}

// postpone remembers why it did not work, and when to try again.
func (t *rotation) postpone(ctx context.Context, why error) {
	wait := retryLater
	if k := fault.KindOf(why); k == fault.Unreachable || k == fault.Locked {
		wait = retrySoon
	}
	wait += time.Duration(rand.Int64N(int64(wait / 4)))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), otherDCTime)
	defer cancel()
	if err := t.update(ctx, func(m *store.Machine) {
		m.NextRotation, m.RotationError = t.j.cfg.Now().Add(wait), cause(why)
	}); err != nil {
		t.j.cfg.Log.Warn("it cannot be remembered that the machine's key was not changed", "error", err)
	}
}
