// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"fmt"
	"maps"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// plan says which object becomes which row. Making it writes nothing.
//
// The rules, in their order. An object whose oid is believed is the row with
// that oid, whatever its SID and objectGUID are now: unless the object that the
// row had still exists, for then two live objects claim one person, and both are
// set aside. Any other object is the row with its objectGUID, even from its
// grave. A group or account that every domain has is the row with its SID or,
// after the domain was rebuilt, with its RID. Everything else is new. Nobody is
// ever found by name, UPN or mail.
type plan struct {
	tx *store.Tx
	b  *batch

	rows     []target                   // of each object
	taken    map[identity.RowID]int     // row -> its object
	absorbed map[identity.RowID]bool    // set-aside rows that are not needed any more
	loosened map[identity.RowID]grip    // rows that give something up before others take it
	lost     map[identity.RowID]bool    // rows whose object is known to be gone
	ask      map[identity.GUID]bool     // objects whose existence has to be known
	oids     map[identity.GUID][]int    // believed oid -> objects
	disputed map[identity.GUID]bool     // oids that two live objects carry
	settled  map[identity.GUID]bool     // oids of rows that were set aside: still so?
	sids     map[identity.SID]int       // SID -> the object that has it
	veterans map[veteran]identity.RowID // well-known rows of a domain that was
	trouble  []string                   // what could not be done, for people

	added, changed map[identity.RowID]bool // rows, by what was written
	done           int                     // objects written so far
	tell           func(done int)          // of progress
}

// target is the row of an object.
type target struct {
	ok   bool           // false: the object is passed over
	id   identity.RowID // 0: a new row
	gone bool           // the row comes back from its grave
	knot bool           // others depend on it: see untangle
}

// grip is what a row gives up.
type grip uint8

const (
	gripSID grip = 1 << iota
	gripObject
	gripOID
)

// veteran is a well-known account of a domain that is no more.
type veteran struct {
	kind identity.Kind
	rid  uint32
}

// errAsk says that a plan needs to know whether some objects exist.
var errAsk = fault.New(fault.Internal, "the plan has questions to the directory")

func makePlan(tx *store.Tx, b *batch) (*plan, error) {
	p := &plan{
		tx: tx, b: b, rows: make([]target, len(b.objects)), taken: make(map[identity.RowID]int, len(b.objects)),
		absorbed: make(map[identity.RowID]bool), loosened: make(map[identity.RowID]grip), lost: make(map[identity.RowID]bool),
		ask: make(map[identity.GUID]bool), oids: make(map[identity.GUID][]int), disputed: make(map[identity.GUID]bool),
		settled: make(map[identity.GUID]bool), sids: make(map[identity.SID]int, len(b.objects)),
		added: make(map[identity.RowID]bool), changed: make(map[identity.RowID]bool), tell: func(int) {},
	}
	for i := range b.objects {
		if oid := b.objects[i].oid(); !oid.IsZero() {
			p.oids[oid] = append(p.oids[oid], i)
		}
	}
	for _, step := range []func(i int) error{p.choose, p.settleSID, p.settleName} {
		for i := range b.objects {
			if b.stale(&b.objects[i]) {
				continue
			}
			if err := step(i); err != nil {
				return nil, err
			}
		}
	}
	if len(p.ask) > 0 {
		return p, errAsk
	}
	return p, nil
}

// choose finds the row of an object.
func (p *plan) choose(i int) error {
	o := &p.b.objects[i]
	same, err := p.tx.FindObject(o.ObjectGUID)
	if err != nil {
		return err
	}
	if same != nil && same.Kind() != o.kind() {
		p.trouble = append(p.trouble, fmt.Sprintf("%s was of another class before; it is left out", o.DN))
		return nil
	}
	if oid := o.oid(); !oid.IsZero() {
		return p.chooseByOID(i, oid, same)
	}
	if same == nil && wellKnown(o.SID) {
		if same, err = p.chooseWellKnown(o); err != nil {
			return err
		}
	}
	if same == nil {
		p.rows[i].ok = true
		return nil
	}
	p.assign(i, same)
	return nil
}

// assign gives a row to an object. A row is never shared: whoever comes second
// is left out.
func (p *plan) assign(i int, r *store.Row) {
	id := r.Common().Row
	if other, ok := p.taken[id]; ok {
		p.trouble = append(p.trouble, fmt.Sprintf("%s and %s are one row; the first is left out", p.b.objects[i].DN, p.b.objects[other].DN))
		return
	}
	p.taken[id] = i
	p.rows[i].ok, p.rows[i].id, p.rows[i].gone = true, id, r.Gone
	if c := r.Common(); c.State.Has(identity.Conflicted) && !r.Gone {
		p.settled[c.OID] = true
		p.rows[i].knot = true
	}
}

// chooseByOID finds the row of an object whose oid is believed. same is the row
// that has its objectGUID, if any.
func (p *plan) chooseByOID(i int, oid identity.GUID, same *store.Row) error {
	o := &p.b.objects[i]
	rows, err := p.tx.FindOID(oid)
	if err != nil {
		return err
	}
	owner := ownerOf(rows, o.kind())
	disputed := len(p.oids[oid]) > 1
	for _, r := range rows {
		if !disputed && !r.Gone && r.Kind() == o.kind() {
			disputed = p.exists(r.Common().ObjectGUID, o.ObjectGUID)
		}
	}
	if disputed {
		p.setAside(i, oid, same)
		return nil
	}
	if owner == nil && same != nil && (same.Common().OID.IsZero() || same.Common().OID == oid || same.ID == 0) {
		owner = same // it has its oid only now
	}
	// Whatever other rows were made for this oid while two objects had it, or for
	// this object while it had another, give way.
	for _, r := range append(rows, same) {
		if r == nil || r.Gone || owner != nil && r.Common().Row == owner.Common().Row {
			continue
		}
		c := r.Common()
		switch {
		case r.ID == 0 && !p.exists(c.ObjectGUID, o.ObjectGUID):
			p.absorbed[c.Row] = true
			p.rows[i].knot = true
		case c.OID == oid:
			p.loosened[c.Row] |= gripOID
			p.rows[i].knot = true
		}
		if c.State.Has(identity.Conflicted) {
			p.settled[c.OID] = true
		}
	}
	if owner == nil {
		p.rows[i].ok = true // same, if there is one, was another person
		return nil
	}
	p.assign(i, owner)
	return nil
}

// ownerOf returns the row that an oid belongs to, of the same class: rather one
// with an id, even in its grave, than one that was made without while two
// objects had the oid; then rather a live one than one that is gone.
func ownerOf(rows []*store.Row, kind identity.Kind) *store.Row {
	rank := func(r *store.Row) (n int) {
		if r.ID == 0 {
			n += 2
		}
		if r.Gone {
			n++
		}
		return n
	}
	var best *store.Row
	for _, r := range rows {
		if r.Kind() == kind && (best == nil || rank(r) < rank(best)) {
			best = r
		}
	}
	return best
}

// setAside deals with an object whose oid another live object carries as well:
// it is the row that has its objectGUID, or a new one, and every row with the
// oid is marked.
func (p *plan) setAside(i int, oid identity.GUID, same *store.Row) {
	p.disputed[oid] = true
	p.rows[i].knot = true
	if same != nil && (same.Common().OID == oid || same.Common().OID.IsZero() || same.ID == 0) {
		p.assign(i, same)
		return
	}
	p.rows[i].ok = true
}

// exists reports whether an object other than the one in hand is known to be
// there; where nobody knows, it has the directory asked and says no for now.
func (p *plan) exists(guid, but identity.GUID) bool {
	if guid == but {
		return false
	}
	alive, known := p.b.alive(guid)
	if !known {
		p.ask[guid] = true
	}
	return alive
}

// chooseWellKnown finds the row of a group or account that every domain has, by
// SID, or by RID in a domain that was.
func (p *plan) chooseWellKnown(o *object) (*store.Row, error) {
	r, err := p.tx.FindSID(o.SID)
	if err != nil {
		return nil, err
	}
	if r == nil {
		if r, err = p.veteran(o); err != nil || r == nil {
			return nil, err
		}
	}
	c := r.Common()
	if _, taken := p.taken[c.Row]; taken || r.Kind() != o.kind() || !c.OID.IsZero() || p.exists(c.ObjectGUID, o.ObjectGUID) {
		return nil, nil
	}
	return r, nil
}

// veteran finds the row of a well-known account in a domain that was.
func (p *plan) veteran(o *object) (*store.Row, error) {
	if !p.b.full || o.SID.In(builtin) {
		return nil, nil // a domain that was rebuilt is read in full first
	}
	if p.veterans == nil {
		p.veterans = make(map[veteran]identity.RowID)
		domain := p.tx.Domain().SID
		if err := p.tx.Rows(0, func(r *store.Row) error {
			c := r.Common()
			if wellKnown(c.SID) && !c.SID.In(domain) && !c.SID.In(builtin) && c.OID.IsZero() {
				rid, _ := c.SID.RID()
				p.veterans[veteran{r.Kind(), rid}] = c.Row
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	rid, _ := o.SID.RID()
	id, ok := p.veterans[veteran{o.kind(), rid}]
	if !ok {
		return nil, nil
	}
	return p.tx.Load(id)
}

// settleSID makes sure that an object's SID and objectGUID are free for its row:
// a row that has them gives them up when it has a new object of its own, or when
// its object is gone. Of two live objects with one SID only one can have a row.
func (p *plan) settleSID(i int) error {
	o := &p.b.objects[i]
	if !p.rows[i].ok {
		return nil
	}
	row := p.rows[i].id
	if !o.SID.IsZero() {
		if other, ok := p.sids[o.SID]; ok {
			return p.passOver(i, other)
		}
		p.sids[o.SID] = i
		holder, err := p.tx.FindSID(o.SID)
		if err != nil {
			return err
		}
		if holder != nil && holder.Common().Row != row {
			if j, ok := p.taken[holder.Common().Row]; ok {
				if h := &p.b.objects[j]; h.SID == o.SID && j != i {
					return nil // it comes to its own turn
				}
			} else if p.exists(holder.Common().ObjectGUID, o.ObjectGUID) {
				p.rows[i].ok = false
				p.trouble = append(p.trouble, fmt.Sprintf("%s has the SID of another live object, %s; it is left out", o.DN, holder.Common().DN))
				return nil
			}
			p.loosen(i, holder, gripSID)
		}
	}
	holder, err := p.tx.FindObject(o.ObjectGUID)
	if err != nil {
		return err
	}
	if holder != nil && !holder.Gone && holder.Common().Row != row {
		p.loosen(i, holder, gripObject)
	}
	return nil
}

// passOver leaves out one of two objects with one SID: the one whose row does
// not have it.
func (p *plan) passOver(i, other int) error {
	holder, err := p.tx.FindSID(p.b.objects[i].SID)
	if err != nil {
		return err
	}
	if holder != nil && holder.Common().Row == p.rows[i].id {
		p.sids[p.b.objects[i].SID] = i
		i, other = other, i
	}
	p.rows[i].ok = false
	p.trouble = append(p.trouble, fmt.Sprintf("%s and %s have one SID; the first is left out", p.b.objects[i].DN, p.b.objects[other].DN))
	return nil
}

// loosen has a row give something up before object i takes it.
func (p *plan) loosen(i int, r *store.Row, what grip) {
	id := r.Common().Row
	if p.absorbed[id] {
		return
	}
	p.loosened[id] |= what
	p.rows[i].knot = true
	if _, taken := p.taken[id]; !taken {
		p.lost[id] = true
	}
}

// settleName asks whether the object of a row still exists when another object
// now has its account name: the directory has a name once, so it was deleted or
// renamed. Otherwise the name would stay with the dead until the next sweep.
func (p *plan) settleName(i int) error {
	o := &p.b.objects[i]
	row := p.rows[i].id
	if !p.rows[i].ok || p.b.full {
		return nil
	}
	others, err := p.tx.FindAccount(o.SAMAccountName)
	if err != nil {
		return err
	}
	for _, other := range others {
		c := other.Common()
		if _, taken := p.taken[c.Row]; taken || c.Row == row || c.State.Has(identity.Missing) {
			continue
		}
		if alive, known := p.b.alive(c.ObjectGUID); !known {
			p.ask[c.ObjectGUID] = true
		} else if !alive {
			p.lost[c.Row] = true
		}
	}
	return nil
}

// questions returns the objects whose existence has to be known.
func (p *plan) questions() []identity.GUID {
	return slices.SortedFunc(maps.Keys(p.ask), func(a, b identity.GUID) int { return slices.Compare(a[:], b[:]) })
}
