// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/monitor/pamcheck"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/shim"
)

// openShim prepares the PAM module's door. Without a store it is open all the
// same, for who waits for an answer is better told that there is none.
func (d *Daemon) openShim() *shim.Server {
	var people shim.Login = closed{d.broken}
	if d.login != nil {
		people = pam{d.login, &d.forms}
	}
	return shim.New(shim.Config{Log: d.log, Login: people, Limits: limits(d.settings.now()), Identify: peer.CallerOf})
}

// pam is the work of package login as the PAM module's door wants it.
type pam struct {
	login *login.Login
	forms *formOutcomes
}

func attemptOf(r shim.Request) login.Request {
	return login.Request{Name: r.Name, Service: r.Service, RemoteHost: r.RemoteHost, TTY: r.TTY, Door: "pam", Caller: r.Caller.String()}
}

func personOf(r *login.Result) *shim.Result {
	return &shim.Result{Name: r.User.Name, UID: r.User.UID, GID: r.User.GID, CCache: r.CCache}
}

// Begin opens one attempt.
func (p pam) Begin(r shim.Request) shim.Conversation {
	s := spoken{c: p.login.Begin(attemptOf(r))}
	if r.Service == pamcheck.Service && r.Caller.UID == 0 {
		s.note = func(err error) { p.forms.put(r.Name, r.RemoteHost, err) }
	}
	return s
}

// Account asks the policy, the account's state and the directory.
func (p pam) Account(ctx context.Context, r shim.Request) (*shim.Result, []string, error) {
	who, err := p.login.Account(ctx, attemptOf(r))
	if err != nil {
		return nil, nil, err
	}
	return personOf(who), who.Warnings, nil
}

// PasswordPlace says where a password is changed.
func (p pam) PasswordPlace(ctx context.Context, name string) (string, bool, error) {
	return p.login.PasswordPlace(ctx, name)
}

// ChangePassword changes it.
func (p pam) ChangePassword(ctx context.Context, r shim.Request, current, next secret.Bytes) ([]string, error) {
	return p.login.ChangePassword(ctx, attemptOf(r), current, next)
}

// spoken is one attempt. Its failures are told as to a stranger: the remote user
// of sshd hears of them by what the next module does.
type spoken struct {
	c    *login.Conversation
	note func(error) // may be nil
}

// Next carries one answer. The warnings of a success are among its texts.
func (s spoken) Next(ctx context.Context, answer secret.Bytes) (shim.Step, error) {
	step, err := s.c.Next(ctx, answer)
	next := shim.Step{Tell: step.Tell}
	if step.Ask != nil {
		next.Ask = &shim.Prompt{Text: step.Ask.Text, Echo: step.Ask.Echo, New: step.Ask.New}
	}
	if step.Done != nil {
		next.Done = personOf(step.Done)
	}
	if err != nil {
		err = login.ForStranger(err)
	}
	switch {
	case s.note == nil:
	case next.Ask != nil && next.Ask.New: // the old one was right; a form cannot ask on
		s.note(errFormChange)
	default:
		s.note(err)
	}
	return next, err
}

var errFormChange = fault.New(fault.MustChange, "the password must be changed")

// Close ends the attempt.
func (s spoken) Close() { s.c.Close() }

// closed lets nobody in, and says why nobody could be asked.
type closed struct{ why error }

// Begin opens an attempt that fails.
func (c closed) Begin(shim.Request) shim.Conversation { return c }

// Next fails.
func (c closed) Next(context.Context, secret.Bytes) (shim.Step, error) {
	return shim.Step{}, c.failure()
}

// Close does nothing.
func (closed) Close() {}

// Account fails.
func (c closed) Account(context.Context, shim.Request) (*shim.Result, []string, error) {
	return nil, nil, c.failure()
}

// PasswordPlace fails.
func (c closed) PasswordPlace(context.Context, string) (string, bool, error) {
	return "", false, c.failure()
}

// ChangePassword fails.
func (c closed) ChangePassword(context.Context, shim.Request, secret.Bytes, secret.Bytes) ([]string, error) {
	return nil, c.failure()
}

func (c closed) failure() error {
	return fault.Wrap(fault.Unreachable, "open the store", c.why)
}
