// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestFormOutcomesAreForTheFormThatAsked(t *testing.T) {
	var f formOutcomes
	locked := fault.New(fault.Locked, "locked")
	f.put("ada", "192.0.2.1", locked) // for which nobody waits
	end := f.begin("ada", "192.0.2.1")
	for _, other := range []formAttempt{{"ada", "192.0.2.2"}, {"bob", "192.0.2.1"}, {"Ada", "192.0.2.1"}} {
		f.put(other.name, other.remote, locked)
	}
	if err := end(); err != nil {
		t.Errorf("ada hears of another's: %v", err)
	}
	end, others := f.begin("ada", "192.0.2.1"), f.begin("bob", "192.0.2.1")
	f.put("ada", "192.0.2.1", locked)
	if err := others(); err != nil {
		t.Errorf("bob hears of ada's: %v", err)
	}
	if err := end(); err != locked {
		t.Errorf("ada's: %v", err)
	}
	end = f.begin("ada", "192.0.2.1")
	if err := end(); err != nil {
		t.Errorf("ada's for the second time: %v", err)
	}
	// A wrong password, and a success, take away what was there.
	for _, next := range []error{nil, fault.New(fault.BadCredential, "wrong"), fault.New(fault.NotFound, "nobody"), fault.New(fault.Internal, "broken")} {
		end := f.begin("ada", "")
		f.put("ada", "", locked)
		f.put("ada", "", next)
		if err := end(); err != nil {
			t.Errorf("after %v: %v", next, err)
		}
	}
	if len(f.waiting) != 0 {
		t.Errorf("%d are kept", len(f.waiting))
	}
}

// Many people may be behind one address. Who guesses at a name while its owner
// signs in does not hear what came of that, in whatever order the answers come.
func TestFormsOfOneNameAtTheSameTimeHearNothing(t *testing.T) {
	locked := fault.New(fault.Locked, "locked")
	for name, order := range map[string]func(f *formOutcomes, owner, guess func() error) []error{
		"the guess is answered first": func(_ *formOutcomes, owner, guess func() error) []error { return []error{guess(), owner()} },
		"the owner is answered first": func(_ *formOutcomes, owner, guess func() error) []error { return []error{owner(), guess()} },
		"the owner is gone, and PAM is not": func(f *formOutcomes, owner, guess func() error) []error {
			err := owner()
			f.put("ada", "", locked)
			return []error{err, guess()}
		},
		"another begins": func(f *formOutcomes, owner, guess func() error) []error {
			err := owner()
			third := f.begin("ada", "")
			f.put("ada", "", locked)
			return []error{err, guess(), third()}
		},
	} {
		var f formOutcomes
		owner, guess := f.begin("ada", ""), f.begin("ada", "")
		f.put("ada", "", locked)
		for _, err := range order(&f, owner, guess) {
			if err != nil {
				t.Errorf("%s: one hears %v", name, err)
			}
		}
		if len(f.waiting) != 0 {
			t.Errorf("%s: %d are kept", name, len(f.waiting))
		}
		end := f.begin("ada", "")
		f.put("ada", "", locked)
		if err := end(); err != locked {
			t.Errorf("%s: alone again: %v", name, err)
		}
	}
}
