// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// Attributes of a group (MS-SAMR 2.2.1.10): mandatory, enabled by default,
// enabled; and of one that a domain-local group is (MS-PAC 2.2.1).
const (
	groupAttributes = 0x7
	groupDenyOnly   = 0x10
	groupResource   = 0x20000000
)

// User flags (MS-NRPC 2.2.1.4.11).
const (
	flagExtraSIDs      = 0x20
	flagResourceGroups = 0x200
)

// normalAccount is USER_NORMAL_ACCOUNT (MS-SAMR 2.2.1.12).
const normalAccount = 0x10

// infoOfValidation is what the domain controller said of an answered challenge.
func infoOfValidation(v *login.Validation) *wire.Info3 {
	i := &wire.Info3{Logon: v.LogonTime, Logoff: v.LogoffTime, Kickoff: v.KickOffTime,
		PasswordSet: v.PasswordLastSet, CanChange: v.PasswordCanChange, MustChange: v.PasswordMustChange,
		LogonCount: uint32(v.LogonCount), BadPasswordCount: uint32(v.BadPasswordCount),
		UserRID: v.UserRID, GroupRID: v.PrimaryGroupRID, UserFlags: v.UserFlags, AccountFlags: v.UserAccountControl,
		DomainSID: v.DomainSID, Account: v.EffectiveName, FullName: v.FullName, LogonScript: v.LogonScript, ProfilePath: v.ProfilePath,
		HomeDirectory: v.HomeDirectory, HomeDrive: v.HomeDirectoryDrive, LogonServer: v.LogonServer, LogonDomain: v.LogonDomain,
		DNSDomain: v.DNSDomain, UPN: v.UPN}
	for _, g := range v.Groups {
		addGroup(i, g.RID, g.Attributes)
	}
	for _, s := range v.ExtraSIDs {
		addOther(i, s.SID, s.Attributes)
	}
	for _, g := range v.ResourceGroups {
		mergeResource(i, v.ResourceGroupDomain.WithRID(g.RID), g.Attributes)
	}
	return i
}

// infoOfPAC is what a verified PAC says. Resource groups, which a domain
// controller names apart, come with the other SIDs: smbd looks nowhere else.
func infoOfPAC(p *login.PAC) *wire.Info3 {
	d := &p.Detail
	user, _ := p.User.RID()
	primary, _ := p.PrimaryGroup.RID()
	i := &wire.Info3{Logon: p.LogonTime, Logoff: d.Logoff, Kickoff: d.Kickoff, PasswordSet: p.PasswordSet, CanChange: d.CanChange, MustChange: p.MustChange,
		LogonCount: uint32(d.LogonCount), BadPasswordCount: uint32(d.BadPasswordCount), UserRID: user, GroupRID: primary,
		UserFlags: d.UserFlags, AccountFlags: p.AccountControl, DomainSID: p.User.Domain(), Account: p.Account, FullName: p.FullName,
		LogonScript: d.LogonScript, ProfilePath: d.ProfilePath, HomeDirectory: d.HomeDirectory, HomeDrive: d.HomeDrive,
		LogonServer: p.LogonServer, LogonDomain: p.Domain, DNSDomain: p.DNSDomain, UPN: p.UPN}
	for _, g := range d.Groups {
		addGroup(i, g.RID, g.Attributes)
	}
	for _, s := range d.Extra {
		addOther(i, s.SID, s.Attributes)
	}
	for _, g := range d.ResourceGroups {
		mergeResource(i, d.ResourceDomain.WithRID(g.RID), g.Attributes)
	}
	return i
}

// A group that only denies gives nothing, and smbd's tokens know no such thing.
func addGroup(i *wire.Info3, rid, attributes uint32) {
	if attributes&groupDenyOnly == 0 {
		i.Groups = append(i.Groups, wire.RIDAttributes{RID: rid, Attributes: attributes})
	}
}

func addOther(i *wire.Info3, sid identity.SID, attributes uint32) {
	if sid.IsZero() || attributes&groupDenyOnly != 0 || slices.ContainsFunc(i.Others, func(o wire.SIDAttributes) bool { return o.SID == sid }) {
		return
	}
	i.Others = append(i.Others, wire.SIDAttributes{SID: sid, Attributes: attributes})
}

func mergeResource(i *wire.Info3, sid identity.SID, attributes uint32) {
	addOther(i, sid, attributes)
	i.UserFlags = i.UserFlags&^flagResourceGroups | flagExtraSIDs
}

// infoOfRow is what the row says of somebody who typed a password: no domain
// controller gave such an answer.
func (c *client) infoOfRow(r *login.Result) *wire.Info3 {
	u := r.User
	user, _ := u.SID.RID()
	primary, _ := u.PrimaryGroup.RID()
	i := &wire.Info3{PasswordSet: u.PasswordLastSet, MustChange: r.PasswordExpires, UserRID: user, GroupRID: primary, AccountFlags: normalAccount,
		DomainSID: u.SID.Domain(), Account: u.Account, FullName: u.DisplayName, UPN: u.UPN}
	if m := c.s.cfg.Membership(); m != nil {
		i.LogonDomain, i.DNSDomain = m.Domain.NetBIOS, m.Domain.DNS
	}
	if up := c.s.cfg.Upstream(); up != nil {
		if dc, ok := up.DC(); ok {
			i.LogonServer = dc.Computer
		}
	}
	for _, g := range r.Groups {
		rid, _ := g.SID.RID()
		switch {
		case !g.Security || g.SID.In(builtinSID):
		case g.Scope != identity.ScopeDomainLocal && g.SID.In(i.DomainSID):
			i.Groups = append(i.Groups, wire.RIDAttributes{RID: rid, Attributes: groupAttributes})
		default:
			i.Others = append(i.Others, wire.SIDAttributes{SID: g.SID, Attributes: groupAttributes | groupResource})
			i.UserFlags |= flagExtraSIDs
		}
	}
	return i
}

// member says whether one of the SIDs in a list, split by commas, is the user's.
// What is no SID fits nobody.
func member(i *wire.Info3, list string) bool {
	for word := range strings.SplitSeq(list, ",") {
		sid, err := identity.ParseSID(strings.TrimSpace(word))
		if err != nil {
			continue
		}
		rid, _ := sid.RID()
		switch {
		case slices.ContainsFunc(i.Others, func(o wire.SIDAttributes) bool { return o.SID == sid }):
			return true
		case sid.In(i.DomainSID) && (rid == i.UserRID || rid == i.GroupRID || slices.ContainsFunc(i.Groups, func(g wire.RIDAttributes) bool { return g.RID == rid })):
			return true
		}
	}
	return false
}
