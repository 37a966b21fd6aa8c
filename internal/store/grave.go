// SPDX-License-Identifier: Apache-2.0

package store

import (
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Retire takes a live row out: nobody finds it any more, but its id and its SIDs
// stay taken for ever. Put brings it back when its person is.
func (t *Tx) Retire(id identity.RowID) error {
	r, err := t.load(id)
	if r == nil || err != nil {
		return err
	}
	if err := t.flushEdges(); err != nil {
		return err
	}
	c := r.Common()
	gone := r.Clone()
	gone.Gone = true
	if err := t.del(bucketRows, rowKey(id)); err != nil {
		return err
	}
	if err := t.put(bucketGraves, rowKey(id), appendRecord(nil, gone)); err != nil {
		return err
	}
	if err := t.reindex(r, gone); err != nil {
		return err
	}
	// Where the directory still lists the object, it is listed again when it
	// comes back.
	for _, g := range t.parents(id) {
		if err := t.setListed(g, changeSet(t.listed(g), nil, rowSet{id})); err != nil {
			return err
		}
		if !c.ObjectGUID.IsZero() {
			if err := t.put(bucketWanted, wantedKey(c.ObjectGUID, g), nil); err != nil {
				return err
			}
			t.wantedOf = nil
		}
	}
	if r.User != nil {
		t.changePrimary(r.User.PrimaryGroup, id, false)
		t.touchUPN(identity.Fold(r.User.UPN), id)
	} else {
		if err := t.setListed(id, nil); err != nil {
			return err
		}
		if err := t.setWanted(id, nil); err != nil {
			return err
		}
		t.primaryGroupChanged(c.SID)
		t.regroup[id] = struct{}{}
	}
	t.touchName(identity.Fold(c.Account), id)
	delete(t.renamed, id)
	n := t.note(id, r.Kind())
	n.Deleted = true
	n.SID, n.OID, n.ObjectGUID, n.Name = c.SID, c.OID, c.ObjectGUID, c.Name
	return nil
}

// RetireAll takes every live row out.
func (t *Tx) RetireAll() error {
	var all []identity.RowID
	if err := t.eachRow(0, func(r *Row) error { all = append(all, r.Common().Row); return nil }); err != nil {
		return err
	}
	for _, id := range all {
		if err := t.Retire(id); err != nil {
			return err
		}
	}
	if s := t.Sync(); s.Complete {
		return t.SetSync(Sync{})
	}
	return nil
}
