// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Member names a member of a group as the directory does.
type Member struct {
	GUID identity.GUID // objectGUID; zero where the DC did not give it
	SID  identity.SID  // zero for what has none, as contacts
}

// SetMembers replaces the members that the directory lists for a group. Those
// that have a row become edges; SIDs of other domains stay SIDs; the others
// (computers, contacts, objects not read yet) are remembered by their
// objectGUID and become edges when a row with it arrives.
func (t *Tx) SetMembers(group identity.RowID, members []Member) error {
	r, err := t.load(group)
	if err != nil {
		return err
	}
	if r == nil || r.Group == nil {
		return fault.Errorf(fault.Internal, "row %d is no group", group)
	}
	domain := t.rules.Domain.SID
	rows := make([]identity.RowID, 0, len(members))
	var foreign []identity.SID
	var wanted [][]byte
	for _, m := range members {
		row := identity.RowID(0)
		if !m.GUID.IsZero() {
			row, _, _ = t.claim(bucketObjects, m.GUID[:], classLive, classLive)
		}
		if row == 0 && !m.SID.IsZero() {
			row, _, _ = t.claim(bucketSIDs, m.SID.Bytes(), classLive, classLive)
		}
		switch {
		case row == group: // a group in itself adds nobody
		case row != 0:
			rows = append(rows, row)
		case !m.SID.IsZero() && !m.SID.In(domain):
			foreign = append(foreign, m.SID)
		case !m.GUID.IsZero():
			wanted = append(wanted, wantedKey(m.GUID, group))
		}
	}
	if err := t.setListed(group, asSet(rows)); err != nil {
		return err
	}
	if err := t.setWanted(group, wanted); err != nil {
		return err
	}
	if foreign = sortSIDs(foreign); !slices.Equal(foreign, r.Group.ForeignMembers) {
		old := r.Clone()
		r.Group.ForeignMembers = foreign
		if len(foreign) == 0 {
			r.Group.ForeignMembers = nil
		}
		return t.write(old, r)
	}
	return nil
}

// setListed replaces the edges of a group.
func (t *Tx) setListed(group identity.RowID, now rowSet) error {
	was := t.listed(group)
	if slices.Equal(was, now) {
		return nil
	}
	diffSets(was, now,
		func(m identity.RowID) { t.edges = append(t.edges, edge{m, group, false}) },
		func(m identity.RowID) { t.edges = append(t.edges, edge{m, group, true}) })
	t.regroup[group] = struct{}{}
	t.note(group, identity.KindGroup).Membership = true
	return t.putSet(bucketMembers, rowKey(group), now)
}

// putSet writes a set; an empty one has no key.
func (t *Tx) putSet(bucket, key []byte, s rowSet) error {
	if len(s) == 0 {
		return t.del(bucket, key)
	}
	return t.put(bucket, key, packSet(s))
}

func wantedKey(guid identity.GUID, group identity.RowID) []byte {
	return append(slices.Clone(guid[:]), rowKey(group)...)
}

// setWanted replaces the members of a group that have no row.
func (t *Tx) setWanted(group identity.RowID, now [][]byte) error {
	was, err := t.wantedBy(group)
	if err != nil {
		return err
	}
	slices.SortFunc(now, bytes.Compare)
	now = slices.CompactFunc(now, bytes.Equal)
	if slices.EqualFunc(was, now, bytes.Equal) {
		return nil
	}
	for _, k := range was {
		if _, still := slices.BinarySearchFunc(now, k, bytes.Compare); !still {
			if err := t.del(bucketWanted, k); err != nil {
				return err
			}
		}
	}
	for _, k := range now {
		if err := t.put(bucketWanted, k, nil); err != nil {
			return err
		}
	}
	return nil
}

// wantedBy returns the keys of bucket wanted that belong to a group, ascending.
func (t *Tx) wantedBy(group identity.RowID) ([][]byte, error) {
	if t.wantedOf == nil { // made once; few members are without a row
		t.wantedOf = make(map[identity.RowID][][]byte)
		c := t.tx.Bucket(bucketWanted).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if len(k) == 24 {
				g := rowOf(k[16:])
				t.wantedOf[g] = append(t.wantedOf[g], bytes.Clone(k))
			}
		}
	}
	var still [][]byte
	for _, k := range t.wantedOf[group] {
		if v := t.tx.Bucket(bucketWanted).Get(k); v != nil {
			still = append(still, k)
		}
	}
	return still, nil
}

// arrive makes a row a member of the groups that wait for its object.
func (t *Tx) arrive(guid identity.GUID, row identity.RowID) error {
	if guid.IsZero() {
		return nil
	}
	var groups []identity.RowID
	c := t.tx.Bucket(bucketWanted).Cursor()
	for k, _ := c.Seek(guid[:]); len(k) == 24 && bytes.HasPrefix(k, guid[:]); k, _ = c.Next() {
		groups = append(groups, rowOf(k[16:]))
	}
	for _, g := range groups {
		if err := t.del(bucketWanted, wantedKey(guid, g)); err != nil {
			return err
		}
		if r, err := t.load(g); err != nil || r == nil || g == row {
			continue
		}
		if err := t.setListed(g, changeSet(t.listed(g), rowSet{row}, nil)); err != nil {
			return err
		}
	}
	return nil
}
