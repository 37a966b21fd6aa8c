// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Prompt is a question to the person.
type Prompt struct {
	Text string
	Echo bool // what is typed may be seen
	// What is asked for: neither, where it is a code or another thing.
	Password bool // the password, which the caller may know already
	New      bool // the password to be, or the same again
}

// Step is one turn of a conversation: texts to show, and then either a question
// or the end.
type Step struct {
	Tell []string
	Ask  *Prompt
	Done *Result
}

// Conversation is one sign-in by questions and answers, with one event. It asks
// for the password and, where that must be changed and can be changed in the
// domain, for a new one. Whether the person may use the service is Account's
// question. Not safe for concurrent use.
type Conversation struct {
	l        *Login
	a        *attempt
	expect   expected
	old, new secret.Bytes
	over     bool
	permit   bool // the access rules are asked at the end
}

type expected uint8

const (
	expectNothing expected = iota
	expectPassword
	expectNew
	expectAgain
)

// Begin starts a conversation. Nobody is asked anything yet.
func (l *Login) Begin(req Request) *Conversation {
	return &Conversation{l: l, a: l.begin(req, audit.SignIn)}
}

// Converse starts a conversation that lets in nobody who may not use the
// service: for doors that have no question of their own about that.
func (l *Login) Converse(req Request) *Conversation {
	c := l.Begin(req)
	c.permit = true
	return c
}

// errOver is a call after the end.
var errOver = fault.New(fault.Malformed, "the conversation is over")

// Next takes an answer and returns what comes next. The first call may bring no
// answer, to be asked for the password, or the password at once. An error ends
// the conversation; the texts of the step are to be shown all the same. The
// caller wipes answer.
func (c *Conversation) Next(ctx context.Context, answer secret.Bytes) (Step, error) {
	switch {
	case c.over:
		return Step{}, errOver
	case c.expect == expectNothing && answer.Len() == 0:
		return c.ask(expectPassword, "Password: ")
	case c.expect <= expectPassword:
		return c.password(ctx, answer)
	case c.expect == expectNew:
		if err := checkPassword(answer); err != nil {
			return c.refuse(fault.Wrap(fault.MustChange, "read the new password", err), "The password is not changed.")
		}
		c.new = answer.Clone()
		return c.ask(expectAgain, "Retype new password: ")
	}
	return c.change(ctx, answer)
}

// Close ends the conversation and wipes what it remembers. One that nobody
// finished is recorded as abandoned. It may be called twice.
func (c *Conversation) Close() {
	c.old.Wipe()
	c.new.Wipe()
	if !c.over {
		c.over = true
		c.a.abandon()
	}
}

func (c *Conversation) ask(what expected, text string, tell ...string) (Step, error) {
	c.expect = what
	return Step{Tell: tell, Ask: &Prompt{Text: text, Password: what == expectPassword, New: what >= expectNew}}, nil
}

func (c *Conversation) refuse(err error, tell ...string) (Step, error) {
	c.over = true
	return Step{Tell: tell}, c.a.end(err)
}

func (c *Conversation) done(ctx context.Context, r *Result, tell ...string) (Step, error) {
	if c.permit {
		c.a.proved = true
		if err := c.l.permit(ctx, c.a, r.User, rowsOf(r.Groups)); err != nil {
			r.Wipe()
			return c.refuse(err, tell...)
		}
	}
	c.over = true
	_ = c.a.end(nil)
	return Step{Tell: append(tell, r.Warnings...), Done: r}, nil
}

func (c *Conversation) password(ctx context.Context, answer secret.Bytes) (Step, error) {
	r, err := c.l.password(ctx, c.a, answer)
	if err == nil {
		return c.done(ctx, r)
	}
	if !fault.Is(err, fault.MustChange) {
		return c.refuse(err)
	}
	url, here, placed := c.l.PasswordPlace(ctx, c.a.req.Name)
	switch {
	case placed != nil:
		return c.refuse(errors.Join(err, placed))
	case !here:
		return c.refuse(err, elsewhere(url))
	}
	c.old = answer.Clone()
	return c.ask(expectNew, "New password: ", "Your password must be changed.")
}

// change changes the password, and signs in with the new one.
func (c *Conversation) change(ctx context.Context, again secret.Bytes) (Step, error) {
	if !again.Equal(c.new) {
		return c.refuse(fault.New(fault.MustChange, "the two new passwords differ"), "The passwords differ. The password is not changed.")
	}
	if c.new.Equal(c.old) && c.a.req.Service == serviceSSH && !c.permit {
		if r, err := c.l.putOff(ctx, c.a); err == nil {
			return c.done(ctx, r)
		}
	}
	r, texts, err := c.l.changePassword(ctx, c.a, c.old, c.new)
	if err != nil {
		return c.refuse(err, texts...)
	}
	return c.done(ctx, r, texts...)
}
