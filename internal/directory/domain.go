// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Domain is what the directory says about the domain as a whole.
type Domain struct {
	identity.Domain
	DN           string
	SyncedOU     string   // DN of OU=AADDC Users; empty when the domain has none
	ComputersOU  string   // DN of OU=AADDC Computers; empty when the domain has none
	UPNSuffixes  []string // lower case: the domain's own, then those of the Partitions container
	MachineQuota int      // ms-DS-MachineAccountQuota; -1 when not readable
	Policy       PasswordPolicy
}

// PasswordPolicy is the domain's default; a PSO may rule otherwise for some.
type PasswordPolicy struct {
	LockoutThreshold int           // wrong passwords; 0: never locked
	LockoutWindow    time.Duration // in which they are counted
	LockoutDuration  time.Duration // 0: until an administrator unlocks
	MaxAge           time.Duration // 0: passwords do not expire
	MinAge           time.Duration
	MinLength        int
	History          int
	Complex          bool
}

// Domain reads the facts about the domain.
func (c *Conn) Domain(ctx context.Context) (Domain, error) { return Domain{}, errUnbuilt }
