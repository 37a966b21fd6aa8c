// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
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
