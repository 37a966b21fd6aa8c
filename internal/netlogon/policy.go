// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"strings"
	"unicode/utf8"
)

// Sizes of what a client may bring.
const (
	maxName = 256 // runes of a name; a UPN may be long
	// An NTLMv2 response is a proof of 16 bytes and a client challenge of at
	// least 28 (MS-NLMP 2.2.2.7, 2.2.2.8).
	minNTLMv2 = 44
	maxNTLMv2 = 16 << 10
	sizeNTLM  = 24 // NTLMv1, NTLMv2 session security, MS-CHAPv2
)

// passedOn are the bits of Logon.Parameters that reach the domain controller:
// accounts of servers and of workstations may be asked about (bits E and K of
// MS-NRPC 2.2.1.4.15), and MS-CHAPv2. The others let in guests, or send
// passwords in clear.
const passedOn = 0x20 | 0x800 | ParameterMSCHAPv2

// admit refuses what must not be asked at all, and returns what is sent.
func (p *Pool) admit(l Logon) (Logon, error) {
	// An LM response proves less than the NT response beside it, and a DC may
	// take either.
	l.LM = nil
	l.Parameters &= passedOn
	for _, name := range []string{l.Domain, l.User, l.Workstation} {
		if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName || strings.ContainsRune(name, 0) {
			return l, refusal(StatusInvalidParameter, "a name that cannot be one", "")
		}
	}
	if l.User == "" {
		return l, refusal(StatusNoSuchUser, "an anonymous sign-in", "")
	}
	switch n := len(l.NT); {
	case n >= minNTLMv2 && n <= maxNTLMv2:
		// Whatever the server says, this is not MS-CHAPv2.
		l.Parameters &^= ParameterMSCHAPv2
		return l, nil
	case n == sizeNTLM && l.Parameters&ParameterMSCHAPv2 != 0:
		if p.c.MSCHAPv2 == nil || !p.c.MSCHAPv2() {
			return l, refusal(StatusNTLMBlocked, "MS-CHAPv2 is not allowed on this machine",
				"a RADIUS server that needs it: set `ntlm.mschapv2 = true`; its responses can be broken by whoever listens")
		}
		return l, nil
	case n == sizeNTLM:
		return l, refusal(StatusNTLMBlocked, "NTLMv1 is never allowed", "the client has to use NTLMv2 (Windows: LmCompatibilityLevel 3 or more) or Kerberos")
	}
	return l, refusal(StatusInvalidParameter, "the answer to the challenge is no NTLMv2 response", "")
}
