// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"time"
)

// Verified is what the KDC states about a client in a ticket that was sealed
// with our own host key: nobody else can have made it.
type Verified struct {
	Client   Principal // canonical
	Flags    Flags
	AuthTime time.Time
	EndTime  time.Time
	PAC      []byte // AD-WIN2K-PAC (MS-PAC), not yet checked; nil when there is none
}

// Verify proves that tgt came from a KDC that knows our host key: it asks for
// a ticket to service (our own, as host/nas.example.com) and opens it with
// host. A KDC that is not the domain's cannot make such a ticket:
// fault.BadCredential. No key for the ticket's kvno in host: fault.Conflict.
func (c *Client) Verify(ctx context.Context, tgt *Ticket, service Principal, host *Keytab) (*Verified, error) {
	return nil, errUnbuilt
}
