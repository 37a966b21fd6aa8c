// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Pool holds the account's secure channels. Safe for concurrent use.
type Pool struct{}

// SamLogon asks whether the challenge was answered rightly. ctx should have a
// deadline. Errors carry a fault kind and, where the domain controller decided,
// its NTSTATUS (StatusOf): fault.Unreachable when nothing was decided.
func (p *Pool) SamLogon(ctx context.Context, l Logon) (*Validation, error) {
	return nil, fault.New(fault.Unreachable, "no domain controller can be asked")
}

// Check proves that the machine's account is good: it opens a channel, or uses
// one that is open, and asks the domain controller over it. It returns the DNS
// name of the one that answered.
func (p *Pool) Check(ctx context.Context) (dc string, err error) {
	return "", fault.New(fault.Unreachable, "no domain controller can be asked")
}

// DC returns the DNS name of the domain controller that was good last, or "".
func (p *Pool) DC() string { return "" }

// Close ends the channels. Safe on nil and twice.
func (p *Pool) Close() {}
