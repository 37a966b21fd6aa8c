// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"hash/crc32"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Rules are what the one who publishes demands of a snapshot, whoever made it.
type Rules struct {
	// Ranges must hold every range of the snapshot.
	Ranges []Range
	// Taken reports whether a bare name, in the form of identity.Fold, belongs
	// to a local account or group. No row may have such a name or be found
	// by it. It is asked once for each; nil refuses nothing.
	Taken func(name string) bool
}

// Validate checks everything: sums, every row, string, id, list, reference and
// index entry, and the rules. A snapshot that passes is, byte for byte, one
// that a Builder could have written, so no reader can be led astray by it.
// Names that are taken are fault.Conflict, the rest is fault.Malformed.
func (r *Reader) Validate(rules Rules) error {
	v := &validation{r: r, rules: rules}
	for _, step := range []func() error{v.header, v.users, v.groups, v.lists, v.aliases,
		func() error { return v.names(&r.h.Users, &v.user) },
		func() error { return v.names(&r.h.Groups, &v.group) },
		func() error { return v.ids(&r.h.Users, &v.user) },
		func() error { return v.ids(&r.h.Groups, &v.group) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type validation struct {
	r       *Reader
	rules   Rules
	allowed []Range
	user    rows
	group   rows
	gids    map[uint32]int32 // index of each group
}

// rows is what validation keeps of one kind of row.
type rows struct {
	refs    []uint32
	ids     []uint32
	names   []string
	aliases int
}

func bad(format string, args ...any) error {
	return fault.Errorf(fault.Malformed, "snapshot: "+format, args...)
}

func (v *validation) header() error {
	h := &v.r.h
	ranges := v.r.Ranges()
	if err := CheckRanges(ranges); err != nil {
		return err
	}
	v.allowed = Allowed(ranges)
	for _, left := range h.Ranges[h.RangeCount:] {
		if left != (Range{}) {
			return bad("an unused id range is not empty")
		}
	}
	switch {
	case len(v.allowed) == 0:
		return bad("the id ranges %v hold reserved ids only", ranges)
	case !contains(v.rules.Ranges, ranges):
		return bad("the id ranges %v are not within %v", ranges, v.rules.Ranges)
	case v.r.Superseded():
		return bad("it is superseded")
	case !zero(v.r.data[headerBytes:HeaderSize]):
		return bad("something follows the header")
	case h.BodySum != crc32.Checksum(v.r.data[HeaderSize:], castagnoli):
		return bad("the sum is wrong")
	case h.Digest != h.digest(v.r.data):
		return bad("the digest is wrong")
	}
	return nil
}

func (v *validation) users() error {
	h := &v.r.h
	at, end := h.Users.Rows.Offset, h.Users.Rows.Offset+h.Users.Rows.Length
	listed := uint32(0)
	v.user = newRows(h.Users.Count, h.Users.Rows.Length)
	for at < end {
		u, ok := v.r.userAt(at)
		if !ok {
			return bad("the user row at %d is out of bounds", at)
		}
		gecos, dir, shell, ok := u.fields()
		if !ok || !u.padded {
			return bad("the user row at %d is not laid out as it says", at)
		}
		if err := v.row(&v.user, at, u.name, u.UID, u.Flags); err != nil {
			return err
		}
		for _, f := range [...]string{gecos, dir, shell} {
			if err := CheckField(f); err != nil {
				return err
			}
		}
		if u.gid(0) != u.GID {
			return bad("the gids of user %q do not begin with the primary one", u.name)
		}
		for i := range int(u.GIDCount) {
			if !within(u.gid(i), v.allowed) {
				return bad("user %q has gid %d, which is reserved or outside the id ranges", u.name, u.gid(i))
			}
			if i > 0 && (u.gid(i) == u.GID || (i > 1 && u.gid(i) <= u.gid(i-1))) {
				return bad("the gids of user %q are not in order", u.name)
			}
		}
		if u.Flags&FlagHidden == 0 {
			listed++
		}
		at += 8 * uint64(u.Size)
	}
	if len(v.user.refs) != int(h.Users.Count) || listed != h.Users.Listed {
		return bad("the count of users is wrong")
	}
	return nil
}

func (v *validation) groups() error {
	h := &v.r.h
	at, end := h.Groups.Rows.Offset, h.Groups.Rows.Offset+h.Groups.Rows.Length
	listed := uint32(0)
	v.group = newRows(h.Groups.Count, h.Groups.Rows.Length)
	v.gids = make(map[uint32]int32, len(v.group.ids))
	for at < end {
		g, ok := v.r.groupAt(at)
		if !ok {
			return bad("the group row at %d is out of bounds", at)
		}
		if !strings.HasPrefix(g.strings[g.NameSize:], "\x00"+password+"\x00") || !g.padded {
			return bad("the group row at %d is not laid out as it says", at)
		}
		if err := v.row(&v.group, at, g.name, g.GID, g.Flags); err != nil {
			return err
		}
		v.gids[g.GID] = int32(len(v.group.refs) - 1)
		if g.Flags&FlagHidden == 0 {
			listed++
		}
		at += 8 * uint64(g.Size)
	}
	if len(v.group.refs) != int(h.Groups.Count) || listed != h.Groups.Listed {
		return bad("the count of groups is wrong")
	}
	return nil
}

func newRows(count uint32, length uint64) rows {
	n := min(int(count), int(length)/min(userRowSize, groupRowSize))
	return rows{refs: make([]uint32, 0, n), ids: make([]uint32, 0, n), names: make([]string, 0, n)}
}

// row checks what users and groups share, and keeps it.
func (v *validation) row(rs *rows, at uint64, name string, id, flags uint32) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if flags&^FlagHidden != 0 {
		return bad("the row of %q has flags that this version does not know", name)
	}
	if !within(id, v.allowed) {
		return bad("%q has id %d, which is reserved or outside the id ranges", name, id)
	}
	if n := len(rs.ids); n > 0 && rs.ids[n-1] >= id {
		return bad("%q with id %d is not in order", name, id)
	}
	if err := v.free(identity.Fold(name)); err != nil {
		return err
	}
	rs.refs, rs.ids, rs.names = append(rs.refs, uint32(at/8)), append(rs.ids, id), append(rs.names, name)
	return nil
}

func (v *validation) free(key string) error {
	if v.rules.Taken != nil && Bare(key) && v.rules.Taken(key) {
		return fault.Errorf(fault.Conflict, "snapshot: %q is the name of a local account or group", key)
	}
	return nil
}

// lists checks that a group names exactly the users whose lists have its gid.
func (v *validation) lists() error {
	next := make([]int, len(v.group.refs))    // the member to come, of each group
	strings := make([]int, len(v.group.refs)) // where it begins
	open := make([]groupRow, len(v.group.refs))
	for i, ref := range v.group.refs {
		open[i], _ = v.r.groupAt(8 * uint64(ref))
		strings[i] = int(open[i].NameSize) + 1 + len(password) + 1
	}
	for i, ref := range v.user.refs {
		u, _ := v.r.userAt(8 * uint64(ref))
		for k := range int(u.GIDCount) {
			g, ok := v.gids[u.gid(k)]
			if !ok {
				continue // a group without a name counts all the same
			}
			row, want := &open[g], v.user.names[i]
			end := strings[g] + len(want)
			if next[g] >= int(row.MemberCount) || int(native.Uint32(row.places[4*next[g]:])) != strings[g] ||
				end >= int(row.StringsSize) || row.strings[strings[g]:end] != want || row.strings[end] != 0 {
				return bad("group %q does not list %q in its place", row.name, want)
			}
			next[g]++
			strings[g] = end + 1
		}
	}
	for g := range open {
		if next[g] != int(open[g].MemberCount) || strings[g] != int(open[g].StringsSize) {
			return bad("group %q lists somebody who is not in it", open[g].name)
		}
	}
	return nil
}

// aliases checks that aliases are those of users, by row and key, and then
// those of groups.
func (v *validation) aliases() error {
	h := &v.r.h
	at, end := h.Aliases.Offset, h.Aliases.Offset+h.Aliases.Length
	var lastRow uint32
	var lastKey string
	for at < end {
		a, key, ok := v.r.aliasAt(at)
		if !ok {
			return bad("the alias at %d is out of bounds", at)
		}
		if err := CheckAlias(key); err != nil {
			return err
		}
		if err := v.free(key); err != nil {
			return err
		}
		if Lower(key) != key {
			return bad("the alias %q cannot be found", key)
		}
		// Rows of users lie before those of groups, so one comparison keeps both
		// the kinds and the rows in order.
		if a.Ref < lastRow || (a.Ref == lastRow && key <= lastKey) {
			return bad("the alias %q is not in order", key)
		}
		lastRow, lastKey = a.Ref, key
		switch row := 8 * uint64(a.Ref); {
		case h.Users.Rows.has(row):
			v.user.aliases++
		case h.Groups.Rows.has(row):
			v.group.aliases++
		default:
			return bad("the alias %q leads out of the rows", key)
		}
		at += uint64(aliasLength(len(key)))
	}
	return nil
}

// names checks a name index: every entry in its place, every row and alias
// once, no key twice, and every row to be found by its own name.
func (v *validation) names(t *Table, rs *rows) error {
	starts := newBits(v.r.h.FileSize / 8)
	inline := 0
	for i, ref := range rs.refs {
		starts.set(ref)
		if identity.Fold(rs.names[i]) == rs.names[i] {
			inline++
		}
	}
	seen := newBits(v.r.h.FileSize / 8)
	var lastHash uint64
	var same []string // the keys that have lastHash
	err := v.index(t.Names, t.NameSlots, inline+rs.aliases, func(tag, ref uint32) (uint64, error) {
		key, row, ok := v.r.resolve(t, 8*uint64(ref))
		if !ok || !starts.has(uint32(row/8)) || seen.has(ref) {
			return 0, bad("an entry of the name index leads to nothing, or twice to one")
		}
		seen.set(ref)
		if row == 8*uint64(ref) && identity.Fold(key) != key {
			return 0, bad("%q is in the index, and cannot be found", key)
		}
		h := hash(v.r.h.Seed, key)
		if tag != uint32(h>>32) {
			return 0, bad("the key %q has a wrong tag", key)
		}
		if h != lastHash {
			lastHash, same = h, same[:0]
		}
		if slices.Contains(same, key) {
			return 0, bad("the key %q is there twice", key)
		}
		same = append(same, key)
		return h<<32 | h>>32, nil
	})
	if err != nil {
		return err
	}
	// Every entry leads to something else, so there is one for every alias and
	// for every name that is its own key. The other names need an alias.
	for i, name := range rs.names {
		if key := identity.Fold(name); key != name {
			if at, ok := v.r.byName(t, key); !ok || at != 8*uint64(rs.refs[i]) {
				return bad("%q is not found by its own name", name)
			}
		}
	}
	return nil
}

// ids checks an id index: every entry in its place, every row once.
func (v *validation) ids(t *Table, rs *rows) error {
	ids := make(map[uint32]uint32, len(rs.ids))
	for i, id := range rs.ids {
		ids[rs.refs[i]] = id
	}
	return v.index(t.IDs, t.IDSlots, len(rs.ids), func(id, ref uint32) (uint64, error) {
		if have, ok := ids[ref]; !ok || have != id {
			return 0, bad("an entry of the id index leads to nothing, or twice to one")
		}
		delete(ids, ref)
		return uint64(mix(v.r.h.Seed, id)) << 32, nil
	})
}

// index checks that an index has the given number of entries, in the order of
// what entry returns, each in its home slot or the next free one.
func (v *validation) index(s Section, slots uint32, entries int, entry func(tag, ref uint32) (uint64, error)) error {
	if slots != homes(entries) {
		return bad("an index has %d slots for %d entries", slots, entries)
	}
	part := v.r.part(s)
	n, last := 0, uint64(0)
	free := uint32(0) // the first slot that the next entry may have
	for i := range uint32(len(part) / slotSize) {
		tag, ref := native.Uint32(part[8*i:]), native.Uint32(part[8*i+4:])
		if ref == 0 {
			if tag != 0 {
				return bad("an empty slot of an index is not empty")
			}
			continue
		}
		order, err := entry(tag, ref)
		if err != nil {
			return err
		}
		if order < last || i != max(home(uint32(order>>32), slots), free) {
			return bad("an entry of an index is not in its place")
		}
		last, free = order, i+1
		n++
	}
	if n != entries || uint64(len(part)) != uint64(max(slots, free)+1)*uint64(slotSize) {
		return bad("an index has %d entries in %d bytes, want %d", n, len(part), entries)
	}
	return nil
}

// bitSet marks refs.
type bitSet []uint64

func newBits(n uint64) bitSet { return make(bitSet, n/64+1) }

func (b bitSet) set(i uint32)      { b[i/64] |= 1 << (i % 64) }
func (b bitSet) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }
