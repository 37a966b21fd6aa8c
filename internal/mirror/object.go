// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// object is what a pass keeps of an object: without the DNs of its members,
// which take most of the room and are not matched by.
type object struct {
	directory.Object
	members []store.Member
}

// keep takes over an object; false for what is neither user nor group or not
// there any more.
func keep(o directory.Object) (object, bool) {
	if o.Class != directory.ClassUser && o.Class != directory.ClassGroup || o.IsDeleted || o.ObjectGUID.IsZero() {
		return object{}, false
	}
	kept := object{Object: o}
	if len(o.Members) > 0 {
		kept.members = make([]store.Member, len(o.Members))
		for i, m := range o.Members {
			kept.members[i] = store.Member{GUID: m.GUID, SID: m.SID}
		}
		kept.Members = nil
	}
	return kept, true
}

func (o *object) kind() identity.Kind {
	if o.Class == directory.ClassGroup {
		return identity.KindGroup
	}
	return identity.KindUser
}

// oid returns the Entra object id, if it is to be believed.
func (o *object) oid() identity.GUID {
	if !o.UnderSyncedOU {
		return identity.GUID{}
	}
	return o.OID
}

// wellKnown reports whether the object is one that every domain has under the
// same RID (MS-DTYP 2.4.2.4), or a group of the DCs' own: the same in meaning
// when the domain is rebuilt.
func wellKnown(sid identity.SID) bool {
	rid, ok := sid.RID()
	return ok && (rid < 1000 || sid.In(builtin))
}

var builtin = identity.MustParseSID("S-1-5-32")

// uacSmartcard is SMARTCARD_REQUIRED (MS-ADTS 2.2.16): such a password is never
// asked to be changed.
const uacSmartcard = 0x00040000

// draw writes onto a row what the directory says about its object.
func draw(r *store.Row, o *object) {
	c := r.Common()
	switch oid := o.oid(); {
	case !oid.IsZero():
		c.OID = oid
	case !o.UnderSyncedOU:
		c.OID = identity.GUID{}
	}
	if !o.SID.IsZero() { // not readable: it is what it was
		c.SID = o.SID
	}
	c.ObjectGUID, c.DN = o.ObjectGUID, o.DN
	c.Account, c.DisplayName, c.Mail, c.MailNickname = o.SAMAccountName, o.DisplayName, o.Mail, o.MailNickname
	c.HistorySIDs = slices.Clone(o.SIDHistory)
	c.State = 0
	r.Missed = 0
	if u := r.User; u != nil {
		c.State = states(o)
		u.UPN, u.GivenName, u.Surname, u.SSHKeys = o.UPN, o.GivenName, o.Surname, slices.Clone(o.SSHKeys)
		u.PrimaryGroup = c.SID.Domain().WithRID(o.PrimaryGroupID)
		if o.PrimaryGroupID == 0 {
			u.PrimaryGroup = identity.SID{}
		}
		u.PasswordLastSet, u.AccountExpires = o.PwdLastSet.UTC(), o.AccountExpires.UTC()
		if o.PwdLastSet.IsZero() {
			u.PasswordLastSet = time.Time{}
		}
		if o.AccountExpires.IsZero() {
			u.AccountExpires = time.Time{}
		}
	}
	if g := r.Group; g != nil {
		g.Security = o.GroupType&directory.GroupSecurity != 0
		switch {
		case o.GroupType&directory.GroupBuiltin != 0:
			g.Scope = identity.ScopeBuiltin
		case o.GroupType&directory.GroupUniversal != 0:
			g.Scope = identity.ScopeUniversal
		case o.GroupType&directory.GroupGlobal != 0:
			g.Scope = identity.ScopeGlobal
		case o.GroupType&directory.GroupDomainLocal != 0:
			g.Scope = identity.ScopeDomainLocal
		default:
			g.Scope = identity.ScopeUnknown
		}
	}
}

// states returns what userAccountControl and its like say. Whether the account
// has expired is told by the clock when the row is read.
func states(o *object) identity.State {
	var s identity.State
	uac := o.UserAccountControl
	if uac&directory.UACDisabled != 0 {
		s |= identity.Disabled
	}
	if !o.LockoutTime.IsZero() {
		s |= identity.LockedOut
	}
	if uac&directory.UACPasswordExpired != 0 {
		s |= identity.PasswordExpired
	}
	// MS-ADTS 3.1.1.4.5.36: a password that never expires is never asked for.
	if o.MustChange && uac&(directory.UACDontExpire|uacSmartcard) == 0 {
		s |= identity.MustChange
	}
	if strings.Contains(strings.ToUpper(o.UPN), "#EXT#") {
		s |= identity.Guest
	}
	return s
}
