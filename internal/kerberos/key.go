// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/crypto/etype"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// EType is an encryption type (RFC 3961). Only the two below are spoken.
type EType int32

// The encryption types of RFC 3962.
const (
	AES128 EType = 17 // aes128-cts-hmac-sha1-96
	AES256 EType = 18 // aes256-cts-hmac-sha1-96
)

// preferred are the encryption types in the order in which they are asked for.
var preferred = []EType{AES256, AES128}

// size is the length of a key in bytes, 0 for a type that is not spoken.
func (e EType) size() int {
	switch e {
	case AES128:
		return 16
	case AES256:
		return 32
	}
	return 0
}

// Key is a long-term, session or sub-session key.
type Key struct {
	EType EType
	Value secret.Bytes
}

// Clone returns a key with memory of its own.
func (k Key) Clone() Key { return Key{k.EType, k.Value.Clone()} }

// library returns the form that gokrb5 takes; it shares the memory.
func (k Key) library() types.EncryptionKey {
	return types.EncryptionKey{KeyType: int32(k.EType), KeyValue: k.Value.Reveal()}
}

// KeyInfo says how a KDC derives a principal's key from its password
// (ETYPE-INFO2, RFC 4120 5.2.7.5).
type KeyInfo struct {
	EType      EType
	Salt       string
	Iterations uint32 // of PBKDF2; 0 means the 4096 of RFC 3962
}

// maxIterations bounds the work that a KDC may ask of us before it has proved
// anything; Active Directory always says 4096.
const maxIterations = 1 << 16

// MachineSalt is the salt that Active Directory gives a computer account
// (MS-KILE 3.1.1.2): the realm, "host", and the account's DNS name built from
// sAMAccountName without "$", in lower case. The KDC's own word (Login.Keys)
// is authoritative where it can be had.
func MachineSalt(sam, dnsDomain string) string {
	return strings.ToUpper(dnsDomain) + "host" + strings.ToLower(strings.TrimSuffix(sam, "$")) + "." + strings.ToLower(dnsDomain)
}

// DeriveKey makes a key of a password (RFC 3962 4). The password is UTF-8.
// An etype other than AES, or an absurd count of iterations, is
// fault.Malformed.
func DeriveKey(password secret.Bytes, info KeyInfo) (Key, error) {
	if info.EType.size() == 0 {
		return Key{}, fault.Errorf(fault.Malformed, "encryption type %d is not spoken here", info.EType)
	}
	if info.Iterations > maxIterations {
		return Key{}, fault.Errorf(fault.Malformed, "%d iterations of key derivation are refused", info.Iterations)
	}
	n := info.Iterations
	if n == 0 {
		n = 4096
	}
	et, err := crypto.GetEtype(int32(info.EType))
	if err != nil {
		return Key{}, fault.Wrap(fault.Internal, "derive a key", err)
	}
	params := hex.EncodeToString(binary.BigEndian.AppendUint32(nil, n))
	b, err := et.StringToKey(string(password.Reveal()), info.Salt, params)
	if err != nil {
		return Key{}, fault.Wrap(fault.Internal, "derive a key", err)
	}
	return Key{info.EType, secret.Own(b)}, nil
}

// seal encrypts plain under usage (RFC 4120 7.5.1).
func (k Key) seal(plain []byte, usage uint32) ([]byte, error) {
	et, err := k.suite()
	if err != nil {
		return nil, err
	}
	_, b, err := et.EncryptMessage(k.Value.Reveal(), plain, usage)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encrypt", err)
	}
	return b, nil
}

// open decrypts and checks what seal made. Anything that was not made with
// this key and usage is fault.BadCredential.
func (k Key) open(cipher []byte, usage uint32) ([]byte, error) {
	et, err := k.suite()
	if err != nil {
		return nil, err
	}
	// The library slices without looking: confounder and checksum must be there.
	if len(cipher) < et.GetConfounderByteSize()+et.GetHMACBitLength()/8 {
		return nil, fault.New(fault.Malformed, "the encrypted part is too short")
	}
	b, err := et.DecryptMessage(k.Value.Reveal(), cipher, usage)
	if err != nil {
		return nil, fault.New(fault.BadCredential, "the encrypted part was made with another key")
	}
	return b, nil
}

// suite returns the algorithms of the key's type, after a check that the key
// has the right length.
func (k Key) suite() (etype.EType, error) {
	if n := k.EType.size(); n == 0 || k.Value.Len() != n {
		return nil, fault.Errorf(fault.Malformed, "not an AES key: encryption type %d, %d bytes", k.EType, k.Value.Len())
	}
	et, err := crypto.GetEtype(int32(k.EType))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "find the encryption type", err)
	}
	return et, nil
}
