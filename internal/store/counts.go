// SPDX-License-Identifier: Apache-2.0

package store

import (
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// Counts is what there is.
type Counts struct {
	Users, Groups int
	Disabled      int // users
	Guests        int
	Conflicted    int // rows set aside because two live objects carry one oid
	Missing       int // rows not seen in the last sweep
	// UnpublishedUsers and UnpublishedGroups are rows without a bare name, and
	// Reasons says why. Distribution groups and groups of the DCs themselves
	// (BUILTIN) are counted apart: nobody expects them among unix groups.
	UnpublishedUsers, UnpublishedGroups int
	Reasons                             map[identity.Unpublished]int
	Distribution, Builtin               int
	Moved                               int // rows whose id does not follow the arithmetic
	Retired                             int // rows that are gone; their ids stay taken
}

// countsAt are counts and the place in the log that they were made at.
type countsAt struct {
	at     uint64
	counts Counts
}

// Counts counts for `status`. The answer is kept until something changes.
func (v *View) Counts() (Counts, error) {
	at := v.Position().Seq
	if kept := v.s.counts.Load(); kept != nil && kept.at == at {
		return kept.counts, nil
	}
	c := Counts{Reasons: make(map[identity.Unpublished]int)}
	err := v.eachRow(0, func(r *Row) error {
		c.count(r)
		return nil
	})
	if err != nil {
		return Counts{}, err
	}
	c.Retired = v.tx.Bucket(bucketGraves).Stats().KeyN
	v.s.counts.Store(&countsAt{at, c})
	return c, nil
}

func (c *Counts) count(r *Row) {
	common := r.Common()
	unpublished := &c.UnpublishedGroups
	if r.User != nil {
		c.Users++
		unpublished = &c.UnpublishedUsers
		if common.State.Has(identity.Disabled) {
			c.Disabled++
		}
		if common.State.Has(identity.Guest) {
			c.Guests++
		}
	} else {
		c.Groups++
	}
	if common.State.Has(identity.Conflicted) {
		c.Conflicted++
	}
	if common.State.Has(identity.Missing) {
		c.Missing++
	}
	if r.Moved {
		c.Moved++
	}
	switch common.Unpublished {
	case "":
	case idmap.ReasonDistribution:
		c.Distribution++
	case idmap.ReasonBuiltin:
		c.Builtin++
	default:
		*unpublished++
		c.Reasons[common.Unpublished]++
	}
}
