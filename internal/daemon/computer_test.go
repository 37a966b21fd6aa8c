// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

type refusedCredential struct{ err error }

func (r refusedCredential) Ticket(context.Context, string, string) (*kerberos.Ticket, error) {
	return nil, r.err
}

func (refusedCredential) Drop() {}

// TestARefusedMachineIsNoAnswerAboutAnybody: a person whose row is read with
// this must come out neither unknown nor disabled.
func TestARefusedMachineIsNoAnswerAboutAnybody(t *testing.T) {
	for _, kind := range fault.Kinds() {
		c := computer{Credential: refusedCredential{fault.New(kind, "the KDC's words")}, account: "NAS$", domain: "aadds.contoso.test"}
		_, err := c.Ticket(t.Context(), "ldap", "dc1.aadds.contoso.test")
		switch kind {
		case fault.Unreachable, fault.Malformed, fault.Conflict, fault.Exhausted, fault.Internal, fault.Unknown:
			if !fault.Is(err, kind) {
				t.Errorf("%s became %v", kind, err)
			}
		default:
			if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "NAS$: the KDC's words") || !strings.Contains(fault.Remedy(err), "latchkey join aadds.contoso.test") {
				t.Errorf("%s became %v, remedy %q", kind, err, fault.Remedy(err))
			}
		}
	}
	// Another DC's name may be known.
	unknown := computer{Credential: refusedCredential{fault.Wrap(fault.NotFound, "", &kerberos.Error{Code: kerberos.CodeServiceUnknown})}}
	if _, err := unknown.Ticket(t.Context(), "ldap", "impostor"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a service that the KDC does not know became %v", err)
	}
}
