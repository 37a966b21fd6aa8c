// SPDX-License-Identifier: Apache-2.0

package login

import (
	"strings"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// vouched says whether a domain controller, which has just now said who somebody
// is and in which groups, says what the row says: then the directory need not be
// asked the same a second time, which takes longer than the sign-in.
//
// Where anything differs, or the row's state is not plain, the answer is false,
// and the row is read afresh as before any other sign-in. Groups that a
// validation never carries do not count: distribution groups, and those of
// BUILTIN, which are the domain controller's own.
func vouched(p *person, v *Validation) bool {
	u := p.user
	if v.SID() != u.SID || v.EffectiveName != u.Account || u.State&^identity.Guest != 0 ||
		v.UPN != "" && u.UPN != "" && !strings.EqualFold(v.UPN, u.UPN) {
		return false
	}
	domain := u.SID.Domain()
	said := map[identity.SID]bool{v.DomainSID.WithRID(v.PrimaryGroupRID): true}
	for _, g := range v.Groups {
		said[v.DomainSID.WithRID(g.RID)] = true
	}
	for _, g := range v.ResourceGroups {
		said[v.ResourceGroupDomain.WithRID(g.RID)] = true
	}
	for _, x := range v.ExtraSIDs {
		if x.SID.In(domain) {
			said[x.SID] = true
		}
	}
	have := 0
	for _, g := range p.groups {
		if !g.Security || !g.SID.In(domain) {
			continue
		}
		if !said[g.SID] {
			return false
		}
		have++
	}
	return have == len(said)
}
