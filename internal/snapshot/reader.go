// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"encoding/binary"
	"encoding/hex"
	"iter"
	"unsafe"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Reader answers from a snapshot in memory. The memory must stay as it is while
// the reader is used; Header.Live may change.
//
// What Open returns can be asked anything without harm: whatever lies outside
// the file or its section is not found. Only Validate says that the content is
// right.
type Reader struct {
	data []byte
	h    Header
}

// Row is what every user and group of a snapshot has.
type Row struct {
	Name   string
	ID     uint32
	Hidden bool
}

// UserEntry is a user as read: the list has the primary gid first.
type UserEntry struct {
	Row
	GID               identity.GID
	Gecos, Dir, Shell string
	GIDs              []uint32
}

// GroupEntry is a group as read.
type GroupEntry struct {
	Row
	Members []string
}

// Open checks the header, its sum, and that the sections follow each other and
// fill the file. Anything else than a snapshot of this version and this
// machine's byte order is fault.Malformed; a superseded one is opened.
func Open(data []byte) (*Reader, error) {
	r := &Reader{data: data}
	if len(data) < HeaderSize || len(data) > MaxSize {
		return nil, fault.Errorf(fault.Malformed, "a snapshot has %d to %d bytes, this one %d", HeaderSize, MaxSize, len(data))
	}
	if _, err := binary.Decode(data[:HeaderSize], native, &r.h); err != nil {
		return nil, fault.Wrap(fault.Internal, "read the header of a snapshot", err)
	}
	h := &r.h
	switch {
	case string(h.Magic[:]) != Magic:
		return nil, fault.New(fault.Malformed, "this is no snapshot")
	case h.ByteOrder != ByteOrder:
		return nil, fault.New(fault.Malformed, "the snapshot was written on a machine of another byte order")
	case h.Version != Version:
		return nil, fault.Errorf(fault.Malformed, "the snapshot has version %d, this program reads %d", h.Version, Version)
	case h.FileSize != uint64(len(data)):
		return nil, fault.Errorf(fault.Malformed, "the snapshot says that it has %d bytes, and has %d", h.FileSize, len(data))
	case h.Sum != headerSum(data):
		return nil, fault.New(fault.Malformed, "the sum of the snapshot's header is wrong")
	case h.Flags&^FlagComplete != 0 || h.Reserved != 0 || h.Reserved2 != 0:
		return nil, fault.New(fault.Malformed, "the snapshot's header has bits that this version does not know")
	case h.RangeCount == 0 || h.RangeCount > MaxRanges:
		return nil, fault.Errorf(fault.Malformed, "the snapshot has %d id ranges, want 1 to %d", h.RangeCount, MaxRanges)
	case h.Users.NameSlots == 0 || h.Users.IDSlots == 0 || h.Groups.NameSlots == 0 || h.Groups.IDSlots == 0:
		return nil, fault.New(fault.Malformed, "an index of the snapshot has no slots")
	}
	at := uint64(HeaderSize)
	for _, s := range h.sections() {
		if s.Offset != at || s.Length%8 != 0 || s.Length > h.FileSize-at {
			return nil, fault.New(fault.Malformed, "the sections of the snapshot do not follow each other")
		}
		at += s.Length
	}
	if at != h.FileSize {
		return nil, fault.New(fault.Malformed, "the sections of the snapshot do not fill it")
	}
	return r, nil
}

// sections are in the order of the file.
func (h *Header) sections() [7]Section {
	return [...]Section{h.Users.Rows, h.Groups.Rows, h.Aliases,
		h.Users.Names, h.Users.IDs, h.Groups.Names, h.Groups.IDs}
}

// Superseded reads the live word.
func (r *Reader) Superseded() bool {
	return native.Uint32(r.data[unsafe.Offsetof(r.h.Live):]) != Live
}

// Generation returns the number that tells snapshots apart.
func (r *Reader) Generation() uint64 { return r.h.Generation }

// Complete reports whether every row of the domain had been seen.
func (r *Reader) Complete() bool { return r.h.Flags&FlagComplete != 0 }

// Ranges returns the ids that may occur.
func (r *Reader) Ranges() []Range {
	return append([]Range(nil), r.h.Ranges[:r.h.RangeCount]...)
}

// Digest returns what tells equal content from other content (Header.Digest).
func (r *Reader) Digest() string { return hex.EncodeToString(r.h.Digest[:]) }

// Counts returns how many users and groups there are, and how many of them
// enumeration shows.
func (r *Reader) Counts() (users, listedUsers, groups, listedGroups int) {
	return int(r.h.Users.Count), int(r.h.Users.Listed), int(r.h.Groups.Count), int(r.h.Groups.Listed)
}

// UserByName finds a user by any key, in any case.
func (r *Reader) UserByName(name string) (UserEntry, bool) {
	at, ok := r.byName(&r.h.Users, name)
	if !ok {
		return UserEntry{}, false
	}
	u, ok := r.userAt(at)
	return u.entry(), ok
}

// UserByUID finds a user by uid.
func (r *Reader) UserByUID(uid identity.UID) (UserEntry, bool) {
	at, ok := r.byID(&r.h.Users, uint32(uid))
	if !ok {
		return UserEntry{}, false
	}
	u, ok := r.userAt(at)
	return u.entry(), ok && u.UID == uint32(uid)
}

// GroupByName finds a group by any key, in any case.
func (r *Reader) GroupByName(name string) (GroupEntry, bool) {
	at, ok := r.byName(&r.h.Groups, name)
	if !ok {
		return GroupEntry{}, false
	}
	g, ok := r.groupAt(at)
	return g.entry(), ok
}

// GroupByGID finds a group by gid.
func (r *Reader) GroupByGID(gid identity.GID) (GroupEntry, bool) {
	at, ok := r.byID(&r.h.Groups, uint32(gid))
	if !ok {
		return GroupEntry{}, false
	}
	g, ok := r.groupAt(at)
	return g.entry(), ok && g.GID == uint32(gid)
}

// Users goes through all users by uid, hidden ones included.
func (r *Reader) Users() iter.Seq[UserEntry] {
	return func(yield func(UserEntry) bool) {
		for at := r.h.Users.Rows.Offset; ; {
			u, ok := r.userAt(at)
			if !ok || !yield(u.entry()) {
				return
			}
			at += 8 * uint64(u.Size)
		}
	}
}

// Groups goes through all groups by gid, hidden ones included.
func (r *Reader) Groups() iter.Seq[GroupEntry] {
	return func(yield func(GroupEntry) bool) {
		for at := r.h.Groups.Rows.Offset; ; {
			g, ok := r.groupAt(at)
			if !ok || !yield(g.entry()) {
				return
			}
			at += 8 * uint64(g.Size)
		}
	}
}

// byName returns where the row is that key finds.
func (r *Reader) byName(t *Table, name string) (uint64, bool) {
	key := Lower(name)
	if len(key) == 0 || len(key) > MaxKey {
		return 0, false
	}
	h := hash(r.h.Seed, key)
	index := r.part(t.Names)
	for i := home(uint32(h), t.NameSlots); 8*int(i)+8 <= len(index); i++ {
		tag, ref := native.Uint32(index[8*i:]), native.Uint32(index[8*i+4:])
		if ref == 0 {
			return 0, false
		}
		if tag == uint32(h>>32) {
			if have, at, ok := r.resolve(t, 8*uint64(ref)); ok && have == key {
				return at, true
			}
		}
	}
	return 0, false
}

// resolve returns the key that an entry stands for, and the row that it finds.
func (r *Reader) resolve(t *Table, at uint64) (key string, row uint64, ok bool) {
	if !r.h.Aliases.has(at) {
		if t == &r.h.Users {
			u, ok := r.userAt(at)
			return u.name, at, ok
		}
		g, ok := r.groupAt(at)
		return g.name, at, ok
	}
	a, key, ok := r.aliasAt(at)
	row = 8 * uint64(a.Ref)
	return key, row, ok && t.Rows.has(row)
}

func (r *Reader) byID(t *Table, id uint32) (uint64, bool) {
	index := r.part(t.IDs)
	for i := home(mix(r.h.Seed, id), t.IDSlots); 8*int(i)+8 <= len(index); i++ {
		have, ref := native.Uint32(index[8*i:]), native.Uint32(index[8*i+4:])
		if ref == 0 {
			return 0, false
		}
		if have == id {
			return 8 * uint64(ref), true
		}
	}
	return 0, false
}

func (r *Reader) part(s Section) []byte { return r.data[s.Offset : s.Offset+s.Length] }

func (s Section) has(at uint64) bool { return s.Offset <= at && at-s.Offset < s.Length }
