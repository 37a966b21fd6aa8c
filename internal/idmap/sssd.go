// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"encoding/binary"
	"math/bits"
	"strconv"
)

// sssdSeed is what SSSD hashes SIDs with.
const sssdSeed = 0xdeadbeef

// sssdSlice returns the slice that SSSD gives to the n-th run of RIDs of the
// domain: for the first, the hash of the domain SID; for the others, that of the
// SID, a dash and the run's first RID; modulo the number of slices. SSSD itself
// moves on where that slice is another domain's, in the order in which it met
// them; there is one domain here.
func (m *Map) sssdSlice(n uint32) uint32 {
	name := m.domain.String()
	if n > 0 {
		name += "-" + strconv.FormatUint(uint64(n)*uint64(m.cfg.Slice), 10)
	}
	return murmur3([]byte(name), sssdSeed) % m.slices
}

// murmur3 is MurmurHash3_x86_32 (Austin Appleby, public domain).
func murmur3(data []byte, seed uint32) uint32 {
	const c1, c2 = 0xcc9e2d51, 0x1b873593
	h, n := seed, len(data)
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * c1
		h ^= bits.RotateLeft32(k, 15) * c2
		h = bits.RotateLeft32(h, 13)*5 + 0xe6546b64
	}
	var k uint32
	for i := len(data) - 1; i >= 0; i-- {
		k = k<<8 | uint32(data[i])
	}
	h ^= bits.RotateLeft32(k*c1, 15) * c2
	h ^= uint32(n)
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
