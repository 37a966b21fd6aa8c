// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func testInitiator(t testing.TB) (*Initiator, *Ticket) {
	t.Helper()
	ticket := &Ticket{Client: Account("alice", "R"), Key: testKey(1, AES256), Raw: []byte{0x61, 0}}
	i, _, err := newInitiator(ticket, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return i, ticket
}

// passwordReply is what a kpasswd service answers to i, sealed with key.
func passwordReply(t testing.TB, i *Initiator, key Key, result []byte) []byte {
	t.Helper()
	seal := func(v any, tag int, key Key, usage uint32) types.EncryptedData {
		plain, err := marshalApp(v, tag)
		if err != nil {
			t.Fatal(err)
		}
		b, err := key.seal(plain, usage)
		if err != nil {
			t.Fatal(err)
		}
		return types.EncryptedData{EType: int32(key.EType), Cipher: b}
	}
	enc := messages.EncAPRepPart{CTime: i.ctime, Cusec: i.cusec, SequenceNumber: 7}
	if !key.Value.Equal(i.subkey.Value) {
		enc.Subkey = key.library()
	}
	rep, err := marshalApp(apRep{5, tagAPRep, seal(enc, tagEncAPRepPart, i.session, usageAPRep)}, tagAPRep)
	if err != nil {
		t.Fatal(err)
	}
	part := messages.EncKrbPrivPart{UserData: result, SequenceNumber: 7, SAddress: hostAddress(netip.Addr{})}
	priv, err := marshalApp(krbPriv{5, tagKRBPriv, seal(part, tagEncKRBPriv, key, usageKRBPriv)}, tagKRBPriv)
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(6+len(rep)+len(priv)))
	b = append(b, 0, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rep)))
	return append(append(b, rep...), priv...)
}

func TestPasswordReplies(t *testing.T) {
	c := NewClient(Config{Realm: "R"})
	i, _ := testInitiator(t)
	policy := append([]byte{0, 4, 0, 0}, make([]byte, 28)...)
	binary.BigEndian.PutUint32(policy[4:], 7)
	binary.BigEndian.PutUint32(policy[8:], 24)
	binary.BigEndian.PutUint32(policy[12:], 1)
	binary.BigEndian.PutUint64(policy[24:], 2*86400*10_000_000)
	for name, tc := range map[string]struct {
		key    Key
		result []byte
		code   uint16
		text   string
	}{
		"done":                    {i.subkey, []byte{0, 0}, 0, ""},
		"done, by their key":      {testKey(8, AES128), []byte{0, 0, 'o', 'k'}, 0, "ok"},
		"text":                    {i.subkey, append([]byte{0, 4}, "Too\nshort \x00"...), 4, "Too short"},
		"policy of Windows":       {i.subkey, policy, 4, "at least 7 characters, none of the last 24 passwords, three of: capitals, small letters, digits, other characters, at most one change in 2 days"},
		"no right":                {i.subkey, []byte{0, 5}, 5, ""},
		"words that are not text": {i.subkey, []byte{0, 2, 0xff, 0xfe}, 2, ""},
	} {
		code, text, err := c.kpasswdReply(passwordReply(t, i, tc.key, tc.result), i)
		if err != nil || code != tc.code || text != tc.text {
			t.Errorf("%s: %d %q, %v, want %d %q", name, code, text, err, tc.code, tc.text)
		}
	}
	if _, _, err := c.kpasswdReply(passwordReply(t, i, i.subkey, nil), i); !fault.Is(err, fault.Malformed) {
		t.Errorf("no result: %v, want malformed", err)
	}
	another, _ := testInitiator(t)
	if _, _, err := c.kpasswdReply(passwordReply(t, another, another.subkey, []byte{0, 0}), i); !fault.Is(err, fault.BadCredential) {
		t.Errorf("the answer to another request: %v, want bad credential", err)
	}
	e := &PasswordError{Code: 4, Text: "x"}
	if !strings.Contains(e.Error(), "policy") || !errors.As(fault.Wrap(fault.Denied, "", e), &e) {
		t.Errorf("error = %q", e)
	}
}

func FuzzPasswordReply(f *testing.F) {
	i, _ := testInitiator(f)
	for _, r := range [][]byte{{0, 0}, {0, 4, 'x'}, make([]byte, 32)} {
		f.Add(passwordReply(f, i, i.subkey, r), r)
	}
	c := NewClient(Config{Realm: "R"})
	f.Fuzz(func(t *testing.T, b, result []byte) {
		if code, _, err := c.kpasswdReply(b, i); err == nil && code == 0 && len(b) < 100 {
			t.Errorf("%x means that the password was changed", b)
		}
		if _, text, err := resultOf(result); err == nil && strings.ContainsAny(text, "\x00\n\r\x1b") {
			t.Errorf("control characters in %q", text)
		}
		_ = statusOf(b)
	})
}
