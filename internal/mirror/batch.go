// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"cmp"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// batch is what was read of the directory: everything, or what changed.
type batch struct {
	full    bool // whatever is not in it does not exist
	same    bool // of the DC that the last pass was of
	began   time.Time
	objects []object // groups before users, each in the order of objectGUID
	index   map[identity.GUID]int
	dead    map[identity.GUID]struct{} // was asked for, and does not exist
	ids     map[identity.GUID]struct{} // of a sweep: whatever is not in it does not exist
	fresh   *fresh
}

func newBatch(full bool, began time.Time) *batch {
	return &batch{full: full, began: began, index: make(map[identity.GUID]int), dead: make(map[identity.GUID]struct{})}
}

// add takes an object in; of two readings the later one counts.
func (b *batch) add(o object) {
	delete(b.dead, o.ObjectGUID)
	if i, ok := b.index[o.ObjectGUID]; ok {
		b.objects[i] = o
		return
	}
	b.index[o.ObjectGUID] = len(b.objects)
	b.objects = append(b.objects, o)
}

// order puts the objects into the order in which they are applied, which does
// not depend on the DC's.
func (b *batch) order() {
	slices.SortFunc(b.objects, func(x, y object) int {
		return cmp.Or(cmp.Compare(y.kind(), x.kind()), slices.Compare(x.ObjectGUID[:], y.ObjectGUID[:]))
	})
	for i := range b.objects {
		b.index[b.objects[i].ObjectGUID] = i
	}
}

// alive says whether an object exists, and whether that is known at all.
func (b *batch) alive(guid identity.GUID) (alive, known bool) {
	if guid.IsZero() {
		return false, true
	}
	if _, ok := b.index[guid]; ok {
		return true, true
	}
	if b.fresh.object(guid) { // it was there a moment ago
		return true, true
	}
	if _, dead := b.dead[guid]; dead || b.full {
		return false, true
	}
	_, alive = b.ids[guid]
	return alive, b.ids != nil
}

// seen reports whether a sweep or a full pass saw an object.
func (b *batch) seen(guid identity.GUID) bool {
	if _, ok := b.index[guid]; ok {
		return true
	}
	_, ok := b.ids[guid]
	return ok
}

// stale reports whether an object of the batch, or another object of the same
// person, was read anew meanwhile.
func (b *batch) stale(o *object) bool {
	if b.fresh == nil {
		return false
	}
	if b.fresh.object(o.ObjectGUID) {
		return true
	}
	_, ok := b.fresh.oids[o.oid()]
	return ok
}

func (f *fresh) object(guid identity.GUID) bool {
	if f == nil {
		return false
	}
	_, ok := f.objects[guid]
	return ok
}

func (f *fresh) row(id identity.RowID) bool {
	if f == nil {
		return false
	}
	_, ok := f.rows[id]
	return ok
}
