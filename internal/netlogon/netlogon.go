// SPDX-License-Identifier: Apache-2.0

// Package netlogon asks a domain controller whether an NTLM challenge was
// answered rightly: pass-through authentication over the machine account's
// secure channel (MS-NRPC 3.5.4.5, MS-APDS 3.1).
//
// A Pool is the only owner of the account's channels. Each is sealed with AES,
// was proved by both sides before anything is asked over it, and carries one
// call at a time. What goes up is the challenge and the response exactly as the
// client gave them, together with the names it typed, for they are part of what
// was hashed; what comes down is who it is, the groups and the session key.
//
// The package never sees a password of a person, never sends an LM response,
// never lets NTLMv1 through, never asks the same question twice where the first
// one may have been counted, and knows neither rows nor policy: whether somebody
// may in is decided by package login.
package netlogon

import (
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ParameterMSCHAPv2 in Logon.Parameters says that a response of 24 bytes is
// that of MS-CHAPv2 (MS-NRPC 2.2.1.4.15, bit "I"; ntlm_auth --allow-mschapv2).
const ParameterMSCHAPv2 = 0x00010000

// Logon is one answered challenge, as the client sent it. Names are passed on
// unchanged: an NTLMv2 response is a hash over them.
type Logon struct {
	Domain      string // as typed: NetBIOS or DNS name, or empty
	User        string // as typed: sAMAccountName or UPN
	Workstation string // of the client; may be empty
	Challenge   [8]byte
	NT          []byte // NTLMv2: 44 bytes and more (MS-NLMP 2.2.2.8)
	LM          []byte // taken so that a door can hand on what it has; never sent
	Parameters  uint32 // MS-NRPC 2.2.1.4.15 ParameterControl, as the server has it
}

// Group is one group of an account, by its RID in the account's domain.
type Group struct {
	RID        uint32
	Attributes uint32 // MS-SAMR 2.2.1.10; 7 in the ordinary case
}

// SIDAttributes is one SID of an account that is not in its domain, or not
// global there: domain local groups, groups of other domains, well-known SIDs.
type SIDAttributes struct {
	SID        identity.SID
	Attributes uint32
}

// Validation is what the domain says of an account that proved itself:
// NETLOGON_VALIDATION_SAM_INFO4 (MS-NRPC 2.2.1.4.13), level 6. A zero time means
// never, or not known. Wipe it.
type Validation struct {
	LogonTime          time.Time
	LogoffTime         time.Time
	KickOffTime        time.Time
	PasswordLastSet    time.Time
	PasswordCanChange  time.Time
	PasswordMustChange time.Time

	EffectiveName      string // sAMAccountName
	FullName           string
	LogonScript        string
	ProfilePath        string
	HomeDirectory      string
	HomeDirectoryDrive string
	LogonCount         uint16
	BadPasswordCount   uint16

	UserRID         uint32
	PrimaryGroupRID uint32
	Groups          []Group // the primary group included
	UserFlags       uint32  // MS-NRPC 2.2.1.4.11
	LogonServer     string  // NetBIOS name
	LogonDomain     string  // NetBIOS name
	DomainSID       identity.SID

	UserAccountControl  uint32 // MS-SAMR 2.2.1.12, not the attribute's numbers
	SubAuthStatus       uint32
	LastGoodLogon       time.Time
	LastBadLogon        time.Time
	BadLogonsSinceGood  uint32
	ExtraSIDs           []SIDAttributes
	ResourceGroupDomain identity.SID // with ResourceGroups: tickets only, a DC merges them into ExtraSIDs here
	ResourceGroups      []Group

	DNSDomain string // of the account, as the DC writes it
	UPN       string

	// SessionKey is the user session key: 16 bytes, the session base key of
	// MS-NLMP 3.3.2.
	SessionKey secret.Bytes
	// LMKey is 8 bytes; zeros for NTLMv2.
	LMKey secret.Bytes
}

// SID is the account's own.
func (v *Validation) SID() identity.SID { return v.DomainSID.WithRID(v.UserRID) }

// Wipe overwrites the keys. Safe on nil.
func (v *Validation) Wipe() {
	if v != nil {
		v.SessionKey.Wipe()
		v.LMKey.Wipe()
	}
}
