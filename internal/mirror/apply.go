// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"maps"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// How much one transaction does. bbolt's cost of a transaction grows with the
// square of what is new in it, and a sign-in that has to write waits for it; a
// pass over more objects is several transactions, each of which leaves the store
// consistent.
var (
	piece        = 8192    // objects
	pieceMembers = 1 << 18 // members of groups
)

// apply makes the rows what the plan says, all in one transaction.
func (p *plan) apply(tx *store.Tx) error {
	if err := p.untangle(tx); err != nil {
		return err
	}
	for _, step := range p.pieces() {
		if err := step(tx); err != nil {
			return err
		}
	}
	return nil
}

// pieces returns what is left to do after untangle. Each may be a transaction of
// its own, in this order.
func (p *plan) pieces() (steps []func(*store.Tx) error) {
	n := len(p.b.objects)
	for from := 0; from < n; from += piece {
		steps = append(steps, func(tx *store.Tx) error { return p.putRange(tx, from, min(from+piece, n), false) })
	}
	groups := 0
	for groups < n && p.b.objects[groups].kind() == identity.KindGroup {
		groups++
	}
	for to := 0; to < groups; {
		from, members := to, 0
		for ; to < groups && members <= pieceMembers; to++ {
			members += len(p.b.objects[to].members)
		}
		end := to
		steps = append(steps, func(tx *store.Tx) error { return p.setMembers(tx, from, end) })
	}
	return steps
}

// untangle does whatever depends on several rows at once: rows that are not
// needed any more go, rows give up what others take, and those others take it.
// What remains is one object and one row each, in any order.
func (p *plan) untangle(tx *store.Tx) error {
	p.tx = tx
	for _, id := range slices.Sorted(maps.Keys(p.absorbed)) {
		if err := tx.Retire(id); err != nil {
			return err
		}
	}
	if err := p.loosenAll(); err != nil {
		return err
	}
	if err := p.markDisputed(); err != nil {
		return err
	}
	if err := p.putRange(tx, 0, len(p.b.objects), true); err != nil {
		return err
	}
	return unmark(tx, p.settled)
}

// loosenAll takes SIDs, objects and oids from the rows that give them up, and
// marks those whose object is gone.
func (p *plan) loosenAll() error {
	ids := maps.Clone(p.lost)
	for id := range p.loosened {
		ids[id] = true
		if i, ok := p.taken[id]; ok {
			p.rows[i].knot = true
		}
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
		if p.loosened[id]&gripSID != 0 {
			c.SID = identity.SID{}
		}
		if p.loosened[id]&gripObject != 0 {
			c.ObjectGUID = identity.GUID{}
		}
		if p.loosened[id]&gripOID != 0 {
			c.OID = identity.GUID{}
			c.State &^= identity.Conflicted
		}
		if p.lost[id] {
			c.State |= identity.Missing
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

// putRange writes the rows of some objects: those that others depend on, or the
// others.
func (p *plan) putRange(tx *store.Tx, from, to int, knots bool) error {
	p.tx = tx
	for i := from; i < to; i++ {
		if !p.rows[i].ok || p.rows[i].knot != knots || p.b.stale(&p.b.objects[i]) {
			continue
		}
		if err := p.put(i); err != nil {
			return err
		}
		if p.done++; p.done%256 == 0 {
			p.tell(p.done)
		}
	}
	return nil
}

// put writes the row of one object.
func (p *plan) put(i int) error {
	o := &p.b.objects[i]
	t := &p.rows[i]
	fresh := t.id == 0 || t.gone
	var r *store.Row
	switch {
	case t.id != 0: // as it is now: it may have given something up
		var err error
		if r, err = p.tx.Load(t.id); err != nil {
			return err
		}
	case o.kind() == identity.KindGroup:
		r = store.NewGroup()
	default:
		r = store.NewUser()
	}
	draw(r, o)
	if p.disputed[r.Common().OID] {
		r.Common().State |= identity.Conflicted
	}
	if err := p.tx.Put(r); err != nil {
		return err
	}
	t.id, t.gone = r.Common().Row, false
	switch {
	case fresh:
		p.added[t.id] = true
	case p.tx.Touched(t.id):
		p.changed[t.id] = true
	}
	return nil
}

// setMembers writes the members of some groups.
func (p *plan) setMembers(tx *store.Tx, from, to int) error {
	p.tx = tx
	for i := from; i < to; i++ {
		o, t := &p.b.objects[i], p.rows[i]
		if !t.ok || t.id == 0 || p.b.stale(o) {
			continue
		}
		before := tx.Touched(t.id)
		if err := tx.SetMembers(t.id, o.members); err != nil {
			return err
		}
		if !before && tx.Touched(t.id) && !p.added[t.id] {
			p.changed[t.id] = true
		}
	}
	return nil
}
