// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"encoding/binary"

	"github.com/latchkey-nas/latchkey/internal/snapshot/siphash"
)

func hash(seed [2]uint64, key string) uint64 { return siphash.Sum(seed, key) }

// mix spreads an id over 32 bits (the finaliser of MurmurHash3, public domain).
// It maps different ids to different values.
func mix(seed [2]uint64, id uint32) uint32 {
	x := id ^ uint32(seed[0])
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	x *= 0xc2b2ae35
	x ^= x >> 16
	return x
}

// home is the slot where an entry belongs. It grows with spot, so entries in
// the order of their spots are in the order of their homes.
func home(spot, slots uint32) uint32 {
	return uint32(uint64(spot) * uint64(slots) >> 32)
}

func seedWords(seed [16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])}
}
