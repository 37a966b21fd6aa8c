// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
)

func TestOffline(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.restart() // writes what was left for after the answer, forgets the rest
	w.down.Store(true)
	r, err := w.try("alice", "wonder land")
	if err != nil {
		t.Fatal(err)
	}
	if r.How != login.ByOffline || r.CCache.Len() != 0 || len(r.Warnings) == 0 {
		t.Errorf("result %+v, want offline, no tickets, a warning", r)
	}
	_, err = w.try("alice", "wrong")
	wantKind(t, "wrong password", err, fault.BadCredential)
	_, err = w.try("bob", "whatever")
	wantKind(t, "who never signed in", err, fault.Unreachable)

	w.clock.Store(int64(15 * 24 * time.Hour))
	_, err = w.try("alice", "wonder land")
	wantKind(t, "after 15 days", err, fault.Unreachable)
	w.clock.Store(int64(time.Hour))

	w.settings.Store(&login.Settings{})
	_, err = w.try("alice", "wonder land")
	wantKind(t, "switched off", err, fault.Unreachable)
	if n := w.verifiers(); n != 1 {
		t.Fatalf("%d verifiers, want 1", n)
	}
	if err := w.login.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.verifiers(); n != 0 {
		t.Errorf("%d verifiers after it was switched off, want none", n)
	}
}

func (w *world) verifiers() (n int) {
	w.t.Helper()
	if err := w.store.Notes(w.t.Context(), "login.verifier", func(_ string, value []byte) bool {
		n++
		if strings.Contains(string(value), "wonder") {
			w.t.Error("the verifier holds the password")
		}
		return true
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestVerifierGoesWithTheAccount(t *testing.T) {
	for name, change := range map[string]func(*identity.User){
		"disabled":         func(u *identity.User) { u.State |= identity.Disabled },
		"password changed": func(u *identity.User) { u.PasswordLastSet = u.PasswordLastSet.Add(time.Hour) },
	} {
		w := newWorld(t)
		w.settings.Store(&login.Settings{Offline: true})
		w.allow("sshd", "*")
		if _, err := w.try("alice", "wonder land"); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.change = change
		_, _ = w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"}) // reads the row afresh
		w.down.Store(true)
		if _, err := w.try("alice", "wonder land"); err == nil {
			t.Errorf("%s: let in offline", name)
		}
		if err := w.login.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.verifiers(); n != 0 {
			t.Errorf("%s: the verifier is still there", name)
		}
	}
}
