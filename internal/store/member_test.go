// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// people makes n users and m groups and returns their rows.
func people(t testing.TB, s *Store, n, m int) (users, groups []*Row) {
	t.Helper()
	all := []*Row{domainUsers()}
	for i := range m {
		groups = append(groups, group(i+1, "group"+string(rune('a'+i%26))+string(rune('a'+i/26))))
	}
	for i := range n {
		users = append(users, user(i+1, "user"+string(rune('a'+i%26))+string(rune('a'+i/26))))
	}
	put(t, s, append(append(all, groups...), users...)...)
	return users, groups
}

func row(r *Row) identity.RowID { return r.Common().Row }

func setMembers(t testing.TB, s *Store, g *Row, members ...*Row) {
	t.Helper()
	update(t, s, func(tx *Tx) error { return tx.SetMembers(row(g), refs(members...)) })
}

func refs(members ...*Row) (all []Member) {
	for _, m := range members {
		all = append(all, Member{GUID: m.Common().ObjectGUID, SID: m.Common().SID})
	}
	return all
}

func rows(members ...*Row) (all []identity.RowID) {
	for _, m := range members {
		all = append(all, row(m))
	}
	slices.Sort(all)
	return all
}

func expectMembers(t *testing.T, s *Store, g *Row, want ...*Row) {
	t.Helper()
	_ = s.View(context.Background(), func(v *View) error {
		if got := v.MembersOf(row(g)); !slices.Equal(got, rows(want...)) || v.MemberCount(row(g)) != len(want) {
			t.Errorf("%s has %v (%d), want %v", g.Common().Account, got, v.MemberCount(row(g)), rows(want...))
		}
		for _, u := range want {
			if !v.IsMember(row(u), row(g)) || !slices.Contains(v.GroupsOf(row(u)), row(g)) {
				t.Errorf("%s is not in %s the other way round", u.Common().Account, g.Common().Account)
			}
		}
		return nil
	})
}

func TestNestedGroups(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 4, 5)
	setMembers(t, s, g[0], u[0], g[1])
	setMembers(t, s, g[1], u[1], g[2])
	setMembers(t, s, g[2], u[2], u[1])
	expectMembers(t, s, g[0], u[0], u[1], u[2])
	expectMembers(t, s, g[1], u[1], u[2])
	expectMembers(t, s, g[2], u[1], u[2])

	setMembers(t, s, g[2], u[2], u[3]) // a change deep down comes up
	expectMembers(t, s, g[0], u[0], u[1], u[2], u[3])
	setMembers(t, s, g[1], u[1]) // and a cut cuts
	expectMembers(t, s, g[0], u[0], u[1])
	expectMembers(t, s, g[2], u[2], u[3])
	update(t, s, func(tx *Tx) error { return tx.Retire(row(g[1])) })
	expectMembers(t, s, g[0], u[0])
	_ = s.View(context.Background(), func(v *View) error {
		if got := v.DirectMembers(row(g[0])); !slices.Equal(got, rows(u[0])) {
			t.Errorf("direct members %v", got)
		}
		return nil
	})
}

func TestLoopsEnd(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 3, 3)
	setMembers(t, s, g[0], u[0], g[1], g[0]) // itself
	setMembers(t, s, g[1], u[1], g[2])
	setMembers(t, s, g[2], u[2], g[0])
	for _, group := range g {
		expectMembers(t, s, group, u[0], u[1], u[2])
	}
	setMembers(t, s, g[2], u[2]) // the loop opens
	expectMembers(t, s, g[0], u[0], u[1], u[2])
	expectMembers(t, s, g[2], u[2])
}

func TestPrimaryGroupCounts(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 3, 2)
	all := domainUsers()
	_ = s.View(context.Background(), func(v *View) error {
		r, _ := v.find(identity.Key{Kind: identity.BySID, SID: all.Group.SID})
		all = r
		return nil
	})
	expectMembers(t, s, all, u...)
	_ = s.View(context.Background(), func(v *View) error {
		if got := v.DirectMembers(row(all)); !slices.Equal(got, rows(u...)) {
			t.Errorf("direct members of the primary group: %v", got)
		}
		if got := v.GIDs(row(u[0]), nil); !slices.Equal(got, []identity.GID{100000514}) {
			t.Errorf("gids %v", got)
		}
		return nil
	})
	setMembers(t, s, g[0], all) // nested: everybody is in
	expectMembers(t, s, g[0], u...)
	// One changes the primary group.
	u[1].User.PrimaryGroup = g[1].Group.SID
	put(t, s, u[1])
	expectMembers(t, s, all, u[0], u[2])
	expectMembers(t, s, g[0], u[0], u[2])
	expectMembers(t, s, g[1], u[1])
	if got := load(t, s, row(u[1])).User.GID; got != 100005003 {
		t.Errorf("gid %d", got)
	}
	// The group gets a new SID: it is nobody's primary group until they follow.
	g[1].Group.SID = contoso.SID.WithRID(9000)
	put(t, s, g[1])
	expectMembers(t, s, g[1])
	if r := load(t, s, row(u[1])); r.User.GID != 0 || r.User.Unpublished == "" {
		t.Errorf("gid %d, %q", r.User.GID, r.User.Unpublished)
	}
	u[1].User.PrimaryGroup = g[1].Group.SID
	put(t, s, u[1])
	expectMembers(t, s, g[1], u[1])
	update(t, s, func(tx *Tx) error { return tx.Retire(row(u[1])) })
	expectMembers(t, s, g[1])
}

func TestDistributionGroupsPassNobodyOn(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 2, 2)
	g[1].Group.Security = false
	put(t, s, g[1])
	setMembers(t, s, g[0], u[0], g[1])
	setMembers(t, s, g[1], u[1])
	expectMembers(t, s, g[0], u[0])
	expectMembers(t, s, g[1], u[1])
	_ = s.View(context.Background(), func(v *View) error {
		if got := v.GIDs(row(u[1]), nil); !slices.Equal(got, []identity.GID{100000514}) {
			t.Errorf("a distribution group is in the gid list: %v", got)
		}
		return nil
	})
	g[1].Group.Security = true
	put(t, s, g[1])
	expectMembers(t, s, g[0], u[0], u[1])
}

func TestMembersWithoutARowYet(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 1, 2)
	late, computer := user(50, "late"), user(51, "pc")
	foreign := identity.MustParseSID("S-1-5-21-40-50-60-1234")
	update(t, s, func(tx *Tx) error {
		return tx.SetMembers(row(g[0]), append(refs(u[0], late, computer), Member{GUID: guid(9, 1), SID: foreign}, Member{GUID: guid(9, 2)}, Member{}))
	})
	expectMembers(t, s, g[0], u[0])
	if got := load(t, s, row(g[0])).Group.ForeignMembers; !slices.Equal(got, []identity.SID{foreign}) {
		t.Errorf("foreign members %v", got)
	}
	put(t, s, late)
	expectMembers(t, s, g[0], u[0], late)
	// Gone and back with the same object: still listed by the directory.
	update(t, s, func(tx *Tx) error { return tx.Retire(row(late)) })
	expectMembers(t, s, g[0], u[0])
	put(t, s, late)
	expectMembers(t, s, g[0], u[0], late)
	// Listed no more while it was gone: not back.
	update(t, s, func(tx *Tx) error { return tx.Retire(row(late)) })
	setMembers(t, s, g[0], u[0])
	put(t, s, late)
	expectMembers(t, s, g[0], u[0])
	if got := load(t, s, row(g[0])).Group.ForeignMembers; got != nil {
		t.Errorf("foreign members %v", got)
	}
}

func TestGIDsOfManyUsers(t *testing.T) {
	s := newStore(t)
	u, g := people(t, s, 30, 12)
	for i, group := range g {
		setMembers(t, s, group, u[i], u[i+1], u[i+2])
	}
	_ = s.View(context.Background(), func(v *View) error {
		buf := make([]identity.GID, 0, 8)
		for i, user := range u { // one by one at first, then by the table
			want := []identity.GID{100000514}
			for j := range g {
				if i >= j && i <= j+2 {
					want = append(want, identity.GID(100005002+j))
				}
			}
			if buf = v.GIDs(row(user), buf[:0]); !slices.Equal(buf, want) {
				t.Errorf("user %d has %v, want %v", i, buf, want)
			}
		}
		if got := v.GIDs(row(u[0]), []identity.GID{7}); len(got) != 3 || got[0] != 7 {
			t.Errorf("appended to what was there: %v", got)
		}
		return nil
	})
}

func TestGroupOf5000Members(t *testing.T) {
	s := newStore(t)
	all := []*Row{domainUsers()}
	var members []Member
	for i := range 5000 {
		u := user(i+1, "u"+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)))
		all, members = append(all, u), append(members, Member{GUID: u.User.ObjectGUID})
	}
	big := group(1, "everyone-big")
	big.Group.SID = contoso.SID.WithRID(90000)
	put(t, s, append(all, big)...)
	update(t, s, func(tx *Tx) error { return tx.SetMembers(row(big), members) })
	_ = s.View(context.Background(), func(v *View) error {
		if n := v.MemberCount(row(big)); n != 5000 || len(v.MembersOf(row(big))) != 5000 {
			t.Errorf("%d members", n)
		}
		return nil
	})
	update(t, s, func(tx *Tx) error { return tx.SetMembers(row(big), members[1:]) })
	_ = s.View(context.Background(), func(v *View) error {
		if v.MemberCount(row(big)) != 4999 || v.IsMember(row(all[1]), row(big)) {
			t.Errorf("%d members after one left", v.MemberCount(row(big)))
		}
		return nil
	})
}

// TestMembershipsAgainstAModel makes random changes and compares with a walk
// over the same graph.
func TestMembershipsAgainstAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := newStore(t)
	u, g := people(t, s, 12, 8)
	listed := make(map[*Row][]*Row)
	primary := make(map[*Row]*Row)
	dead := make(map[*Row]bool)
	for step := range 250 {
		update(t, s, func(tx *Tx) error {
			for range 1 + rng.IntN(3) {
				group := g[rng.IntN(len(g))]
				switch rng.IntN(6) {
				case 0: // a user's primary group
					user := u[rng.IntN(len(u))]
					if dead[user] || dead[group] {
						continue
					}
					user.User.PrimaryGroup = group.Group.SID
					primary[user] = group
					if err := tx.Put(user); err != nil {
						return err
					}
				case 1: // security or distribution
					if dead[group] {
						continue
					}
					group.Group.Security = !group.Group.Security
					if err := tx.Put(group); err != nil {
						return err
					}
				case 2: // gone or back
					r := group
					if rng.IntN(2) == 0 {
						r = u[rng.IntN(len(u))]
					}
					if dead[r] {
						if err := tx.Put(r); err != nil {
							return err
						}
						if r.Group != nil {
							listed[r] = nil
						}
					} else if err := tx.Retire(row(r)); err != nil {
						return err
					}
					dead[r] = !dead[r]
				default:
					if dead[group] {
						continue
					}
					var members []*Row
					for range rng.IntN(6) {
						members = append(members, u[rng.IntN(len(u))])
					}
					for range rng.IntN(3) {
						members = append(members, g[rng.IntN(len(g))])
					}
					listed[group] = members
					if err := tx.SetMembers(row(group), refs(members...)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		var walk func(top, at *Row, seen map[*Row]bool, found map[*Row]bool)
		walk = func(top, at *Row, seen, found map[*Row]bool) {
			if seen[at] || dead[at] || at != top && top.Group.Security && !at.Group.Security {
				return
			}
			seen[at] = true
			for _, m := range listed[at] {
				if m.Group != nil {
					walk(top, m, seen, found)
				} else if !dead[m] {
					found[m] = true
				}
			}
			for user, p := range primary {
				if p == at && !dead[user] {
					found[user] = true
				}
			}
		}
		_ = s.View(context.Background(), func(v *View) error {
			for _, group := range g {
				found := map[*Row]bool{}
				walk(group, group, map[*Row]bool{}, found)
				var want []*Row
				for user := range found {
					want = append(want, user)
				}
				if got := v.MembersOf(row(group)); !slices.Equal(got, rows(want...)) {
					t.Fatalf("step %d: %s has %v, want %v", step, group.Group.Account, got, rows(want...))
				}
			}
			return nil
		})
		if step%25 == 0 {
			if err := s.Check(context.Background()); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		}
	}
}
