// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"sync"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// A PAM stack says no in one way, whatever the reason: Debian's ends in pam_deny.
// The web's form asks such a stack, which in turn asks us, by the PAM module's
// door. formOutcomes carries from that door to the form why the domain said no,
// as far as a stranger may hear it, so that the page can say what to do.
//
// All that the two have in common is the name and the address. Where several
// forms wait for the same, one may be a guess at what another proves: none of
// them is told.
type formOutcomes struct {
	mu      sync.Mutex
	waiting map[formAttempt]*formOutcome
}

type formAttempt struct{ name, remote string }

type formOutcome struct {
	forms   int  // that wait
	several bool // waited at the same time
	err     error
}

// begin is called by a form before it asks the stack; end, which it calls once
// afterwards, returns how the attempt ended, nil where nothing is known.
func (f *formOutcomes) begin(name, remote string) (end func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := formAttempt{name, remote}
	o := f.waiting[key]
	if o == nil {
		o = &formOutcome{}
		if f.waiting == nil {
			f.waiting = map[formAttempt]*formOutcome{}
		}
		f.waiting[key] = o
	}
	o.forms++
	o.several = o.several || o.forms > 1
	return func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if o.forms--; o.forms == 0 {
			delete(f.waiting, key)
		}
		if o.several {
			return nil
		}
		return o.err
	}
}

// put notes how an attempt ended, for a form that waits; what that would not
// tell is not kept.
func (f *formOutcomes) put(name, remote string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.waiting[formAttempt{name, remote}]
	if o == nil {
		return
	}
	o.err = nil
	switch fault.KindOf(err) {
	case fault.Unreachable, fault.MustChange, fault.Locked, fault.Disabled, fault.Expired, fault.Denied:
		o.err = err
	}
}
