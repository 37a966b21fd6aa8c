// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"strings"
	"unsafe"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// userRow is a user's row, taken apart within its bounds. Its strings are views.
type userRow struct {
	UserRow
	name    string
	strings string // from the name to the last NUL
	gids    []byte
	padded  bool // whether the bytes between and after are zero
}

// groupRow is a group's row, taken apart within its bounds. Its strings are views.
type groupRow struct {
	GroupRow
	name    string
	strings string // from the name to the last NUL
	places  []byte
	padded  bool
}

// userAt takes the row at an offset apart. It fails where the row is not in its
// section, or its sizes do not add up to its size.
func (r *Reader) userAt(at uint64) (u userRow, ok bool) {
	s := r.h.Users.Rows
	if !s.has(at) || at%8 != 0 {
		return userRow{}, false
	}
	row := r.data[at : s.Offset+s.Length]
	if len(row) < userRowSize {
		return userRow{}, false
	}
	u.UserRow = UserRow{
		UID: native.Uint32(row[0:]), GID: native.Uint32(row[4:]),
		Size: native.Uint32(row[8:]), Flags: native.Uint32(row[12:]),
		GIDCount: native.Uint32(row[16:]), NameSize: native.Uint16(row[20:]),
		GecosSize: native.Uint16(row[22:]), DirSize: native.Uint16(row[24:]),
		ShellSize: native.Uint16(row[26:]),
	}
	if u.GIDCount == 0 || u.GIDCount > MaxGroups {
		return userRow{}, false
	}
	size := userSize(int(u.NameSize), int(u.GecosSize), int(u.DirSize), int(u.ShellSize), int(u.GIDCount))
	if size > len(row) || size != 8*int(u.Size) {
		return userRow{}, false
	}
	row = row[:size]
	end := userRowSize + int(u.NameSize) + int(u.GecosSize) + int(u.DirSize) + int(u.ShellSize) + len(password) + 5
	list := align(end, 4)
	after := list + 4*int(u.GIDCount)
	u.strings = view(row[userRowSize:end])
	u.name = u.strings[:u.NameSize]
	u.gids = row[list:after]
	u.padded = zero(row[end:list]) && zero(row[after:])
	return u, true
}

// fields returns gecos, dir and shell, and whether the strings are laid out as
// the sizes say.
func (u *userRow) fields() (gecos, dir, shell string, ok bool) {
	rest := u.strings
	cut := func(n int) (s string) {
		s, ok = rest[:n], ok && rest[n] == 0 && strings.IndexByte(rest[:n], 0) < 0
		rest = rest[n+1:]
		return s
	}
	ok = true
	cut(int(u.NameSize))
	ok = cut(len(password)) == password && ok
	gecos, dir, shell = cut(int(u.GecosSize)), cut(int(u.DirSize)), cut(int(u.ShellSize))
	return gecos, dir, shell, ok
}

func (u *userRow) gid(i int) uint32 { return native.Uint32(u.gids[4*i:]) }

func (u *userRow) entry() UserEntry {
	if u.strings == "" {
		return UserEntry{} // the row that userAt gives with false
	}
	copied := *u
	copied.strings = strings.Clone(u.strings)
	e := UserEntry{
		Row: Row{Name: copied.strings[:u.NameSize], ID: u.UID, Hidden: u.Flags&FlagHidden != 0},
		GID: identity.GID(u.GID),
	}
	e.Gecos, e.Dir, e.Shell, _ = copied.fields()
	e.GIDs = make([]uint32, u.GIDCount)
	for i := range e.GIDs {
		e.GIDs[i] = u.gid(i)
	}
	return e
}

// groupAt takes the row at an offset apart. It fails where the row is not in
// its section, or its sizes do not add up to its size.
func (r *Reader) groupAt(at uint64) (g groupRow, ok bool) {
	s := r.h.Groups.Rows
	if !s.has(at) || at%8 != 0 {
		return groupRow{}, false
	}
	row := r.data[at : s.Offset+s.Length]
	if len(row) < groupRowSize {
		return groupRow{}, false
	}
	g.GroupRow = GroupRow{
		GID: native.Uint32(row[0:]), Size: native.Uint32(row[4:]),
		Flags: native.Uint32(row[8:]), MemberCount: native.Uint32(row[12:]),
		StringsSize: native.Uint32(row[16:]), NameSize: native.Uint32(row[20:]),
	}
	if g.NameSize > MaxName || g.StringsSize > MaxSize || g.MemberCount > MaxSize/4 ||
		int(g.StringsSize) < int(g.NameSize)+1+len(password)+1 {
		return groupRow{}, false
	}
	size := groupSize(int(g.StringsSize), int(g.MemberCount))
	if size > len(row) || size != 8*int(g.Size) {
		return groupRow{}, false
	}
	row = row[:size]
	end := groupRowSize + int(g.StringsSize)
	list := align(end, 4)
	after := list + 4*int(g.MemberCount)
	g.strings = view(row[groupRowSize:end])
	g.name = g.strings[:g.NameSize]
	g.places = row[list:after]
	g.padded = zero(row[end:list]) && zero(row[after:])
	return g, true
}

// member returns the i-th member's name, or false where its place is not one.
func (g *groupRow) member(i int) (string, bool) {
	at := native.Uint32(g.places[4*i:])
	if at >= g.StringsSize {
		return "", false
	}
	name, _, ok := strings.Cut(g.strings[at:], "\x00")
	return name, ok
}

func (g *groupRow) entry() GroupEntry {
	copied := *g
	copied.strings = strings.Clone(g.strings)
	e := GroupEntry{Row: Row{Name: copied.strings[:g.NameSize], ID: g.GID, Hidden: g.Flags&FlagHidden != 0}}
	for i := range int(g.MemberCount) {
		if m, ok := copied.member(i); ok {
			e.Members = append(e.Members, m)
		}
	}
	return e
}

// aliasAt reads the alias at an offset.
func (r *Reader) aliasAt(at uint64) (a Alias, key string, ok bool) {
	s := r.h.Aliases
	if !s.has(at) || at%8 != 0 {
		return a, "", false
	}
	rest := r.data[at : s.Offset+s.Length]
	if len(rest) < aliasSize {
		return a, "", false
	}
	a = Alias{Ref: native.Uint32(rest), KeySize: native.Uint32(rest[4:])}
	if a.KeySize == 0 || a.KeySize > MaxKey || aliasLength(int(a.KeySize)) > len(rest) {
		return a, "", false
	}
	rest = rest[aliasSize:aliasLength(int(a.KeySize))]
	return a, view(rest[:a.KeySize]), zero(rest[a.KeySize:])
}

// view is a string that shares its bytes with the file. It must not leave the
// package: the one who gave the file may unmap it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
