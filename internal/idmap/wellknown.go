// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"iter"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// WellKnown is a SID that every Windows machine knows and no directory holds:
// it stands in the tokens and the ACLs of SMB, and a file system wants a gid for
// it.
type WellKnown struct {
	SID    identity.SID
	Domain string // as Windows shows it; empty for Everyone
	Name   string
	Alias  bool // a group of BUILTIN; else a well-known group
}

// wellKnown are those that get a gid (MS-DTYP 2.4.2.4). A gid follows from the
// place in this list: never reorder it, never take from it, add at its end.
// Left out on purpose: Creator Owner and its like, which an ACL replaces, and
// S-1-18 and S-1-16, which no file is given to.
var wellKnown = []WellKnown{
	{identity.MustParseSID("S-1-5-32-544"), "BUILTIN", "Administrators", true},
	{identity.MustParseSID("S-1-5-32-545"), "BUILTIN", "Users", true},
	{identity.MustParseSID("S-1-5-32-546"), "BUILTIN", "Guests", true},
	{identity.MustParseSID("S-1-5-32-547"), "BUILTIN", "Power Users", true},
	{identity.MustParseSID("S-1-5-32-548"), "BUILTIN", "Account Operators", true},
	{identity.MustParseSID("S-1-5-32-549"), "BUILTIN", "Server Operators", true},
	{identity.MustParseSID("S-1-5-32-550"), "BUILTIN", "Print Operators", true},
	{identity.MustParseSID("S-1-5-32-551"), "BUILTIN", "Backup Operators", true},
	{identity.MustParseSID("S-1-5-32-552"), "BUILTIN", "Replicator", true},
	{identity.MustParseSID("S-1-1-0"), "", "Everyone", false},
	{identity.MustParseSID("S-1-5-2"), "NT AUTHORITY", "NETWORK", false},
	{identity.MustParseSID("S-1-5-4"), "NT AUTHORITY", "INTERACTIVE", false},
	{identity.MustParseSID("S-1-5-7"), "NT AUTHORITY", "ANONYMOUS LOGON", false},
	{identity.MustParseSID("S-1-5-9"), "NT AUTHORITY", "ENTERPRISE DOMAIN CONTROLLERS", false},
	{identity.MustParseSID("S-1-5-11"), "NT AUTHORITY", "Authenticated Users", false},
	{identity.MustParseSID("S-1-5-13"), "NT AUTHORITY", "TERMINAL SERVER USER", false},
	{identity.MustParseSID("S-1-5-14"), "NT AUTHORITY", "REMOTE INTERACTIVE LOGON", false},
	{identity.MustParseSID("S-1-5-15"), "NT AUTHORITY", "This Organization", false},
	{identity.MustParseSID("S-1-5-18"), "NT AUTHORITY", "SYSTEM", false},
	{identity.MustParseSID("S-1-5-19"), "NT AUTHORITY", "LOCAL SERVICE", false},
	{identity.MustParseSID("S-1-5-20"), "NT AUTHORITY", "NETWORK SERVICE", false},
	{identity.MustParseSID("S-1-5-64-10"), "NT AUTHORITY", "NTLM Authentication", false},
	{identity.MustParseSID("S-1-5-113"), "NT AUTHORITY", "Local account", false},
	{identity.MustParseSID("S-1-5-32-555"), "BUILTIN", "Remote Desktop Users", true},
	{identity.MustParseSID("S-1-5-32-562"), "BUILTIN", "Distributed COM Users", true},
	{identity.MustParseSID("S-1-5-32-568"), "BUILTIN", "IIS_IUSRS", true},
}

// wellKnownRoom is how many places at the end of the range are tried for the
// well-known SIDs, on top of one for each.
const wellKnownRoom = 4096

// WellKnowns returns the well-known SIDs that get a gid, in their order.
func WellKnowns() []WellKnown { return slices.Clone(wellKnown) }

// WellKnownOf returns the well-known SID; false when sid is none of them.
func WellKnownOf(sid identity.SID) (WellKnown, bool) {
	for _, w := range wellKnown {
		if w.SID == sid {
			return w, true
		}
	}
	return WellKnown{}, false
}

// WellKnownCandidates yields the gids that a well-known SID may have, in the
// order in which they are to be tried. The first depends on the range and the
// SID alone, so that machines of one range agree: the ids are counted down from
// the range's end, which no RID of a domain comes near. It yields nothing for
// any other SID.
func (m *Map) WellKnownCandidates(sid identity.SID) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		place := slices.IndexFunc(wellKnown, func(w WellKnown) bool { return w.SID == sid })
		if place < 0 {
			return
		}
		last := m.cfg.Base + m.cfg.Size - 1
		try := func(down int) bool {
			id := last - uint32(down)
			return uint32(down) >= m.cfg.Size || !m.Contains(id) || yield(id)
		}
		if !try(place) {
			return
		}
		// Past every place that is somebody's first choice, also of a longer list.
		for down := range wellKnownRoom {
			if !try(1024 + down) {
				return
			}
		}
	}
}

// The SIDs by which Samba writes local accounts that have no other: S-1-22-1-uid
// and S-1-22-2-gid.
var (
	unixUsers  = identity.MustParseSID("S-1-22-1")
	unixGroups = identity.MustParseSID("S-1-22-2")
)

// Unix takes a Samba SID of a Unix account apart: the number is in the SID
// itself. False: sid is none.
func Unix(sid identity.SID) (id uint32, kind identity.Kind, ok bool) {
	rid, _ := sid.RID()
	switch {
	case sid.In(unixUsers):
		return rid, identity.KindUser, true
	case sid.In(unixGroups):
		return rid, identity.KindGroup, true
	}
	return 0, 0, false
}
