// SPDX-License-Identifier: Apache-2.0

// Package idmap holds the arithmetic between SIDs and POSIX ids, and the rules
// by which a row may bear a bare name on this machine.
//
// Everything here is a pure function of its arguments. The package remembers
// nothing: who owns an id, and for how long, is the store's to say.
package idmap

import (
	"iter"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Method names an arithmetic.
type Method string

// The methods.
const (
	RID     Method = "rid"     // base + RID: winbind's idmap_rid, TrueNAS
	SSSD    Method = "sssd"    // SSSD's slices, chosen by a hash of the domain SID
	AutoRID Method = "autorid" // winbind's idmap_autorid, the domain in one given range
)

// Config chooses the numbers. Zero fields take the method's defaults.
type Config struct {
	Method Method // "" is RID
	Base   uint32 // first id of the range: rid 100000001, sssd 200000, autorid 100000
	Size   uint32 // ids in the range: rid 100000000, sssd 2000000000, autorid 100000000
	// Slice is how many ids a slice has: sssd 200000, autorid 100000, rid a
	// hundredth of the range. For rid it matters only to ids that another row
	// already owns.
	Slice uint32
	// First is the number of the domain's slice; autorid only. winbind counts
	// ranges in the order in which it needs them, from 0, and a winbind with its
	// own well-known SIDs in autorid has used one or two before the domain.
	First uint32
}

// Map is the arithmetic for one domain. It does not change once made.
type Map struct {
	cfg    Config
	domain identity.SID
	slices uint32 // whole slices in the range, at least 1
}

// New checks cfg and returns the map for the accounts of the domain.
// fault.Malformed: an unknown method, no domain, a range that leaves the ids
// that a kernel takes, or one that has no room for a slice.
func New(cfg Config, domain identity.SID) (*Map, error) {
	var base, size, slice uint32
	switch cfg.Method {
	case RID, "":
		cfg.Method = RID
		base, size = 100_000_001, 100_000_000
	case SSSD:
		base, size, slice = 200_000, 2_000_000_000, 200_000
	case AutoRID:
		base, size, slice = 100_000, 100_000_000, 100_000
	default:
		return nil, fault.Errorf(fault.Malformed, "unknown id method %q: rid, sssd or autorid", cfg.Method)
	}
	if cfg.Base == 0 {
		cfg.Base = base
	}
	if cfg.Size == 0 {
		cfg.Size = size
	}
	if cfg.Slice == 0 {
		if cfg.Slice = slice; slice == 0 {
			cfg.Slice = max(1, cfg.Size/100)
		}
	}
	switch last := uint64(cfg.Base) + uint64(cfg.Size) - 1; {
	case domain.IsZero():
		return nil, fault.New(fault.Malformed, "ids need the SID of the domain")
	case cfg.Base < firstID || last >= noID:
		return nil, fault.Errorf(fault.Malformed, "ids from %d to %d: the range has to lie between %d and %d", cfg.Base, last, firstID, uint32(noID-1))
	case cfg.Slice > cfg.Size:
		return nil, fault.Errorf(fault.Malformed, "a slice of %d ids does not fit into a range of %d", cfg.Slice, cfg.Size)
	}
	return &Map{cfg: cfg, domain: domain, slices: cfg.Size / cfg.Slice}, nil
}

// Config returns the numbers, defaults filled in.
func (m *Map) Config() Config { return m.cfg }

// Domain returns the SID of the domain whose accounts the map knows.
func (m *Map) Domain() identity.SID { return m.domain }

// Contains reports whether id lies in the range and may be given to anybody.
func (m *Map) Contains(id uint32) bool {
	return id >= m.cfg.Base && id-m.cfg.Base < m.cfg.Size && !Refused(id)
}

// Natural returns the id that the arithmetic gives to an account of the domain.
// False: the SID is of another domain, or the id is outside the range or refused.
func (m *Map) Natural(sid identity.SID) (uint32, bool) {
	rid, ok := sid.RID()
	if !ok || !sid.In(m.domain) {
		return 0, false
	}
	offset, ok := m.offset(rid)
	if !ok || !m.Contains(m.cfg.Base+offset) {
		return 0, false
	}
	return m.cfg.Base + offset, true
}

// Candidates yields the ids that an account may have, in the order in which
// they are to be tried: Natural, then the same place in each following slice of
// the range, around its end, up to the slice before the first. It yields
// nothing for a SID of another domain or one that the range has no place for.
func (m *Map) Candidates(sid identity.SID) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		rid, ok := sid.RID()
		if !ok || !sid.In(m.domain) {
			return
		}
		offset, ok := m.offset(rid)
		if !ok {
			return
		}
		if id := m.cfg.Base + offset; m.Contains(id) && !yield(id) {
			return
		}
		slice, place := offset/m.cfg.Slice, offset%m.cfg.Slice
		for k := range m.slices {
			next := uint32((uint64(slice) + 1 + uint64(k)) % uint64(m.slices))
			if next == slice {
				continue
			}
			if id := m.cfg.Base + next*m.cfg.Slice + place; m.Contains(id) && !yield(id) {
				return
			}
		}
	}
}

// SID is the reverse of Natural. False: no account of the domain has this id by
// the arithmetic. Of SSSD's slices, the domain's first and those for RIDs up to
// 64 slices are searched. Who really owns an id only the store knows.
func (m *Map) SID(id uint32) (identity.SID, bool) {
	if !m.Contains(id) {
		return identity.SID{}, false
	}
	offset := id - m.cfg.Base
	slice, place := offset/m.cfg.Slice, offset%m.cfg.Slice
	switch m.cfg.Method {
	case SSSD:
		for n := range uint32(64) {
			if m.sssdSlice(n) == slice && place < m.cfg.Slice {
				return m.domain.WithRID(n*m.cfg.Slice + place), true
			}
		}
		return identity.SID{}, false
	case AutoRID:
		if slice < m.cfg.First {
			return identity.SID{}, false
		}
		return m.domain.WithRID((slice-m.cfg.First)*m.cfg.Slice + place), true
	}
	return m.domain.WithRID(offset), true
}

// offset returns the place of a RID in the range.
func (m *Map) offset(rid uint32) (uint32, bool) {
	var off uint64
	switch n, place := rid/m.cfg.Slice, rid%m.cfg.Slice; m.cfg.Method {
	case SSSD:
		off = uint64(m.sssdSlice(n))*uint64(m.cfg.Slice) + uint64(place)
	case AutoRID:
		off = (uint64(m.cfg.First)+uint64(n))*uint64(m.cfg.Slice) + uint64(place)
	default:
		off = uint64(rid)
	}
	return uint32(off), off < uint64(m.cfg.Size)
}
