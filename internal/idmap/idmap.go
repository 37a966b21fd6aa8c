// SPDX-License-Identifier: Apache-2.0

// Package idmap holds the arithmetic between SIDs and POSIX ids, and the rules
// by which a row may bear a bare name on this machine.
//
// Everything here is a pure function of its arguments. The package remembers
// nothing: who owns an id, and for how long, is the store's to say.
package idmap

import (
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Method names an arithmetic.
type Method string

// The methods.
const (
	RID     Method = "rid"     // base + RID: winbind's idmap_rid, TrueNAS
	SSSD    Method = "sssd"    // SSSD's slices, chosen by a hash of the domain SID
	AutoRID Method = "autorid" // winbind's idmap_autorid with the domain in one given range
)

// Config chooses the numbers. Zero fields take the method's defaults.
type Config struct {
	Method Method
	Base   uint32 // first id of the range: rid 100000001, sssd 200000, autorid 100000
	Size   uint32 // ids in the range: rid 100000000, sssd 2000000000, autorid 100000000
	// Slice is how many ids a slice has: rid 1000000, sssd 200000, autorid
	// 100000. For rid it matters only to ids that another row already has.
	Slice uint32
	// First is the slice of the domain; autorid only. winbind counts ranges in
	// the order in which it meets domains; 0 is its first.
	First uint32
}

// Map is the arithmetic for one domain. The zero value maps nothing.
type Map struct {
	cfg    Config
	domain identity.SID
	slices uint32
	first  uint32 // slice of the domain's RIDs below Slice
}

var errUnbuilt = fault.New(fault.Internal, "not built yet")

// New checks cfg and returns the map for the domain. fault.Malformed: an
// unknown method, a range that leaves the 32 bits or is smaller than a slice.
func New(cfg Config, domain identity.SID) (*Map, error) { return nil, errUnbuilt }
