// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// number gives a row its id, once. Rows without one stay so: those that are no
// unix users or groups, those that are new and in conflict, and those for which
// the range has no free place.
func (t *Tx) number(r *Row) {
	defer r.show()
	c := r.Common()
	if r.ID != 0 || !r.isUnix() || t.rules.IDs == nil || c.State.Has(identity.Conflicted) {
		return
	}
	natural, ok := t.rules.IDs.Natural(c.SID)
	ids, fixed := t.tx.Bucket(bucketIDs), t.keptIDs()
	if id := t.keptFor(c.SID); id != 0 && ids.Get(u32(id)) == nil {
		r.ID, r.Moved = id, !ok || id != natural
		return
	}
	for id := range t.rules.IDs.Candidates(c.SID) {
		_, local := t.rules.LocalIDs[id]
		if _, other := fixed[id]; local || other || ids.Get(u32(id)) != nil {
			continue
		}
		r.ID, r.Moved = id, !ok || id != natural
		return
	}
}

// decide gives a row its published name, its aliases, the reason when the bare
// name is not published, and, to a user, the gid of the primary group. It is
// the one place where names are decided. The claims of the row itself need not
// be written yet.
func (t *Tx) decide(r *Row) {
	c := r.Common()
	if u := r.User; u != nil {
		u.GID = 0
		if row, _, _ := t.claim(bucketSIDs, u.PrimaryGroup.Bytes(), classLive, classLive); row != 0 {
			u.GID = identity.GID(readGroupInfo(t.tx.Bucket(bucketGroups).Get(rowKey(row))).gid)
		}
	}
	account := identity.Fold(c.Account)
	wins := account != "" && t.wins(r, account)
	c.Name, c.Unpublished = "", ""
	switch {
	case r.isBuiltin():
		c.Unpublished = idmap.ReasonBuiltin
	case r.Group != nil && !r.Group.Security:
		c.Unpublished = idmap.ReasonDistribution
	case r.ID == 0 && c.State.Has(identity.Conflicted):
		c.Unpublished = idmap.ReasonConflict
	case r.ID == 0:
		c.Unpublished = idmap.ReasonNoID
	case r.User != nil && r.User.GID == 0:
		c.Unpublished = idmap.ReasonNoPrimary
	default:
		c.Name, c.Unpublished = idmap.Name(c.Account, t.rules.Domain.NetBIOS, t.rules.names)
		if c.Name != "" && !wins {
			c.Name, c.Unpublished = "", idmap.ReasonCollision
		}
	}
	c.Aliases = t.aliases(r, account, wins)
}

// wins reports whether the row has its folded account name: nobody else claims
// it, or those who do give way.
func (t *Tx) wins(r *Row, account string) bool {
	c := r.Common()
	mine := !c.State.Has(identity.Missing)
	won := true
	t.claimants(bucketNames, namePrefix(account), classAccount, func(row identity.RowID) {
		if row == c.Row || !won {
			return
		}
		other, _ := t.load(row)
		if other == nil {
			return
		}
		theirs := !other.Common().State.Has(identity.Missing)
		won = mine && !theirs || mine == theirs && c.Row < row
	})
	return won
}

// aliases returns the other names that find the row, folded: DOMAIN\account,
// the UPN, account@domain, as far as they mean this row and no other.
func (t *Tx) aliases(r *Row, account string, wins bool) []string {
	c := r.Common()
	domain := t.rules
	qualifier := domain.netbios
	if r.isBuiltin() {
		qualifier = builtinName
	}
	var all []string
	add := func(name string) {
		if name != "" && len(name) <= identity.MaxNameLength && name != identity.Fold(c.Name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	qualified := idmap.Qualified(account, qualifier)
	if wins {
		add(qualified)
	}
	if r.User != nil && r.User.UPN != "" {
		upn := identity.Fold(r.User.UPN)
		alone := true
		t.claimants(bucketNames, namePrefix(upn), classUPN, func(row identity.RowID) { alone = alone && row == c.Row })
		if alone && idmap.LegalPrincipal(upn) {
			add(upn)
		}
	}
	if wins && qualified != "" && domain.dns != "" && !r.isBuiltin() {
		principal := account + "@" + domain.dns
		row, _, more := t.claim(bucketNames, namePrefix(principal), classUPN, classUPN)
		if more == 0 && (row == 0 || row == c.Row) && idmap.LegalPrincipal(principal) {
			add(principal)
		}
	}
	return all
}
