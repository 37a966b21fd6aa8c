// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestStrangersLearnNothing(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	_, unknown := w.try("nobody-here", "x")
	wantKind(t, "unknown", unknown, fault.NotFound)
	_, wrong := w.try("alice", "x")
	if a, b := login.ForStranger(unknown), login.ForStranger(wrong); a.Error() != b.Error() || fault.KindOf(a) != fault.KindOf(b) {
		t.Errorf("told apart: %v and %v", a, b)
	}
	ev := w.events()
	if got := ev[len(ev)-2]; got.Reason != "not found" || got.Asked != "nobody-here" {
		t.Errorf("the audit has %+v, want the truth", got)
	}
}

// A refusal that is decided here is held back until one by the domain would have
// come; one that came from there is not. How long is the median of the last ones.
func TestRefusalsDecidedHereTakeAsLongAsTheDomains(t *testing.T) {
	const hour = time.Hour // longer than anything in this test takes
	for name, tc := range map[string]struct {
		try    func(w *world) error
		paused bool
	}{
		"a wrong password":  {func(w *world) error { _, err := w.try("alice", "x"); return err }, false},
		"nobody":            {func(w *world) error { _, err := w.try("nobody-here", "x"); return err }, true},
		"no name":           {func(w *world) error { _, err := w.try("", "x"); return err }, true},
		"an empty password": {func(w *world) error { _, err := w.try("alice", ""); return err }, true},
		"nobody's, empty":   {func(w *world) error { _, err := w.try("nobody-here", ""); return err }, true},
		"a long password":   {func(w *world) error { _, err := w.try("alice", strings.Repeat("x", 2000)); return err }, true},
		"one just refused": {func(w *world) error {
			_, _ = w.try("alice", "x")
			w.pauses = nil
			_, err := w.try("alice", "x")
			return err
		}, true},
		"the budget spent":  {func(w *world) error { w.spend("alice"); w.pauses = nil; _, err := w.try("alice", "y"); return err }, true},
		"set aside":         {func(w *world) error { w.conflict(1105); _, err := w.try("alice", "x"); return err }, true},
		"no domain answers": {func(w *world) error { w.down.Store(true); _, err := w.try("alice", "x"); return err }, false},
		"NTLM, wrong":       {func(w *world) error { _, err := w.respond("AADDSEX", "alice", "bad"); return err }, false},
		"NTLM, nobody":      {func(w *world) error { _, err := w.respond("AADDSEX", "nobody-here", "bad"); return err }, true},
		"NTLM, budget spent": {func(w *world) error {
			w.spend("alice")
			w.pauses = nil
			_, err := w.respond("AADDSEX", "alice", "bad")
			return err
		}, true},
		"in a conversation": {func(w *world) error {
			c := w.login.Begin(login.Request{Name: "nobody-here", Service: "sshd"})
			defer c.Close()
			_, err := c.Next(t.Context(), secret.FromString("x"))
			return err
		}, true},
	} {
		w := newWorld(t)
		w.ntlm = &dc{rid: 1105}
		w.allow("sshd", "*")
		w.login.Pace(hour)
		w.login.SpyPauses(func(d time.Duration) { w.pauses = append(w.pauses, d) })
		if err := tc.try(w); err == nil {
			t.Errorf("%s: let in", name)
		}
		if !tc.paused && len(w.pauses) != 0 || tc.paused && (len(w.pauses) != 1 || w.pauses[0] <= hour-time.Minute || w.pauses[0] > hour) {
			t.Errorf("%s: held back for %v", name, w.pauses)
		}
	}
}

// spend tries wrong passwords until no more are sent.
func (w *world) spend(name string) {
	for _, host := range []string{"192.0.2.1", "192.0.2.2"} {
		for _, p := range []string{"a", "b", "c"} {
			_, _ = w.login.Authenticate(w.t.Context(), login.Request{Name: name, Service: "sshd", RemoteHost: host}, secret.FromString(host+p))
		}
	}
}

// What pauses are late on a busy machine is taken off them, up to two
// milliseconds: a machine that slept for a minute does not answer at once.
func TestPausesMakeUpForBeingLate(t *testing.T) {
	for _, tc := range []struct{ late, off time.Duration }{{0, 0}, {-time.Second, 0}, {time.Millisecond, time.Millisecond}, {time.Minute, 2 * time.Millisecond}} {
		w := newWorld(t)
		w.login.Pace(time.Hour)
		w.login.Overslept(tc.late)
		w.login.SpyPauses(func(d time.Duration) { w.pauses = append(w.pauses, d) })
		if _, err := w.try("nobody-here", "x"); err == nil {
			t.Fatal("let in")
		}
		if len(w.pauses) != 1 || w.pauses[0] > time.Hour-tc.off || w.pauses[0] < time.Hour-time.Minute {
			t.Errorf("late by %s: held back for %v, want %s less than an hour at least", tc.late, w.pauses, tc.off)
		}
	}
}
