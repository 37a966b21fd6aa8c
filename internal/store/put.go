// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// maxText is the longest text of a row, in bytes; the rest is cut off. AD's own
// limits are lower but for distinguished names.
const maxText = 2048

// Put writes a row: a new one when its Row is zero, which is then set; the row
// that is there otherwise, back from its grave if need be. A SID that changes
// joins the past ones. fault.Conflict: another live row has the SID or the
// objectGUID, or the oid without both being marked Conflicted.
func (t *Tx) Put(r *Row) error {
	c := r.Common()
	var old *Row
	if c.Row == 0 {
		n, err := t.tx.Bucket(bucketRows).NextSequence()
		if err != nil {
			return fault.Wrap(fault.Internal, "give a row id", err)
		}
		c.Row, c.Created = identity.RowID(n), t.now
		r.ID, r.Moved, r.unknown = 0, false, nil
		c.PastSIDs = nil
		if r.Group != nil {
			r.Group.ForeignMembers = nil
		}
	} else {
		var err error
		if old, err = t.Load(c.Row); err != nil {
			return err
		}
		if old == nil || old.Kind() != r.Kind() {
			return fault.Errorf(fault.Internal, "row %d is not there, or of another kind", c.Row)
		}
		r.keep(old)
	}
	r.Gone = false
	r.clean()
	if err := t.alone(r); err != nil {
		return err
	}
	return t.write(old, r)
}

// keep takes over from the row as it is what the store alone decides.
func (r *Row) keep(old *Row) {
	c, was := r.Common(), old.Common()
	r.ID, r.Moved, r.unknown = old.ID, old.Moved, old.unknown
	c.Created, c.Changed = was.Created, was.Changed
	c.Name, c.Aliases, c.Unpublished = was.Name, was.Aliases, was.Unpublished
	past := slices.Clone(was.PastSIDs)
	if was.SID != c.SID && !was.SID.IsZero() {
		past = append(past, was.SID)
	}
	c.PastSIDs = slices.DeleteFunc(past, func(s identity.SID) bool { return s == c.SID })
	if len(c.PastSIDs) == 0 {
		c.PastSIDs = nil
	}
	if r.Group != nil {
		r.Group.ForeignMembers = old.Group.ForeignMembers
	}
}

// clean makes every text valid, short and free of control characters, and lists
// free of doubles. The directory has done so already; this is the last gate
// before doors that cannot carry anything else.
func (r *Row) clean() {
	c := r.Common()
	texts := []*string{&c.Account, &c.DisplayName, &c.Mail, &c.MailNickname, &c.DN}
	if r.User != nil {
		texts = append(texts, &r.User.UPN, &r.User.GivenName, &r.User.Surname)
	}
	for _, s := range texts {
		*s = cleanText(*s)
	}
	c.HistorySIDs = slices.DeleteFunc(sortSIDs(c.HistorySIDs), identity.SID.IsZero)
	if len(c.HistorySIDs) == 0 {
		c.HistorySIDs = nil
	}
}

func cleanText(s string) string {
	plain := len(s) <= maxText
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
	for len(s) > maxText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

func sortSIDs(sids []identity.SID) []identity.SID {
	if len(sids) < 2 {
		return slices.Clone(sids)
	}
	sids = slices.Clone(sids)
	slices.SortFunc(sids, func(a, b identity.SID) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	return slices.Compact(sids)
}

// alone makes sure that nobody else has what only one row may have.
func (t *Tx) alone(r *Row) error {
	c := r.Common()
	for _, only := range []struct {
		bucket, prefix []byte
		what           string
		shared         bool
	}{
		{bucketSIDs, c.SID.Bytes(), "SID " + c.SID.String(), false},
		{bucketObjects, guidBytes(c.ObjectGUID), "objectGUID", false},
		{bucketOIDs, guidBytes(c.OID), "object id", c.State.Has(identity.Conflicted)},
	} {
		if only.prefix == nil || only.shared {
			continue
		}
		var other identity.RowID
		t.claimants(only.bucket, only.prefix, classLive, func(row identity.RowID) {
			if row != c.Row {
				other = row
			}
		})
		if other != 0 {
			return fault.Errorf(fault.Conflict, "row %d: row %d has its %s", c.Row, other, only.what)
		}
	}
	return nil
}

func guidBytes(g identity.GUID) []byte {
	if g.IsZero() {
		return nil
	}
	return g[:]
}

// write brings a row and everything that follows from it up to date. old is nil
// for a new row.
func (t *Tx) write(old, r *Row) error {
	c := r.Common()
	t.number(r)
	t.decide(r)
	if old != nil && !old.Gone && !changed(old, r) {
		if old.Missed == r.Missed {
			return nil
		}
		return t.putRecord(r) // nothing that anybody could see
	}
	c.Changed = t.now
	if old != nil && old.Gone {
		if err := t.del(bucketGraves, rowKey(c.Row)); err != nil {
			return err
		}
	}
	if err := t.putRecord(r); err != nil {
		return err
	}
	if err := t.reindex(old, r); err != nil {
		return err
	}
	if err := t.follow(old, r); err != nil {
		return err
	}
	t.note(c.Row, r.Kind())
	return nil
}

// changed reports whether two states of a row differ in more than when they were
// seen.
func changed(old, r *Row) bool {
	a, b := *old, *r
	a.Missed, b.Missed = 0, 0
	ac, bc := a.Common(), b.Common()
	at, bt := ac.Changed, bc.Changed
	bc.Changed = at
	same := bytes.Equal(appendRecord(nil, &a), appendRecord(nil, &b))
	ac.Changed, bc.Changed = at, bt
	return !same
}

func (t *Tx) putRecord(r *Row) error {
	return t.put(bucketRows, rowKey(r.Common().Row), appendRecord(nil, r))
}

// follow notes what else a change of this row changes.
func (t *Tx) follow(old, r *Row) error {
	c := r.Common()
	was := &identity.Common{}
	live := old != nil && !old.Gone
	if live {
		was = old.Common()
	}
	if a, b := identity.Fold(was.Account), identity.Fold(c.Account); a != b || was.State&identity.Missing != c.State&identity.Missing {
		t.touchName(a, c.Row)
		t.touchName(b, c.Row)
	}
	if r.User != nil {
		var oldUPN string
		var oldPrimary identity.SID
		if live {
			oldUPN, oldPrimary = identity.Fold(old.User.UPN), old.User.PrimaryGroup
		}
		if upn := identity.Fold(r.User.UPN); upn != oldUPN {
			t.touchUPN(oldUPN, c.Row)
			t.touchUPN(upn, c.Row)
		}
		if oldPrimary != r.User.PrimaryGroup {
			t.changePrimary(oldPrimary, c.Row, false)
			t.changePrimary(r.User.PrimaryGroup, c.Row, true)
		}
	} else {
		var oldInfo groupInfo
		if live {
			oldInfo = groupInfo{gid: uint32(old.Group.GID), security: old.Group.Security}
		}
		if info := (groupInfo{gid: uint32(r.Group.GID), security: r.Group.Security}); !live || info != oldInfo || was.SID != c.SID {
			t.primaryGroupChanged(was.SID)
			t.primaryGroupChanged(c.SID)
			t.regroup[c.Row] = struct{}{}
			for _, parent := range t.parents(c.Row) {
				t.regroup[parent] = struct{}{}
			}
		}
	}
	if !live || was.ObjectGUID != c.ObjectGUID {
		return t.arrive(c.ObjectGUID, c.Row)
	}
	return nil
}

// changePrimary notes that a user began or ceased to have a primary group.
func (t *Tx) changePrimary(sid identity.SID, user identity.RowID, gained bool) {
	if sid.IsZero() {
		return
	}
	m := t.primary[sid]
	if m == nil {
		m = &memberChange{}
		t.primary[sid] = m
	}
	if gained {
		m.gained = append(m.gained, user)
	} else {
		m.lost = append(m.lost, user)
	}
}

// primaryGroupChanged has every user whose primary group has the SID look up
// its gid again.
func (t *Tx) primaryGroupChanged(sid identity.SID) {
	for _, u := range t.primaryOf(sid) {
		t.rename(u)
	}
	if m := t.primary[sid]; m != nil {
		for _, u := range m.gained {
			t.rename(u)
		}
	}
}
