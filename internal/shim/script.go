// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"strings"
	"unicode"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// scripts is what each purpose means.
var scripts = map[latchkeyv1.Purpose]func(*talk, Request){
	latchkeyv1.Purpose_PURPOSE_AUTHENTICATE:    (*talk).authenticate,
	latchkeyv1.Purpose_PURPOSE_ACCOUNT:         (*talk).account,
	latchkeyv1.Purpose_PURPOSE_PASSWORD_CHECK:  (*talk).passwordCheck,
	latchkeyv1.Purpose_PURPOSE_PASSWORD_CHANGE: (*talk).passwordChange,
}

// talk is a script's side of a conversation.
type talk struct{ c *conversation }

func (t *talk) ctx() context.Context { return t.c.life }

// authenticate carries the words of one attempt.
func (t *talk) authenticate(req Request) {
	attempt := t.c.login.Begin(req)
	defer attempt.Close()
	var answer secret.Bytes
	for first := true; ; {
		step, err := attempt.Next(t.ctx(), answer)
		answer.Wipe()
		lines := info(step.Tell)
		switch {
		case err != nil:
			t.done(req, lines, nil, err)
			return
		case step.Done != nil:
			t.done(req, append(lines, info(step.Done.Warnings)...), step.Done, nil)
			return
		case step.Ask == nil:
			t.done(req, lines, nil, fault.New(fault.Internal, "a step without a question or an end"))
			return
		}
		answers, err := t.ask(append(lines, &latchkeyv1.Line{Kind: kindOf(step.Ask, first), Text: clean(step.Ask.Text)}))
		if err != nil {
			return
		}
		answer, first = answers[0], false
	}
}

// kindOf: the first question that may not be seen is the password, which an
// earlier module may have asked for.
func kindOf(p *Prompt, first bool) latchkeyv1.Line_Kind {
	switch {
	case p.Echo:
		return latchkeyv1.Line_KIND_ASK_SHOWN
	case p.New:
		return latchkeyv1.Line_KIND_ASK_NEW
	case first:
		return latchkeyv1.Line_KIND_ASK_PASSWORD
	}
	return latchkeyv1.Line_KIND_ASK_HIDDEN
}

func (t *talk) account(req Request) {
	r, texts, err := t.c.login.Account(t.ctx(), req)
	lines := info(texts)
	if r != nil && err == nil {
		lines = append(lines, info(r.Warnings)...)
	}
	t.done(req, lines, r, err)
}

// passwordCheck is PAM's first pass: whether there is any use in asking, and the
// current password, which PAM keeps for the second pass. Root who changes
// somebody's password is asked as well: in the domain root is nobody.
func (t *talk) passwordCheck(req Request) {
	url, here, err := t.c.login.PasswordPlace(t.ctx(), req.Name)
	switch {
	case err != nil:
		t.done(req, nil, nil, err)
		return
	case !here:
		t.done(req, problem([]string{elsewhere(url)}), nil, fault.New(fault.Denied, "the password is not changed here"))
		return
	}
	answers, err := t.ask([]*latchkeyv1.Line{{Kind: latchkeyv1.Line_KIND_ASK_CURRENT, Text: "Current password: "}})
	if err != nil {
		return
	}
	answers[0].Wipe()
	t.done(req, nil, nil, nil)
}

func elsewhere(url string) string {
	if url == "" {
		return "This password cannot be changed here."
	}
	return "This password cannot be changed here. Change it at " + url
}

// unchanged says what passwd(1) has no words for, to somebody who has signed in.
var unchanged = map[fault.Kind]string{
	fault.BadCredential: "The current password is wrong.",
	fault.Locked:        "There were too many wrong passwords, or the account is locked. Try again later.",
	fault.Unreachable:   "The domain does not answer. Try again later.",
}

// passwordChange is the second pass.
func (t *talk) passwordChange(req Request) {
	answers, err := t.ask([]*latchkeyv1.Line{
		{Kind: latchkeyv1.Line_KIND_ASK_CURRENT, Text: "Current password: "},
		{Kind: latchkeyv1.Line_KIND_ASK_NEW, Text: "New password: "},
		{Kind: latchkeyv1.Line_KIND_ASK_NEW, Text: "Retype new password: "},
	})
	if err != nil {
		return
	}
	defer wipe(answers)
	if !answers[1].Equal(answers[2]) {
		t.done(req, problem([]string{"The passwords are not the same; nothing was changed."}), nil, fault.New(fault.MustChange, "the new passwords differ"))
		return
	}
	texts, err := t.c.login.ChangePassword(t.ctx(), req, answers[0], answers[1])
	if err != nil {
		if text := unchanged[fault.KindOf(err)]; len(texts) == 0 && text != "" {
			texts = []string{text}
		}
		t.done(req, problem(texts), nil, err)
		return
	}
	t.done(req, info(texts), nil, nil)
}

// ask says the lines and returns one answer for each question among them, to be
// wiped. An error says that nobody is there any more.
func (t *talk) ask(lines []*latchkeyv1.Line) ([]secret.Bytes, error) {
	lines = bound(lines)
	next := &turn{words: &latchkeyv1.Turn{Lines: lines}}
	for _, l := range lines {
		if l.GetKind() >= latchkeyv1.Line_KIND_ASK_SHOWN {
			next.questions++
		}
	}
	if err := t.say(next); err != nil {
		return nil, err
	}
	select {
	case answers := <-t.c.replies:
		return answers, nil
	case <-t.ctx().Done():
		return nil, t.ctx().Err()
	}
}

// done is the last word. A nil result with a nil err is a success that names the
// one who asked.
func (t *talk) done(req Request, lines []*latchkeyv1.Line, r *Result, err error) {
	end := &latchkeyv1.Done{Outcome: outcomeOf(err)}
	if kind := fault.KindOf(err); err != nil {
		level := t.c.log.Debug
		if kind == fault.Internal || kind == fault.Unknown {
			level = t.c.log.Error
		}
		level("a sign-in was not decided well", "name", req.Name, "service", req.Service, "error", err)
	}
	if err == nil && r != nil {
		end.Name, end.Uid, end.Gid = r.Name, uint32(r.UID), uint32(r.GID)
		t.c.tokens = r.CCache
		if r.CCache.Len() <= maxCCache {
			end.Ccache = r.CCache.Reveal()
		} else {
			t.c.log.Warn("the tickets are too large to be handed over", "name", r.Name, "bytes", r.CCache.Len())
		}
	}
	_ = t.say(&turn{words: &latchkeyv1.Turn{Lines: bound(lines), Done: end}})
}

func (t *talk) say(next *turn) error {
	select {
	case t.c.turns <- next:
		return nil
	case <-t.ctx().Done():
		return t.ctx().Err()
	}
}

func wipe(answers []secret.Bytes) {
	for _, a := range answers {
		a.Wipe()
	}
}

func info(texts []string) []*latchkeyv1.Line    { return lines(latchkeyv1.Line_KIND_INFO, texts) }
func problem(texts []string) []*latchkeyv1.Line { return lines(latchkeyv1.Line_KIND_ERROR, texts) }

func lines(kind latchkeyv1.Line_Kind, texts []string) []*latchkeyv1.Line {
	var all []*latchkeyv1.Line
	for _, text := range texts {
		all = append(all, &latchkeyv1.Line{Kind: kind, Text: clean(text)})
	}
	return all
}

// bound keeps the last lines, for a question comes last.
func bound(all []*latchkeyv1.Line) []*latchkeyv1.Line {
	return all[max(0, len(all)-maxLines):]
}

// clean leaves nothing in a text that would move a terminal's cursor.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}
