// SPDX-License-Identifier: Apache-2.0

package login

import "time"

// NegotiateResult is what AcceptNegotiate says of a SPNEGO token. The fields
// below Result are filled in as far as the token could be read, on a refusal as
// well: they tell an administrator why no ticket came. Wipe it.
type NegotiateResult struct {
	*Result                 // nil unless somebody is let in
	Reply     []byte        // the token to send back; may be empty
	Mechanism string        // "kerberos", "ntlm" or the OID in dotted form
	SPN       string        // the name of ours that the client asked for
	KVNO      uint32        // of the key that the ticket was made with
	EType     int32         // RFC 3961; 18 and 17 are AES
	Skew      time.Duration // how far the client's clock runs ahead of ours
}

// Wipe overwrites the tickets. Safe on nil.
func (r *NegotiateResult) Wipe() {
	if r != nil {
		r.Result.Wipe()
	}
}
