// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/store"
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

// What is kept of a password is Argon2id with the costs of the design, and a salt
// of its own for each.
func TestVerifierIsArgon2id(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	bob := krbBob
	bob.Password = "wonder land" // the same password, another salt
	w.kdc.Add(bob)
	for _, who := range []string{"alice", "bob"} {
		if _, err := w.try(who, "wonder land"); err != nil {
			t.Fatal(err)
		}
	}
	w.login.Close()
	type verifier struct {
		T, M, P    uint32
		Salt, Hash []byte
	}
	var all []verifier
	if err := w.store.Notes(t.Context(), "login.verifier", func(_ string, value []byte) bool {
		var v verifier
		if err := json.Unmarshal(value, &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || bytes.Equal(all[0].Salt, all[1].Salt) || bytes.Equal(all[0].Hash, all[1].Hash) {
		t.Fatalf("%d verifiers, or two with one salt", len(all))
	}
	for _, v := range all {
		if v.T != 3 || v.M != 64<<10 || v.P != 1 || len(v.Salt) != 16 || len(v.Hash) != 32 {
			t.Errorf("costs t=%d m=%d p=%d, salt of %d, hash of %d bytes", v.T, v.M, v.P, len(v.Salt), len(v.Hash))
		}
		if want := argon2.IDKey([]byte("wonder land"), v.Salt, 3, 64<<10, 1, 32); !bytes.Equal(v.Hash, want) {
			t.Error("the hash is not Argon2id of the password")
		}
	}
}

// The answer does not wait for the verifier, and no more than two are computed at
// one time.
func TestVerifierIsWrittenAfterTheAnswerTwoAtATime(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	release := w.login.HoldSlots() // both turns of Argon2 are taken
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatalf("with no turn for Argon2: %v", err)
	}
	if n := w.verifiers(); n != 0 {
		t.Errorf("%d verifiers although Argon2 had no turn", n)
	}
	release()
	w.login.Close()
	if n := w.verifiers(); n != 1 {
		t.Errorf("%d verifiers, want 1", n)
	}
}

// A KDC that answers decides alone: the verifier of an old password is no use.
func TestVerifierIsNotAskedWhileAKDCAnswers(t *testing.T) {
	w := newWorldThatRemembersAlice(t)
	w.kdc.Change(func() { w.alice.Password = "another one" }) // and the mirror does not know yet
	_, err := w.try("alice", "wonder land")
	wantKind(t, "the old password", err, fault.BadCredential)
	w.kdc.Change(func() {
		w.alice.Password, w.alice.Code, w.alice.Status = "wonder land", 18, uint32(kerberos.StatusAccountDisabled)
	})
	w.restart()
	w.clock.Store(int64(2 * time.Minute))
	_, err = w.try("alice", "wonder land")
	wantKind(t, "disabled at the KDC", err, fault.Disabled)
}

// Guessing at the verifier has the throttle of guessing at the domain.
func TestOfflineGuessesAreThrottled(t *testing.T) {
	w := newWorldThatRemembersAlice(t)
	w.down.Store(true)
	for i := range 6 {
		_, err := w.try("alice", "guess"+string(rune('a'+i)))
		want := fault.BadCredential
		if i >= 3 {
			want = fault.Locked
		}
		wantKind(t, "guess", err, want)
	}
	// The owner's password gets through once in a while, by comparing it.
	w.clock.Store(int64(10 * time.Second))
	if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByOffline {
		t.Errorf("the owner: %+v, %v", r, err)
	}
	w.clock.Store(int64(3 * time.Minute))
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

// Somebody who is deleted, or set aside, is not let in by what is remembered.
func TestVerifierOfSomebodyWhoIsGone(t *testing.T) {
	w := newWorldThatRemembersAlice(t)
	w.down.Store(true)
	if err := w.store.Update(t.Context(), func(tx *store.Tx) error {
		r, err := tx.FindObject(guid(1105 % 256))
		if err != nil {
			return err
		}
		return tx.Retire(r.Common().Row)
	}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.try("alice", "wonder land"); err == nil {
		t.Errorf("let in as %+v", r.User)
	}
	if err := w.login.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.verifiers(); n != 0 {
		t.Errorf("%d verifiers of nobody", n)
	}
}

// Two weeks, or what the configuration says.
func TestAgeOfAVerifierIsTheConfigurations(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		limit, age time.Duration
		in         bool
	}{{0, 14*day - time.Hour, true}, {0, 14*day + time.Hour, false}, {day, 23 * time.Hour, true}, {day, 25 * time.Hour, false}} {
		w := newWorld(t)
		w.settings.Store(&login.Settings{Offline: true, OfflineAge: tc.limit})
		w.allow("sshd", "*")
		if _, err := w.try("alice", "wonder land"); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.down.Store(true)
		w.clock.Store(int64(tc.age))
		if r, err := w.try("alice", "wonder land"); (err == nil) != tc.in {
			t.Errorf("limit %s, age %s: %+v, %v", tc.limit, tc.age, r, err)
		}
	}
}
