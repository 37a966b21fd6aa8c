// SPDX-License-Identifier: Apache-2.0

package snapshot

import "unsafe"

// What a reader compares before it believes anything else.
const (
	Magic     = "latchkey"
	Version   = 1
	ByteOrder = 0x01020304
	// Live stands in Header.Live until the snapshot is superseded. Every other
	// value says that it is: zero, too, which is what a page holds whose file
	// has been punched out or unmapped.
	Live = 0x4556494c
)

// Flags of Header.Flags and of rows.
const (
	FlagComplete = 1 << 0 // Header: every row of the domain has been seen
	FlagHidden   = 1 << 0 // rows: left out of enumeration
)

// Limits that both sides hold.
const (
	HeaderSize = 4096
	MaxSize    = 1 << 30 // bytes of a snapshot
	MaxRanges  = 4
	MaxKey     = 1024  // bytes of a name as asked, and of a key
	MaxName    = 512   // bytes of a published name
	MaxField   = 4095  // bytes of gecos, dir, shell
	MaxGroups  = 65536 // gids of one user: NGROUPS_MAX of the kernel
)

// Range is an inclusive range of ids.
type Range struct {
	Low, High uint32
}

// Section is a part of the file: bytes from the start, bytes long. Both are
// multiples of 8.
type Section struct {
	Offset, Length uint64
}

// Table is all that belongs to users, or all that belongs to groups.
type Table struct {
	Count     uint32 // rows
	Listed    uint32 // rows that enumeration shows
	NameSlots uint32 // home slots of the name index: twice its entries, at least 1
	IDSlots   uint32 // home slots of the id index: twice its entries, at least 1
	Names     Section
	IDs       Section
	Rows      Section
}

// Header opens the file; the rest of its page is zero.
type Header struct {
	Magic      [8]byte
	ByteOrder  uint32
	Version    uint32
	Live       uint32 // the only word that is ever changed; taken as 0 by Sum
	Flags      uint32
	FileSize   uint64
	Generation uint64
	Seed       [2]uint64
	RangeCount uint32
	Reserved   uint32
	Ranges     [MaxRanges]Range
	Users      Table
	Groups     Table
	Aliases    Section
	// Digest is SHA-256 of what the snapshot says, whatever its generation and
	// seed: Flags, Ranges and the counts, then the bytes from HeaderSize to the
	// end of Aliases.
	Digest [32]byte
	// BodySum is CRC-32C (Castagnoli) of everything after the header's page.
	BodySum   uint32
	Reserved2 uint32
	// Sum is SipHash-1-3, keyed with Seed, of the bytes of the header before it.
	Sum uint64
}

// Slot is an entry of a name index or of an id index. A slot is empty when its
// Ref is 0, and then its Tag is 0 as well.
type Slot struct {
	Tag uint32 // the upper half of the key's hash; in an id index the id itself
	Ref uint32
}

// UserRow opens a user's row; strings and gids follow it.
type UserRow struct {
	UID       uint32
	GID       uint32
	Size      uint32 // of the row, in units of 8 bytes
	Flags     uint32
	GIDCount  uint32 // at least 1
	NameSize  uint16 // bytes without the closing NUL, like the following
	GecosSize uint16
	DirSize   uint16
	ShellSize uint16
}

// GroupRow opens a group's row; strings and the members' places follow it.
type GroupRow struct {
	GID         uint32
	Size        uint32 // of the row, in units of 8 bytes
	Flags       uint32
	MemberCount uint32
	StringsSize uint32 // bytes of name, "*" and members, with their NULs
	NameSize    uint32 // bytes without the closing NUL
}

// Alias opens an alias; its key and a NUL follow.
type Alias struct {
	Ref     uint32 // of the row that it finds
	KeySize uint32 // bytes without the closing NUL
}

// Sizes of the header without its padding, of what opens a row, of what opens
// an alias, and of an index entry, in bytes.
const (
	headerBytes  = int(unsafe.Sizeof(Header{}))
	slotSize     = int(unsafe.Sizeof(Slot{}))
	userRowSize  = int(unsafe.Sizeof(UserRow{}))
	groupRowSize = int(unsafe.Sizeof(GroupRow{}))
	aliasSize    = int(unsafe.Sizeof(Alias{}))
)

// password is the field that every row shows for a password: no hash can match
// it, and there is no shadow map behind it.
const password = "*"

func align(n, to int) int { return (n + to - 1) / to * to }
