// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// A PAM stack says no in one way, whatever the reason: Debian's ends in pam_deny.
// The web's form asks such a stack, which in turn asks us, by the PAM module's
// door. formOutcomes carries from that door to the form why the domain said no,
// as far as a stranger may hear it, so that the page can say what to do.
type formOutcomes struct {
	mu sync.Mutex
	by map[formAttempt]formOutcome
}

type formAttempt struct{ name, remote string }

type formOutcome struct {
	err error
	at  time.Time
}

// The limits of what is remembered: a form waits for its answer.
const (
	formOutcomeTime = time.Minute
	maxFormOutcomes = 1000
)

// put notes how an attempt ended; what a form would not tell is not kept.
func (f *formOutcomes) put(name, remote string, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := formAttempt{name, remote}
	delete(f.by, key)
	switch fault.KindOf(err) {
	case fault.Unreachable, fault.MustChange, fault.Locked, fault.Disabled, fault.Expired, fault.Denied:
	default:
		return
	}
	for k, o := range f.by {
		if len(f.by) >= maxFormOutcomes || now.Sub(o.at) >= formOutcomeTime {
			delete(f.by, k)
		}
	}
	if f.by == nil {
		f.by = map[formAttempt]formOutcome{}
	}
	f.by[key] = formOutcome{err, now}
}

// take returns how the attempt ended, once; nil where nothing is known.
func (f *formOutcomes) take(name, remote string, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := formAttempt{name, remote}
	o, ok := f.by[key]
	delete(f.by, key)
	if !ok || now.Sub(o.at) >= formOutcomeTime {
		return nil
	}
	return o.err
}
