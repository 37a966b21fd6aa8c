// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// vouched says whether a domain controller, which has just now said who somebody
// is and in which groups, says what the row says: then the directory need not be
// asked the same a second time, which takes longer than the sign-in.
//
// Where anything differs, or the row's state is not plain, the answer is false,
// and the row is read afresh as before any other sign-in. Groups that a
// validation never carries do not count: distribution groups, and those of
// BUILTIN, which are the domain controller's own.
func (l *Login) vouched(ctx context.Context, p *person, v *Validation) bool {
	u := p.user
	if v.SID() != u.SID || v.EffectiveName != u.Account || u.State&^identity.Guest != 0 ||
		v.UPN != "" && u.UPN != "" && !strings.EqualFold(v.UPN, u.UPN) {
		return false
	}
	rids := []uint32{v.PrimaryGroupRID}
	for _, g := range v.Groups {
		rids = append(rids, g.RID)
	}
	var sids []identity.SID
	for _, rid := range rids {
		sids = append(sids, v.DomainSID.WithRID(rid))
	}
	for _, rid := range v.ResourceGroups {
		sids = append(sids, v.ResourceGroupDomain.WithRID(rid.RID))
	}
	for _, x := range v.ExtraSIDs {
		sids = append(sids, x.SID)
	}
	same := false
	err := l.c.Store.View(ctx, func(s *store.View) error {
		var said []identity.RowID
		for _, sid := range sids {
			if !sid.In(u.SID.Domain()) {
				continue
			}
			g, err := s.Get(identity.Key{Kind: identity.BySID, SID: sid}, identity.KindGroup)
			if err != nil || g.Group.SID != sid {
				return nil // a group that the mirror has not met
			}
			said = append(said, g.Group.Row)
		}
		slices.Sort(said)
		have := slices.DeleteFunc(s.GroupsOf(u.Row), func(id identity.RowID) bool {
			g, ok := s.Row(id)
			return !ok || g.Group == nil || !g.Group.Security || !g.Group.SID.In(u.SID.Domain())
		})
		slices.Sort(have)
		same = slices.Equal(slices.Compact(said), slices.Compact(have))
		return nil
	})
	return err == nil && same
}
