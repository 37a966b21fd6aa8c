// SPDX-License-Identifier: Apache-2.0

// Package audit records who tried to get in, by which door, and what came of
// it, and what administrators change: one event for every attempt, one line of
// JSON for every event.
//
// It never sees a password: Event has no field for one. It never decides
// anything and never holds an attempt up: events are written by a goroutine of
// the recorder, after the answer.
package audit

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Action is what was attempted.
type Action string

// The actions.
const (
	SignIn         Action = "sign-in"          // a password was tried
	Account        Action = "account"          // may this person use the service, however they proved themselves
	ChangePassword Action = "change-password"  // a new password
	Rule           Action = "access-rule"      // an administrator changed who may use a service
	SetConfig      Action = "config-set"       // an administrator changed a setting
	SetSso         Action = "sso-set"          // an administrator set up the sign-in with Entra ID
	RevokeSession  Action = "session-revoke"   // an administrator ended browsers' sessions
	RotateKey      Action = "machine-rotate"   // an administrator changed the machine's key
	ImportIDs      Action = "ids-import"       // an administrator took numbers over
	Join           Action = "join"             // the machine joined a domain
	Leave          Action = "leave"            // the machine left its domain
	LetGo          Action = "accept-deletions" // an administrator let go whom the directory no longer has
	ChangeFiles    Action = "etc-files"        // root's command line changed files in /etc
	RefusedCall    Action = "admin-call"       // somebody who is no administrator asked for what is theirs
)

// Outcome is what came of it.
type Outcome string

// The outcomes. Failed: nobody could decide, so nobody got in.
const (
	Allowed   Outcome = "allowed"
	Refused   Outcome = "refused"
	Failed    Outcome = "failed"
	Abandoned Outcome = "abandoned"
)

// Of is what came of something that ended with err, and the kind of the fault:
// refused, or failed where nobody could decide. "" goes with Allowed.
func Of(err error) (o Outcome, reason string) {
	if err == nil {
		return Allowed, ""
	}
	kind := fault.KindOf(err)
	switch kind {
	case fault.Unreachable, fault.Internal, fault.Unknown:
		return Failed, kind.String()
	}
	return Refused, kind.String()
}

// Event is one attempt. Empty fields are left out of the line.
type Event struct {
	Time    time.Time `json:"time"`
	ID      string    `json:"id"`
	Action  Action    `json:"action"`
	Outcome Outcome   `json:"outcome"`
	// Reason is the kind of fault in its words ("bad credential"); Detail says
	// what happened, for an administrator. What the stranger was told may be less.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Hint is what may stand behind a refusal, as far as there is evidence:
	// "guest", "no-hash", "changed-lately", "not-arrived", "ntlm-hash".
	Hint string `json:"hint,omitempty"`

	Door       string `json:"door,omitempty"`
	Service    string `json:"service,omitempty"`
	Asked      string `json:"asked,omitempty"` // the name as it was typed, cut at 256 bytes
	RemoteHost string `json:"rhost,omitempty"`
	TTY        string `json:"tty,omitempty"`
	Caller     string `json:"caller,omitempty"` // the local process that asked

	// The row that the name found.
	Row     identity.RowID `json:"row,omitempty"`
	Name    string         `json:"name,omitempty"`
	Account string         `json:"account,omitempty"`
	UID     identity.UID   `json:"uid,omitempty"`
	SID     string         `json:"sid,omitempty"`
	OID     string         `json:"oid,omitempty"`

	How       string `json:"how,omitempty"`       // "kerberos", "offline", "account", "remembered"
	Principal string `json:"principal,omitempty"` // that proved itself
	KDC       string `json:"kdc,omitempty"`       // that refused
	Rule      string `json:"rule,omitempty"`      // of the access policy, that decided
	// Sent is whether the password went to a KDC, which may have counted it.
	Sent         bool    `json:"sent"`
	Milliseconds float64 `json:"ms"`
}

// maxAsked bounds what a stranger can write into the file by one attempt.
const maxAsked = 256

// NewID returns a new id for an event, 16 hexadecimal digits.
func NewID() string {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// clip bounds the fields that come from outside.
func (e *Event) clip() {
	for _, s := range []*string{&e.Asked, &e.Service, &e.RemoteHost, &e.TTY, &e.Caller, &e.Detail} {
		if len(*s) > maxAsked {
			*s = (*s)[:maxAsked]
		}
	}
}
