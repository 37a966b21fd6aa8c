// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Verified is what the KDC states about a client in a ticket that was sealed
// with our own host key: nobody else can have made it.
type Verified struct {
	Client   Principal // canonical
	Flags    Flags
	AuthTime time.Time
	EndTime  time.Time
	PAC      *PAC // its signature checked with our key; nil when the ticket has none
}

// Verify proves that tgt came from a KDC that knows our host key: it asks for
// a ticket to service (our own, as host/nas.example.com) and opens it with
// host. A KDC that is not the domain's cannot make such a ticket:
// fault.BadCredential, and others are asked before it for a while. No key for the ticket's kvno in host: fault.Conflict.
func (c *Client) Verify(ctx context.Context, tgt *Ticket, service Principal, host *Keytab) (*Verified, error) {
	const op = "verify the domain controller by our own host key"
	t, from, err := c.tgs(ctx, "get a ticket for "+service.String(), tgt, service, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	defer t.Wipe()
	o, err := openTicket(t.Raw, host)
	if err != nil {
		if fault.Is(err, fault.BadCredential) {
			c.cfg.Servers.Bad(from)
		}
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	defer o.key.Value.Wipe()
	switch {
	case !o.service.Equal(t.Service):
		return nil, fault.Errorf(fault.BadCredential, "%s: the ticket is for %.200q", op, o.service)
	case !o.client.Equal(tgt.Client):
		return nil, fault.Errorf(fault.BadCredential, "%s: the ticket names %.200q", op, o.client)
	case o.key.EType != t.Key.EType || !o.key.Value.Equal(t.Key.Value):
		return nil, fault.New(fault.BadCredential, op+": the session keys differ")
	case c.now().Sub(o.end) > maxSkew || o.start.Sub(c.now()) > maxSkew:
		return nil, fault.New(fault.BadCredential, op+": the ticket is not valid now")
	}
	return &Verified{Client: o.client, Flags: o.flags, AuthTime: o.authTime, EndTime: o.end, PAC: o.pac}, nil
}
