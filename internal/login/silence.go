// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// silence remembers that no KDC answered a moment ago, so that one sign-in
// waits in vain and not every one. While it lasts, whoever has a verifier is
// decided by that, and the KDCs are asked beside it for nothing but the time.
type silence struct {
	mu     sync.Mutex
	until  time.Time
	asked  time.Time
	asking bool
}

const (
	// believeSilence is how long it lasts without being confirmed: where nobody
	// signs in, nobody asks.
	believeSilence = 4 * time.Second
	askSilence     = time.Second
)

var errSilent = fault.New(fault.Unreachable, "no KDC answered a moment ago")

// silent says whether the KDCs were silent a moment ago and are not known to
// answer again.
func (l *Login) silent(d *Domain) bool {
	l.silence.mu.Lock()
	defer l.silence.mu.Unlock()
	now := l.c.Now()
	if !now.Before(l.silence.until) {
		return false
	}
	if now.Sub(l.silence.asked).Abs() >= askSilence {
		l.askAgain(d)
	}
	return true
}

// fellSilent notes that no KDC answered. It need not be so: the machine may be
// too busy. So they are asked again at once.
func (l *Login) fellSilent(d *Domain) {
	l.silence.mu.Lock()
	l.silence.until = l.c.Now().Add(believeSilence)
	l.askAgain(d)
	l.silence.mu.Unlock()
	// They are directory servers as well.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unreadable = l.c.Now().Add(skipRefresh)
}

// askAgain asks the KDCs for the time. The lock is held.
func (l *Login) askAgain(d *Domain) {
	if l.silence.asking {
		return
	}
	l.silence.asking, l.silence.asked = true, l.c.Now()
	l.afterwards(func() {
		ctx, cancel := context.WithTimeout(context.Background(), kdcTime)
		defer cancel()
		_, _, err := d.KDC.Time(ctx)
		l.silence.mu.Lock()
		defer l.silence.mu.Unlock()
		l.silence.asking = false
		l.silence.until = time.Time{}
		directory := time.Time{}
		if fault.Is(err, fault.Unreachable) {
			l.silence.until, directory = l.c.Now().Add(believeSilence), l.c.Now().Add(skipRefresh)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unreadable = directory
	})
}
