// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"context"
	"net/netip"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Account is the machine's own account in its domain.
type Account struct {
	Domain string // NetBIOS name
	Name   string // sAMAccountName, as "NAS$"
	// Passwords are tried in order, UTF-8: the one in use, then one whose change
	// may or may not have reached the domain, then the one before.
	Passwords []secret.Bytes
}

// computer is the NetBIOS name of the machine.
func (a *Account) computer() string { return strings.TrimSuffix(a.Name, "$") }

// Wipe overwrites the passwords. Safe on nil.
func (a *Account) Wipe() {
	if a != nil {
		for _, p := range a.Passwords {
			p.Wipe()
		}
	}
}

// Machine gives the account as it is now. It is asked each time a channel is
// opened; the Pool wipes what it gets.
type Machine interface {
	Account(ctx context.Context) (*Account, error)
}

// Server is one domain controller.
type Server struct {
	Name string // DNS name; may be empty
	Addr netip.Addr
}

// Servers gives the domain controllers to ask, and learns which are good.
type Servers interface {
	// Servers returns them, the best first; those that failed lately last.
	Servers(ctx context.Context) ([]Server, error)
	// Good and Bad tell how one did.
	Good(netip.Addr)
	Bad(netip.Addr)
}
