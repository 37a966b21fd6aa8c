// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// logKeep is how many changes are remembered: some megabytes, and more than a
// full pass over the largest directory that anybody watches change by change.
// A transaction with more of them empties the log: whoever watches reads
// everything again.
const logKeep = 1 << 15

// Position is a place in the log of changes. Epoch names the file: a position
// of another file is too old, whatever its number.
type Position struct {
	Epoch uint64
	Seq   uint64 // of the last change before this place; 0 is before the first
}

// Change is one change of one row.
type Change struct {
	Seq  uint64
	Row  identity.RowID
	Kind identity.Kind
	// Deleted: the row is gone, and SID, OID, ObjectGUID and Name are what it
	// had. Otherwise ask for the row: it may have changed again since.
	Deleted    bool
	Membership bool // the members of the group, or the groups of the user, changed
	SID        identity.SID
	OID        identity.GUID
	ObjectGUID identity.GUID
	Name       string
}

// writeLog writes down what the transaction changed, groups before the users in
// them.
func (t *Tx) writeLog() error {
	if len(t.changes) == 0 {
		return nil
	}
	meta := t.tx.Bucket(bucketMeta)
	seq := num(meta.Get(metaSeq))
	if len(t.changes) > logKeep {
		if err := t.tx.DeleteBucket(bucketLog); err != nil {
			return fault.Wrap(fault.Internal, "empty the log of changes", err)
		}
		if _, err := t.tx.CreateBucket(bucketLog); err != nil {
			return fault.Wrap(fault.Internal, "empty the log of changes", err)
		}
		return t.put(bucketMeta, metaSeq, u64(seq+uint64(len(t.changes))))
	}
	changes := slices.SortedFunc(maps.Values(t.changes), func(a, b *Change) int {
		if a.Kind != b.Kind {
			return int(b.Kind) - int(a.Kind)
		}
		return int(int64(a.Row) - int64(b.Row))
	})
	for _, c := range changes {
		seq++
		if err := t.put(bucketLog, u64(seq), appendChange(nil, c)); err != nil {
			return err
		}
	}
	if err := t.put(bucketMeta, metaSeq, u64(seq)); err != nil {
		return err
	}
	c := t.tx.Bucket(bucketLog).Cursor()
	var old [][]byte
	for k, _ := c.First(); k != nil && num(k)+logKeep <= seq; k, _ = c.Next() {
		old = append(old, slices.Clone(k))
	}
	for _, k := range old {
		if err := t.del(bucketLog, k); err != nil {
			return err
		}
	}
	return nil
}

// Changes returns up to limit changes after a position, oldest first, none when
// there is nothing newer. A row that changed several times is told of several
// times. fault.NotFound: the log does not reach so far back, or it is another
// file's.
func (s *Store) Changes(ctx context.Context, after Position, limit int) (changes []Change, err error) {
	err = s.View(ctx, func(v *View) error {
		now := v.Position()
		c := v.tx.Bucket(bucketLog).Cursor()
		floor := now.Seq
		if k, _ := c.First(); k != nil {
			floor = num(k) - 1
		}
		if after.Epoch != now.Epoch || after.Seq > now.Seq || after.Seq < floor {
			return fault.New(fault.NotFound, "the log of changes does not reach back to that place")
		}
		for k, b := c.Seek(u64(after.Seq + 1)); k != nil && len(changes) < limit; k, b = c.Next() {
			change, ok := readChange(num(k), b)
			if !ok {
				return damagedFault(fmt.Errorf("change %d cannot be read", num(k)))
			}
			changes = append(changes, change)
		}
		return nil
	})
	return changes, err
}

// Position returns where the log ends now.
func (s *Store) Position() Position { return Position{Epoch: s.epoch, Seq: s.seq.Load()} }

// Subscribe returns a channel that is sent to after each transaction that
// changed rows; wake-ups that nobody took are one. cancel ends it.
func (s *Store) Subscribe() (wake <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	s.waking.Lock()
	defer s.waking.Unlock()
	s.wakers[ch] = struct{}{}
	return ch, func() {
		s.waking.Lock()
		defer s.waking.Unlock()
		delete(s.wakers, ch)
	}
}

func (s *Store) wake() {
	s.waking.Lock()
	defer s.waking.Unlock()
	for ch := range s.wakers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Fields of a change: a protobuf message.
const (
	chgRow        protowire.Number = 1
	chgKind       protowire.Number = 2
	chgDeleted    protowire.Number = 3
	chgMembership protowire.Number = 4
	chgSID        protowire.Number = 5
	chgOID        protowire.Number = 6
	chgObjectGUID protowire.Number = 7
	chgName       protowire.Number = 8
)

func appendChange(b []byte, c *Change) []byte {
	b = putNum(b, chgRow, uint64(c.Row))
	b = putNum(b, chgKind, uint64(c.Kind))
	b = putFlag(b, chgDeleted, c.Deleted)
	b = putFlag(b, chgMembership, c.Membership)
	b = putSID(b, chgSID, c.SID)
	b = putGUID(b, chgOID, c.OID)
	b = putGUID(b, chgObjectGUID, c.ObjectGUID)
	return putText(b, chgName, c.Name)
}

func readChange(seq uint64, b []byte) (c Change, ok bool) {
	c.Seq = seq
	var bad error
	ok = eachField(b, func(num protowire.Number, n uint64, v []byte) {
		switch num {
		case chgRow:
			c.Row = identity.RowID(n)
		case chgKind:
			c.Kind = identity.Kind(n)
		case chgDeleted:
			c.Deleted = n != 0
		case chgMembership:
			c.Membership = n != 0
		case chgSID:
			bad = errors.Join(bad, asSID(&c.SID, string(v)))
		case chgOID:
			bad = errors.Join(bad, asGUID(&c.OID, string(v)))
		case chgObjectGUID:
			bad = errors.Join(bad, asGUID(&c.ObjectGUID, string(v)))
		case chgName:
			c.Name = string(v)
		}
	})
	return c, ok && bad == nil && c.Row != 0
}
