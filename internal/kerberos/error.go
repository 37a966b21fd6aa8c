// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Code is a KRB-ERROR code (RFC 4120 7.5.9).
type Code int32

// The codes that are told apart.
const (
	CodeClientExpired    Code = 1  // KDC_ERR_NAME_EXP: the account is past its date
	CodeClientUnknown    Code = 6  // KDC_ERR_C_PRINCIPAL_UNKNOWN
	CodeServiceUnknown   Code = 7  // KDC_ERR_S_PRINCIPAL_UNKNOWN
	CodeNullKey          Code = 9  // KDC_ERR_NULL_KEY: the account has no key
	CodePolicy           Code = 12 // KDC_ERR_POLICY
	CodeETypeUnsupported Code = 14 // KDC_ERR_ETYPE_NOSUPP: no AES key
	CodeClientRevoked    Code = 18 // KDC_ERR_CLIENT_REVOKED: disabled, locked, expired, outside its hours
	CodeTGTRevoked       Code = 20 // KDC_ERR_TGT_REVOKED: sign in again
	CodePasswordExpired  Code = 23 // KDC_ERR_KEY_EXPIRED: expired, or must be changed
	CodePreauthFailed    Code = 24 // KDC_ERR_PREAUTH_FAILED: wrong password
	CodePreauthRequired  Code = 25 // KDC_ERR_PREAUTH_REQUIRED
	codeUnavailable      Code = 29 // KDC_ERR_SVC_UNAVAILABLE: ask another KDC
	CodeBadIntegrity     Code = 31 // KRB_AP_ERR_BAD_INTEGRITY
	CodeTicketExpired    Code = 32 // KRB_AP_ERR_TKT_EXPIRED
	CodeRepeat           Code = 34 // KRB_AP_ERR_REPEAT
	CodeSkew             Code = 37 // KRB_AP_ERR_SKEW
	CodeTooBig           Code = 52 // KRB_ERR_RESPONSE_TOO_BIG
	CodeGeneric          Code = 60 // KRB_ERR_GENERIC
	CodeWrongRealm       Code = 68 // KDC_ERR_WRONG_REALM: ask the realm named in the error
)

var codeNames = map[Code]string{
	CodeClientExpired: "KDC_ERR_NAME_EXP", CodeClientUnknown: "KDC_ERR_C_PRINCIPAL_UNKNOWN",
	CodeServiceUnknown: "KDC_ERR_S_PRINCIPAL_UNKNOWN", CodeNullKey: "KDC_ERR_NULL_KEY", CodePolicy: "KDC_ERR_POLICY",
	CodeETypeUnsupported: "KDC_ERR_ETYPE_NOSUPP", CodeClientRevoked: "KDC_ERR_CLIENT_REVOKED",
	CodeTGTRevoked: "KDC_ERR_TGT_REVOKED", CodePasswordExpired: "KDC_ERR_KEY_EXPIRED", CodePreauthFailed: "KDC_ERR_PREAUTH_FAILED",
	CodePreauthRequired: "KDC_ERR_PREAUTH_REQUIRED", CodeBadIntegrity: "KRB_AP_ERR_BAD_INTEGRITY",
	CodeTicketExpired: "KRB_AP_ERR_TKT_EXPIRED", CodeRepeat: "KRB_AP_ERR_REPEAT", CodeSkew: "KRB_AP_ERR_SKEW",
	CodeTooBig: "KRB_ERR_RESPONSE_TOO_BIG", CodeGeneric: "KRB_ERR_GENERIC", CodeWrongRealm: "KDC_ERR_WRONG_REALM",
}

// codeWords say what a code means to somebody who does not know the RFC.
var codeWords = map[Code]string{
	CodeClientExpired: "the account is past its date", CodeClientUnknown: "the domain has no such account", CodeServiceUnknown: "the domain has no such service",
	CodeNullKey: "the account has no key", CodePolicy: "the domain's policy", CodeETypeUnsupported: "no AES key",
	CodeClientRevoked: "disabled, locked, expired or outside of its hours", CodePasswordExpired: "the password has expired or must be changed",
	CodePreauthFailed: "wrong password",
}

// String returns the name that RFC 4120 gives the code.
func (c Code) String() string {
	if n, ok := codeNames[c]; ok {
		return n
	}
	return fmt.Sprintf("KRB-ERROR %d", int32(c))
}

// Status is an NTSTATUS (MS-ERREF 2.3), as Active Directory puts it beside the
// code (MS-KILE 2.2.1). Zero is none.
type Status uint32

// The statuses that a KDC explains a refusal with.
const (
	StatusNoSuchUser         Status = 0xC0000064
	StatusWrongPassword      Status = 0xC000006A
	StatusAccountRestriction Status = 0xC000006E
	StatusLogonHours         Status = 0xC000006F
	StatusWorkstation        Status = 0xC0000070
	StatusPasswordExpired    Status = 0xC0000071
	StatusAccountDisabled    Status = 0xC0000072
	StatusAccountExpired     Status = 0xC0000193
	StatusMustChange         Status = 0xC0000224
	StatusLockedOut          Status = 0xC0000234
)

// Error is a refusal by a KDC. It is found by errors.As under the
// fault.Error that carries the kind.
type Error struct {
	Code   Code
	Status Status
	Text   string     // the KDC's own words; often empty
	Time   time.Time  // the KDC's clock when it refused
	KDC    netip.Addr // who refused
}

// Error returns the code's name and meaning, the status and the KDC's words.
func (e *Error) Error() string {
	s := e.Code.String()
	if w := codeWords[e.Code]; w != "" {
		s += ", " + w
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" (NTSTATUS 0x%08x)", uint32(e.Status))
	}
	if e.Text != "" {
		s += fmt.Sprintf(": %.200q", e.Text)
	}
	return s
}

// SkewError is a refusal because the clocks differ by more than the KDC
// allows, five minutes by default. It is found by errors.As.
type SkewError struct {
	Local, Server time.Time
	KDC           netip.Addr
}

// Skew is how far the local clock runs ahead of the KDC's; negative when it is
// behind.
func (e *SkewError) Skew() time.Duration { return e.Local.Sub(e.Server) }

// Error says in seconds who is ahead.
func (e *SkewError) Error() string {
	d := e.Skew().Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("this machine's clock is %d seconds behind the domain controller's", int64(-d/time.Second))
	}
	return fmt.Sprintf("this machine's clock is %d seconds ahead of the domain controller's", int64(d/time.Second))
}

// kind says in which way a refusal fails, and what to do where an
// administrator can do something.
func (e *Error) kind() (kind fault.Kind, remedy string) {
	switch e.Status {
	case StatusLockedOut:
		return fault.Locked, "wait until the lockout ends, or unlock the account"
	case StatusAccountDisabled:
		return fault.Disabled, "enable the account in Entra ID"
	case StatusAccountExpired, StatusPasswordExpired:
		return fault.Expired, ""
	case StatusMustChange:
		return fault.MustChange, "change the password where it is kept (for synced accounts: Entra ID)"
	case StatusLogonHours, StatusWorkstation, StatusAccountRestriction:
		return fault.Denied, ""
	case StatusNoSuchUser:
		return fault.NotFound, ""
	case StatusWrongPassword:
		return fault.BadCredential, ""
	}
	switch e.Code {
	case CodeClientUnknown, CodeServiceUnknown:
		return fault.NotFound, ""
	case CodePreauthFailed, CodeBadIntegrity:
		return fault.BadCredential, ""
	case CodeClientRevoked:
		// Samba reports a lockout as this code with status 0; the other reasons
		// carry their own status.
		return fault.Locked, "wait until the lockout ends, or unlock the account"
	case CodeClientExpired:
		return fault.Expired, ""
	case CodePasswordExpired:
		return fault.MustChange, "change the password where it is kept (for synced accounts: Entra ID)"
	case CodePolicy:
		return fault.Denied, ""
	case CodeETypeUnsupported, CodeNullKey:
		return fault.BadCredential, "the account has no AES key in the domain yet: change its password once in Entra ID, then wait for the sync"
	case CodeTicketExpired, CodeTGTRevoked:
		return fault.Expired, ""
	}
	return fault.Unreachable, ""
}

// statusOf finds the NTSTATUS in the e-data of a KRB-ERROR: KERB-ERROR-DATA
// (MS-KILE 2.2.1) whose value is KERB-EXT-ERROR (2.2.2), or a PA-PW-SALT in
// METHOD-DATA holding the same 12 bytes, as older KDCs send. Bytes that are
// neither give 0.
func statusOf(edata []byte) Status {
	var d struct {
		Type  int    `asn1:"explicit,tag:1"`
		Value []byte `asn1:"explicit,optional,tag:2"`
	}
	if rest, err := unmarshal(edata, &d); err == nil && len(rest) == 0 && d.Type == 3 && len(d.Value) >= 4 {
		return Status(binary.LittleEndian.Uint32(d.Value))
	}
	for _, pa := range methodData(edata) {
		if pa.PADataType == 3 && len(pa.PADataValue) == 12 {
			return Status(binary.LittleEndian.Uint32(pa.PADataValue))
		}
	}
	return 0
}
