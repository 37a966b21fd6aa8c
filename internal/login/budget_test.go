// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
)

func TestWrongPasswordIsCountedOnceAndNotSentAgain(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for range 5 {
		_, err := w.try("alice", "wrong")
		wantKind(t, "wrong password", err, fault.BadCredential)
	}
	if n := w.bad(); n != 1 {
		t.Errorf("the domain counted %d, want 1", n)
	}
	w.clock.Store(int64(61 * time.Second)) // after a minute it is asked again
	_, err := w.try("alice", "wrong")
	wantKind(t, "wrong password", err, fault.BadCredential)
	if n := w.bad(); n != 2 {
		t.Errorf("the domain counted %d, want 2", n)
	}
	if r, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("the right password afterwards: %v", err)
	} else {
		r.Wipe()
	}
	sent := 0
	for _, e := range w.events() {
		if e.Sent {
			sent++
		}
	}
	if sent != 3 {
		t.Errorf("%d events say that the password was sent, want 3", sent)
	}
}

func TestBudgetStopsShortOfTheLockoutAndLasts(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for i := range 8 {
		_, err := w.try("alice", "guess"+string(rune('a'+i)))
		want := fault.BadCredential
		if i >= 3 {
			want = fault.Locked
		}
		wantKind(t, "guess", err, want)
		if got := fault.KindOf(login.ForStranger(err)); got != fault.BadCredential {
			t.Errorf("guess %d: a stranger is told %v", i, got)
		}
	}
	w.restart()
	_, err := w.try("alice", "another")
	wantKind(t, "after a restart", err, fault.Locked)
	if n := w.bad(); n != 3 {
		t.Errorf("the domain counted %d, want 3", n)
	}
	w.clock.Store(int64(3 * time.Minute))
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

func TestOwnerGetsThroughWhileOthersGuess(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		_, _ = w.try("alice", "guess"+string(rune('a'+i)))
	}
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("the password that the KDC took last: %v", err)
	}
}

func TestParallelGuessesSpendNoMoreThanTheBudget(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() { _, _ = w.try("alice", "guess"+string(rune('a'+i))) })
	}
	all.Wait()
	if n := w.bad(); n != 3 {
		t.Errorf("the domain counted %d, want 3", n)
	}
	w.clock.Store(int64(3 * time.Minute))
	var in atomic.Int32
	for range 40 {
		all.Go(func() {
			if _, err := w.try("alice", "wonder land"); err == nil {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if in.Load() != 40 {
		t.Errorf("%d of 40 with the right password got in", in.Load())
	}
}
