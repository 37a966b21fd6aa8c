// SPDX-License-Identifier: Apache-2.0

package join

import (
	"fmt"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// explainSignIn says what the refusal of a user's password means, in words for
// the administrator who typed it.
func explainSignIn(err error, user userName, dc directory.DC) error {
	say := func(kind fault.Kind, text, remedy string) error {
		return fault.WithRemedy(fault.Wrap(kind, text, err), remedy)
	}
	if e, ok := as[*kerberos.SkewError](err); ok {
		return skewed(e.Skew(), dc.Host)
	}
	e, _ := as[*kerberos.Error](err)
	switch kind := fault.KindOf(err); kind {
	case fault.BadCredential:
		if e != nil && (e.Code == kerberos.CodeETypeUnsupported || e.Code == kerberos.CodeNullKey) {
			return say(kind, fmt.Sprintf("%s has no password that the domain knows yet", user),
				"change the password of the user once in Entra ID, wait about 15 minutes for the sync, and try again; hybrid users need password hash sync")
		}
		return say(kind, fmt.Sprintf("the password of %s is wrong", user),
			"type it again; five wrong ones lock the account for half an hour. A user made before the managed domain has to change the password once in Entra ID")
	case fault.NotFound:
		return say(kind, fmt.Sprintf("%s has no user %s", dc.DNSDomain, user),
			"check the name; a user made in Entra ID takes a while to be synced, and guests are not in the domain at all")
	case fault.Locked:
		return say(kind, fmt.Sprintf("the account %s is locked after too many wrong passwords", user),
			"wait until the lockout ends (30 minutes by default), or use another user")
	case fault.Disabled:
		return say(kind, fmt.Sprintf("the account %s is disabled", user), "enable it in Entra ID and wait for the sync, or use another user")
	case fault.Expired:
		return say(kind, fmt.Sprintf("the account or password of %s has expired", user), "renew it in Entra ID, or use another user")
	case fault.MustChange:
		return say(kind, fmt.Sprintf("the password of %s has expired or must be changed first", user), "change it in Entra ID, wait about 15 minutes for the sync, and try again")
	case fault.Denied:
		return say(kind, fmt.Sprintf("the domain does not let %s sign in from here now", user), "look at the account's logon hours and workstations, or use another user")
	case fault.Unreachable:
		return silent(err, dc)
	}
	return err
}

// explainBind says why the directory did not open to somebody whose password
// was right a moment ago.
func explainBind(err error, dc directory.DC) error {
	if e, ok := as[*kerberos.SkewError](err); ok {
		return skewed(e.Skew(), dc.Host)
	}
	if e, ok := as[*kerberos.Error](err); ok && e.Code == kerberos.CodeServiceUnknown {
		return fault.WithRemedy(fault.Wrap(fault.Unreachable, fmt.Sprintf("the domain knows no LDAP service on %s", dc.Host), err),
			"the domain controllers may not agree with each other yet: try again later, or name another one with --dc")
	}
	if fault.Is(err, fault.Unreachable) {
		return silent(err, dc)
	}
	return fault.Wrap(fault.Unknown, "open the directory on "+dc.Host, err)
}

func silent(err error, dc directory.DC) error {
	return fault.WithRemedy(fault.Wrap(fault.Unreachable, fmt.Sprintf("%s does not answer", dc.Host), err),
		"check that TCP ports 88 and 389 to "+dc.Addr.String()+" stay open, and try again")
}

// Result codes of LDAP that are told apart (RFC 4511, appendix A.2).
const (
	ldapConstraint    = 19 // constraintViolation
	ldapNoSuchObject  = 32
	ldapInvalidDN     = 34 // invalidDNSyntax
	ldapDenied        = 50 // insufficientAccessRights
	ldapUnwilling     = 53 // unwillingToPerform
	ldapNotLeaf       = 66 // notAllowedOnNonLeaf
	ldapAlreadyExists = 68 // entryAlreadyExists
)

// ldapCode returns the result code under err, 0 when there is none.
func ldapCode(err error) uint16 {
	if e, ok := as[*directory.LDAPError](err); ok {
		return e.Code
	}
	return 0
}
