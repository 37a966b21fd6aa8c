// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"unsafe"
)

// Image is a snapshot that has been laid out and can be written.
type Image struct {
	// Ambiguous counts the aliases that find nobody because two rows of one
	// kind claim them.
	Ambiguous int

	b                   *Builder
	header              Header
	userRefs, groupRefs []uint32
	keys                [2]*keySet // of users, of groups
	userNames, userIDs,
	groupNames, groupIDs *index
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// native is the byte order of the file: writer and reader are one machine.
var native = binary.NativeEndian

// Size returns the length of the snapshot in bytes.
func (im *Image) Size() int { return int(im.header.FileSize) }

// Bytes returns the snapshot.
func (im *Image) Bytes() []byte {
	out := make([]byte, im.Size())
	im.Encode(out)
	return out
}

// Encode writes the snapshot into out, which must be Size bytes long, and
// returns the digest of its content (Header.Digest).
func (im *Image) Encode(out []byte) [32]byte {
	out = out[:im.Size():im.Size()]
	clear(out)
	h := &im.header
	for i := range im.b.users {
		im.putUser(out, i)
	}
	for i := range im.b.groups {
		im.putGroup(out, i)
	}
	refs := [2][]uint32{im.userRefs, im.groupRefs}
	for kind, ks := range im.keys {
		for i := range ks.all {
			if e := &ks.all[i]; !e.dropped && !e.inline {
				at := 8 * int(e.ref)
				native.PutUint32(out[at:], refs[kind][e.row])
				native.PutUint32(out[at+4:], uint32(len(e.key)))
				copy(out[at+aliasSize:], e.key)
			}
		}
	}
	im.userNames.put(out[h.Users.Names.Offset:])
	im.userIDs.put(out[h.Users.IDs.Offset:])
	im.groupNames.put(out[h.Groups.Names.Offset:])
	im.groupIDs.put(out[h.Groups.IDs.Offset:])

	copy(h.Magic[:], Magic)
	h.ByteOrder, h.Version, h.Live = ByteOrder, Version, Live
	if im.b.opts.Complete {
		h.Flags |= FlagComplete
	}
	h.Generation, h.Seed = im.b.opts.Generation, im.b.seed
	h.RangeCount = uint32(len(im.b.opts.Ranges))
	copy(h.Ranges[:], im.b.opts.Ranges)
	h.Users.Listed, h.Groups.Listed = im.listed()
	h.Digest = h.digest(out)
	h.BodySum = crc32.Checksum(out[HeaderSize:], castagnoli)
	h.put(out)
	return h.Digest
}

func (im *Image) listed() (users, groups uint32) {
	for i := range im.b.users {
		if !im.b.users[i].Hidden {
			users++
		}
	}
	for i := range im.b.groups {
		if !im.b.groups[i].Hidden {
			groups++
		}
	}
	return users, groups
}

func (im *Image) putUser(out []byte, i int) {
	u := &im.b.users[i]
	row := out[8*int(im.userRefs[i]):]
	native.PutUint32(row[unsafe.Offsetof(UserRow{}.UID):], uint32(u.UID))
	native.PutUint32(row[unsafe.Offsetof(UserRow{}.GID):], uint32(u.GID))
	native.PutUint32(row[unsafe.Offsetof(UserRow{}.Size):], uint32(u.size()/8))
	native.PutUint32(row[unsafe.Offsetof(UserRow{}.Flags):], rowFlags(u.Hidden))
	native.PutUint32(row[unsafe.Offsetof(UserRow{}.GIDCount):], uint32(u.count))
	native.PutUint16(row[unsafe.Offsetof(UserRow{}.NameSize):], uint16(len(u.Name)))
	native.PutUint16(row[unsafe.Offsetof(UserRow{}.GecosSize):], uint16(len(u.Gecos)))
	native.PutUint16(row[unsafe.Offsetof(UserRow{}.DirSize):], uint16(len(u.Dir)))
	native.PutUint16(row[unsafe.Offsetof(UserRow{}.ShellSize):], uint16(len(u.Shell)))
	at := userRowSize
	for _, s := range [...]string{u.Name, password, u.Gecos, u.Dir, u.Shell} {
		at += copy(row[at:], s) + 1
	}
	at = align(at, 4)
	for _, gid := range im.b.list(i) {
		native.PutUint32(row[at:], gid)
		at += 4
	}
}

func (im *Image) putGroup(out []byte, i int) {
	g := &im.b.groups[i]
	row := out[8*int(im.groupRefs[i]):]
	native.PutUint32(row[unsafe.Offsetof(GroupRow{}.GID):], uint32(g.GID))
	native.PutUint32(row[unsafe.Offsetof(GroupRow{}.Size):], uint32(g.size()/8))
	native.PutUint32(row[unsafe.Offsetof(GroupRow{}.Flags):], rowFlags(g.Hidden))
	native.PutUint32(row[unsafe.Offsetof(GroupRow{}.MemberCount):], uint32(len(g.members)))
	native.PutUint32(row[unsafe.Offsetof(GroupRow{}.StringsSize):], uint32(g.strings))
	native.PutUint32(row[unsafe.Offsetof(GroupRow{}.NameSize):], uint32(len(g.Name)))
	at := groupRowSize
	for _, s := range [...]string{g.Name, password} {
		at += copy(row[at:], s) + 1
	}
	place := align(groupRowSize+g.strings, 4)
	for _, m := range g.members {
		native.PutUint32(row[place:], uint32(at-groupRowSize))
		place += 4
		at += copy(row[at:], im.b.users[m].Name) + 1
	}
}

func rowFlags(hidden bool) uint32 {
	if hidden {
		return FlagHidden
	}
	return 0
}

func (x *index) put(out []byte) {
	for i, s := range x.slots {
		at := slotSize * int(x.places[i])
		native.PutUint32(out[at:], s.Tag)
		native.PutUint32(out[at+4:], s.Ref)
	}
}

// digest returns what Header.Digest is to hold, from the counts and ranges of h
// and the rows and aliases in the file.
func (h *Header) digest(file []byte) (sum [32]byte) {
	d := sha256.New()
	binary.Write(d, native, []uint32{Version, h.Flags, h.RangeCount, h.Users.Count, h.Users.Listed, h.Groups.Count, h.Groups.Listed}) //nolint:errcheck // a hash takes everything
	binary.Write(d, native, h.Ranges)
	d.Write(file[HeaderSize : h.Aliases.Offset+h.Aliases.Length])
	d.Sum(sum[:0])
	return sum
}

// put writes the header, its sum last.
func (h *Header) put(out []byte) {
	n, err := binary.Encode(out[:HeaderSize], native, h)
	if err != nil || n != int(unsafe.Sizeof(*h)) {
		panic("snapshot: the header has holes") // a test holds that it has none
	}
	h.Sum = headerSum(out)
	native.PutUint64(out[unsafe.Offsetof(h.Sum):], h.Sum)
}

// headerSum is the sum of the header in file, with the live word taken as 0.
func headerSum(file []byte) uint64 {
	var b [unsafe.Offsetof(Header{}.Sum)]byte
	copy(b[:], file)
	clear(b[unsafe.Offsetof(Header{}.Live) : unsafe.Offsetof(Header{}.Live)+4])
	at := unsafe.Offsetof(Header{}.Seed)
	seed := [2]uint64{native.Uint64(b[at:]), native.Uint64(b[at+8:])}
	return hash(seed, string(b[:]))
}
