// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// HoldSlots takes every turn of Argon2 until release is called.
func (l *Login) HoldSlots() (release func()) {
	for range cap(l.slots) {
		l.slots <- struct{}{}
	}
	return func() {
		for range cap(l.slots) {
			<-l.slots
		}
	}
}

// Slots is how many Argon2 run at one time.
func (l *Login) Slots() int { return cap(l.slots) }

// SpyPauses calls f in place of every pause.
func (l *Login) SpyPauses(f func(time.Duration)) {
	l.pause = func(_ context.Context, d time.Duration) { f(d) }
}

// Pace makes refusals by the domain take d from now on.
func (l *Login) Pace(d time.Duration) {
	for range len(l.pace.took.last) {
		l.pace.measured(d)
		l.ntlmPace.measured(d)
	}
}

// Overslept makes pauses end d later than asked for from now on.
func (l *Login) Overslept(d time.Duration) {
	for range len(l.pace.late.last) {
		l.pace.overslept(d)
	}
}

// KeepAll has every verifier written that waits.
func (l *Login) KeepAll() {
	l.keeper.mu.Lock()
	rows := slices.Clone(l.keeper.order)
	l.keeper.mu.Unlock()
	for _, row := range rows {
		l.keepNow(row)
	}
	l.keepNow(0) // one that is being made
}

// Enter is somebody who signs in until leave is called.
func (l *Login) Enter() (leave func()) { return l.keeper.enter() }

// ForgetVerifier is what a change of the password does first.
func (l *Login) ForgetVerifier(row identity.RowID) { l.forgetVerifier(row) }
