// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// outcomes is this door's table: each way to fail has its word. The module turns
// the word into what PAM wants to hear (pam/verdict.c).
var outcomes = map[fault.Kind]latchkeyv1.Outcome{
	fault.Unknown:       latchkeyv1.Outcome_OUTCOME_INTERNAL,
	fault.NotFound:      latchkeyv1.Outcome_OUTCOME_NOT_FOUND,
	fault.BadCredential: latchkeyv1.Outcome_OUTCOME_BAD_CREDENTIAL,
	fault.Locked:        latchkeyv1.Outcome_OUTCOME_LOCKED,
	fault.Disabled:      latchkeyv1.Outcome_OUTCOME_DISABLED,
	fault.Expired:       latchkeyv1.Outcome_OUTCOME_EXPIRED,
	fault.MustChange:    latchkeyv1.Outcome_OUTCOME_MUST_CHANGE,
	fault.Denied:        latchkeyv1.Outcome_OUTCOME_DENIED,
	fault.Unreachable:   latchkeyv1.Outcome_OUTCOME_UNREACHABLE,
	fault.Malformed:     latchkeyv1.Outcome_OUTCOME_MALFORMED,
	fault.Conflict:      latchkeyv1.Outcome_OUTCOME_CONFLICT,
	fault.Exhausted:     latchkeyv1.Outcome_OUTCOME_EXHAUSTED,
	fault.Internal:      latchkeyv1.Outcome_OUTCOME_INTERNAL,
}

func outcomeOf(err error) latchkeyv1.Outcome {
	if err == nil {
		return latchkeyv1.Outcome_OUTCOME_SUCCESS
	}
	if o, ok := outcomes[fault.KindOf(err)]; ok {
		return o
	}
	return latchkeyv1.Outcome_OUTCOME_INTERNAL
}
