// SPDX-License-Identifier: Apache-2.0

package ntlmtest

import (
	"encoding/hex"
	"testing"
)

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != want {
		t.Errorf("%s = %x, want %s", what, got, want)
	}
}

// The example of MS-NLMP 4.2.4.
func TestNTLMv2(t *testing.T) {
	server := [8]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	client := [8]byte{0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}
	same(t, "NTOWFv2", ResponseKey("Domain", "User", "Password"), "0c868a403bfd7a93a3001ef22ef02e3f")
	a := Compute("Domain", "User", "Password", server, client, 0, Info("Domain", "Server"))
	same(t, "NTProofStr", a.NT[:16], "68cd0ab851e51c96aabc927bebef6a1c")
	same(t, "SessionBaseKey", a.Key[:], "8de40ccadbc14a82f15cb0ad0de95ca3")
}

// The examples of MS-NLMP 4.2.2 and RFC 2759 9.2.
func TestDES(t *testing.T) {
	same(t, "NTLMv1", DES("Password", [8]byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}), "67c43011f30298a2ad35ece64f16331c44bdbed927841f94")
	auth, _ := hex.DecodeString("5b5d7c7d7b3f2f3e3c2c602132262628")
	peer, _ := hex.DecodeString("21402324255e262a28295f2b3a337c7e")
	challenge, nt := MSCHAPv2("User", "clientPass", [16]byte(auth), [16]byte(peer))
	same(t, "challenge hash", challenge[:], "d02e4386bce91226")
	same(t, "NT response", nt, "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df")
}
