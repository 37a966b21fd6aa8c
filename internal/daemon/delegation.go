// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
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
	delegationBegin    = 5 * time.Second // while the machine is in no domain, or not yet
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
func (d *Daemon) watchDelegation(ctx context.Context) {
	for {
		next := delegationBegin
		machine, err := d.store.Machine(ctx)
		if err == nil {
			machine.Wipe() // of its keys, which nobody needs here
		}
		if m := d.current(); err == nil && m != nil {
			next = delegationRetry
			err = m.client.Do(ctx, func(c *directory.Conn) error {
				found, err := readDelegation(ctx, c, "<SID="+machine.ComputerSID.String()+">")
				if err != nil {
					return err
				}
				if before := d.delegation.Swap(found); found.says() != "" && (before == nil || before.says() != found.says()) {
					d.log.Warn("the machine's account is set up for delegation", "account", found.dn, "what", found.says())
				}
				if !strings.EqualFold(found.dn, machine.ComputerDN) {
					d.log.Warn("the machine's account is not where it was when the machine joined", "was", machine.ComputerDN, "is", found.dn)
				}
				next = delegationInterval
				return nil
			})
		}
		if err != nil && ctx.Err() == nil && !fault.Is(err, fault.NotFound) {
			d.log.Debug("the machine's own account cannot be read", "error", err)
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
	if found := d.delegation.Load(); found != nil && found.says() != "" {
		problem("delegation", found.says(), "latchkey needs no delegation: have an administrator of the domain take it from "+found.dn, time.Time{})
	}
}
