// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// patience is how many sweeps in a row may miss an object before its row goes.
const patience = 2

// handful is how many rows of a kind one pass may always let go of: ten per
// cent of a small domain is nobody.
const handful = 5

// sweeper counts, for every row, whether its object was seen, and lets those go
// that were missed often enough: as many of a kind as the breaker allows, or
// none.
type sweeper struct {
	batch   *batch
	kind    sweeping
	percent int
	spent   letGo // what went since the last sweep by the clock; of no account in one
	accept  bool  // whatever was missed may go, and now
}

// letGo counts rows that went, by kind.
type letGo map[identity.Kind]int

func (l letGo) all() (n int) {
	for _, of := range l {
		n += of
	}
	return n
}

// swept is what a sweep found.
type swept struct {
	removed letGo
	held    int
}

func (s *sweeper) sweep(tx *store.Tx) (swept, error) {
	done := swept{removed: make(letGo)}
	b := s.batch
	var missed, found []*store.Row
	total := make(map[identity.Kind]int)
	if err := tx.Rows(0, func(r *store.Row) error {
		c := r.Common()
		total[r.Kind()]++
		switch {
		case b.seen(c.ObjectGUID) || b.fresh.row(c.Row) || b.fresh.object(c.ObjectGUID):
			if r.Missed > 0 || c.State.Has(identity.Missing) {
				found = append(found, r)
			}
		case !c.Created.Before(b.began): // newer than what was read
		default:
			missed = append(missed, r)
		}
		return nil
	}); err != nil {
		return done, err
	}
	for _, r := range found {
		r.Missed = 0
		r.Common().State &^= identity.Missing
		if err := tx.Put(r); err != nil {
			return done, err
		}
	}
	going := make(map[identity.Kind][]*store.Row)
	for _, r := range missed {
		if n := s.misses(r); n != r.Missed || !r.Common().State.Has(identity.Missing) {
			r.Missed = n
			r.Common().State |= identity.Missing
			if err := tx.Put(r); err != nil {
				return done, err
			}
		}
		if r.Missed >= patience {
			going[r.Kind()] = append(going[r.Kind()], r)
		}
	}
	settled := make(map[identity.GUID]bool)
	for kind, rows := range going {
		if !s.accept && len(rows) > s.allowed(kind, total[kind]) {
			done.held += len(rows)
			continue
		}
		slices.SortFunc(rows, func(a, b *store.Row) int { return int(int64(a.Common().Row) - int64(b.Common().Row)) })
		for _, r := range rows {
			if err := tx.Retire(r.Common().Row); err != nil {
				return done, err
			}
			if r.Common().State.Has(identity.Conflicted) {
				settled[r.Common().OID] = true
			}
			done.removed[kind]++
		}
	}
	return done, unmark(tx, settled)
}

// allowed returns how many rows of a kind may go, of so many. The sweeps that the
// DC hints at share one allowance until the next one by the clock: they come every
// few seconds, and whoever empties a domain one by one is to be stopped as well.
func (s *sweeper) allowed(kind identity.Kind, total int) int {
	n := max(handful, total*s.percent/100)
	if s.kind == sweepHint {
		n -= s.spent[kind]
	}
	return n
}

// misses returns how often in a row the object of r was missed, this time
// included. The sweeps that the DC hints at do not wear patience out: a DC that
// another one has just made way for may be some minutes behind.
func (s *sweeper) misses(r *store.Row) uint32 {
	_, dead := s.batch.dead[r.Common().ObjectGUID]
	switch {
	case s.accept, dead && s.batch.same && r.Missed == 0:
		return patience
	case s.kind == sweepHint:
		return r.Missed
	}
	return min(r.Missed+1, patience)
}

// unmark clears the mark of rows whose oid is theirs alone again.
func unmark(tx *store.Tx, oids map[identity.GUID]bool) error {
	for oid := range oids {
		if oid.IsZero() {
			continue
		}
		rows, err := tx.FindOID(oid)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r *store.Row) bool { return r.Gone })
		if len(rows) != 1 || !rows[0].Common().State.Has(identity.Conflicted) {
			continue
		}
		rows[0].Common().State &^= identity.Conflicted
		if err := tx.Put(rows[0]); err != nil {
			return err
		}
	}
	return nil
}
