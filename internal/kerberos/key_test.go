// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// The test vectors of RFC 3962 appendix B.
func TestDeriveKeyVectors(t *testing.T) {
	for _, tc := range []struct {
		iterations     uint32
		password, salt string
		k128, k256     string
	}{
		{1, "password", "ATHENA.MIT.EDUraeburn", "42263c6e89f4fc28b8df68ee09799f15", "fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161"},
		{1200, "password", "ATHENA.MIT.EDUraeburn", "4c01cd46d632d01e6dbe230a01ed642a", "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a"},
		{5, "password", "\x12\x34\x56\x78\x78\x56\x34\x12", "e9b23d52273747dd5c35cb55be619d8e", "97a4e786be20d81a382d5ebc96d5909cabcdadc87ca48f574504159f16c36e31"},
		{1200, strings.Repeat("X", 65), "pass phrase exceeds block size", "cb8005dc5f90179a7f02104c0018751d", "d78c5c9cb872a8c9dad4697f0bb5b2d21496c82beb2caeda2112fceea057401b"},
		{50, "\U0001d11e", "EXAMPLE.COMpianist", "f149c1f2e154a73452d43e7fe62a56e5", "4b6d9839f84406df1f09cc166db4b83c571848b784a3d6bdc346589a3e393f9e"},
	} {
		for e, want := range map[EType]string{AES128: tc.k128, AES256: tc.k256} {
			k, err := DeriveKey(secret.FromString(tc.password), KeyInfo{EType: e, Salt: tc.salt, Iterations: tc.iterations})
			if err != nil || hex.EncodeToString(k.Value.Reveal()) != want {
				t.Errorf("%d iterations of %q, etype %d: %x, %v, want %s", tc.iterations, tc.password, e, k.Value.Reveal(), err, want)
			}
		}
	}
}

func TestSealOpen(t *testing.T) {
	k, err := DeriveKey(secret.FromString("pw"), KeyInfo{EType: AES256, Salt: "s"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.seal([]byte("text"), 3)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.open(b, 3); err != nil || string(got) != "text" {
		t.Errorf("open = %q, %v", got, err)
	}
	if _, err := k.open(b, 4); !fault.Is(err, fault.BadCredential) {
		t.Errorf("another usage: %v, want bad credential", err)
	}
	for n := range b {
		if _, err := k.open(b[:n], 3); err == nil {
			t.Errorf("the first %d bytes of %d were taken", n, len(b))
		}
	}
	if _, err := (Key{AES256, secret.Own(make([]byte, 16))}).seal(nil, 1); !fault.Is(err, fault.Malformed) {
		t.Errorf("a short key: %v, want malformed", err)
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	k, err := DeriveKey(secret.FromString("pw"), KeyInfo{EType: AES128, Salt: "s"})
	if err != nil {
		t.Fatal(err)
	}
	hexKey := hex.EncodeToString(k.Value.Reveal())
	kt := &Keytab{Entries: []KeytabEntry{{Principal: Account("a", "R"), Key: k}}}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %x", k, k, k, k), fmt.Sprintf("%v %+v %x", kt, kt, kt), fmt.Sprintf("%+v", &Ticket{Key: k}), fmt.Sprintf("%+v %#v", Password(secret.FromString("hunter2")), Login{TGT: &Ticket{Key: k}})} {
		if strings.Contains(text, hexKey) || strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprint(k.Value.Reveal())) {
			t.Errorf("a key was printed: %s", text)
		}
	}
}
