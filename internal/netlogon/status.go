// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"errors"
	"fmt"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// NTSTATUS values that this package gives or understands (MS-ERREF 2.3).
const (
	StatusOK                   uint32 = 0x00000000
	StatusInvalidParameter     uint32 = 0xC000000D
	StatusAccessDenied         uint32 = 0xC0000022
	StatusNoLogonServers       uint32 = 0xC000005E
	StatusNoSuchUser           uint32 = 0xC0000064
	StatusWrongPassword        uint32 = 0xC000006A
	StatusLogonFailure         uint32 = 0xC000006D
	StatusAccountRestriction   uint32 = 0xC000006E
	StatusInvalidLogonHours    uint32 = 0xC000006F
	StatusInvalidWorkstation   uint32 = 0xC0000070
	StatusPasswordExpired      uint32 = 0xC0000071
	StatusAccountDisabled      uint32 = 0xC0000072
	StatusLogonTypeNotGranted  uint32 = 0xC000015B
	StatusNoTrustLSASecret     uint32 = 0xC000018A
	StatusNoTrustSAMAccount    uint32 = 0xC000018B
	StatusTrustedDomainFailure uint32 = 0xC000018C
	StatusTrustedRelationship  uint32 = 0xC000018D
	StatusAccountExpired       uint32 = 0xC0000193
	StatusNologonWorkstation   uint32 = 0xC0000199
	StatusNologonServer        uint32 = 0xC0000198
	StatusNologonInterdomain   uint32 = 0xC000019A
	StatusPasswordMustChange   uint32 = 0xC0000224
	StatusAccountLockedOut     uint32 = 0xC0000234
	StatusNoSuchDomain         uint32 = 0xC00000DF
	StatusDomainControllerGone uint32 = 0xC0000233
	StatusAuthFirewall         uint32 = 0xC0000413
	StatusNTLMBlocked          uint32 = 0xC0000418
	StatusDowngradeDetected    uint32 = 0xC0000388
)

// meanings say for each status which kind of failure it is, and what it means
// in a sentence.
var meanings = map[uint32]struct {
	kind fault.Kind
	text string
}{
	StatusInvalidParameter:     {fault.Malformed, "the domain controller cannot read the question"},
	StatusAccessDenied:         {fault.Unreachable, "the domain controller refuses this machine"},
	StatusNoLogonServers:       {fault.Unreachable, "no domain controller can be asked"},
	StatusNoSuchUser:           {fault.NotFound, "the domain knows no such user"},
	StatusWrongPassword:        {fault.BadCredential, "wrong password"},
	StatusLogonFailure:         {fault.BadCredential, "wrong name or password"},
	StatusAccountRestriction:   {fault.Denied, "a restriction of the account forbids NTLM, as for a member of Protected Users"},
	StatusInvalidLogonHours:    {fault.Denied, "outside the hours in which the account may sign in"},
	StatusInvalidWorkstation:   {fault.Denied, "the account may not sign in from this workstation"},
	StatusPasswordExpired:      {fault.Expired, "the password has expired"},
	StatusAccountDisabled:      {fault.Disabled, "the account is disabled"},
	StatusLogonTypeNotGranted:  {fault.Denied, "the account may not sign in over the network"},
	StatusNoTrustLSASecret:     {fault.Unreachable, "the domain controller has no secret for this machine"},
	StatusNoTrustSAMAccount:    {fault.Unreachable, "the domain has no account for this machine"},
	StatusTrustedDomainFailure: {fault.Unreachable, "the trust to the account's domain is broken"},
	StatusTrustedRelationship:  {fault.Unreachable, "the trust to the account's domain is broken"},
	StatusAccountExpired:       {fault.Expired, "the account has expired"},
	StatusNologonWorkstation:   {fault.Denied, "this is a machine's account"},
	StatusNologonServer:        {fault.Denied, "this is a domain controller's account"},
	StatusNologonInterdomain:   {fault.Denied, "this is a trust's account"},
	StatusPasswordMustChange:   {fault.MustChange, "the password has to be changed first"},
	StatusAccountLockedOut:     {fault.Locked, "the account is locked out"},
	StatusNoSuchDomain:         {fault.NotFound, "the domain is not known"},
	StatusDomainControllerGone: {fault.Unreachable, "the domain controller finds no other for the account's domain"},
	StatusAuthFirewall:         {fault.Denied, "the account may not sign in to this machine (selective authentication)"},
	StatusNTLMBlocked:          {fault.Denied, "NTLM is blocked"},
	StatusDowngradeDetected:    {fault.Unreachable, "the domain controller saw an attempt to weaken the channel"},
}

// Status is a refusal with its NTSTATUS, from the domain controller or, in the
// same words, from this package.
type Status struct {
	Code uint32
	Text string // instead of the usual sentence; may be empty
	// Foreign: the domain controller does not answer for that domain; somebody
	// else may know the user (MS-NRPC 3.5.4.5.1, Authoritative = FALSE).
	Foreign bool
}

// Error says what the status means, with its number.
func (s *Status) Error() string {
	text := s.Text
	if text == "" {
		text = meanings[s.Code].text
	}
	if text == "" {
		text = "the domain controller answered a status that is not known here"
	}
	return fmt.Sprintf("%s (NTSTATUS 0x%08X)", text, s.Code)
}

// refusal returns the error for a status: its fault kind with the Status inside.
// A status that is not known is fault.Unreachable: nothing was decided.
func refusal(code uint32, text, remedy string) error {
	kind := fault.Unreachable
	if m, ok := meanings[code]; ok {
		kind = m.kind
	}
	err := error(&fault.Error{Kind: kind, Err: &Status{Code: code, Text: text}})
	if remedy != "" {
		err = fault.WithRemedy(err, remedy)
	}
	return err
}

// StatusOf returns the NTSTATUS that err carries; false where there is none,
// as when no domain controller answered.
func StatusOf(err error) (uint32, bool) {
	var s *Status
	if errors.As(err, &s) {
		return s.Code, true
	}
	return 0, false
}
