// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// IDEntry is one id that was given, or is to be.
type IDEntry struct {
	Kind identity.Kind
	ID   uint32
	SID  identity.SID
	OID  identity.GUID // zero where the object has none
	Name string        // for people
	Gone bool          // the row is gone; the id stays its own
}

// IDChange is an entry whose row had another id here.
type IDChange struct {
	IDEntry
	Old uint32
}

// IDConflict is why an entry cannot be taken over.
type IDConflict struct {
	IDEntry
	Reason string
}

// IDImport is what an import did, or would do.
type IDImport struct {
	Same      int          // entries whose row has that id already
	Changes   []IDChange   // rows, and well-known SIDs, that get another id
	Kept      int          // entries without a row here: the id is kept for the SID
	Conflicts []IDConflict // not empty: nothing was done
}

// EachID calls fn for every id that was ever given: of live rows, of rows that
// are gone, of well-known SIDs, of SIDs whose row is to come. An error of fn ends
// it and is returned as it is.
func (v *View) EachID(fn func(IDEntry) error) error {
	row := func(r *Row) error {
		if r.ID == 0 {
			return nil
		}
		c := r.Common()
		name := c.Name
		if name == "" {
			name = c.Account
		}
		return fn(IDEntry{Kind: r.Kind(), ID: r.ID, SID: c.SID, OID: c.OID, Name: name, Gone: r.Gone})
	}
	if err := v.eachRow(0, row); err != nil {
		return err
	}
	if err := v.eachGrave(row); err != nil {
		return err
	}
	for k, b := range keys(v.tx.Bucket(bucketFixed)) {
		sid, err := identity.SIDFromBytes(k)
		if err != nil { // an id that somebody had before an import
			continue
		}
		e := IDEntry{Kind: identity.KindGroup, ID: fixedID(b), SID: sid, Gone: true}
		if v.tx.Bucket(bucketIDs).Get(u32(e.ID)) != nil {
			continue // its row has come
		}
		if len(b) == 5 {
			e.Kind = identity.Kind(b[4])
		}
		if w, ok := idmap.WellKnownOf(sid); ok {
			e.Gone = false
			if e.Name = w.Name; w.Domain != "" {
				e.Name = w.Domain + `\` + w.Name
			}
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// errRehearsal undoes the transaction of an import that writes nothing.
var errRehearsal = errors.New("rehearsal")

// ImportIDs gives rows the ids that they have on another machine of the domain,
// all in one transaction, or none and the conflicts. A row is found by its oid,
// else by its SID; an id whose SID has no row yet is kept for it. The id that a
// row had before goes to nobody else. With dryRun nothing is written. Whoever
// calls this knows that files keep the numbers of their owners.
func (s *Store) ImportIDs(ctx context.Context, entries []IDEntry, dryRun bool) (*IDImport, error) {
	var result *IDImport
	err := s.Update(ctx, func(t *Tx) error {
		m := newImporting(t)
		if err := m.read(entries); err != nil {
			return err
		}
		m.look()
		result = &m.IDImport
		if dryRun || len(m.Conflicts) > 0 {
			return errRehearsal
		}
		return m.write()
	})
	if err != nil && !errors.Is(err, errRehearsal) {
		return nil, fault.Wrap(fault.Unknown, "import ids", err)
	}
	return result, nil
}

// importing is one import under way.
type importing struct {
	IDImport
	t      *Tx
	rows   map[identity.RowID]*wish
	sids   map[identity.SID]*wish // without a row
	byID   map[uint32]*wish
	wishes []*wish // in the order of the file
}

// wish is one entry with what it found here.
type wish struct {
	IDEntry
	row *Row   // nil: none
	old uint32 // the id here; 0: none
}

func newImporting(t *Tx) *importing {
	return &importing{t: t, rows: map[identity.RowID]*wish{}, sids: map[identity.SID]*wish{}, byID: map[uint32]*wish{}}
}

func (m *importing) refuse(e IDEntry, format string, args ...any) {
	m.Conflicts = append(m.Conflicts, IDConflict{e, fmt.Sprintf(format, args...)})
}

// read checks every entry for itself and finds whose it is.
func (m *importing) read(entries []IDEntry) error {
	if m.t.rules.IDs == nil {
		return fault.New(fault.Conflict, "there is no range of ids yet")
	}
	for _, e := range entries {
		w := &wish{IDEntry: e}
		switch _, local := m.t.rules.LocalIDs[e.ID]; {
		case e.SID.IsZero():
			m.refuse(e, "it has no SID")
			continue
		case e.Kind != identity.KindUser && e.Kind != identity.KindGroup:
			m.refuse(e, "it is neither a user nor a group")
			continue
		case !m.t.rules.IDs.Contains(e.ID):
			m.refuse(e, "the number lies outside of this machine's range, or may be given to nobody")
			continue
		case local:
			m.refuse(e, "an account of this machine itself has the number")
			continue
		}
		if other := m.byID[e.ID]; other != nil {
			m.refuse(e, "the file gives the number to %s as well", other.called())
			continue
		}
		if err := m.find(w); err != nil {
			return err
		}
		var other *wish
		if w.row != nil {
			other = m.rows[w.row.Common().Row]
		} else {
			other = m.sids[e.SID]
		}
		switch {
		case other != nil:
			m.refuse(e, "the file gives %s the number %d as well", w.called(), other.ID)
			continue
		case w.row != nil && w.row.Kind() != e.Kind:
			m.refuse(e, "it is a %s here", w.row.Kind())
			continue
		case w.row != nil && !w.row.isUnix():
			m.refuse(e, "it is no unix group here")
			continue
		case w.row != nil:
			m.rows[w.row.Common().Row] = w
		default:
			m.sids[e.SID] = w
		}
		m.byID[e.ID] = w
		m.wishes = append(m.wishes, w)
	}
	return nil
}

// called is a name for people.
func (w *wish) called() string {
	if w.Name != "" {
		return w.Name
	}
	return w.SID.String()
}

// find looks for the row: by the oid, which outlives a rebuilt domain, else by
// the SID of now or before, live or gone.
func (m *importing) find(w *wish) error {
	// The groups that a domain controller has for itself are rows without a number.
	if _, ok := idmap.WellKnownOf(w.SID); ok {
		w.old = m.t.keptFor(w.SID)
		return nil
	}
	if !w.OID.IsZero() {
		found, err := m.t.FindOID(w.OID)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			w.row, w.old = found[0], found[0].ID
			return nil
		}
	}
	for _, class := range []byte{classLive, classPast, classGone} {
		var found []*Row
		if err := m.t.collect(bucketSIDs, w.SID.Bytes(), class, &found); err != nil {
			return err
		}
		if len(found) > 0 {
			w.row, w.old = found[0], found[0].ID
			return nil
		}
	}
	w.old = m.t.keptFor(w.SID)
	return nil
}

// look finds out whose each number is here.
func (m *importing) look() {
	ids, fixed := m.t.tx.Bucket(bucketIDs), map[uint32]identity.SID{}
	for k, b := range keys(m.t.tx.Bucket(bucketFixed)) {
		if sid, err := identity.SIDFromBytes(k); err == nil {
			if id := fixedID(b); ids.Get(u32(id)) == nil {
				fixed[id] = sid
			}
		}
	}
	for _, w := range m.wishes {
		if w.old == w.ID {
			m.Same++
			continue
		}
		if b := ids.Get(u32(w.ID)); b != nil {
			other := m.rows[rowOf(b)]
			if other == nil || other.ID == w.ID {
				m.refuse(w.IDEntry, "%s has the number here, and the file gives it no other", m.owner(rowOf(b)))
				continue
			}
		}
		if sid, ok := fixed[w.ID]; ok && (w.row != nil || sid != w.SID) {
			other := m.sids[sid]
			if (other == nil || other.ID == w.ID) && (w.row == nil || w.row.Common().SID != sid) {
				m.refuse(w.IDEntry, "the number is kept for %s here", sid)
				continue
			}
		}
		if past := m.t.tx.Bucket(bucketFixed).Get(pastKey(w.ID)); past != nil && !bytes.Equal(past, w.key()) {
			m.refuse(w.IDEntry, "somebody else had the number before an earlier import: files may still have it")
			continue
		}
		switch {
		case w.row == nil && w.old == 0:
			m.Kept++
		default:
			m.Changes = append(m.Changes, IDChange{w.IDEntry, w.old})
		}
	}
}

// owner names a row for people.
func (m *importing) owner(id identity.RowID) string {
	r, err := m.t.Load(id)
	if err != nil || r == nil {
		return fmt.Sprintf("row %d", id)
	}
	c := r.Common()
	name := c.Account
	if name == "" {
		name = c.SID.String()
	}
	if r.Gone {
		name += ", who is gone,"
	}
	return name
}

// key says who somebody is, for numbers of the past.
func (w *wish) key() []byte {
	if w.row != nil {
		return rowKey(w.row.Common().Row)
	}
	return w.SID.Bytes()
}

// write gives the numbers. The old entries are taken away with the rows, so that
// two who swap would take each other's: the new ones are written once more at
// the end.
func (m *importing) write() error {
	t := m.t
	var moved []*wish
	for _, w := range m.wishes {
		if w.old != w.ID {
			moved = append(moved, w)
		}
	}
	for _, w := range moved {
		if w.row == nil {
			if err := t.putFixed(w.SID.Bytes(), append(u32(w.ID), byte(w.Kind))); err != nil {
				return err
			}
			continue
		}
		old, r := w.row, w.row.Clone()
		natural, ok := t.rules.IDs.Natural(r.Common().SID)
		r.ID, r.Moved = w.ID, !ok || natural != w.ID
		err := error(nil)
		if r.Gone {
			err = t.put(bucketGraves, rowKey(r.Common().Row), appendRecord(nil, r))
			if err == nil {
				err = t.reindex(old, r)
			}
		} else {
			err = t.write(old, r)
		}
		if err != nil {
			return err
		}
	}
	taken := map[uint32]bool{}
	for _, w := range moved {
		taken[w.ID] = true
		if w.row != nil {
			if err := t.put(bucketIDs, u32(w.ID), rowKey(w.row.Common().Row)); err != nil {
				return err
			}
			if err := t.delFixed(w.row.Common().SID.Bytes()); err != nil {
				return err
			}
		}
		if err := t.delFixed(pastKey(w.ID)); err != nil {
			return err
		}
	}
	for _, w := range moved {
		if w.old == 0 || taken[w.old] {
			continue
		}
		if err := t.putFixed(pastKey(w.old), w.key()); err != nil {
			return err
		}
	}
	return nil
}

// keptFor returns the id that is kept for a SID; 0 where none is.
func (v *View) keptFor(sid identity.SID) uint32 {
	if sid.IsZero() {
		return 0
	}
	b := v.tx.Bucket(bucketFixed).Get(sid.Bytes())
	return fixedID(b)
}
