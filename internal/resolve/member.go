// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// RowPage is a part of a list in the order of row ids.
type RowPage struct {
	Entries []Entry
	// Next is the row after which the next page begins; 0: this was the last.
	Next identity.RowID
}

// UserGroups returns the groups that a user is in: nested ones, the primary
// group and distribution groups included; at most limit of them, from the first
// row after the given one (0: from the start). Errors as for User.
func (r *Resolver) UserGroups(ctx context.Context, key identity.Key, after identity.RowID, limit int) (RowPage, error) {
	return r.related(ctx, key, identity.KindUser, View.GroupsOf, after, limit)
}

// GroupMembers returns the users that belong to a group, through nested groups
// too, or its direct members, users and groups. Paging as for UserGroups.
func (r *Resolver) GroupMembers(ctx context.Context, key identity.Key, direct bool, after identity.RowID, limit int) (RowPage, error) {
	rows := View.MembersOf
	if direct {
		rows = View.DirectMembers
	}
	return r.related(ctx, key, identity.KindGroup, rows, after, limit)
}

func (r *Resolver) related(ctx context.Context, key identity.Key, kind identity.Kind,
	rows func(View, identity.RowID) []identity.RowID, after identity.RowID, limit int) (page RowPage, err error) {
	err = r.memory.View(ctx, func(v View) error {
		of, err := r.get(v, key, kind)
		if err != nil {
			return err
		}
		all := rows(v, of.Common().Row)
		first, found := slices.BinarySearch(all, after)
		if found {
			first++
		}
		all = all[first:]
		if len(all) > limit {
			all = all[:limit]
			page.Next = all[limit-1]
		}
		for i, row := range all {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if e, ok := v.Row(row); ok {
				page.Entries = append(page.Entries, r.show(v, e))
			}
		}
		return nil
	})
	if err != nil {
		return RowPage{}, err
	}
	return page, nil
}

// Membership is whether a user is in one group, or why that cannot be said.
type Membership struct {
	Member bool
	Err    error
}

// Memberships says for each group, in order, whether the user belongs to it,
// nested groups included. The error is of the user, or of the whole.
func (r *Resolver) Memberships(ctx context.Context, user identity.Key, groups []identity.Key) ([]Membership, error) {
	list := make([]Membership, len(groups))
	err := r.memory.View(ctx, func(v View) error {
		who, err := r.get(v, user, identity.KindUser)
		if err != nil {
			return err
		}
		for i, k := range groups {
			if i%64 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			g, err := r.get(v, k, identity.KindGroup)
			if err != nil {
				list[i].Err = err
				continue
			}
			list[i].Member = v.IsMember(who.User.Row, g.Group.Row)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
