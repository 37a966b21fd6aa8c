// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
	"github.com/latchkey-nas/latchkey/internal/store"
)

func TestSessionsEndWithTheRow(t *testing.T) {
	for name, change := range map[string]func(*world){
		"disabled":   func(w *world) { w.change(w.alice, func(u *identity.User) { u.State |= identity.Disabled }) },
		"conflicted": func(w *world) { w.change(w.alice, func(u *identity.User) { u.State |= identity.Conflicted }) },
		"deleted":    func(w *world) { w.update(func(tx *store.Tx) error { return tx.Retire(w.alice) }) },
		"the domain": func(w *world) { w.update(func(tx *store.Tx) error { return tx.RetireAll() }) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			done := w.signIn(oidctest.Person)
			_, mine, err := w.sessions.Get(t.Context(), done.Token, "")
			if err != nil || mine == nil {
				t.Fatal(err)
			}
			change(w)
			// The very next look knows, without anybody watching.
			w.has(name, done.Token, false)
			w.restart()
			w.has(name+", after a restart", done.Token, false)
		})
	}
}

// Seen never says what Check would not: it knows nobody before the first look, and
// after whatever may have changed the answer.
func TestSeenIsSureOnlyOfWhatCheckSays(t *testing.T) {
	w := newWorld(t)
	token := w.signIn(oidctest.Person).Token
	look := func() {
		t.Helper()
		p, err := w.sessions.Check(t.Context(), token, "")
		if err != nil {
			t.Fatal(err)
		}
		if got, sure := w.sessions.Seen(token, ""); !sure || got != p {
			t.Errorf("after a look: %v, %t, want %v", got, sure, p)
		}
	}
	unsure := func(what string) {
		t.Helper()
		if p, sure := w.sessions.Seen(token, ""); sure {
			t.Errorf("%s: sure of %v", what, p)
		}
	}
	unsure("before the first look")
	look()
	w.change(w.bob, func(u *identity.User) { u.GivenName = "Robert" })
	unsure("after a change in the mirror")
	look()
	w.pass(6 * time.Second)
	unsure("when the access rules may have changed")
	look()
	for name, other := range map[string][2]string{"another app": {token, "photos"}, "another token": {strings.Repeat("A", len(token)), ""}, "none": {"", ""}, "no token": {"é", ""}} {
		if p, sure := w.sessions.Seen(other[0], other[1]); p != nil || !sure {
			t.Errorf("%s: %v, %t", name, p, sure)
		}
	}
	w.pass(8 * time.Hour)
	unsure("unused for a while")
	look()
	w.change(w.alice, func(u *identity.User) { u.State |= identity.Disabled })
	unsure("disabled")
	if _, err := w.sessions.Check(t.Context(), token, ""); err != session.ErrNone {
		t.Errorf("disabled: %v", err)
	}
	if p, sure := w.sessions.Seen(token, ""); p != nil || !sure {
		t.Errorf("ended: %v, %t", p, sure)
	}
	token = w.open(w.bob).Token
	look()
	if _, err := w.sessions.End(t.Context(), token, ""); err != nil {
		t.Fatal(err)
	}
	if p, sure := w.sessions.Seen(token, ""); p != nil || !sure {
		t.Errorf("signed out: %v, %t", p, sure)
	}
	// A look that does not wait counts as use: nobody who works is idle.
	token = w.open(w.bob).Token
	for range 8 {
		look()
		w.pass(3 * time.Second)
		if _, sure := w.sessions.Seen(token, ""); !sure {
			t.Error("not known 3 s after a look")
		}
		w.pass(12*time.Hour - time.Second) // idle since Seen for less than a session may be, since look for longer
	}
}

// Nobody looks at the session; the watch alone ends it.
func TestTheWatchEndsSessions(t *testing.T) {
	w := newWorld(t)
	w.open(w.alice)
	w.open(w.alice)
	w.open(w.bob)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.sessions.Run(ctx) }()
	defer func() { cancel(); <-done }()
	w.change(w.alice, func(u *identity.User) { u.State |= identity.Disabled })
	for deadline := time.Now().Add(20 * time.Second); w.sessions.Count() != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left, want bob's", w.sessions.Count())
		}
	}
}

func TestAccessRulesAndGroupsCountFromTheNextLook(t *testing.T) {
	w := newWorld(t)
	done := w.signIn(oidctest.Person)
	w.has("allowed", done.Token, true)
	w.deny("alice")
	w.pass(6 * time.Second) // rules are not in the log of changes: they are asked every 5 s
	if _, _, err := w.sessions.Get(t.Context(), done.Token, ""); !fault.Is(err, fault.Denied) {
		t.Errorf("denied by a rule: %v", err)
	}
	if _, err := w.login.SetRules(t.Context(), "test", access.Web, 0, "alice"); err != nil {
		t.Fatal(err)
	}
	w.pass(6 * time.Second)
	_, p, err := w.sessions.Get(t.Context(), done.Token, "")
	if err != nil || len(p.GroupNames()) != 2 {
		t.Fatalf("the rule is taken away: %v, %v", p, err)
	}
	w.update(func(tx *store.Tx) error {
		g, err := tx.FindObject(identity.GUID{0: 3, 15: 1})
		if err != nil {
			return err
		}
		return tx.SetMembers(g.Group.Row, nil)
	})
	if _, p, err = w.sessions.Get(t.Context(), done.Token, ""); err != nil || len(p.GroupNames()) != 1 {
		t.Errorf("out of the group: %v, %v", p.GroupNames(), err)
	}
}

func TestAccountsOfTheMachine(t *testing.T) {
	w := newWorld(t)
	who := session.Who{Local: &session.Local{Name: "admin", UID: 1000, GIDs: []identity.GID{1000, 27}, Groups: []string{"admin", "sudo"}, Admin: true}}
	done, err := w.sessions.Open(t.Context(), who, "password", "", "admin", browser)
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	_, p, err := w.sessions.Get(t.Context(), done.Token, "")
	if err != nil || p.Name() != "admin" || p.UID() != 1000 || !p.Local.Admin || len(p.GroupNames()) != 2 || p.User != nil {
		t.Errorf("got %+v, %v", p, err)
	}
	if all := w.sessions.List(session.Filter{Local: "admin"}); len(all) != 1 {
		t.Errorf("list: %v", all)
	}
	w.gone.Store(true)
	w.pass(6 * time.Second)
	w.has("the account is gone", done.Token, false)
	if _, err := w.sessions.Open(t.Context(), session.Who{}, "password", "", "", browser); err == nil {
		t.Error("a session of nobody")
	}
}
