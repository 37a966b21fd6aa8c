// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// PasswordPlace says whether a person's password can be changed in the domain,
// and where else it can. Ask before a person is made to type one.
func (l *Login) PasswordPlace(ctx context.Context, name string) (url string, here bool, err error) {
	if err := identity.CheckAsked(name); err != nil {
		return "", false, err
	}
	p, err := l.byAlias(ctx, name)
	if err != nil {
		return "", false, err
	}
	if synced(p.user) {
		return l.c.Settings().PasswordURL, false, nil
	}
	return "", true, nil
}

func elsewhere(url string) string {
	if url == "" {
		return "Your password is kept in Microsoft Entra ID and cannot be changed here."
	}
	return "Your password is kept in Microsoft Entra ID. Change it at " + printable(url)
}

// ChangePassword changes a password in the domain, with the old one as proof.
// texts are to be shown whatever the outcome. No error: the domain has proved that
// it took the new one. fault.BadCredential: the old one is wrong. fault.Denied: the
// domain's policy refuses the new one, it is the old one, or the password is kept in
// Entra ID. The caller wipes both.
func (l *Login) ChangePassword(ctx context.Context, req Request, old, new secret.Bytes) (texts []string, err error) {
	a := l.begin(req, audit.ChangePassword)
	r, texts, err := l.changePassword(ctx, a, old, new)
	r.Wipe()
	return texts, a.end(err)
}

// changePassword is ChangePassword, and a sign-in with the new one: a program may
// let somebody in because of it, so whoever took it has to prove that it is the
// domain.
func (l *Login) changePassword(ctx context.Context, a *attempt, old, new secret.Bytes) (*Result, []string, error) {
	p, err := l.find(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	if texts, err := l.sendChange(ctx, a, p, old, new); err != nil {
		return nil, texts, err
	}
	l.forgetVerifier(p.user.Row)
	r, err := l.try(ctx, a, new)
	if err != nil {
		return nil, []string{"It is not certain that the password is changed: sign in with the new one to see."}, err
	}
	return r, []string{"The password is changed."}, nil
}

// sendChange hands both passwords to the domain.
func (l *Login) sendChange(ctx context.Context, a *attempt, p *person, old, new secret.Bytes) ([]string, error) {
	if err := errors.Join(checkPassword(old), checkPassword(new)); err != nil {
		return nil, err
	}
	if synced(p.user) {
		a.proved = true // no secret: PasswordPlace says so to anybody
		text := elsewhere(l.c.Settings().PasswordURL)
		return []string{text}, fault.WithRemedy(fault.New(fault.Denied, "the password is kept in Entra ID"), text)
	}
	if new.Equal(old) {
		// sshd's password method has no other question, and is answered so.
		const text = "The new password is the old one: choose another."
		return []string{text}, fault.WithRemedy(fault.New(fault.Denied, "the new password is the old one"), text)
	}
	d := l.c.Domain()
	if d == nil {
		return nil, fault.New(fault.Unreachable, "this machine leaves its domain")
	}
	now := l.c.Now()
	mark := l.refused.of(p.user, old)
	if l.refused.just(mark, now) {
		return nil, fault.New(fault.BadCredential, "the old password was refused a moment ago; it was not sent again")
	}
	settle, err := l.budget.take(ctx, p.user.Row, a.req.source())
	if err != nil {
		return nil, err
	}
	defer settle(false)
	a.event.Sent = true
	counted, cancel := lasting(ctx)
	defer cancel()
	err = d.KDC.ChangePassword(counted, kerberos.Account(p.user.Account, d.Realm), kerberos.Password(old), new)
	if fault.Is(err, fault.BadCredential) {
		l.refused.refuse(p.user.Row, mark, l.c.Now())
		settle(true)
		l.afterwards(func() { l.budget.keep(p.user.Row) })
	}
	var words *kerberos.PasswordError
	if errors.As(err, &words) {
		a.proved = a.proved || fault.Is(err, fault.Denied) // a policy looks at the new one once the old one was right
		if words.Text != "" {
			return strings.Split(words.Text, "\n"), err
		}
	}
	return nil, err
}

// putOff lets somebody in whose password must be changed, and who was not asked for
// another one: sshd's password method answers every question with the one password.
// It is for programs that ask Account next, which then says fault.MustChange, so
// that sshd runs passwd and nothing else. The directory has to say so itself, for a
// KDC proves nothing by an error.
func (l *Login) putOff(ctx context.Context, a *attempt) (*Result, error) {
	p, err := l.find(ctx, a)
	if err != nil {
		return nil, err
	}
	d := l.c.Domain()
	if d == nil {
		return nil, fault.New(fault.Unreachable, "this machine leaves its domain")
	}
	if p, err = l.renew(ctx, d, p); err != nil {
		return nil, err
	}
	if err := l.state(p.user); err != nil {
		return nil, err
	}
	if !p.user.State.Has(identity.MustChange) || synced(p.user) {
		return nil, fault.New(fault.MustChange, "the password has expired")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owing[p.user.Row] = l.c.Now().Add(owesFor)
	a.event.Hint = "put-off"
	return p.result(ByKerberos, a.event.ID), nil
}

// owesFor is how long Account insists on a change that was put off, whatever the
// directory says by then: longer than a program waits before it asks.
const owesFor = 10 * time.Minute

// owes says whether a change of a row's password was put off.
func (l *Login) owes(row identity.RowID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, ok := l.owing[row]
	if ok && !l.c.Now().Before(until) {
		delete(l.owing, row)
		return false
	}
	return ok
}

// paid ends what putOff began: the domain took a password of the row.
func (l *Login) paid(row identity.RowID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.owing, row)
}

// forgetVerifier deletes what offline sign-in has of a user, or is about to have.
func (l *Login) forgetVerifier(row identity.RowID) {
	l.keeper.turn.Lock()
	defer l.keeper.turn.Unlock()
	if j := l.keeper.take(row); j != nil {
		j.password.Wipe()
	}
	if err := l.c.Store.SetNotes(context.Background(), topicVerifier, map[string][]byte{rowKey(row): nil}); err != nil {
		l.c.Log.Error("what offline sign-in needs cannot be deleted", "row", row, "error", err)
	}
}
