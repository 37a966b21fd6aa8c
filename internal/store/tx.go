// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"runtime/debug"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Tx is a transaction that writes: all of it happens, or nothing. Reads see
// what it wrote; names, primary gids and effective memberships are settled at
// its end. Use it from one goroutine.
type Tx struct {
	View
	rules *rules
	now   time.Time
	wrote bool

	changes map[identity.RowID]*Change     // what the log will tell
	renamed map[identity.RowID]struct{}    // rows to be named again
	regroup map[identity.RowID]struct{}    // groups whose members are to be resolved again
	primary map[identity.SID]*memberChange // users that a primary group gained or lost
	edges   []edge                         // memberships whose reverse is not written yet

	fixed    map[uint32]struct{}         // see keptIDs; nil: not read yet
	wantedOf map[identity.RowID][][]byte // keys of bucket wanted by group, as they were
}

type memberChange struct{ gained, lost []identity.RowID }

// edge says that a group began, or ceased, to list a row as its member.
type edge struct {
	member, group identity.RowID
	gained        bool
}

// Update runs fn in one transaction that writes. Rows are the mirror's alone:
// nobody else calls this. An error of fn undoes everything and is returned as it
// is. fault.Exhausted: the disk is full; nothing was written.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	return s.update(ctx, fn, nil)
}

func (s *Store) update(ctx context.Context, fn func(*Tx) error, then func()) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	btx, err := s.db.Begin(true)
	if err != nil {
		return closedFault(err)
	}
	defer func() { _ = btx.Rollback() }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer damaged(&err)
	t := &Tx{
		View:  View{s: s, tx: btx},
		rules: s.policy.Load(), now: s.now(),
		changes: make(map[identity.RowID]*Change),
		renamed: make(map[identity.RowID]struct{}),
		regroup: make(map[identity.RowID]struct{}),
		primary: make(map[identity.SID]*memberChange),
	}
	if err := fn(t); err != nil {
		return err
	}
	if err := t.settle(); err != nil {
		return err
	}
	if t.wrote {
		if !s.unclean.Load() {
			if err := t.put(bucketMeta, metaUnclean, []byte{1}); err != nil {
				return err
			}
		}
		seq := num(btx.Bucket(bucketMeta).Get(metaSeq))
		if err := btx.Commit(); err != nil {
			return writeFault(err)
		}
		s.unclean.Store(true)
		s.seq.Store(seq)
	}
	if then != nil {
		then()
	}
	if len(t.changes) > 0 {
		s.wake()
	}
	return nil
}

func (t *Tx) put(bucket, key, value []byte) error {
	t.wrote = true
	return fault.Wrap(fault.Internal, "write to the store", t.tx.Bucket(bucket).Put(key, value))
}

func (t *Tx) del(bucket, key []byte) error {
	t.wrote = true
	return fault.Wrap(fault.Internal, "write to the store", t.tx.Bucket(bucket).Delete(key))
}

// Touched reports whether the transaction has changed a row, or the members of a
// group, so far.
func (t *Tx) Touched(id identity.RowID) bool { return t.changes[id] != nil }

// Wrote reports whether the transaction has written anything so far.
func (t *Tx) Wrote() bool { return t.wrote }

// Domain returns the domain that rows are named and numbered for.
func (t *Tx) Domain() identity.Domain { return t.rules.Domain }

// Load returns a row, live or gone; nil when there never was one. The caller may
// change it and put it back.
func (t *Tx) Load(id identity.RowID) (*Row, error) {
	r, err := t.load(id)
	if r != nil || err != nil {
		return r, err
	}
	if r, err = readRow(t.tx.Bucket(bucketGraves), id); r != nil {
		r.Gone = true
	}
	return r, err
}

// Rows calls fn for every live row of one kind (0: of both), ascending. fn must
// not write.
func (t *Tx) Rows(kind identity.Kind, fn func(*Row) error) error { return t.eachRow(kind, fn) }

// FindOID returns the rows that carry an oid: live ones first, each ascending.
func (t *Tx) FindOID(oid identity.GUID) ([]*Row, error) {
	var found []*Row
	for _, class := range []byte{classLive, classGone} {
		if err := t.collect(bucketOIDs, oid[:], class, &found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// FindObject returns the row whose object has this objectGUID: the live one, or
// the last that is gone; nil when there is none.
func (t *Tx) FindObject(guid identity.GUID) (*Row, error) {
	for _, class := range []byte{classLive, classGone} {
		var found []*Row
		if err := t.collect(bucketObjects, guid[:], class, &found); err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return nil, nil
}

// FindSID returns the live row that has this SID now; nil when there is none.
func (t *Tx) FindSID(sid identity.SID) (*Row, error) {
	if sid.IsZero() {
		return nil, nil
	}
	row, _, _ := t.claim(bucketSIDs, sid.Bytes(), classLive, classLive)
	return t.load(row)
}

// FindAccount returns the live rows whose account name folds to the same as
// account, ascending.
func (t *Tx) FindAccount(account string) ([]*Row, error) {
	var found []*Row
	folded := identity.Fold(cleanText(account))
	if folded == "" {
		return nil, nil
	}
	return found, t.collect(bucketNames, namePrefix(folded), classAccount, &found)
}

func (t *Tx) collect(bucket, prefix []byte, class byte, found *[]*Row) error {
	var rows []identity.RowID
	t.claimants(bucket, prefix, class, func(row identity.RowID) { rows = append(rows, row) })
	for _, row := range rows {
		r, err := t.Load(row)
		if err != nil {
			return err
		}
		if r != nil {
			*found = append(*found, r)
		}
	}
	return nil
}

// note has the log tell of a row.
func (t *Tx) note(row identity.RowID, kind identity.Kind) *Change {
	c := t.changes[row]
	if c == nil {
		c = &Change{Row: row, Kind: kind}
		t.changes[row] = c
	}
	return c
}

// rename has a row named again at the end.
func (t *Tx) rename(row identity.RowID) { t.renamed[row] = struct{}{} }

// touchName has every row but one that claims a folded account name named again.
func (t *Tx) touchName(folded string, but identity.RowID) {
	if folded == "" {
		return
	}
	t.claimants(bucketNames, namePrefix(folded), classAccount, func(row identity.RowID) {
		if row != but {
			t.rename(row)
		}
	})
}

// touchUPN has every row named again that loses or gains an alias when a row
// begins or ceases to have a folded UPN.
func (t *Tx) touchUPN(folded string, but identity.RowID) {
	if folded == "" {
		return
	}
	t.claimants(bucketNames, namePrefix(folded), classUPN, func(row identity.RowID) {
		if row != but {
			t.rename(row)
		}
	})
	if at := bytes.LastIndexByte([]byte(folded), '@'); at > 0 && folded[at+1:] == t.rules.dns {
		t.touchName(folded[:at], but)
	}
}
