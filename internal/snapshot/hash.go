// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"encoding/binary"
	"math/bits"
)

// hash is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input
// PRF", 2012) with one round per word and three at the end. Its key makes the
// places of names unpredictable to whoever may choose names in the directory.
func hash(seed [2]uint64, key string) uint64 {
	v0 := seed[0] ^ 0x736f6d6570736575
	v1 := seed[1] ^ 0x646f72616e646f6d
	v2 := seed[0] ^ 0x6c7967656e657261
	v3 := seed[1] ^ 0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	last := uint64(len(key)) << 56
	for len(key) >= 8 {
		w := word(key)
		v3 ^= w
		round()
		v0 ^= w
		key = key[8:]
	}
	for i := 0; i < len(key); i++ {
		last |= uint64(key[i]) << (8 * i)
	}
	v3 ^= last
	round()
	v0 ^= last
	v2 ^= 0xff
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3
}

func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

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
