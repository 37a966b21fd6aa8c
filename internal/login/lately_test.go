// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
)

// Many tickets of one person in a row ask the directory once; what it says
// counts for the next one after five seconds, and what the machine itself knows,
// at once.
func TestManyTicketsInARowAskTheDirectoryOnce(t *testing.T) {
	w := newWorld(t)
	asked := 0
	w.domain.Refresh = counting{w.domain.Refresh, &asked}
	raw := w.pac(nil)
	accept := func() error {
		_, err := w.login.AcceptPAC(t.Context(), login.Request{}, raw)
		return err
	}
	for range 20 {
		if err := accept(); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("20 tickets in a row: the directory was asked %d times, want once", asked)
	}
	w.change = func(u *identity.User) { u.State |= identity.Disabled }
	w.clock.Add(int64(6 * time.Second))
	if err := accept(); !fault.Is(err, fault.Disabled) {
		t.Errorf("disabled, and asked again after five seconds: %v", err)
	}
	if asked != 2 {
		t.Errorf("the directory was asked %d times, want twice", asked)
	}
	// The mirror knows by now: nothing of before makes up for that.
	if err := accept(); !fault.Is(err, fault.Disabled) {
		t.Errorf("disabled, as the mirror knows: %v", err)
	}
}
