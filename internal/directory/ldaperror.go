// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// LDAPError is a result code other than success. It is found by errors.As.
type LDAPError struct {
	Code     uint16 // RFC 4511 4.1.9
	WinError uint32 // the Windows code that Active Directory puts first in its text; 0 when none
	Text     string // the DC's diagnostic message, on one line
}

// Error returns the code's name and the DC's words.
func (e *LDAPError) Error() string {
	name := strings.ToLower(ldap.LDAPResultCodeMap[e.Code])
	if name == "" {
		name = "unknown"
	}
	if e.Text == "" {
		return fmt.Sprintf("LDAP result %d (%s)", e.Code, name)
	}
	return fmt.Sprintf("LDAP result %d (%s): %s", e.Code, name, e.Text)
}

// classify gives an error of the library its kind. Our own errors, as of the
// handshake, keep theirs.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	if fault.KindOf(err) != fault.Unknown {
		return fault.Wrap(fault.Unknown, op, err)
	}
	var le *ldap.Error
	if !errors.As(err, &le) {
		return fault.Wrap(fault.Unreachable, op, err)
	}
	if le.ResultCode >= ldap.ErrorNetwork {
		// The library's own codes: everything about the connection, and
		// requests that it could not encode.
		kind := fault.Unreachable
		if le.ResultCode != ldap.ErrorNetwork && le.ResultCode != ldap.ErrorUnexpectedResponse && le.ResultCode != ldap.ErrorUnexpectedMessage {
			kind = fault.Malformed
		}
		return fault.Wrap(kind, op, le.Err)
	}
	out := &LDAPError{Code: le.ResultCode}
	if le.Err != nil {
		out.Text = oneLine(le.Err.Error())
	}
	if head, _, ok := strings.Cut(out.Text, ":"); ok && len(head) == 8 {
		if n, err := strconv.ParseUint(head, 16, 32); err == nil {
			out.WinError = uint32(n)
		}
	}
	return fault.Wrap(resultKind(out), op, out)
}

func resultKind(e *LDAPError) fault.Kind {
	switch e.Code {
	case ldap.LDAPResultNoSuchObject:
		return fault.NotFound
	case ldap.LDAPResultInvalidCredentials:
		return fault.BadCredential
	case ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform,
		ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultConfidentialityRequired,
		ldap.LDAPResultConstraintViolation, ldap.LDAPResultInappropriateAuthentication:
		return fault.Denied
	case ldap.LDAPResultEntryAlreadyExists, ldap.LDAPResultAttributeOrValueExists, ldap.LDAPResultNotAllowedOnNonLeaf:
		return fault.Conflict
	case ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultOperationsError:
		return fault.Unreachable
	case ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultAdminLimitExceeded:
		return fault.Exhausted
	case ldap.LDAPResultReferral:
		return fault.NotFound
	case ldap.LDAPResultNoSuchAttribute, ldap.LDAPResultUndefinedAttributeType, ldap.LDAPResultInvalidAttributeSyntax,
		ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultNamingViolation, ldap.LDAPResultObjectClassViolation, ldap.LDAPResultProtocolError:
		return fault.Malformed
	}
	return fault.Internal
}

// oneLine makes text of a DC fit for a log: no control characters, at most 500
// bytes.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "")
	}
	return strings.TrimSpace(s)
}
