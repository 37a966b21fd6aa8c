// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/oidc"
)

// Reason is why a browser's sign-in came to nothing: what a page explains.
type Reason string

// The reasons. None is not one: no error.
const (
	None      Reason = ""
	Stale     Reason = "stale"     // it took more than ten minutes, or the browser does not remember it: begin again
	Replayed  Reason = "replayed"  // the answer was used before: begin again
	Malformed Reason = "malformed" // the answer makes no sense
	Front     Reason = "front"     // tokens came through the browser: the app registration must not allow it
	Quiet     Reason = "quiet"     // asked without a page, and it takes one: show the buttons
	Cancelled Reason = "cancelled" // the person did not go through with it, or the tenant said no
	Token     Reason = "token"     // the tenant's answer failed a check
	Setup     Reason = "setup"     // the app registration is wrong, or its secret has ended
	Away      Reason = "away"      // nobody could be asked: try later
	Unknown   Reason = "unknown"   // in Entra ID, but not in this domain (yet: the sync can take an hour)
	Guest     Reason = "guest"     // of another tenant, and not in this domain
	Ambiguous Reason = "ambiguous" // two objects of the domain have this id
	Account   Reason = "account"   // disabled, expired, or without a name here
	Denied    Reason = "denied"    // the access rules of this machine say no
	Internal  Reason = "internal"
)

// Reasons returns all of them, for tests of completeness.
func Reasons() []Reason {
	return []Reason{Stale, Replayed, Malformed, Front, Quiet, Cancelled, Token, Setup, Away, Unknown, Guest, Ambiguous, Account, Denied, Internal}
}

// because is an error with its reason.
type because struct {
	reason Reason
	err    error
}

// Error is the error's.
func (b *because) Error() string { return b.err.Error() }

// Unwrap returns the error.
func (b *because) Unwrap() error { return b.err }

func reason(r Reason, err error) error { return &because{r, err} }

// ReasonOf returns why a sign-in failed; None for nil.
func ReasonOf(err error) Reason {
	var b *because
	switch {
	case err == nil:
		return None
	case errors.As(err, &b):
		return b.reason
	case errors.Is(err, oidc.ErrCredential):
		return Setup
	}
	switch fault.KindOf(err) {
	case fault.NotFound:
		return Unknown
	case fault.BadCredential:
		return Token
	case fault.Conflict:
		return Setup
	case fault.Unreachable, fault.Exhausted:
		return Away
	case fault.Disabled, fault.Expired, fault.Locked, fault.MustChange:
		return Account
	case fault.Denied:
		return Denied
	case fault.Malformed:
		return Malformed
	}
	return Internal
}

// ofLogin is the reason of an error of package login.
func ofLogin(err error, guest bool) error {
	switch {
	case fault.Is(err, fault.NotFound) && guest:
		return reason(Guest, err)
	case errors.Is(err, login.ErrTwoRows):
		return reason(Ambiguous, err)
	case errors.Is(err, login.ErrOtherTenant):
		return reason(Setup, err)
	}
	return reason(ReasonOf(err), err)
}

// ErrNone is the answer for a cookie that stands for no session: never made,
// ended, or too old.
var ErrNone = fault.New(fault.BadCredential, "there is no such session")
