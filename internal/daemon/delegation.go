// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Delegation lets a machine act as its people at other services, or other
// machines as anybody at this one. latchkey needs neither, and whoever takes such
// a machine over takes more than the machine: so the directory is asked whether
// anybody has set it up for the machine's account, and an administrator is told.

// How often the machine's own account is looked at, and how soon again where it
// could not be.
const (
	delegationInterval = time.Hour
	delegationRetry    = time.Minute
)

// delegation is what the directory says of the machine's account.
type delegation struct {
	dn      string
	actsAs  bool     // at any service (userAccountControl, MS-ADTS 2.2.16)
	actsAt  []string // at these services (msDS-AllowedToDelegateTo)
	actedAs bool     // others act as anybody here (msDS-AllowedToActOnBehalfOfOtherIdentity)
}

// entries reads one entry; *directory.Conn does.
type entries interface {
	Get(ctx context.Context, dn string, attributes ...string) (directory.Entry, error)
}

func readDelegation(ctx context.Context, c entries, dn string) (*delegation, error) {
	const control, at, on = "userAccountControl", "msDS-AllowedToDelegateTo", "msDS-AllowedToActOnBehalfOfOtherIdentity"
	e, err := c.Get(ctx, dn, control, at, on)
	if err != nil {
		return nil, err
	}
	flags, err := strconv.ParseUint(e.First(control), 10, 32)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "read the machine's account", err)
	}
	d := &delegation{dn: e.DN, actsAs: uint32(flags)&(directory.UACTrustedForDeleg|directory.UACTrustedToAuthFor) != 0, actedAs: len(e.Values(on)) > 0}
	for _, spn := range e.Values(at) {
		d.actsAt = append(d.actsAt, string(spn))
	}
	return d, nil
}

// says is what an administrator should know of it; empty: nothing.
func (d *delegation) says() string {
	var all []string
	if d.actsAs {
		all = append(all, "the machine may act as its people at other services (trusted for delegation)")
	}
	if n := len(d.actsAt); n > 0 {
		all = append(all, fmt.Sprintf("the machine may act as its people at %.100s%s", d.actsAt[0], map[bool]string{true: fmt.Sprintf(" and %d more", n-1)}[n > 1]))
	}
	if d.actedAs {
		all = append(all, "other accounts may act as anybody at this machine (msDS-AllowedToActOnBehalfOfOtherIdentity)")
	}
	return strings.Join(all, "; ")
}

// watchDelegation looks at the machine's account until ctx ends. What was read
// last stays where the directory does not answer.
func (m *member) watchDelegation(ctx context.Context, log *slog.Logger, account identity.SID, dn string) {
	for {
		next := delegationRetry
		err := m.client.Do(ctx, func(c *directory.Conn) error {
			found, err := readDelegation(ctx, c, "<SID="+account.String()+">")
			if err != nil {
				return err
			}
			if before := m.delegation.Swap(found); found.says() != "" && (before == nil || before.says() != found.says()) {
				log.Warn("the machine's account is set up for delegation", "account", found.dn, "what", found.says())
			}
			if !strings.EqualFold(found.dn, dn) {
				log.Warn("the machine's account is not where it was when the machine joined", "was", dn, "is", found.dn)
			}
			next = delegationInterval
			return nil
		})
		if err != nil && ctx.Err() == nil {
			log.Debug("the machine's own account cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// fillDelegation tells of it.
func (d *Daemon) fillDelegation(problem func(id, summary, remedy string, since time.Time)) {
	m := d.current()
	if m == nil {
		return
	}
	if found := m.delegation.Load(); found != nil && found.says() != "" {
		problem("delegation", found.says(), "latchkey needs no delegation: have an administrator of the domain take it from "+found.dn, time.Time{})
	}
}
