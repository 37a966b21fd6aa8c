// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"maps"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// applied counts what a batch changed.
type applied struct {
	added, changed int
	counted        map[identity.RowID]bool // rows whose miss was counted
}

// apply makes the rows what the plan says.
func (p *plan) apply(progress func(done int)) (applied, error) {
	done := applied{counted: p.lost}
	for _, id := range slices.Sorted(maps.Keys(p.absorbed)) {
		if err := p.tx.Retire(id); err != nil {
			return done, err
		}
	}
	if err := p.loosenAll(); err != nil {
		return done, err
	}
	if err := p.markDisputed(); err != nil {
		return done, err
	}
	for i := range p.b.objects {
		if i%256 == 0 {
			progress(i)
		}
		if p.rows[i] != nil {
			if err := p.put(i, &done); err != nil {
				return done, err
			}
		}
	}
	if err := unmark(p.tx, p.settled); err != nil {
		return done, err
	}
	for i := range p.b.objects {
		if p.rows[i] == nil || p.rows[i].Group == nil {
			continue
		}
		id := p.rows[i].Common().Row
		before := p.tx.Touched(id)
		if err := p.tx.SetMembers(id, p.b.objects[i].members); err != nil {
			return done, err
		}
		if !before && p.tx.Touched(id) {
			done.changed++
		}
	}
	progress(len(p.b.objects))
	return done, nil
}

// loosenAll takes SIDs, objects and oids from the rows that give them up, and
// marks those whose object is gone.
func (p *plan) loosenAll() error {
	ids := maps.Clone(p.lost)
	for id := range p.loosened {
		ids[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		r, err := p.tx.Load(id)
		if err != nil {
			return err
		}
		if r == nil || r.Gone {
			continue
		}
		c := r.Common()
		if p.loosened[id]&gripObject != 0 {
			c.SID, c.ObjectGUID = identity.SID{}, identity.GUID{}
		}
		if p.loosened[id]&gripOID != 0 {
			c.OID = identity.GUID{}
			c.State &^= identity.Conflicted
		}
		if p.lost[id] {
			c.State |= identity.Missing
			r.Missed = max(r.Missed, 1)
		}
		if err := p.tx.Put(r); err != nil {
			return err
		}
	}
	return nil
}

// markDisputed marks every live row with an oid that two live objects carry.
func (p *plan) markDisputed() error {
	for oid := range p.disputed {
		rows, err := p.tx.FindOID(oid)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.Gone {
				continue
			}
			r.Common().State |= identity.Conflicted
			if err := p.tx.Put(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes the row of one object.
func (p *plan) put(i int, done *applied) error {
	r := p.rows[i]
	id := r.Common().Row
	fresh := id == 0 || r.Gone
	if id != 0 { // it may have given something up since it was chosen
		var err error
		if r, err = p.tx.Load(id); err != nil {
			return err
		}
		p.rows[i] = r
	}
	draw(r, &p.b.objects[i])
	if p.disputed[r.Common().OID] {
		r.Common().State |= identity.Conflicted
	}
	if err := p.tx.Put(r); err != nil {
		return err
	}
	switch {
	case fresh:
		done.added++
	case p.tx.Touched(id):
		done.changed++
	}
	return nil
}
