// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/latchkey-nas/latchkey/internal/audit"
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
