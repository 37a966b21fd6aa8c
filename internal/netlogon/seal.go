// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// tokenSize is that of a NL_AUTH_SHA2_SIGNATURE (MS-NRPC 2.2.1.3.3): algorithms,
// sequence number, checksum, confounder, and 24 bytes that nobody reads.
const tokenSize = 56

// tokenHead says HMAC-SHA256 for signing and AES-128 for sealing.
var tokenHead = []byte{0x13, 0x00, 0x1a, 0x00, 0xff, 0xff, 0x00, 0x00}

var (
	errToken    = errors.New("the message's signature is not that of this channel")
	errChecksum = errors.New("the message was changed on the way, or sealed with another key")
	errSequence = errors.New("a message is missing, or came twice")
)

// sealer signs and seals the messages of one channel, the client's and the
// server's in turn. Both sides count every message, whoever sent it, with one
// counter (MS-NRPC 3.3.4.2: ClientSequenceNumber). Not for concurrent use.
type sealer struct {
	sign [16]byte
	seq  cipher.Block // under the session key
	data cipher.Block // under the session key with every byte turned by 0xf0
	next uint64
}

func newSealer(key [16]byte) *sealer {
	s := &sealer{sign: key, seq: newAES(key)}
	for i := range key {
		key[i] ^= 0xf0
	}
	s.data = newAES(key)
	secret.Wipe(key[:])
	return s
}

// wipe forgets the signing key. The expanded AES keys cannot be reached.
func (s *sealer) wipe() { secret.Wipe(s.sign[:]) }

// sequence is the counter as it goes into the token: each half big-endian, the
// lower one first; the top bit of the second says that the client sent it.
func (s *sealer) sequence(fromClient bool) (b [8]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(s.next))
	binary.BigEndian.PutUint32(b[4:], uint32(s.next>>32))
	if fromClient {
		b[4] |= 0x80
	}
	return b
}

func (s *sealer) checksum(confounder, signed []byte) []byte {
	m := hmac.New(sha256.New, s.sign[:])
	m.Write(tokenHead)
	m.Write(confounder)
	m.Write(signed)
	return m.Sum(nil)[:8]
}

// twice is an IV of 16 bytes made of 8.
func twice(b []byte) []byte { return append(append(make([]byte, 0, 16), b...), b...) }

// seal encrypts data in place and writes its token (MS-NRPC 3.3.4.2.1). signed
// is what the checksum covers, in clear: data, or the whole PDU around it.
func (s *sealer) seal(token, signed, data []byte, fromClient bool) {
	clear(token[:tokenSize])
	seq := s.sequence(fromClient)
	confounder := token[24:32]
	_, _ = rand.Read(confounder) // never fails
	copy(token, tokenHead)
	copy(token[16:24], s.checksum(confounder, signed))
	iv := twice(seq[:])
	cfb8(s.data, iv, confounder, false)
	cfb8(s.data, iv, data, false)
	cfb8(s.seq, twice(token[16:24]), seq[:], false)
	copy(token[8:16], seq[:])
	s.next++
}

// open decrypts data in place and checks its token (MS-NRPC 3.3.4.2.2), whose
// bytes it changes. signed is as in seal and has to hold data.
func (s *sealer) open(token, signed, data []byte, fromClient bool) error {
	if len(token) < 32 || !bytes.Equal(token[:8], tokenHead) {
		return errToken
	}
	sum, confounder := token[16:24], token[24:32]
	seq := [8]byte(token[8:16])
	cfb8(s.seq, twice(sum), seq[:], true)
	// With another number nothing below could be right, nor tell an attacker
	// anything: the number is under the key.
	if seq != s.sequence(fromClient) {
		return errSequence
	}
	iv := twice(seq[:])
	cfb8(s.data, iv, confounder, true)
	cfb8(s.data, iv, data, true)
	if !hmac.Equal(sum, s.checksum(confounder, signed)) {
		return errChecksum
	}
	s.next++
	return nil
}

// Messages by which a channel begins (MS-NRPC 2.2.1.3.1 NL_AUTH_MESSAGE).
const (
	negotiateRequest  = 0
	negotiateResponse = 1

	flagDomainOEM   = 0x01
	flagComputerOEM = 0x02
)

// negotiateToken asks for the channel of a computer. The names are ASCII.
func negotiateToken(domain, computer string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, negotiateRequest)
	b = binary.LittleEndian.AppendUint32(b, flagDomainOEM|flagComputerOEM)
	b = append(append(b, domain...), 0)
	return append(append(b, computer...), 0)
}

// checkNegotiated reads the answer: its type, no names, and four bytes that
// nobody reads.
func checkNegotiated(b []byte) error {
	if len(b) < 8 || binary.LittleEndian.Uint32(b) != negotiateResponse || binary.LittleEndian.Uint32(b[4:]) != 0 {
		return errors.New("the domain controller did not take the channel")
	}
	return nil
}
