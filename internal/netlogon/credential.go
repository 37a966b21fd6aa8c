// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"unicode/utf16"

	//lint:ignore SA1019 the NT hash is MD4 (MS-NLMP 3.3.1)
	"golang.org/x/crypto/md4"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ntHash is MD4 over the password in UTF-16LE (MS-NLMP 3.3.1 NTOWFv1). The
// caller wipes it.
func ntHash(password secret.Bytes) [16]byte {
	units := utf16.Encode([]rune(string(password.Reveal())))
	b := make([]byte, 2*len(units))
	for i, u := range units {
		binary.LittleEndian.PutUint16(b[2*i:], u)
	}
	h := md4.New()
	h.Write(b)
	secret.Wipe(b)
	clear(units)
	var sum [16]byte
	h.Sum(sum[:0])
	return sum
}

// newSessionKey is the AES session key of a channel (MS-NRPC 3.1.4.3.1): the
// first 16 bytes of HMAC-SHA256 over both challenges, keyed with the NT hash of
// the machine's password.
func newSessionKey(hash [16]byte, client, server [8]byte) (key [16]byte) {
	m := hmac.New(sha256.New, hash[:])
	m.Write(client[:])
	m.Write(server[:])
	copy(key[:], m.Sum(nil))
	return key
}

// newCredential is a challenge under the session key (MS-NRPC 3.1.4.4.1):
// AES-128 in 8-bit CFB mode with an IV of zeros.
func newCredential(key [16]byte, challenge [8]byte) (credential [8]byte) {
	var iv [16]byte
	credential = challenge
	cfb8(newAES(key), iv[:], credential[:], false)
	return credential
}

// newChallenge draws a client challenge. A DC refuses one whose first five
// bytes are all the same (MS-NRPC 3.1.4.1 step 7).
func newChallenge() (c [8]byte) {
	for {
		_, _ = rand.Read(c[:]) // never fails
		for _, b := range c[1:5] {
			if b != c[0] {
				return c
			}
		}
	}
}

func newAES(key [16]byte) cipher.Block {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 16 bytes
	}
	return block
}

// cfb8 encrypts or decrypts data in place in 8-bit cipher feedback mode (NIST
// SP 800-38A 6.3, s = 8), and leaves iv such that a further call continues.
func cfb8(block cipher.Block, iv, data []byte, decrypt bool) {
	var out [aes.BlockSize]byte
	for i, in := range data {
		block.Encrypt(out[:], iv)
		data[i] = in ^ out[0]
		copy(iv, iv[1:])
		if decrypt {
			iv[aes.BlockSize-1] = in
		} else {
			iv[aes.BlockSize-1] = data[i]
		}
	}
}
