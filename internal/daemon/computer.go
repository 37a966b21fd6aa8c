// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// computer is the machine's account as it signs in to the directory. What the
// domain has against it (deleted, disabled, another password, a domain that was
// built anew) is no answer about any person: it is fault.Unreachable, with what
// an administrator does about it. That the KDC does not know a DC's service stays
// fault.NotFound, for another DC may be known.
type computer struct {
	directory.Credential
	account, domain string
}

// Ticket implements directory.Credential.
func (c computer) Ticket(ctx context.Context, class, host string) (*kerberos.Ticket, error) {
	t, err := c.Credential.Ticket(ctx, class, host)
	var refusal *kerberos.Error
	if errors.As(err, &refusal) && refusal.Code == kerberos.CodeServiceUnknown {
		return nil, err
	}
	switch fault.KindOf(err) {
	case fault.NotFound, fault.BadCredential, fault.Locked, fault.Disabled, fault.Expired, fault.MustChange, fault.Denied:
		return nil, fault.WithRemedy(fault.Wrap(fault.Unreachable, "the domain refuses this machine's account "+c.account, err),
			"enable the account where it is disabled; where it was deleted or reset, or the domain was built anew: latchkey join "+c.domain+" --user NAME; every user keeps its uid")
	}
	return t, err
}
