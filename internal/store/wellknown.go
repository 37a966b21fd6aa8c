// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// bucketFixed holds the gids of well-known SIDs, and what an import left: the ids
// that are kept for SIDs whose row is to come, and those that a row had before.
var bucketFixed = []byte("fixed")

// makeWellKnown is the step to schema 2. The same step lets the machine's record
// have a password that is on its way, which an older version would drop.
func makeWellKnown(tx *bolt.Tx) error {
	_, err := tx.CreateBucketIfNotExists(bucketFixed)
	return fault.Wrap(fault.Internal, "make a bucket", err)
}

// numberWellKnown gives a gid to every well-known SID that has none yet. One
// that was given stays, whatever the range is now.
func (t *Tx) numberWellKnown() error {
	if t.rules.IDs == nil {
		return nil
	}
	b := t.tx.Bucket(bucketFixed)
	ids := t.tx.Bucket(bucketIDs)
	for _, w := range idmap.WellKnowns() {
		if b.Get(w.SID.Bytes()) != nil {
			continue
		}
		for id := range t.rules.IDs.WellKnownCandidates(w.SID) {
			_, local := t.rules.LocalIDs[id]
			if _, other := t.keptIDs()[id]; local || other || ids.Get(u32(id)) != nil {
				continue
			}
			if err := t.putFixed(w.SID.Bytes(), u32(id)); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// keptIDs are the ids that no row is given by the arithmetic.
func (t *Tx) keptIDs() map[uint32]struct{} {
	if t.fixed == nil {
		t.fixed = make(map[uint32]struct{})
		for k, v := range keys(t.tx.Bucket(bucketFixed)) {
			if id, ok := pastID(k); ok {
				t.fixed[id] = struct{}{}
			} else {
				t.fixed[fixedID(v)] = struct{}{}
			}
		}
	}
	return t.fixed
}

func (t *Tx) putFixed(key, value []byte) error {
	t.fixed = nil
	return t.put(bucketFixed, key, value)
}

func (t *Tx) delFixed(key []byte) error {
	t.fixed = nil
	return t.del(bucketFixed, key)
}

// pastKey is the key of an id that somebody had before an import. No SID begins
// with that byte (MS-DTYP 2.4.2.2: the revision is 1).
func pastKey(id uint32) []byte { return append([]byte{0}, u32(id)...) }

// pastID reads such a key.
func pastID(k []byte) (uint32, bool) {
	if len(k) != 5 || k[0] != 0 {
		return 0, false
	}
	return idOf(k[1:]), true
}

// fixedID reads what is kept for a SID: the id, and behind it, from an import,
// the kind.
func fixedID(b []byte) uint32 { return idOf(b[:min(4, len(b))]) }

// idOf reads an id; 0 for anything else.
func idOf(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// WellKnown calls fn with every well-known SID that has a gid, in the order of idmap.WellKnowns.
func (v *View) WellKnown(fn func(sid identity.SID, gid identity.GID)) {
	for _, w := range idmap.WellKnowns() {
		if gid := v.wellKnownGID(w.SID); gid != 0 {
			fn(w.SID, identity.GID(gid))
		}
	}
}

// wellKnownGID returns the gid of a well-known SID; 0 for any other.
func (v *View) wellKnownGID(sid identity.SID) uint32 {
	if _, ok := idmap.WellKnownOf(sid); !ok {
		return 0
	}
	return fixedID(v.tx.Bucket(bucketFixed).Get(sid.Bytes()))
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
		for _, w := range idmap.WellKnowns() {
			if v.wellKnownGID(w.SID) == id {
				return w.SID, true
			}
		}
	}
	return identity.SID{}, false
}
