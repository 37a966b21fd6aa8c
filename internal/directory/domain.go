// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
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
func (c *Conn) Domain(ctx context.Context) (Domain, error) {
	const op = "read the facts about the domain"
	f, err := c.know(ctx)
	if err != nil {
		return Domain{}, err
	}
	e, err := c.Get(ctx, f.defaultNC, "objectSid", "lockoutThreshold", "lockoutDuration", "lockOutObservationWindow",
		"maxPwdAge", "minPwdAge", "minPwdLength", "pwdHistoryLength", "pwdProperties", "ms-DS-MachineAccountQuota")
	if err != nil {
		return Domain{}, fault.Wrap(fault.Unknown, op, err)
	}
	number := func(name string, none int) int {
		n, err := strconv.Atoi(e.First(name))
		if err != nil {
			return none
		}
		return n
	}
	d := Domain{DN: f.defaultNC, MachineQuota: number("ms-DS-MachineAccountQuota", -1), Policy: PasswordPolicy{
		LockoutThreshold: number("lockoutThreshold", 0),
		LockoutWindow:    interval(e.First("lockOutObservationWindow")),
		LockoutDuration:  interval(e.First("lockoutDuration")),
		MaxAge:           interval(e.First("maxPwdAge")),
		MinAge:           interval(e.First("minPwdAge")),
		MinLength:        number("minPwdLength", 0),
		History:          number("pwdHistoryLength", 0),
		Complex:          number("pwdProperties", 0)&1 != 0,
	}}
	if d.SID, err = identity.SIDFromBytes([]byte(e.First("objectSid"))); err != nil {
		return Domain{}, fault.Wrap(fault.Malformed, op, err)
	}
	d.NetBIOS, d.DNS, d.Realm = f.netBIOS, f.dnsDomain, strings.ToUpper(f.dnsDomain)
	if err := c.suffixes(ctx, f, &d); err != nil {
		return Domain{}, fault.Wrap(fault.Unknown, op, err)
	}
	for _, ou := range []struct {
		rdn  string
		into *string
	}{{syncedOU, &d.SyncedOU}, {computersOU, &d.ComputersOU}} {
		e, err := c.Get(ctx, ou.rdn+","+f.defaultNC, "ou")
		if err == nil {
			*ou.into = e.DN
		} else if !fault.Is(err, fault.NotFound) {
			return Domain{}, fault.Wrap(fault.Unknown, op, err)
		}
	}
	return d, nil
}

// suffixes reads the UPN suffixes of the forest.
func (c *Conn) suffixes(ctx context.Context, f facts, d *Domain) error {
	d.UPNSuffixes = []string{d.DNS}
	e, err := c.Get(ctx, "CN=Partitions,"+f.config, "uPNSuffixes")
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	for _, v := range e.Values("uPNSuffixes") {
		if s := hostName(string(v)); isHostName(s) && !slices.Contains(d.UPNSuffixes, s) {
			d.UPNSuffixes = append(d.UPNSuffixes, s)
		}
	}
	return nil
}
