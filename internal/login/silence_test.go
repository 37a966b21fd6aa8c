// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/login"
)

// One sign-in finds out that no KDC answers; those after it are decided at once,
// and it is noticed when one answers again.
func TestSilenceIsFoundOutOnce(t *testing.T) {
	w := newWorldThatRemembersAlice(t)
	w.down.Store(true)
	for range 4 {
		if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByOffline {
			t.Fatalf("without a KDC: %+v, %v", r, err)
		}
	}
	sent := 0
	for _, e := range w.events() {
		if e.Sent {
			sent++
		}
	}
	if sent != 2 {
		t.Errorf("the password was on its way to a KDC %d times, want once while one answered and once while none did", sent)
	}

	w.down.Store(false)
	for offset := time.Second; ; offset += 2 * time.Second { // it is asked for, or the silence is over
		w.clock.Store(int64(offset))
		r, err := w.try("alice", "wonder land")
		if err != nil {
			t.Fatal(err)
		}
		if r.How == login.ByKerberos {
			break
		}
		if offset > time.Minute {
			t.Fatal("nobody notices that the KDC answers again")
		}
	}
}

// A KDC that fails at one name is not silent: the others are not decided offline
// for its sake.
func TestAKDCThatFailsAtOneNameIsNotSilent(t *testing.T) {
	w := newWorldThatRemembersAlice(t)
	w.kdc.Change(func() { w.alice.Code = 60 }) // KRB_ERR_GENERIC
	for range 2 {                              // whoever is remembered comes in all the same
		if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByOffline {
			t.Fatalf("the KDC fails: %+v, %v", r, err)
		}
	}
	for i, e := range w.events()[1:] {
		if !e.Sent {
			t.Errorf("sign-in %d: nobody asked the KDC: it is thought to be silent", i)
		}
	}
}
