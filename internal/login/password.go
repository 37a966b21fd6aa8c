// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// maxPassword is what Active Directory can keep, in UTF-16 units, and so in
// bytes at least.
const maxPassword = 1024

// warnBefore is how long before its end a password is spoken of.
const warnBefore = 14 * 24 * time.Hour

// Authenticate tries a password and asks whether its owner may use the service:
// one attempt, one event. The error is the truth; what a stranger may be told is
// ForStranger's. The caller wipes the password and the result.
func (l *Login) Authenticate(ctx context.Context, req Request, password secret.Bytes) (*Result, error) {
	a := l.begin(req, audit.SignIn)
	r, err := l.password(ctx, a, password)
	if err == nil {
		a.proved = true
		if err = l.permit(ctx, a, r.User, rowsOf(r.Groups)); err != nil {
			r.Wipe()
			r = nil
		}
	}
	return r, a.end(err)
}

func rowsOf(groups []*identity.Group) []identity.RowID {
	rows := make([]identity.RowID, len(groups))
	for i, g := range groups {
		rows[i] = g.Row
	}
	return rows
}

// password tries one password of whom the request names.
func (l *Login) password(ctx context.Context, a *attempt, password secret.Bytes) (r *Result, err error) {
	begun := l.c.Now()
	defer l.keeper.enter()()
	r, err = l.try(ctx, a, password)
	l.even(ctx, a, &l.pace, begun, err)
	return r, err
}

func (l *Login) try(ctx context.Context, a *attempt, password secret.Bytes) (*Result, error) {
	p, err := l.find(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	if p.user.State.Has(identity.Conflicted) {
		return nil, l.state(p.user)
	}
	d := l.c.Domain()
	if d == nil {
		return nil, fault.New(fault.Unreachable, "this machine leaves its domain")
	}
	now := l.c.Now()
	mark := l.refused.of(p.user, password)
	if l.refused.just(mark, now) {
		a.event.How = "remembered"
		return nil, fault.New(fault.BadCredential, "the password was refused a moment ago; it was not sent again")
	}
	known := l.refused.good(p.user.Row, mark)
	settle, err := l.reserve(ctx, a, p, password, known)
	if err != nil {
		return nil, err
	}
	defer func() { settle(false) }()
	var r *Result
	silent, remembered := l.silent(d), l.keeper.waiting(p.user.Row) || l.verifierOf(ctx, p.user) != nil
	limit := kdcTime
	if !silent && !remembered { // nothing else can decide: a KDC that is only slow is waited for
		limit = patientTime
	}
	if silent && remembered {
		err = errSilent
	} else if r, err = l.kerberos(ctx, a, d, p, password, known, remembered, limit); isSilence(err) && ctx.Err() == nil {
		l.fellSilent(d)
	}
	l.learn(p.user, err)
	if err != nil {
		if h := l.hint(p.user, err); h != nil {
			a.event.Hint = h.ID
			if fault.Remedy(err) == "" {
				err = fault.WithRemedy(err, h.Text+": "+h.Remedy)
			}
		}
	}
	switch kind := fault.KindOf(err); {
	case err == nil:
		l.refused.accept(r.User.Row, l.refused.of(r.User, password))
		l.paid(r.User.Row)
		settle(false)
		if l.budget.forgive(p.user.Row) {
			l.afterwards(func() { l.budget.keep(p.user.Row) })
		}
		l.remember(r.User, password)
		return r, nil
	case kind == fault.BadCredential && !errors.Is(err, errForged):
		l.refused.refuse(p.user.Row, mark, l.c.Now())
		settle(true)
		l.afterwards(func() { l.budget.keep(p.user.Row) })
		return nil, err
	case kind == fault.Unreachable && !hasSkew(err):
		r, err := l.offline(ctx, a, p, password, err)
		settle(fault.Is(err, fault.BadCredential))
		return r, err
	case kind == fault.MustChange:
		a.proved = true
	case kind == fault.Disabled || kind == fault.Expired || kind == fault.Locked:
		// A KDC may say so without a look at the password.
		a.proved = a.proved || known
	}
	return nil, err
}

// reserve takes one try from the budget, unless the password is known to be right,
// or proves so by the verifier: others may have spent what there is, and the owner
// gets through. settle ends the try.
func (l *Login) reserve(ctx context.Context, a *attempt, p *person, password secret.Bytes, known bool) (settle func(wrong bool), err error) {
	free := func(bool) {}
	if known {
		return free, nil
	}
	row, source := p.user.Row, a.req.source()
	settle, err = l.budget.take(ctx, row, source)
	if errors.Is(err, errSpent) && l.budget.mayCheck(row, source) && l.matches(ctx, p.user, password) {
		return free, nil
	}
	return settle, err
}

// isSilence says that no KDC answered, which was not known before: one that
// answers with a failure of its own, as about a name that it cannot read, is there.
func isSilence(err error) bool {
	var refusal *kerberos.Error
	return fault.Is(err, fault.Unreachable) && !errors.Is(err, errSilent) && !errors.As(err, &refusal) && !hasSkew(err)
}

func hasSkew(err error) bool {
	var skew *kerberos.SkewError
	return errors.As(err, &skew)
}

// checkPassword refuses what cannot be a password, and is sent to nobody.
func checkPassword(password secret.Bytes) error {
	switch b := password.Reveal(); {
	case len(b) == 0:
		return fault.New(fault.BadCredential, "the password is empty")
	case len(b) > maxPassword:
		return fault.New(fault.BadCredential, "the password is too long")
	case !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0:
		return fault.New(fault.BadCredential, "the password is not text")
	}
	return nil
}

// errForged marks an answer that did not come from the domain: it says nothing
// about the password.
var errForged = errors.New("the KDC did not prove that it is the domain's")

// kerberos proves a password to the KDC, and the KDC to us, and reads the row
// afresh: beside all of it where the password is known to be the one that the KDC
// took last, else not before the KDC has taken it, so that a stranger's guesses
// cost the directory nothing.
func (l *Login) kerberos(ctx context.Context, a *attempt, d *Domain, p *person, password secret.Bytes, known, remembered bool, limit time.Duration) (*Result, error) {
	a.event.How = string(ByKerberos)
	select {
	case l.talks <- struct{}{}:
		defer func() { <-l.talks }()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unreachable, "wait for a turn at the KDC", ctx.Err())
	}
	if remembered && l.silent(d) { // found out by others meanwhile
		return nil, errSilent
	}
	counted, done := lasting(ctx)
	defer done()
	kctx, cancel := context.WithTimeout(counted, limit)
	defer cancel()
	var fresh <-chan renewal
	if known {
		fresh = l.renewBeside(ctx, d, p)
	}
	a.event.Sent = true
	in, err := d.KDC.Login(kctx, kerberos.Account(p.user.Account, d.Realm), kerberos.Password(password))
	if fault.Is(err, fault.NotFound) { // renamed since the mirror read it; nothing was counted
		if now, renewed := l.renew(kctx, d, p); renewed == nil && now.user.Account != p.user.Account {
			p, fresh = now, nil
			in, err = d.KDC.Login(kctx, kerberos.Account(p.user.Account, d.Realm), kerberos.Password(password))
		}
	}
	if err != nil {
		var refusal *kerberos.Error
		if errors.As(err, &refusal) {
			a.event.KDC = refusal.KDC.String()
		}
		return nil, err
	}
	defer in.TGT.Wipe()
	if fresh == nil {
		fresh = l.renewBeside(ctx, d, p)
	}
	v, err := l.verify(kctx, d, in.TGT)
	read := <-fresh
	now, renewed := read.person, read.err
	if err != nil {
		return nil, err
	}
	a.event.Principal = v.Client.String()
	if v.PAC == nil || v.PAC.User != p.user.SID {
		return nil, fault.WithRemedy(fault.Errorf(fault.Denied, "%s proved itself, and it is not the row that was asked for", v.Client),
			"`latchkey sync --full` reads the domain anew; two accounts may have changed their names")
	}
	a.proved = true
	if renewed != nil {
		return nil, renewed
	}
	if now.user.SID != p.user.SID {
		return nil, fault.New(fault.Denied, "the account was made anew in the middle of the sign-in")
	}
	a.found(now.user)
	if err := l.state(now.user); err != nil {
		return nil, err
	}
	r := now.result(ByKerberos, a.event.ID)
	r.Principal, r.PasswordExpires = in.TGT.Client.String(), in.PasswordExpires
	cache, err := (&kerberos.CCache{Client: in.TGT.Client, Tickets: []*kerberos.Ticket{in.TGT}}).Marshal()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "write the tickets", err)
	}
	r.CCache = secret.Own(cache)
	l.warnOfExpiry(r)
	return r, nil
}

// renewal is what came of renew.
type renewal struct {
	person *person
	err    error
}

// renewBeside runs renew beside the caller, who need not wait for it. It does not
// end with ctx, for that would break the connection, which others use as well; it
// has its own limits.
func (l *Login) renewBeside(ctx context.Context, d *Domain, p *person) <-chan renewal {
	c := make(chan renewal, 1)
	ctx = context.WithoutCancel(ctx)
	l.afterwards(func() {
		now, err := l.renew(ctx, d, p)
		c <- renewal{now, err}
	})
	return c
}

// verify proves the KDC by our own host key. The keytab is read anew, and once
// more when its keys do not fit: a rotation may be under way.
func (l *Login) verify(ctx context.Context, d *Domain, tgt *kerberos.Ticket) (*kerberos.Verified, error) {
	for try := 0; ; try++ {
		keys, err := kerberos.ReadKeytab(d.Keytab)
		if err != nil {
			return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "read this machine's own keys", err), "see `latchkey doctor`")
		}
		v, err := d.KDC.Verify(ctx, tgt, kerberos.Service("host", d.FQDN, d.Realm), keys)
		keys.Wipe()
		var refusal *kerberos.Error
		switch {
		case err == nil:
			return v, nil
		case fault.Is(err, fault.Unreachable):
			return nil, err
		case errors.As(err, &refusal) && refusal.Code == kerberos.CodeServiceUnknown:
			// It cannot prove itself, which says nothing of the password.
			return nil, fault.WithRemedy(fault.Wrap(fault.Unreachable, "prove the KDC: it does not know this machine", err),
				"`latchkey join` again: the machine's account was deleted or renamed, or the domain built anew; every user keeps its uid")
		case fault.Is(err, fault.Conflict) && try == 0:
			continue
		case fault.Is(err, fault.Conflict):
			return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "prove the KDC", err), "this machine's keys are not the domain's: see `latchkey doctor`")
		}
		return nil, &fault.Error{Kind: fault.BadCredential, Op: "prove the KDC", Err: errors.Join(errForged, err),
			Remedy: "something that is not the domain answers as its KDC, or this machine's keys are stale: see `latchkey doctor`"}
	}
}

// warnOfExpiry adds what the owner of a password is told in its last days.
func (l *Login) warnOfExpiry(r *Result) {
	left := r.PasswordExpires.Sub(l.c.Now())
	if r.PasswordExpires.IsZero() || left < 0 || left >= warnBefore {
		return
	}
	var text string
	switch days := int(left / (24 * time.Hour)); days {
	case 0:
		text = "Your password expires today."
	case 1:
		text = "Your password expires tomorrow."
	default:
		text = fmt.Sprintf("Your password expires in %d days.", days)
	}
	switch url := l.c.Settings().PasswordURL; {
	case !synced(r.User):
		text += " Change it with passwd."
	case url != "":
		text += " Change it at " + printable(url)
	}
	r.Warnings = append(r.Warnings, text)
}

// afterwards does something after the answer.
func (l *Login) afterwards(fn func()) { l.later.Go(fn) }
