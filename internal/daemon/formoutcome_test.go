// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strconv"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestFormOutcomesAreTakenOnceByWhoAsked(t *testing.T) {
	var f formOutcomes
	now := time.Now()
	if err := f.take("ada", "192.0.2.1", now); err != nil {
		t.Errorf("of nobody: %v", err)
	}
	locked := fault.New(fault.Locked, "locked")
	f.put("ada", "192.0.2.1", locked, now)
	for _, other := range []formAttempt{{"ada", "192.0.2.2"}, {"bob", "192.0.2.1"}, {"Ada", "192.0.2.1"}} {
		if err := f.take(other.name, other.remote, now); err != nil {
			t.Errorf("%v hears of ada's: %v", other, err)
		}
	}
	if err := f.take("ada", "192.0.2.1", now); err != locked {
		t.Errorf("ada's: %v", err)
	}
	if err := f.take("ada", "192.0.2.1", now); err != nil {
		t.Errorf("ada's for the second time: %v", err)
	}
	// A wrong password, and a success, take away what was there.
	for _, next := range []error{nil, fault.New(fault.BadCredential, "wrong"), fault.New(fault.NotFound, "nobody"), fault.New(fault.Internal, "broken")} {
		f.put("ada", "", locked, now)
		f.put("ada", "", next, now)
		if err := f.take("ada", "", now); err != nil {
			t.Errorf("after %v: %v", next, err)
		}
	}
	f.put("ada", "", locked, now)
	if err := f.take("ada", "", now.Add(formOutcomeTime)); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	for i := range 2 * maxFormOutcomes {
		f.put(strconv.Itoa(i), "", locked, now)
	}
	if len(f.by) > maxFormOutcomes {
		t.Errorf("%d are kept", len(f.by))
	}
}
