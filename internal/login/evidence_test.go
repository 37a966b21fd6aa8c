// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// What sign-ins have shown is written for all of them at once, a moment later:
// a write for each would slow down everybody's first.
func TestEvidenceIsWrittenTogether(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.kdc.Change(func() { w.alice.Code = int32(kerberos.CodeNullKey) })
	_, _ = w.try("alice", "wonder land")
	if got := w.login.Suspicions().NoKey; got != 1 {
		t.Fatalf("seen in memory: %d people without a key, want 1", got)
	}
	if got := w.notes("login.evidence"); got != 0 {
		t.Errorf("right after the answer %d notes are written, want none yet", got)
	}
	for end := time.Now().Add(20 * time.Second); w.notes("login.evidence") != 1; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is written")
		}
	}
	w.kdc.Change(func() { w.alice.Code = 0 })
	w.clock.Store(int64(5 * time.Minute)) // the refusal is forgotten
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.restart() // what waits is written before Close returns
	if got := w.login.Suspicions().NoKey; got != 0 {
		t.Errorf("after a restart: %d people without a key, want 0", got)
	}
}
