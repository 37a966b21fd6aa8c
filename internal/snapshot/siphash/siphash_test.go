// SPDX-License-Identifier: Apache-2.0

package siphash

import "testing"

// The vectors come from CPython 3.11, whose hash of a bytes object is
// SipHash-1-3: the key that PYTHONHASHSEED=1 stands for, and the hashes of 00,
// 0001, 000102 and so on.
var vectorKey = [2]uint64{0xaed66ce184be2329, 0xebe9bbf1f1499052}

var vectors = []uint64{
	0xecd3e5afcecda4b9, 0xbf360f1ea1745965, 0x8d5b20ab227ba858, 0x968a3280faeeb716,
	0xbbda3b5f513c3d69, 0xa77f099d6ffed90e, 0xfd15e78052a69ddf, 0xc0b5739e7e28dd01,
	0x208a1a5a0cbbf778, 0xb99907ab3e3e597c, 0x4d9ec6e9c5127521, 0x9b07906e87e344ad,
	0x75973ed5708eb192, 0x3a6b5d52e1c90862, 0xfa87985f39e97a53, 0x12e9d283f9f37002,
	0x9f5bb4237f61907f, 0xc8481dd155697ab5, 0xea61ba56131a6619, 0xcd48cd0e7a31cb04,
	0x6194f8d23abbab99, 0x8d7773f9524a6d91, 0xf7cea028f939ae8c, 0x19b4e5f288f874ce,
}

func TestSumIsSipHash13(t *testing.T) {
	input := ""
	for i, want := range vectors {
		input += string([]byte{byte(i)})
		if got := Sum(vectorKey, input); got != want {
			t.Errorf("Sum of %d bytes = %#x, want %#x", len(input), got, want)
		}
	}
}
