// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Class is what kind of object this is to us.
type Class uint8

// The classes.
const (
	ClassOther Class = iota // contacts, containers, computers, …
	ClassUser
	ClassGroup
)

// String returns the class in lower case.
func (c Class) String() string {
	switch c {
	case ClassUser:
		return "user"
	case ClassGroup:
		return "group"
	}
	return "other"
}

// Bits of userAccountControl (MS-ADTS 2.2.16) that are looked at.
const (
	UACDisabled         uint32 = 0x00000002
	UACLockout          uint32 = 0x00000010
	UACNormal           uint32 = 0x00000200
	UACWorkstation      uint32 = 0x00001000
	UACDontExpire       uint32 = 0x00010000
	UACTrustedForDeleg  uint32 = 0x00080000
	UACNotDelegated     uint32 = 0x00100000
	UACPasswordExpired  uint32 = 0x00800000
	UACTrustedToAuthFor uint32 = 0x01000000
)

// Bits of groupType (MS-ADTS 2.2.12).
const (
	GroupBuiltin     uint32 = 0x00000001
	GroupGlobal      uint32 = 0x00000002
	GroupDomainLocal uint32 = 0x00000004
	GroupUniversal   uint32 = 0x00000008
	GroupSecurity    uint32 = 0x80000000
)

// Object is one user or group of the directory. Text is valid UTF-8 without
// control characters; what was not is left empty and named in Defects.
type Object struct {
	DN         string
	ObjectGUID identity.GUID
	SID        identity.SID
	Class      Class

	// OID is the Entra object id: msDS-aadObjectId or msDS-AzureADObjectId,
	// either of them on either class; it is only to be believed when
	// UnderSyncedOU. Two different ones on one object: zero, and a defect.
	OID identity.GUID
	// UnderSyncedOU: the object lies under OU=AADDC Users of its domain, where
	// only Microsoft's sync writes.
	UnderSyncedOU bool

	SAMAccountName string
	UPN            string
	DisplayName    string
	GivenName      string
	Surname        string
	Mail           string
	MailNickname   string // msDS-AzureADMailNickname

	UserAccountControl uint32
	PrimaryGroupID     uint32 // a RID; users only
	GroupType          uint32
	PwdLastSet         time.Time // zero: 0 in the directory, or not readable
	MustChange         bool      // pwdLastSet is there and 0
	AccountExpires     time.Time // zero: never
	LockoutTime        time.Time // zero: not locked; whether it still holds is the DC's to say
	SIDHistory         []identity.SID
	Members            []Reference // groups only, complete
	SSHKeys            []string    // users only: lines of authorized_keys

	USNChanged  USN
	WhenCreated time.Time
	IsDeleted   bool

	// Defects names the attributes that could not be read and why, as "objectSid:
	// not a SID: 3 bytes". An object without objectGUID is not handed out at all.
	Defects []string
}
