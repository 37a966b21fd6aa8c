// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
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

func TestBudgetStaysShortOfTheDomainsOwnLockout(t *testing.T) {
	for name, tc := range map[string]struct {
		lockout login.Lockout
		source  int           // guesses that one source may send
		machine int           // that all may
		again   time.Duration // when the next may be sent
	}{
		"not known":                   {login.Lockout{}, 3, 4, 131 * time.Second},
		"as Entra Domain Services":    {login.Lockout{Threshold: 5, Window: 2 * time.Minute}, 3, 4, 131 * time.Second},
		"three":                       {login.Lockout{Threshold: 3, Window: time.Minute}, 1, 2, 71 * time.Second},
		"within half an hour":         {login.Lockout{Threshold: 5, Window: 30 * time.Minute}, 3, 4, 1811 * time.Second},
		"many: Entra's holds as well": {login.Lockout{Threshold: 50, Window: 30 * time.Minute}, 3, 4, 131 * time.Second},
		"one is enough":               {login.Lockout{Threshold: 1, Window: time.Minute}, 1, 1, 71 * time.Second},
		"no window is half an hour":   {login.Lockout{Threshold: 3}, 1, 2, 1811 * time.Second},
	} {
		w := newWorld(t)
		w.lockout = tc.lockout
		w.allow("sshd", "*")
		guess := func(n int, host string) {
			for i := range 6 {
				_, err := w.login.Authenticate(t.Context(), login.Request{Name: "alice", Service: "sshd", RemoteHost: host}, secret.FromString(fmt.Sprint("guess", n, i)))
				if err == nil {
					t.Fatal("a guess let in")
				}
			}
		}
		guess(1, "192.0.2.1")
		if n := w.bad(); n != tc.source {
			t.Errorf("%s: one source sent %d, want %d", name, n, tc.source)
		}
		guess(2, "192.0.2.2")
		guess(3, "192.0.2.3")
		if n := w.bad(); n != tc.machine {
			t.Errorf("%s: the machine sent %d, want %d", name, n, tc.machine)
		}
		w.clock.Store(int64(tc.again - 40*time.Second)) // far enough from the end for a slow machine
		w.restart()                                     // what was spent lasts
		guess(4, "192.0.2.1")
		if n := w.bad(); n != tc.machine {
			t.Errorf("%s: before the window's end %d, want %d", name, n, tc.machine)
		}
		w.clock.Store(int64(tc.again))
		if _, err := w.try("alice", "wonder land"); err != nil {
			t.Errorf("%s: after the window: %v", name, err)
		}
	}
}

// Others may have spent the budget, and this machine been restarted: a password
// that fits what is kept of the last good one goes to the KDC all the same.
func TestPasswordThatFitsTheVerifierAlwaysGoesToTheKDC(t *testing.T) {
	w := newWorldThatRemembersAlice(t)
	w.spend("alice")
	if n := w.bad(); n != 4 {
		t.Fatalf("the domain counted %d, want 4", n)
	}
	_, err := w.try("alice", "not it")
	wantKind(t, "a guess", err, fault.Locked)
	w.clock.Store(int64(6 * time.Second)) // one comparison each five seconds
	if r, err := w.try("alice", "wonder land"); err != nil || r.How != login.ByKerberos {
		t.Errorf("the owner: %+v, %v", r, err)
	}
	if n := w.bad(); n != 4 {
		t.Errorf("the domain counted %d, want 4", n)
	}
}

// A caller that goes away does not undo what the domain has counted meanwhile:
// who guesses and never waits for the answer would lock the account.
func TestGuessesWhoseAnswerNobodyWaitsForAreCounted(t *testing.T) {
	for name, guess := range map[string]func(ctx context.Context, w *world, n string){
		"sign-in": func(ctx context.Context, w *world, n string) {
			_, _ = w.login.Authenticate(ctx, login.Request{Name: "alice", Service: "sshd", RemoteHost: "192.0.2.9"}, secret.FromString("guess"+n))
		},
		"change": func(ctx context.Context, w *world, n string) {
			_, _ = w.login.ChangePassword(ctx, login.Request{Name: "alice", RemoteHost: "192.0.2.9"}, secret.FromString("guess"+n), secret.FromString("new"))
		},
		"NTLM": func(ctx context.Context, w *world, n string) {
			_, _ = w.login.VerifyNTLM(ctx, login.NTLMRequest{Request: login.Request{Name: "alice", RemoteHost: "192.0.2.9"}, Domain: "AADDSEX", NT: []byte("guess" + n)})
		},
	} {
		w := newWorld(t)
		w.allow("sshd", "*")
		w.ntlm = &dc{rid: 1105}
		for i := range 8 {
			ctx, leave := context.WithCancel(t.Context())
			asked := 0
			w.ntlm.leave = leave
			w.kdc.Change(func() {
				w.kdc.Answer = func([]byte) ([]byte, bool) {
					if asked++; asked == 2 { // with the proof of the password
						leave()
					}
					return nil, false
				}
			})
			guess(ctx, w, string(rune('a'+i)))
			leave()
		}
		w.kdc.Change(func() { w.kdc.Answer = nil })
		_, err := w.try("alice", "another")
		wantKind(t, name+", after guesses that were given up", err, fault.Locked)
		if n := w.bad() + w.ntlm.bad; n != 3 {
			t.Errorf("%s: the domain counted %d, want 3", name, n)
		}
	}
}
