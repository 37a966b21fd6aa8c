// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"

	"github.com/jcmturner/gokrb5/v8/crypto/common"
	"github.com/jcmturner/gokrb5/v8/crypto/etype"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Flags of a per-message token (RFC 4121 4.2.2).
const (
	flagAcceptor = 0x01
	flagSealed   = 0x02
	flagSubkey   = 0x04 // the acceptor's subkey is in use
)

const (
	headerSize     = 16
	confounderSize = aes.BlockSize
	checksumSize   = 12 // HMAC-SHA1-96
)

// sealer seals, signs, opens and checks under one key and key usage. The
// derived keys of RFC 3961 5.3 are made once, not for each message; the rest
// is the AES suite of RFC 3962.
type sealer struct {
	block cipher.Block // Ke
	ki    []byte
	kc    []byte
}

func newSealer(et etype.EType, key []byte, usage uint32) (*sealer, error) {
	ke, err := et.DeriveKey(key, common.GetUsageKe(usage))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "derive a key", err)
	}
	s := &sealer{}
	if s.block, err = aes.NewCipher(ke); err != nil {
		return nil, fault.Wrap(fault.Internal, "derive a key", err)
	}
	if s.ki, err = et.DeriveKey(key, common.GetUsageKi(usage)); err != nil {
		return nil, fault.Wrap(fault.Internal, "derive a key", err)
	}
	if s.kc, err = et.DeriveKey(key, common.GetUsageKc(usage)); err != nil {
		return nil, fault.Wrap(fault.Internal, "derive a key", err)
	}
	return s, nil
}

func hmac96(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha1.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)[:checksumSize]
}

// encrypt appends the encryption of confounder and parts to dst (RFC 3962 6).
func (s *sealer) encrypt(dst []byte, parts ...[]byte) ([]byte, error) {
	at := len(dst)
	var confounder [confounderSize]byte
	if _, err := rand.Read(confounder[:]); err != nil {
		return nil, fault.Wrap(fault.Internal, "draw a confounder", err)
	}
	dst = append(dst, confounder[:]...)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	sum := hmac96(s.ki, dst[at:])
	ctsEncrypt(s.block, dst[at:])
	return append(dst, sum...), nil
}

// decrypt opens what encrypt made, in place, and returns the plain text
// without the confounder.
func (s *sealer) decrypt(b []byte) ([]byte, error) {
	if len(b) < confounderSize+checksumSize {
		return nil, fault.New(fault.Malformed, "the sealed message is too short")
	}
	body, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	ctsDecrypt(s.block, body)
	if subtle.ConstantTimeCompare(sum, hmac96(s.ki, body)) != 1 {
		return nil, fault.New(fault.BadCredential, "the message is forged or damaged")
	}
	return body[confounderSize:], nil
}

// ctsEncrypt is CBC with a zero IV and ciphertext stealing, last two blocks
// swapped always (RFC 3962 5), in place. b has at least one block.
func ctsEncrypt(block cipher.Block, b []byte) {
	const n = aes.BlockSize
	var iv [n]byte
	if len(b) <= n {
		cipher.NewCBCEncrypter(block, iv[:]).CryptBlocks(b[:n], b[:n])
		return
	}
	tail := (len(b)-1)%n + 1 // bytes in the last, perhaps partial, block
	full := len(b) - tail
	mode := cipher.NewCBCEncrypter(block, iv[:])
	mode.CryptBlocks(b[:full], b[:full])
	var last [n]byte
	copy(last[:], b[full:])
	mode.CryptBlocks(last[:], last[:])
	copy(b[full:], b[full-n : full][:tail])
	copy(b[full-n:full], last[:])
}

// ctsDecrypt undoes ctsEncrypt.
func ctsDecrypt(block cipher.Block, b []byte) {
	const n = aes.BlockSize
	var iv [n]byte
	if len(b) <= n {
		cipher.NewCBCDecrypter(block, iv[:]).CryptBlocks(b[:n], b[:n])
		return
	}
	tail := (len(b)-1)%n + 1
	full := len(b) - tail
	// What was the last block stands in the second last place.
	var d, prev [n]byte
	block.Decrypt(d[:], b[full-n:full])
	copy(prev[:], b[full:])
	copy(prev[tail:], d[tail:])
	var lastPlain [n]byte
	subtle.XORBytes(lastPlain[:], d[:], prev[:])
	copy(b[full-n:full], prev[:])
	cipher.NewCBCDecrypter(block, iv[:]).CryptBlocks(b[:full], b[:full])
	copy(b[full:], lastPlain[:tail])
}

// direction is one way of a context: its sealers, flags and next sequence
// number.
type direction struct {
	wrap  *sealer
	mic   *sealer
	flags byte
	seq   uint64
}

// header makes a token header (RFC 4121 4.2.6).
func (d *direction) header(id uint16, flags byte, ec, rrc uint16) [headerSize]byte {
	var h [headerSize]byte
	binary.BigEndian.PutUint16(h[0:], id)
	h[2], h[3] = flags, 0xff
	binary.BigEndian.PutUint16(h[4:], ec)
	binary.BigEndian.PutUint16(h[6:], rrc)
	binary.BigEndian.PutUint64(h[8:], d.seq)
	return h
}

const (
	idMIC  uint16 = 0x0404
	idWrap uint16 = 0x0504
)

// seal makes a Wrap token with confidentiality.
func (d *direction) seal(plain []byte) ([]byte, error) {
	h := d.header(idWrap, d.flags|flagSealed, 0, 0)
	out := make([]byte, headerSize, headerSize+confounderSize+len(plain)+headerSize+checksumSize)
	copy(out, h[:])
	out, err := d.wrap.encrypt(out, plain, h[:])
	if err != nil {
		return nil, err
	}
	d.seq++
	return out, nil
}

// sign makes a Wrap token without confidentiality.
func (d *direction) sign(plain []byte) []byte {
	h := d.header(idWrap, d.flags, 0, 0) // EC and RRC are zero under the checksum
	out := make([]byte, 0, headerSize+len(plain)+checksumSize)
	sum := hmac96(d.wrap.kc, plain, h[:])
	binary.BigEndian.PutUint16(h[4:], checksumSize)
	out = append(append(append(out, h[:]...), plain...), sum...)
	d.seq++
	return out
}

// open checks a Wrap token of the peer; the token's memory is used up.
func (d *direction) open(token []byte) (plain []byte, sealed bool, err error) {
	if len(token) < headerSize {
		return nil, false, fault.New(fault.Malformed, "the token is too short")
	}
	h, body := token[:headerSize], token[headerSize:]
	if err := d.check(h, idWrap); err != nil {
		return nil, false, err
	}
	sealed = h[2]&flagSealed != 0
	ec, rrc := int(binary.BigEndian.Uint16(h[4:])), int(binary.BigEndian.Uint16(h[6:]))
	if len(body) > 0 && rrc%len(body) != 0 {
		body = rotateLeft(body, rrc%len(body))
	}
	if sealed {
		b, err := d.wrap.decrypt(body)
		if err != nil {
			return nil, false, err
		}
		if len(b) < headerSize+ec {
			return nil, false, fault.New(fault.Malformed, "the token is too short")
		}
		var want [headerSize]byte
		copy(want[:], h)
		want[6], want[7] = 0, 0
		if !bytes.Equal(b[len(b)-headerSize:], want[:]) {
			return nil, false, fault.New(fault.BadCredential, "the token's header is forged")
		}
		plain = b[:len(b)-headerSize-ec]
	} else {
		if ec != checksumSize || len(body) < ec {
			return nil, false, fault.New(fault.Malformed, "the token has no checksum")
		}
		plain = body[:len(body)-ec]
		var zero [headerSize]byte
		copy(zero[:4], h)
		copy(zero[8:], h[8:])
		if subtle.ConstantTimeCompare(body[len(body)-ec:], hmac96(d.wrap.kc, plain, zero[:])) != 1 {
			return nil, false, fault.New(fault.BadCredential, "the message is forged or damaged")
		}
	}
	d.seq++
	return plain, sealed, nil
}

// check tests a header against what this direction expects next.
func (d *direction) check(h []byte, id uint16) error {
	switch {
	case binary.BigEndian.Uint16(h) != id || h[3] != 0xff:
		return fault.New(fault.Malformed, "not a token of RFC 4121")
	case (h[2]^d.flags)&(flagAcceptor|flagSubkey) != 0 || h[2]&^(flagAcceptor|flagSealed|flagSubkey) != 0:
		return fault.Errorf(fault.BadCredential, "the token has flags %#x", h[2])
	case binary.BigEndian.Uint64(h[8:]) != d.seq:
		return fault.New(fault.BadCredential, "a message was replayed, reordered or lost")
	}
	return nil
}

// sum makes a MIC token.
func (d *direction) sum(message []byte) []byte {
	h := d.header(idMIC, d.flags, 0xffff, 0xffff)
	d.seq++
	return append(h[:], hmac96(d.mic.kc, message, h[:])...)
}

// verify checks a MIC token of the peer.
func (d *direction) verify(message, mic []byte) error {
	if len(mic) != headerSize+checksumSize {
		return fault.New(fault.Malformed, "the checksum token has the wrong size")
	}
	h := mic[:headerSize]
	if err := d.check(h, idMIC); err != nil {
		return err
	}
	if !bytes.Equal(h[3:8], []byte{0xff, 0xff, 0xff, 0xff, 0xff}) || h[2]&flagSealed != 0 {
		return fault.New(fault.Malformed, "not a token of RFC 4121")
	}
	if subtle.ConstantTimeCompare(mic[headerSize:], hmac96(d.mic.kc, message, h)) != 1 {
		return fault.New(fault.BadCredential, "the message is forged or damaged")
	}
	d.seq++
	return nil
}

// rotateLeft returns b rotated by n, 0 < n < len(b) (RFC 4121 4.2.5).
func rotateLeft(b []byte, n int) []byte {
	out := make([]byte, 0, len(b))
	return append(append(out, b[n:]...), b[:n]...)
}
