// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/latency"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Status is how the mirror is. Times are zero for "never".
type Status struct {
	Complete         bool // a full pass has gone through, now or in an earlier run
	LastSync         time.Time
	LastFull         time.Time
	LastDuration     time.Duration // of the last good pass
	LastError        string        // of the last pass, empty when it was good
	LastRemedy       string
	UnreachableSince time.Time // no DC answered since; zero: reachable
	DC               string
	Skew             time.Duration // clock of the DC minus ours
	Held             int           // rows that the breaker holds back
	Problems         []Problem
	Running          bool // a pass is running now
}

// Problem is something in the directory that an administrator should know.
type Problem struct {
	ID      string // short and stable: see the constants
	Summary string
	Remedy  string
	Since   time.Time
}

// Ids of problems.
const (
	ProblemConflict = "oid-conflict"   // two live objects carry one Entra object id
	ProblemHeld     = "held-deletions" // the breaker holds rows back
	ProblemNoID     = "no-id"          // rows for which the range has no number
	ProblemObjects  = "objects"        // objects that were left out
	ProblemDefects  = "defects"        // objects with attributes that cannot be read
)

// Status returns how the mirror is, without waiting for a pass.
func (m *Mirror) Status() Status {
	_ = m.load(context.Background())
	m.lock.Lock()
	s := m.status
	s.Complete, s.LastSync, s.LastFull, s.Held = m.at.Complete, m.at.LastSync, m.at.LastFull, m.at.Held
	if s.DC == "" {
		s.DC = m.at.DC
	}
	trouble, defects := m.trouble, m.defects
	m.lock.Unlock()

	s.Problems = m.problems(s.Held, trouble, defects)
	m.lock.Lock()
	defer m.lock.Unlock()
	since := make(map[string]time.Time, len(s.Problems))
	for i := range s.Problems { // a problem is as old as it was first seen
		p := &s.Problems[i]
		if p.Since = m.since[p.ID]; p.Since.IsZero() {
			p.Since = m.cfg.Now()
		}
		since[p.ID] = p.Since
	}
	m.since = since
	return s
}

// load reads where the mirror was when the daemon stopped.
func (m *Mirror) load(ctx context.Context) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.loaded {
		return nil
	}
	err := m.cfg.Store.View(ctx, func(v *store.View) error {
		m.at = v.Sync()
		return nil
	})
	m.loaded = err == nil
	return err
}

func (m *Mirror) position() store.Sync {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.at
}

// begin notes that a pass runs.
func (m *Mirror) begin() {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.status.Running = true
	m.fresh = &fresh{objects: make(map[identity.GUID]struct{}), oids: make(map[identity.GUID]struct{}), rows: make(map[identity.RowID]struct{})}
}

// copyFresh returns what was refreshed since the pass began.
func (m *Mirror) copyFresh() *fresh {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.fresh == nil {
		return nil
	}
	return &fresh{objects: maps.Clone(m.fresh.objects), oids: maps.Clone(m.fresh.oids), rows: maps.Clone(m.fresh.rows)}
}

// end notes what became of a pass.
func (m *Mirror) end(p *pass, res Result, err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	s := &m.status
	s.Running, m.fresh = false, nil
	what := latency.Labels{"incremental", "ok"}
	if res.Full || p.req.Full {
		what[0] = "full"
	}
	if err != nil {
		what[1] = "failed"
	}
	m.cfg.Latency.Observe(what, res.Duration)
	if p.dse.DNSHost != "" {
		s.DC, s.Skew = p.dse.DNSHost, p.skew
	}
	if err != nil {
		if fault.Is(err, fault.Unreachable) && s.UnreachableSince.IsZero() {
			s.UnreachableSince = m.cfg.Now()
		}
		s.LastError, s.LastRemedy = err.Error(), fault.Remedy(err)
		if p.sweeping == sweepHint {
			m.hints.rest(p, m.cfg.Now(), m.cfg.Interval)
		}
		return
	}
	s.UnreachableSince, s.LastError, s.LastRemedy = time.Time{}, "", ""
	s.LastDuration = res.Duration
	m.at = p.at
	m.noteLetGo(p, res.Full || p.sweeping == sweepDue)
	m.hints.note(p, res.Full, m.cfg.Now())
	// What only a full pass sees stays until the next one.
	if res.Full || len(p.trouble) > 0 {
		m.trouble = p.trouble
	}
	if res.Full {
		m.defects = p.defects
	}
}

// noteLetGo takes in whom a good pass let go. One by the clock begins a new
// allowance, and what somebody accepted is charged to none. The lock is held.
func (m *Mirror) noteLetGo(p *pass, byClock bool) {
	if byClock {
		m.swept, m.letGo = p.began, nil
	}
	if p.req.AcceptDeletions {
		return
	}
	for kind, n := range p.letGo {
		if m.letGo == nil {
			m.letGo = make(letGo)
		}
		m.letGo[kind] += n
	}
}

// spentSince returns whom the breaker has let go since the last sweep by the clock.
func (m *Mirror) spentSince() letGo {
	m.lock.Lock()
	defer m.lock.Unlock()
	return maps.Clone(m.letGo)
}

// problems says what an administrator should know.
func (m *Mirror) problems(held int, trouble []string, defects int) []Problem {
	var all []Problem
	add := func(id, summary, remedy string) { all = append(all, Problem{ID: id, Summary: summary, Remedy: remedy}) }
	err := m.cfg.Store.View(context.Background(), func(v *store.View) error {
		c, err := v.Counts()
		if err != nil {
			return err
		}
		if c.Conflicted > 0 {
			who, err := conflicts(v)
			if err != nil {
				return err
			}
			add(ProblemConflict, "two live objects carry one Entra object id; both are set aside: "+who,
				"have one of them removed from the synchronisation of the managed domain; it mends itself then")
		}
		if n := c.Reasons[idmap.ReasonNoID]; n > 0 {
			add(ProblemNoID, fmt.Sprintf("%d users or groups have no number: the range has no place for them", n),
				"make the range larger (idmap.base, idmap.size); numbers that were given stay")
		}
		return nil
	})
	if err != nil {
		m.cfg.Log.Warn("the rows could not be looked through for problems", "error", err)
	}
	if held > 0 {
		add(ProblemHeld, fmt.Sprintf("%d users and groups are gone from the domain, more than may go at once; they are kept", held),
			"if they were really deleted: latchkey sync --accept-deletions")
	}
	if len(trouble) > 0 {
		add(ProblemObjects, strings.Join(first(trouble, 3), "; "), "look at these objects in the directory")
	}
	if defects > 0 {
		add(ProblemDefects, fmt.Sprintf("%d objects have attributes that cannot be read; the attributes are left out", defects),
			"`latchkey user list --unpublished` shows those that have no usable name")
	}
	return all
}

// conflicts names the rows that were set aside.
func conflicts(v *store.View) (string, error) {
	by := make(map[identity.GUID][]string)
	if err := v.Each(0, func(e store.Entry) error {
		if c := e.Common(); c.State.Has(identity.Conflicted) {
			by[c.OID] = append(by[c.OID], c.DN)
		}
		return nil
	}); err != nil {
		return "", err
	}
	var all []string
	for oid, dns := range by {
		all = append(all, oid.String()+": "+strings.Join(dns, " and "))
	}
	slices.Sort(all)
	return strings.Join(first(all, 3), "; "), nil
}

// first returns at most n texts, and how many there are besides.
func first(all []string, n int) []string {
	if len(all) <= n {
		return all
	}
	return append(slices.Clone(all[:n]), fmt.Sprintf("and %d more", len(all)-n))
}
