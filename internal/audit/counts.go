// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/latency"
)

// Count is how many events of a kind there were since the recorder was opened.
type Count struct {
	Action  Action
	Outcome Outcome
	Service string
	N       uint64
}

// maxCounted bounds the services that are told apart: a caller may invent names.
// What is beyond counts as "other".
const maxCounted = 64

type counted struct {
	action  Action
	outcome Outcome
	service string
}

// count counts an event.
func (r *Recorder) count(e *Event) {
	if e.Action == SignIn && e.Milliseconds > 0 { // neither abandoned nor refused before it began
		r.signIns.Observe(latency.Labels{e.Door, string(e.Outcome)}, time.Duration(e.Milliseconds*float64(time.Millisecond)))
	}
	r.counting.Lock()
	defer r.counting.Unlock()
	if r.counts == nil {
		r.counts, r.services = map[counted]uint64{}, map[string]struct{}{}
	}
	service := e.Service
	if _, known := r.services[service]; !known {
		if len(r.services) < maxCounted {
			r.services[service] = struct{}{}
		} else {
			service = "other"
		}
	}
	r.counts[counted{e.Action, e.Outcome, service}]++
}

// SignIns returns how long sign-ins took, by door and outcome.
func (r *Recorder) SignIns() []latency.Histogram { return r.signIns.Histograms() }

// Counts returns what was counted, sorted.
func (r *Recorder) Counts() []Count {
	r.counting.Lock()
	defer r.counting.Unlock()
	all := make([]Count, 0, len(r.counts))
	for k, n := range r.counts {
		all = append(all, Count{k.action, k.outcome, k.service, n})
	}
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Service, b.Service))
	})
	return all
}
