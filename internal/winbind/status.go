// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// NTSTATUS values that this door gives (MS-ERREF 2.3).
const (
	statusOK                 uint32 = 0
	statusInvalidParameter   uint32 = 0xC000000D
	statusAccessDenied       uint32 = 0xC0000022
	statusNoLogonServers     uint32 = 0xC000005E
	statusNoSuchUser         uint32 = 0xC0000064
	statusWrongPassword      uint32 = 0xC000006A
	statusLogonFailure       uint32 = 0xC000006D
	statusAccountRestriction uint32 = 0xC000006E
	statusInvalidHours       uint32 = 0xC000006F
	statusInvalidStation     uint32 = 0xC0000070
	statusPasswordExpired    uint32 = 0xC0000071
	statusAccountDisabled    uint32 = 0xC0000072
	statusNoSuchDomain       uint32 = 0xC00000DF
	statusNotSupported       uint32 = 0xC00000BB
	statusInternalError      uint32 = 0xC00000E5
	statusLogonType          uint32 = 0xC000015B
	statusAccountExpired     uint32 = 0xC0000193
	statusMustChange         uint32 = 0xC0000224
	statusLockedOut          uint32 = 0xC0000234
	statusNTLMBlocked        uint32 = 0xC0000418
	statusQuota              uint32 = 0xC0000044
)

// What a PAM module hears (pam(3), Linux's numbers).
const (
	pamSystemErr   = 4
	pamPermDenied  = 6
	pamAuthErr     = 7
	pamAuthUnavail = 9
	pamUserUnknown = 10
	pamMaxTries    = 11
	pamNewToken    = 12
	pamExpired     = 13
)

// statuses name the values, for clients that show a name and a sentence.
var statuses = map[uint32]struct {
	name, message string
	pam           int32
}{
	statusOK:                 {"NT_STATUS_OK", "The operation completed successfully.", 0},
	statusInvalidParameter:   {"NT_STATUS_INVALID_PARAMETER", "The request makes no sense.", pamSystemErr},
	statusAccessDenied:       {"NT_STATUS_ACCESS_DENIED", "Access is denied.", pamPermDenied},
	statusNoLogonServers:     {"NT_STATUS_NO_LOGON_SERVERS", "No domain controller can be asked now.", pamAuthUnavail},
	statusNoSuchUser:         {"NT_STATUS_NO_SUCH_USER", "The domain knows no such account.", pamUserUnknown},
	statusWrongPassword:      {"NT_STATUS_WRONG_PASSWORD", "The password is wrong.", pamAuthErr},
	statusLogonFailure:       {"NT_STATUS_LOGON_FAILURE", "The name or the password is wrong.", pamAuthErr},
	statusAccountRestriction: {"NT_STATUS_ACCOUNT_RESTRICTION", "A restriction of the account forbids this.", pamPermDenied},
	statusInvalidHours:       {"NT_STATUS_INVALID_LOGON_HOURS", "The account may not sign in at this hour.", pamPermDenied},
	statusInvalidStation:     {"NT_STATUS_INVALID_WORKSTATION", "The account may not sign in from this computer.", pamPermDenied},
	statusPasswordExpired:    {"NT_STATUS_PASSWORD_EXPIRED", "The password has expired.", pamNewToken},
	statusAccountDisabled:    {"NT_STATUS_ACCOUNT_DISABLED", "The account is disabled.", pamExpired},
	statusNoSuchDomain:       {"NT_STATUS_NO_SUCH_DOMAIN", "The domain is not known.", pamAuthUnavail},
	statusNotSupported:       {"NT_STATUS_NOT_SUPPORTED", "This is not supported.", pamSystemErr},
	statusInternalError:      {"NT_STATUS_INTERNAL_ERROR", "The daemon failed; its log says how.", pamSystemErr},
	statusLogonType:          {"NT_STATUS_LOGON_TYPE_NOT_GRANTED", "The account may not sign in over the network.", pamPermDenied},
	statusAccountExpired:     {"NT_STATUS_ACCOUNT_EXPIRED", "The account has expired.", pamExpired},
	statusMustChange:         {"NT_STATUS_PASSWORD_MUST_CHANGE", "The password has to be changed first.", pamNewToken},
	statusLockedOut:          {"NT_STATUS_ACCOUNT_LOCKED_OUT", "The account is locked out.", pamMaxTries},
	statusNTLMBlocked:        {"NT_STATUS_NTLM_BLOCKED", "NTLM is not possible for this account.", pamPermDenied},
	statusQuota:              {"NT_STATUS_QUOTA_EXCEEDED", "Too many attempts failed; try again later.", pamAuthUnavail},
}

// outcomes is this door's table: each way to fail has its status.
var outcomes = map[fault.Kind]uint32{
	fault.Unknown:       statusInternalError,
	fault.NotFound:      statusNoSuchUser,
	fault.BadCredential: statusWrongPassword,
	fault.Locked:        statusLockedOut,
	fault.Disabled:      statusAccountDisabled,
	fault.Expired:       statusAccountExpired,
	fault.MustChange:    statusMustChange,
	fault.Denied:        statusAccessDenied,
	fault.Unreachable:   statusNoLogonServers,
	fault.Malformed:     statusInvalidParameter,
	fault.Conflict:      statusNoLogonServers, // the machine is in no domain
	fault.Exhausted:     statusQuota,
	fault.Internal:      statusInternalError,
}

// statusOf is the status of a failure: the domain controller's own where it
// refused, else that of the kind.
func statusOf(err error) uint32 {
	if errors.Is(err, context.Canceled) {
		return statusNoLogonServers // the daemon is about to end, and another begins
	}
	kind := fault.KindOf(err)
	if status, ok := login.NTStatus(err); ok && status != statusOK && kind != fault.Unreachable {
		return status
	}
	return outcomes[kind]
}

func statusName(status uint32) string {
	if s, ok := statuses[status]; ok {
		return s.name
	}
	return fmt.Sprintf("NT code 0x%08x", status)
}

func statusMessage(status uint32) string {
	if s, ok := statuses[status]; ok {
		return s.message
	}
	return statusName(status)
}

func pamError(status uint32) int32 {
	if s, ok := statuses[status]; ok {
		return s.pam
	}
	return pamAuthErr
}

// refuse makes resp the refusal of something that was to be proved.
// authoritative: nobody else knows better, so that smbd does not ask its own
// accounts.
func (c *client) refuse(resp *wire.Response, status uint32, err error, authoritative bool) {
	message := statusMessage(status)
	if fault.Is(err, fault.MustChange) || fault.Is(err, fault.Expired) {
		if remedy := fault.Remedy(err); remedy != "" {
			message += " (" + remedy + ")"
		}
	}
	resp.SetAuth(&wire.Auth{Status: status, StatusName: statusName(status), Message: message, PAMError: pamError(status), Authoritative: authoritative})
}
