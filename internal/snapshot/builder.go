// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Builder takes users and groups in any order and makes one snapshot of them.
// It is not safe for concurrent use.
type Builder struct {
	opts    Options
	seed    [2]uint64
	allowed []Range
	users   []userInput
	groups  []groupInput
	gids    []uint32 // the lists of all users, one after the other

	// exact takes keys as they are: what a reader found in a file comes back as
	// the same file. Used by tests.
	exact bool
}

type userInput struct {
	User
	list  int // where the user's gids begin in Builder.gids
	count int
}

type groupInput struct {
	Group
	members []int32 // indexes of users
	strings int     // bytes of name, "*" and members, with their NULs
}

// NewBuilder returns a builder, or fault.Malformed where the ranges of o are
// not what CheckRanges asks, or leave nothing when Reserved is taken out.
func NewBuilder(o Options) (*Builder, error) {
	if err := CheckRanges(o.Ranges); err != nil {
		return nil, err
	}
	b := &Builder{opts: o, seed: seedWords(o.Seed), allowed: Allowed(o.Ranges)}
	if len(b.allowed) == 0 {
		return nil, fault.Errorf(fault.Malformed, "the id ranges %v hold reserved ids only", o.Ranges)
	}
	return b, nil
}

// AddUser takes a user, or says why no snapshot may carry them
// (fault.Malformed); the builder is then as it was. An alias that CheckAlias
// refuses is left out without a word.
func (b *Builder) AddUser(u User) error {
	if err := CheckName(u.Name); err != nil {
		return err
	}
	for _, f := range [...]string{u.Gecos, u.Dir, u.Shell} {
		if err := CheckField(f); err != nil {
			return fmt.Errorf("user %q: %w", u.Name, err)
		}
	}
	if err := b.checkID("uid", uint32(u.UID)); err != nil {
		return fmt.Errorf("user %q: %w", u.Name, err)
	}
	in := userInput{User: u, list: len(b.gids)}
	list := append(b.gids, uint32(u.GID))
	for _, g := range u.Groups {
		if g != u.GID {
			list = append(list, uint32(g))
		}
	}
	rest := list[in.list+1:]
	slices.Sort(rest)
	list = list[:in.list+1+len(slices.Compact(rest))]
	in.count = len(list) - in.list
	if in.count > MaxGroups {
		return fault.Errorf(fault.Malformed, "user %q: %d groups, the kernel takes %d", u.Name, in.count, MaxGroups)
	}
	for _, g := range list[in.list:] {
		if err := b.checkID("gid", g); err != nil {
			return fmt.Errorf("user %q: %w", u.Name, err)
		}
	}
	in.Groups = nil // they are in the list
	b.gids = list
	b.users = append(b.users, in)
	return nil
}

// AddGroup takes a group, or says why no snapshot may carry it
// (fault.Malformed); the builder is then as it was. An alias that CheckAlias
// refuses is left out without a word.
func (b *Builder) AddGroup(g Group) error {
	if err := CheckName(g.Name); err != nil {
		return err
	}
	if err := b.checkID("gid", uint32(g.GID)); err != nil {
		return fmt.Errorf("group %q: %w", g.Name, err)
	}
	b.groups = append(b.groups, groupInput{Group: g, strings: len(g.Name) + 1 + len(password) + 1})
	return nil
}

func (b *Builder) checkID(what string, id uint32) error {
	if !within(id, b.allowed) {
		return fault.Errorf(fault.Malformed, "%s %d is reserved or outside the id ranges %v", what, id, b.opts.Ranges)
	}
	return nil
}

// Build lays the snapshot out. Two users with one uid or two groups with one
// gid, two users or two groups whose names differ in case only, or more than
// MaxSize bytes are fault.Conflict and fault.Exhausted.
func (b *Builder) Build() (*Image, error) {
	slices.SortFunc(b.users, func(x, y userInput) int { return cmp.Compare(x.UID, y.UID) })
	slices.SortFunc(b.groups, func(x, y groupInput) int { return cmp.Compare(x.GID, y.GID) })
	for i := 1; i < len(b.users); i++ {
		if b.users[i].UID == b.users[i-1].UID {
			return nil, fault.Errorf(fault.Conflict, "users %q and %q share uid %d", b.users[i-1].Name, b.users[i].Name, b.users[i].UID)
		}
	}
	for i := 1; i < len(b.groups); i++ {
		if b.groups[i].GID == b.groups[i-1].GID {
			return nil, fault.Errorf(fault.Conflict, "groups %q and %q share gid %d", b.groups[i-1].Name, b.groups[i].Name, b.groups[i].GID)
		}
	}
	b.invert()

	im := &Image{b: b}
	var at uint64 = HeaderSize
	section := func(length uint64) Section {
		s := Section{at, length}
		at += length
		return s
	}
	userRefs, length := refs(at, len(b.users), func(i int) int { return b.users[i].size() })
	im.header.Users.Rows = section(length)
	groupRefs, length := refs(at, len(b.groups), func(i int) int { return b.groups[i].size() })
	im.header.Groups.Rows = section(length)
	if at > MaxSize {
		return nil, fault.Errorf(fault.Exhausted, "the rows take %d bytes, a snapshot %d", at, MaxSize)
	}

	userKeys, err := b.keys("users", len(b.users), func(i int) (string, []string) { return b.users[i].Name, b.users[i].Aliases })
	if err != nil {
		return nil, err
	}
	groupKeys, err := b.keys("groups", len(b.groups), func(i int) (string, []string) { return b.groups[i].Name, b.groups[i].Aliases })
	if err != nil {
		return nil, err
	}
	aliasAt := at
	at = userKeys.place(at, userRefs)
	at = groupKeys.place(at, groupRefs)
	im.header.Aliases = Section{aliasAt, at - aliasAt}
	im.Ambiguous = userKeys.ambiguous + groupKeys.ambiguous

	table := func(t *Table, rows int, keys *keySet, rowRefs []uint32, id func(int) uint32) (names, ids *index) {
		names = newIndex(keys.live)
		for _, k := range keys.byHash {
			if e := &keys.all[k]; !e.dropped {
				names.add(e.spot(), e.tag(), e.ref)
			}
		}
		ids = newIndex(rows)
		spot := func(i int) uint32 { return mix(b.seed, id(i)) }
		for _, i := range bySpot(rows, spot, func(x, y int32) int { return 0 }) {
			ids.add(mix(b.seed, id(int(i))), id(int(i)), rowRefs[i])
		}
		t.Count = uint32(rows)
		t.NameSlots, t.IDSlots = names.homes, ids.homes
		t.Names = section(names.length())
		t.IDs = section(ids.length())
		return names, ids
	}
	im.userNames, im.userIDs = table(&im.header.Users, len(b.users), userKeys, userRefs, func(i int) uint32 { return uint32(b.users[i].UID) })
	im.groupNames, im.groupIDs = table(&im.header.Groups, len(b.groups), groupKeys, groupRefs, func(i int) uint32 { return uint32(b.groups[i].GID) })
	if at > MaxSize {
		return nil, fault.Errorf(fault.Exhausted, "%d users and %d groups take %d bytes, a snapshot %d", len(b.users), len(b.groups), at, MaxSize)
	}
	im.userRefs, im.groupRefs = userRefs, groupRefs
	im.keys = [2]*keySet{userKeys, groupKeys}
	im.header.FileSize = at
	return im, nil
}

// invert fills in the members of the groups from the lists of the users.
func (b *Builder) invert() {
	groups := make(map[identity.GID]int, len(b.groups))
	for i := range b.groups {
		b.groups[i].members = nil
		b.groups[i].strings = len(b.groups[i].Name) + 1 + len(password) + 1
		groups[b.groups[i].GID] = i
	}
	counts := make([]int, len(b.groups))
	total := 0
	for i := range b.users {
		for _, gid := range b.list(i) {
			if g, ok := groups[identity.GID(gid)]; ok {
				counts[g]++
				total++
			}
		}
	}
	all := make([]int32, 0, total)
	for g, n := range counts {
		b.groups[g].members = all[len(all) : len(all) : len(all)+n]
		all = all[:len(all)+n]
	}
	for i := range b.users {
		for _, gid := range b.list(i) {
			if g, ok := groups[identity.GID(gid)]; ok {
				b.groups[g].members = append(b.groups[g].members, int32(i))
				b.groups[g].strings += len(b.users[i].Name) + 1
			}
		}
	}
}

func (b *Builder) list(user int) []uint32 {
	u := &b.users[user]
	return b.gids[u.list : u.list+u.count]
}

func (u *userInput) size() int {
	return userSize(len(u.Name), len(u.Gecos), len(u.Dir), len(u.Shell), u.count)
}

func (g *groupInput) size() int { return groupSize(g.strings, len(g.members)) }

func userSize(name, gecos, dir, shell, gids int) int {
	return align(align(userRowSize+name+gecos+dir+shell+len(password)+5, 4)+4*gids, 8)
}

func groupSize(strings, members int) int {
	return align(align(groupRowSize+strings, 4)+4*members, 8)
}

// refs lays n rows out from at on and returns where each is, and their length.
func refs(at uint64, n int, size func(int) int) ([]uint32, uint64) {
	r := make([]uint32, n)
	from := at
	for i := range r {
		r[i] = uint32(at / 8)
		at += uint64(size(i))
	}
	return r, at - from
}
