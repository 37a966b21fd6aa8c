// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
)

// notes counts what is kept under a topic.
func (w *world) notes(topic string) (n int) {
	w.t.Helper()
	if err := w.store.Notes(w.t.Context(), topic, func(string, []byte) bool { n++; return true }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// What sign-ins leave behind goes when it says nothing any more.
func TestSweepForgetsWhatSaysNothingAnyMore(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.kdc.Change(func() { w.alice.Code = int32(kerberos.CodeNullKey) })
	_, _ = w.try("alice", "wonder land")
	w.kdc.Add(krbBob)
	_, _ = w.try("bob", "x")
	sweep := func() {
		t.Helper()
		if err := w.login.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.restart()
	}
	sweep()
	if got := w.login.Suspicions(); got != (login.Suspicions{NoKey: 1}) || w.notes("login.evidence") != 1 || w.notes("login.budget") != 2 {
		t.Fatalf("before anything changed: %+v, %d and %d notes", got, w.notes("login.evidence"), w.notes("login.budget"))
	}
	w.named(1105, func(u *identity.User) { u.PasswordLastSet = time.Unix(1_750_000_000, 0).UTC() })
	w.clock.Store(int64(5 * time.Minute))
	sweep()
	if got := w.login.Suspicions(); got != (login.Suspicions{}) || w.notes("login.evidence") != 0 || w.notes("login.budget") != 0 {
		t.Errorf("afterwards: %+v, %d and %d notes", got, w.notes("login.evidence"), w.notes("login.budget"))
	}
}
