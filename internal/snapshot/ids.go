// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Reserved are the ids that no snapshot may carry, whatever its ranges: those
// of the system and of root, systemd's dynamic users and groups, nobody, and
// the two that mean "no id" in 16 and 32 bits.
var Reserved = []Range{{0, 999}, {61184, 65519}, {65534, 65535}, {1<<32 - 1, 1<<32 - 1}}

// MaxAllowed is how many ranges can be left when Reserved is taken out of
// MaxRanges ranges.
const MaxAllowed = MaxRanges + 2

// Refused reports whether no snapshot may carry id, as a uid, as a gid, or in a
// list of gids.
func Refused(id uint32) bool {
	for _, r := range Reserved {
		if r.Low <= id && id <= r.High {
			return true
		}
	}
	return false
}

// CheckRanges refuses ranges that are none or too many, turned around, out of
// order, or that overlap.
func CheckRanges(ranges []Range) error {
	if len(ranges) == 0 || len(ranges) > MaxRanges {
		return fault.Errorf(fault.Malformed, "%d id ranges, want 1 to %d", len(ranges), MaxRanges)
	}
	for i, r := range ranges {
		if r.Low > r.High || (i > 0 && r.Low <= ranges[i-1].High) {
			return fault.Errorf(fault.Malformed, "id ranges are not ascending: %v", ranges)
		}
	}
	return nil
}

// Allowed returns ranges without the Reserved ids: at most MaxAllowed ranges,
// ascending. The ranges must have passed CheckRanges.
func Allowed(ranges []Range) []Range {
	left := slices.Clone(ranges)
	for _, no := range Reserved {
		var next []Range
		for _, r := range left {
			if r.High < no.Low || no.High < r.Low {
				next = append(next, r)
				continue
			}
			if r.Low < no.Low {
				next = append(next, Range{r.Low, no.Low - 1})
			}
			if r.High > no.High {
				next = append(next, Range{no.High + 1, r.High})
			}
		}
		left = next
	}
	return left
}

func within(id uint32, ranges []Range) bool {
	for _, r := range ranges {
		if r.Low <= id && id <= r.High {
			return true
		}
	}
	return false
}

// contains reports whether every id of the inner ranges lies in the outer ones.
func contains(outer, inner []Range) bool {
	for _, in := range inner {
		next := uint64(in.Low)
		for _, out := range outer {
			if uint64(out.Low) <= next && next <= uint64(out.High) {
				next = uint64(out.High) + 1
			}
		}
		if next <= uint64(in.High) {
			return false
		}
	}
	return true
}
