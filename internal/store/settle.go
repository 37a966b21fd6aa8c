// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// settle does at the end of a transaction what depends on all of it: names,
// primary gids, reverse and effective memberships, the log.
func (t *Tx) settle() error {
	for len(t.renamed) > 0 { // a group that got its gid names its users once more
		ids := slices.Sorted(maps.Keys(t.renamed))
		clear(t.renamed)
		for _, id := range ids {
			r, err := t.load(id)
			if err != nil {
				return err
			}
			if r != nil {
				if err := t.write(r.Clone(), r); err != nil {
					return err
				}
			}
		}
	}
	if err := t.flushEdges(); err != nil {
		return err
	}
	if err := t.flushPrimary(); err != nil {
		return err
	}
	if err := t.resolve(); err != nil {
		return err
	}
	return t.writeLog()
}

// parents returns the groups that list a row as their member.
func (t *Tx) parents(row identity.RowID) rowSet {
	return readSet(t.tx.Bucket(bucketParents).Get(rowKey(row)))
}

// flushEdges writes the reverse of the memberships that changed. A later change
// of the same edge wins.
func (t *Tx) flushEdges() error {
	slices.SortStableFunc(t.edges, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.member, b.member), cmp.Compare(a.group, b.group))
	})
	for all := t.edges; len(all) > 0; {
		member := all[0].member
		var add, del rowSet
		for len(all) > 0 && all[0].member == member {
			if len(all) > 1 && all[1].member == member && all[1].group == all[0].group {
				all = all[1:]
				continue
			}
			if all[0].gained {
				add = append(add, all[0].group)
			} else {
				del = append(del, all[0].group)
			}
			all = all[1:]
		}
		if err := t.putSet(bucketParents, rowKey(member), changeSet(t.parents(member), add, del)); err != nil {
			return err
		}
	}
	t.edges = t.edges[:0]
	return nil
}

// flushPrimary writes which users have which primary group.
func (t *Tx) flushPrimary() error {
	for _, sid := range slices.SortedFunc(maps.Keys(t.primary), func(a, b identity.SID) int { return bytes.Compare(a.Bytes(), b.Bytes()) }) {
		m := t.primary[sid]
		// A user that came and went in one transaction is where it is now.
		gained, lost := asSet(m.gained), asSet(m.lost)
		var both rowSet
		for _, u := range gained {
			if _, in := slices.BinarySearch(lost, u); in {
				both = append(both, u)
			}
		}
		for _, u := range both {
			r, err := t.load(u)
			if err != nil {
				return err
			}
			if r == nil || r.User == nil || r.User.PrimaryGroup != sid {
				gained = changeSet(gained, nil, rowSet{u})
			} else {
				lost = changeSet(lost, nil, rowSet{u})
			}
		}
		if err := t.putSet(bucketPrimary, sid.Bytes(), changeSet(t.primaryOf(sid), gained, lost)); err != nil {
			return err
		}
		if row, _, _ := t.claim(bucketSIDs, sid.Bytes(), classLive, classLive); row != 0 {
			t.regroup[row] = struct{}{}
			t.note(row, identity.KindGroup).Membership = true
		}
	}
	clear(t.primary)
	return nil
}

// resolve brings effective memberships up to date for every group whose members
// changed and every group that contains one of those.
func (t *Tx) resolve() error {
	if len(t.regroup) == 0 {
		return nil
	}
	affected := t.ancestors(t.regroup)
	w := newWalker(&t.View)
	var edges []edge
	for _, g := range affected {
		was := readSet(t.tx.Bucket(bucketAllMembers).Get(rowKey(g)))
		var now rowSet
		if _, live := w.table[g]; live {
			now = w.users(g)
		}
		if slices.Equal(was, now) {
			continue
		}
		diffSets(was, now,
			func(u identity.RowID) { edges = append(edges, edge{u, g, false}) },
			func(u identity.RowID) { edges = append(edges, edge{u, g, true}) })
		if err := t.putSet(bucketAllMembers, rowKey(g), now); err != nil {
			return err
		}
		t.note(g, identity.KindGroup).Membership = true
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.member, b.member), cmp.Compare(a.group, b.group)) })
	for len(edges) > 0 {
		user := edges[0].member
		var add, del rowSet
		for len(edges) > 0 && edges[0].member == user {
			if edges[0].gained {
				add = append(add, edges[0].group)
			} else {
				del = append(del, edges[0].group)
			}
			edges = edges[1:]
		}
		if err := t.putSet(bucketAllGroups, rowKey(user), changeSet(t.GroupsOf(user), add, del)); err != nil {
			return err
		}
		if n := t.note(user, identity.KindUser); !n.Deleted {
			n.Membership = true
		}
	}
	clear(t.regroup)
	return nil
}

// ancestors returns the given groups and every group that contains one of them,
// however deep, ascending.
func (t *Tx) ancestors(start map[identity.RowID]struct{}) rowSet {
	seen := maps.Clone(start)
	queue := slices.Collect(maps.Keys(start))
	for len(queue) > 0 {
		g := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, p := range t.parents(g) {
			if _, ok := seen[p]; !ok {
				seen[p] = struct{}{}
				queue = append(queue, p)
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// walker finds the users of groups.
type walker struct {
	v      *View
	table  map[identity.RowID]groupInfo
	listed map[identity.RowID]rowSet // of groups that were met
	sids   map[identity.RowID]identity.SID
}

func newWalker(v *View) *walker {
	return &walker{v: v, table: v.groupTable(), listed: make(map[identity.RowID]rowSet), sids: make(map[identity.RowID]identity.SID)}
}

// members returns what the directory lists, split, and the users whose primary
// group it is.
func (w *walker) members(g identity.RowID) (users, groups, primary rowSet) {
	all, ok := w.listed[g]
	if !ok {
		all = w.v.listed(g)
		w.listed[g] = all
		if r, err := w.v.load(g); err == nil && r != nil {
			w.sids[g] = r.Common().SID
		}
	}
	nested := 0
	for _, m := range all {
		if _, ok := w.table[m]; ok {
			nested++
		}
	}
	if users = all; nested > 0 {
		users = make(rowSet, 0, len(all)-nested)
		for _, m := range all {
			if _, ok := w.table[m]; ok {
				groups = append(groups, m)
			} else {
				users = append(users, m)
			}
		}
	}
	return users, groups, w.v.primaryOf(w.sids[g])
}

// users returns everybody in a group. Loops end: a group is visited once. A
// security group gains nobody through a distribution group inside it, as
// Windows builds no token from one (MS-ADTS 3.1.1.4.5.19).
func (w *walker) users(g identity.RowID) rowSet {
	users, groups, primary := w.members(g)
	users = changeSet(users, primary, nil)
	if len(groups) == 0 {
		return users
	}
	strict := w.table[g].security
	seen := map[identity.RowID]struct{}{g: {}}
	for len(groups) > 0 {
		next := groups[len(groups)-1]
		groups = groups[:len(groups)-1]
		if _, ok := seen[next]; ok || strict && !w.table[next].security {
			continue
		}
		seen[next] = struct{}{}
		u, nested, p := w.members(next)
		users = append(append(users, u...), p...)
		groups = append(groups, nested...)
	}
	return asSet(users)
}
