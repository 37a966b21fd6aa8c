// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"testing"
)

// Our sealer and gokrb5's AES suite must open what the other sealed.
func TestSealerAgreesWithTheLibrary(t *testing.T) {
	for _, e := range preferred {
		key := testKey(9, e)
		et, err := key.suite()
		if err != nil {
			t.Fatal(err)
		}
		s, err := newSealer(et, key.Value.Reveal(), usageInitiatorSeal)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			text := bytes.Repeat([]byte{byte(n)}, n)
			ours, err := s.encrypt(nil, text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := key.open(ours, usageInitiatorSeal); err != nil || !bytes.Equal(got, text) {
				t.Errorf("etype %d, %d bytes: the library reads %x, %v", e, n, got, err)
			}
			theirs, err := key.seal(text, usageInitiatorSeal)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.decrypt(theirs); err != nil || !bytes.Equal(got, text) {
				t.Errorf("etype %d, %d bytes: we read %x, %v", e, n, got, err)
			}
			sum, err := et.GetChecksumHash(key.Value.Reveal(), text, usageInitiatorSeal)
			if err != nil || !bytes.Equal(hmac96(s.kc, text), sum) {
				t.Errorf("etype %d, %d bytes: checksum %x, %v, ours %x", e, n, sum, err, hmac96(s.kc, text))
			}
		}
	}
}

func BenchmarkSeal64K(b *testing.B) {
	key := testKey(9, AES256)
	c, err := newContext(key, 0, true, 1, 1)
	if err != nil {
		b.Fatal(err)
	}
	text := make([]byte, 64<<10)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := c.Seal(text); err != nil {
			b.Fatal(err)
		}
	}
}
