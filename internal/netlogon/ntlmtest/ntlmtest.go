// SPDX-License-Identifier: Apache-2.0

// Package ntlmtest answers NTLM challenges as a client would, for tests. It is
// written from MS-NLMP alone and shares nothing with the product, so that one
// checks the other. It never ships.
package ntlmtest

import (
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf16"

	//lint:ignore SA1019 the NT hash is MD4 (MS-NLMP 3.3.1)
	"golang.org/x/crypto/md4"
)

// Answer is what a client sends, and the session base key that it keeps.
type Answer struct {
	Challenge [8]byte
	NT, LM    []byte
	Key       [16]byte
}

// NTHash is NTOWFv1 (MS-NLMP 3.3.1).
func NTHash(password string) []byte {
	h := md4.New()
	h.Write(utf16le(password))
	return h.Sum(nil)
}

func utf16le(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func keyed(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// ResponseKey is NTOWFv2 (MS-NLMP 3.3.2): only the user's name is folded.
func ResponseKey(domain, user, password string) []byte {
	return keyed(NTHash(password), utf16le(strings.ToUpper(user)+domain))
}

// Compute answers the challenge by NTLMv2 (MS-NLMP 3.3.2 ComputeResponse) with
// a client challenge and target information given.
func Compute(domain, user, password string, server, client [8]byte, filetime uint64, info []byte) Answer {
	key := ResponseKey(domain, user, password)
	blob := []byte{1, 1, 0, 0, 0, 0, 0, 0}
	blob = binary.LittleEndian.AppendUint64(blob, filetime)
	blob = append(blob, client[:]...)
	blob = append(blob, 0, 0, 0, 0)
	blob = append(blob, info...)
	blob = append(blob, 0, 0, 0, 0)
	proof := keyed(key, server[:], blob)
	a := Answer{Challenge: server, NT: append(append([]byte(nil), proof...), blob...), LM: make([]byte, 24)}
	copy(a.Key[:], keyed(key, proof))
	return a
}

// Info is target information with the names of a server (MS-NLMP 2.2.2.1).
func Info(domain, computer string) []byte {
	var b []byte
	for _, av := range []struct {
		id   uint16
		text string
	}{{2, domain}, {1, computer}, {0, ""}} {
		v := utf16le(av.text)
		b = binary.LittleEndian.AppendUint16(b, av.id)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	return b
}

// New answers a fresh challenge of a server, whose target information is info:
// a domain controller may compare the names in it with those of the machine
// that asks.
func New(domain, user, password string, info []byte) Answer {
	var server, client [8]byte
	_, _ = rand.Read(server[:])
	_, _ = rand.Read(client[:])
	now := uint64(time.Now().UnixNano()/100) + 116444736000000000
	return Compute(domain, user, password, server, client, now, info)
}

// DES answers a challenge as NTLMv1 does (MS-NLMP 6, DESL): 24 bytes.
func DES(password string, challenge [8]byte) []byte {
	hash := append(NTHash(password), 0, 0, 0, 0, 0)
	var out []byte
	for i := 0; i < 21; i += 7 {
		block, err := des.NewCipher(spread(hash[i : i+7]))
		if err != nil {
			panic(err) // 8 bytes
		}
		part := make([]byte, 8)
		block.Encrypt(part, challenge[:])
		out = append(out, part...)
	}
	return out
}

// spread makes an 8-byte DES key of 7 bytes; the parity bits are zero.
func spread(k []byte) []byte {
	out := make([]byte, 8)
	var bits uint64
	for _, b := range k {
		bits = bits<<8 | uint64(b)
	}
	for i := range out {
		out[i] = byte(bits>>(49-7*i)) << 1
	}
	return out
}

// MSCHAPv2 is the NT response of RFC 2759 section 8 and the challenge that a
// RADIUS server hands on with it.
func MSCHAPv2(user, password string, authenticator, peer [16]byte) (challenge [8]byte, nt []byte) {
	h := sha1.New()
	h.Write(peer[:])
	h.Write(authenticator[:])
	h.Write([]byte(user))
	copy(challenge[:], h.Sum(nil))
	return challenge, DES(password, challenge)
}
