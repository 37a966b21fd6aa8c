// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"strings"

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
// texts are to be shown whatever the outcome. fault.BadCredential: the old one
// is wrong. fault.Denied: the domain's policy refuses the new one, it is the old
// one, or the password is kept in Entra ID. The caller wipes both.
func (l *Login) ChangePassword(ctx context.Context, req Request, old, new secret.Bytes) (texts []string, err error) {
	a := l.begin(req, audit.ChangePassword)
	texts, err = l.changePassword(ctx, a, old, new)
	return texts, a.end(err)
}

func (l *Login) changePassword(ctx context.Context, a *attempt, old, new secret.Bytes) ([]string, error) {
	p, err := l.find(ctx, a)
	if err != nil {
		return nil, err
	}
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
	err = d.KDC.ChangePassword(ctx, kerberos.Account(p.user.Account, d.Realm), kerberos.Password(old), new)
	if fault.Is(err, fault.BadCredential) {
		l.refused.refuse(p.user.Row, mark, l.c.Now())
		settle(true)
		l.afterwards(func() { l.budget.keep(p.user.Row) })
	}
	if err != nil {
		var words *kerberos.PasswordError
		if !errors.As(err, &words) {
			return nil, err
		}
		a.proved = a.proved || fault.Is(err, fault.Denied) // a policy looks at the new one once the old one was right
		if words.Text != "" {
			return strings.Split(words.Text, "\n"), err
		}
		return nil, err
	}
	l.forgetVerifier(p.user.Row)
	// The row's pwdLastSet is another one now.
	if _, err := l.renew(ctx, d, p); err != nil {
		l.c.Log.Warn("a row could not be read afresh after its password was changed", "row", p.user.Row, "error", err)
	}
	return []string{"The password is changed."}, nil
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
