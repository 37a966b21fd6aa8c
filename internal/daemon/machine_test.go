// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// What the machine does by itself about its key is in the audit like what an
// administrator does: each attempt one event, with why it failed.
func TestAutomaticRotationIsRecorded(t *testing.T) {
	b := newBox(t)
	b.joined() // with a key of no known age, which is due
	b.start()
	var events []audit.Event
	b.waitFor("the attempt is recorded", func() bool {
		events = nil
		_ = audit.Read(t.Context(), b.opt.AuditFile, audit.Reading{}, func(all []audit.Event) error { events = append(events, all...); return nil })
		return len(events) > 0
	})
	e := events[0]
	if len(events) != 1 || e.Action != audit.RotateKey || e.Outcome != audit.Failed || e.Reason != "unreachable" || e.Detail == "" || e.Caller != "by itself" {
		t.Errorf("recorded %+v", events)
	}
}

// A rotation that failed while the clock said 2100 is not put off until then.
func TestRotationPlannedByAWrongClock(t *testing.T) {
	b := newBox(t)
	b.joined()
	d, err := New(t.Context(), b.opt)
	if err != nil {
		t.Fatal(err)
	}
	defer d.store.Close()
	plan := func(next time.Time) time.Time {
		t.Helper()
		if err := d.store.UpdateMachine(context.Background(), func(m *store.Machine) error {
			m.KeyTime, m.NextRotation, m.RotationError = time.Now(), next, "the clocks are far apart"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		due, err := d.keyDue(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	if due := plan(soon); !due.Equal(soon) {
		t.Errorf("planned for %v, due %v", soon, due)
	}
	interval := d.settings.now().Directory.KeyInterval
	if due := plan(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)); due.After(time.Now().Add(interval)) {
		t.Errorf("planned for 2100, due %v", due)
	}
}
