// SPDX-License-Identifier: Apache-2.0

package store

import "google.golang.org/protobuf/encoding/protowire"

// eachField calls fn for the fields of a small message: n holds a varint, v
// bytes that are valid during the call. Fields of other types are passed over;
// what cannot be read ends it. false: it was not read to the end.
func eachField(b []byte, fn func(num protowire.Number, n uint64, v []byte)) bool {
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return false
		}
		b = b[size:]
		var n uint64
		var v []byte
		switch typ {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(b)
		default:
			if size = protowire.ConsumeFieldValue(num, typ, b); size >= 0 {
				b = b[size:]
				continue
			}
		}
		if size < 0 {
			return false
		}
		b = b[size:]
		fn(num, n, v)
	}
	return true
}
