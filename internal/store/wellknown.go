// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// bucketWellKnown holds the gids of SIDs that no directory has a row for.
var bucketWellKnown = []byte("wellknown")

// makeWellKnown is the step to schema 2. The same step lets the machine's record
// have a password that is on its way, which an older version would drop.
func makeWellKnown(tx *bolt.Tx) error {
	_, err := tx.CreateBucketIfNotExists(bucketWellKnown)
	return fault.Wrap(fault.Internal, "make a bucket", err)
}

// numberWellKnown gives a gid to every well-known SID that has none yet. One
// that was given stays, whatever the range is now.
func (t *Tx) numberWellKnown() error {
	if t.rules.IDs == nil {
		return nil
	}
	b := t.tx.Bucket(bucketWellKnown)
	ids := t.tx.Bucket(bucketIDs)
	taken := t.wellKnownIDs()
	for _, w := range idmap.WellKnowns() {
		if b.Get(w.SID.Bytes()) != nil {
			continue
		}
		for id := range t.rules.IDs.WellKnownCandidates(w.SID) {
			_, local := t.rules.LocalIDs[id]
			if _, other := taken[id]; local || other || ids.Get(u32(id)) != nil {
				continue
			}
			if err := t.put(bucketWellKnown, w.SID.Bytes(), u32(id)); err != nil {
				return err
			}
			taken[id] = struct{}{}
			break
		}
	}
	t.fixed = nil
	return nil
}

// wellKnownIDs are the gids that no row may be given.
func (t *Tx) wellKnownIDs() map[uint32]struct{} {
	if t.fixed == nil {
		t.fixed = make(map[uint32]struct{})
		for _, id := range keys(t.tx.Bucket(bucketWellKnown)) {
			t.fixed[idOf(id)] = struct{}{}
		}
	}
	return t.fixed
}

// idOf reads an id; 0 for anything else.
func idOf(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// WellKnown calls fn with every well-known SID that has a gid, by SID.
func (v *View) WellKnown(fn func(sid identity.SID, gid identity.GID)) {
	for k, b := range keys(v.tx.Bucket(bucketWellKnown)) {
		if sid, err := identity.SIDFromBytes(k); err == nil {
			fn(sid, identity.GID(idOf(b)))
		}
	}
}

// wellKnownGID returns the gid of a well-known SID; 0 for any other.
func (v *View) wellKnownGID(sid identity.SID) uint32 {
	return idOf(v.tx.Bucket(bucketWellKnown).Get(sid.Bytes()))
}

// SIDOfID returns the SID of the live row that has a uid or gid, or the
// well-known SID of a gid. False: the number is nobody's of ours.
func (v *View) SIDOfID(id uint32, kind identity.Kind) (identity.SID, bool) {
	if row := v.tx.Bucket(bucketIDs).Get(u32(id)); row != nil {
		r, err := v.load(rowOf(row))
		if err != nil || r == nil || r.Kind() != kind || !r.isUnix() {
			return identity.SID{}, false
		}
		return r.Common().SID, true
	}
	if kind == identity.KindGroup {
		for k, b := range keys(v.tx.Bucket(bucketWellKnown)) {
			if bytes.Equal(b, u32(id)) {
				sid, err := identity.SIDFromBytes(k)
				return sid, err == nil
			}
		}
	}
	return identity.SID{}, false
}
