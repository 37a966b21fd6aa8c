// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/audit"
)

func TestCounts(t *testing.T) {
	r := audit.Open(filepath.Join(t.TempDir(), "a"), slog.New(slog.DiscardHandler))
	defer r.Close()
	if got := r.Counts(); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	for range 3 {
		r.Record(audit.Event{Action: audit.SignIn, Outcome: audit.Refused, Service: "sshd"})
	}
	r.Record(audit.Event{Action: audit.SignIn, Outcome: audit.Allowed, Service: "sshd"})
	if got := r.Counts(); len(got) != 2 || got[0] != (audit.Count{Action: audit.SignIn, Outcome: audit.Allowed, Service: "sshd", N: 1}) || got[1].N != 3 {
		t.Errorf("got %v", got)
	}
	for i := range 1000 { // invented by a caller
		r.Record(audit.Event{Action: audit.Account, Outcome: audit.Refused, Service: fmt.Sprint("x", i)})
	}
	all := r.Counts()
	var sum uint64
	for _, c := range all {
		sum += c.N
	}
	if len(all) > 70 || sum != 1004 {
		t.Errorf("%d counts of %d events", len(all), sum)
	}
}
