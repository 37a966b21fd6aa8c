// SPDX-License-Identifier: Apache-2.0

// Package forge makes the sums of a snapshot right again after a test has
// changed its bytes, as somebody would who has taken over the worker. Only tests
// import it.
package forge

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"unsafe"

	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/snapshot/siphash"
)

var native = binary.NativeEndian

// Seal sets digest and sums to what the bytes call for, in place, and returns
// data, which must hold a header. A header that says nonsense is sealed as well.
func Seal(data []byte) []byte {
	var h snapshot.Header
	if _, err := binary.Decode(data[:snapshot.HeaderSize], native, &h); err != nil {
		panic(err)
	}
	end := h.Aliases.Offset + h.Aliases.Length
	if h.Aliases.Offset <= uint64(len(data)) && h.Aliases.Length <= uint64(len(data)) && snapshot.HeaderSize <= end && end <= uint64(len(data)) {
		said := sha256.New()
		for _, part := range []any{
			[]uint32{snapshot.Version, h.Flags, h.RangeCount, h.Users.Count, h.Users.Listed, h.Groups.Count, h.Groups.Listed},
			h.Ranges, data[snapshot.HeaderSize:end],
		} {
			if err := binary.Write(said, native, part); err != nil {
				panic(err)
			}
		}
		said.Sum(data[unsafe.Offsetof(h.Digest):unsafe.Offsetof(h.Digest)])
	}
	native.PutUint32(data[unsafe.Offsetof(h.BodySum):], crc32.Checksum(data[snapshot.HeaderSize:], crc32.MakeTable(crc32.Castagnoli)))
	SealHeader(data)
	return data
}

// SealHeader sets the sum of the header only, which is all that the C module
// looks at.
func SealHeader(data []byte) {
	var h snapshot.Header
	header := bytes.Clone(data[:unsafe.Offsetof(h.Sum)])
	native.PutUint32(header[unsafe.Offsetof(h.Live):], 0)
	seed := header[unsafe.Offsetof(h.Seed):]
	sum := siphash.Sum([2]uint64{native.Uint64(seed), native.Uint64(seed[8:])}, string(header))
	native.PutUint64(data[unsafe.Offsetof(h.Sum):], sum)
}
