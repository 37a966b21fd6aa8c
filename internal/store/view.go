// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// View is one consistent look at the store; see [Store.View]. Use it from one
// goroutine.
type View struct {
	s  *Store
	tx *bolt.Tx

	gidCalls int
	table    map[identity.RowID]groupInfo
}

// Position is the place in the log of changes that this view stands at.
func (v *View) Position() Position {
	return Position{Epoch: v.s.epoch, Seq: num(v.tx.Bucket(bucketMeta).Get(metaSeq))}
}

// Complete reports whether a full pass has ever gone through: only then does
// "not found" mean that nobody has the key.
func (v *View) Complete() bool { return v.Sync().Complete }

// Row returns a row by its id; false when there is none any more.
func (v *View) Row(id identity.RowID) (Entry, bool) {
	r, err := v.load(id)
	if err != nil || r == nil {
		return Entry{}, false
	}
	return v.shown(r), true
}

// load reads a live row; nil when there is none.
func (v *View) load(id identity.RowID) (*Row, error) {
	return readRow(v.tx.Bucket(bucketRows), id)
}

func readRow(b *bolt.Bucket, id identity.RowID) (*Row, error) {
	key := [8]byte{}
	binary.BigEndian.PutUint64(key[:], uint64(id))
	data := b.Get(key[:])
	if data == nil {
		return nil, nil
	}
	r, err := readRecord(id, data)
	if err != nil {
		return nil, damagedFault(fmt.Errorf("row %d: %w", id, err))
	}
	return r, nil
}

// shown adds to an entry what depends on the clock.
func (v *View) shown(r *Row) Entry {
	if u := r.User; u != nil && !u.AccountExpires.IsZero() && !v.s.now().Before(u.AccountExpires) {
		u.State |= identity.AccountExpired
	}
	return r.Entry
}

// claim returns the first claim on a prefix in one of the classes from to to,
// both included; row 0 when there is none. more: the next claim of that class.
func (v *View) claim(bucket, prefix []byte, from, to byte) (row identity.RowID, class byte, more identity.RowID) {
	c := v.tx.Bucket(bucket).Cursor()
	var buf [128]byte
	seek := append(append(buf[:0], prefix...), from)
	for k, _ := c.Seek(seek); k != nil; k, _ = c.Next() {
		p, cl, r, ok := splitClaim(k)
		if !ok || !bytes.Equal(p, prefix) || cl > to {
			break
		}
		if row != 0 {
			if cl == class {
				more = r
			}
			break
		}
		row, class = r, cl
	}
	return row, class, more
}

// claimants calls fn for the rows that claim a prefix in one class, ascending.
func (v *View) claimants(bucket, prefix []byte, class byte, fn func(identity.RowID)) {
	c := v.tx.Bucket(bucket).Cursor()
	seek := append(append(make([]byte, 0, len(prefix)+1), prefix...), class)
	for k, _ := c.Seek(seek); bytes.HasPrefix(k, seek) && len(k) == len(seek)+8; k, _ = c.Next() {
		fn(rowOf(k[len(seek):]))
	}
}

// IDOfSID returns the uid or gid to which a SID leads: that of the row that has
// it now, or had it before, or has it in its sIDHistory; else the gid of a
// well-known SID. For ACLs, never for a sign-in.
func (v *View) IDOfSID(sid identity.SID) (id uint32, kind identity.Kind, ok bool) {
	if sid.IsZero() {
		return 0, 0, false
	}
	if gid := v.wellKnownGID(sid); gid != 0 {
		return gid, identity.KindGroup, true
	}
	row, _, more := v.claim(bucketSIDs, sid.Bytes(), classLive, classHistory)
	if row == 0 || more != 0 {
		return 0, 0, false
	}
	r, err := v.load(row)
	if err != nil || r == nil || r.ID == 0 || !r.isUnix() {
		return 0, 0, false
	}
	return r.ID, r.Kind(), true
}

// List calls fn for the rows of one kind in the order of their published names,
// rows without a name last; from the first row after the cursor, "" being the
// beginning. fn returns false to stop. The cursor given to fn goes on after
// that row, also in a later view. A cursor that is none is fault.Malformed.
func (v *View) List(kind identity.Kind, after string, fn func(e Entry, cursor string) bool) error {
	c := v.tx.Bucket(bucketOrder).Cursor()
	start := []byte{byte(kind)}
	if after != "" {
		var err error
		if start, err = base64.RawURLEncoding.DecodeString(after); err != nil || len(start) < 11 || start[0] != byte(kind) {
			return fault.New(fault.Malformed, "the place in the list is none of ours")
		}
	}
	k, _ := c.Seek(start)
	if after != "" && bytes.Equal(k, start) {
		k, _ = c.Next()
	}
	rows := v.tx.Bucket(bucketRows)
	for ; len(k) >= 9 && k[0] == byte(kind); k, _ = c.Next() {
		r, err := readRow(rows, rowOf(k[len(k)-8:]))
		if err != nil {
			return err
		}
		if r != nil && !fn(v.shown(r), base64.RawURLEncoding.EncodeToString(k)) {
			return nil
		}
	}
	return nil
}

// Each calls fn for every row of one kind (0: of both) in the order of row ids.
// An error of fn ends it and is returned as it is.
func (v *View) Each(kind identity.Kind, fn func(Entry) error) error {
	return v.eachRow(kind, func(r *Row) error { return fn(v.shown(r)) })
}

func (v *View) eachRow(kind identity.Kind, fn func(*Row) error) error {
	c := v.tx.Bucket(bucketRows).Cursor()
	for k, data := c.First(); k != nil; k, data = c.Next() {
		if kind != 0 && (len(data) < 2 || data[1] != byte(kind)) { // the first field is the kind
			continue
		}
		id := rowOf(k)
		r, err := readRecord(id, data)
		if err == nil && id == 0 {
			err = errRecord
		}
		if err != nil {
			return damagedFault(fmt.Errorf("row %d: %w", id, err))
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}
