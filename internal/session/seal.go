// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// maxSealed bounds what is unsealed: a cookie may have 4096 bytes.
const maxSealed = 4096

// sealer encrypts what a browser keeps for us (AES-256-GCM). A text is good for
// one purpose, until its time.
type sealer struct{ key []byte }

// keyLength is that of the key in the store.
const keyLength = 32

func newSealer(key []byte) *sealer { return &sealer{key} }

// aead is the cipher of one purpose, with a key of its own.
func (s *sealer) aead(purpose string) cipher.AEAD {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte("latchkey seal 1 " + purpose))
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

// seal returns a text for a URL or a cookie.
func (s *sealer) seal(purpose string, plain []byte, until time.Time) string {
	a := s.aead(purpose)
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+8+len(plain)+a.Overhead())
	_, _ = rand.Read(nonce)
	body := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(plain)), uint64(until.Unix()))
	return b64.EncodeToString(a.Seal(nonce, nonce, append(body, plain...), nil))
}

// errSeal is what is said of every text that is not ours, not for this purpose,
// or too old.
var errSeal = fault.New(fault.BadCredential, "it is none of ours, or too old")

// open returns what was sealed for this purpose.
func (s *sealer) open(purpose, text string, now time.Time) ([]byte, error) {
	if len(text) > maxSealed {
		return nil, errSeal
	}
	raw, err := decode(text)
	a := s.aead(purpose)
	if err != nil || len(raw) < a.NonceSize()+a.Overhead()+8 {
		return nil, errSeal
	}
	plain, err := a.Open(nil, raw[:a.NonceSize()], raw[a.NonceSize():], nil)
	if err != nil || now.Unix() >= int64(binary.BigEndian.Uint64(plain)) {
		return nil, errSeal
	}
	return plain[8:], nil
}

// Seal encrypts a few bytes for a browser to keep: a form's token, a hint. They
// are good for one purpose and so long.
func (s *Sessions) Seal(purpose string, plain []byte, good time.Duration) string {
	return s.sealer.seal("door "+purpose, plain, s.c.Now().Add(good))
}

// Unseal returns what Seal was given. fault.BadCredential: it is none of ours,
// for another purpose, or too old.
func (s *Sessions) Unseal(purpose, text string) ([]byte, error) {
	return s.sealer.open("door "+purpose, text, s.c.Now())
}

// NewState returns 256 random bits as text, to bind something to a browser.
func NewState() string { return random(tokenBytes) }

// SameState compares two of them in constant time; the empty one is like none.
func SameState(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
