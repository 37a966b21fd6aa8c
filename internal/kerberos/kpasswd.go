// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// PasswordError is a refusal by the kpasswd service (RFC 3244 2). It is found
// by errors.As.
type PasswordError struct {
	Code uint16 // 1 malformed, 2 hard error, 3 authentication, 4 policy, 5 no right, 7 initial ticket needed
	Text string // the DC's words, or its policy spelt out; may be empty
}

var passwordCodes = map[uint16]string{
	1: "the request was malformed", 2: "the domain controller failed", 3: "the authentication failed",
	4: "the policy forbids this password", 5: "not permitted to change this password",
	6: "the version is not spoken", 7: "a fresh sign-in is needed",
}

// Error returns the code's meaning and the DC's words.
func (e *PasswordError) Error() string {
	s, ok := passwordCodes[e.Code]
	if !ok {
		s = fmt.Sprintf("refused with code %d", e.Code)
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

const (
	kpasswdChange = 0x0001
	kpasswdSet    = 0xff80
)

// ChangePassword changes who's own password (kpasswd version 1, TCP 464). It
// works for a password that must be changed. Errors as of Login; policy and
// missing rights are fault.Denied with *PasswordError. When the connection
// breaks after the request was sent, fault.Unreachable: the password may or may
// not be changed, which only a sign-in tells.
func (c *Client) ChangePassword(ctx context.Context, who Principal, with Secret, new secret.Bytes) error {
	return c.kpasswd(ctx, "change the password", who, with, kpasswdChange, new.Reveal())
}

// changePasswdData is ChangePasswdData (RFC 3244 2).
type changePasswdData struct {
	NewPasswd []byte              `asn1:"explicit,tag:0"`
	TargName  types.PrincipalName `asn1:"explicit,optional,tag:1"`
	TargRealm string              `asn1:"generalstring,explicit,optional,tag:2"`
}

// SetPassword sets the password of target, in the name of who, who needs the
// reset right over it (kpasswd version 0xff80, RFC 3244). Errors as of
// ChangePassword.
func (c *Client) SetPassword(ctx context.Context, who Principal, with Secret, target Principal, new secret.Bytes) error {
	data, err := asn1.Marshal(changePasswdData{NewPasswd: new.Reveal(), TargName: target.name(), TargRealm: c.realm()})
	if err != nil {
		return fault.Wrap(fault.Internal, "encode the new password", err)
	}
	defer secret.Wipe(data)
	return c.kpasswd(ctx, "set the password", who, with, kpasswdSet, data)
}

func (c *Client) kpasswd(ctx context.Context, op string, who Principal, with Secret, version uint16, data []byte) error {
	l, err := c.login(ctx, who, with, Principal{Type: NTService, Name: []string{"kadmin", "changepw"}, Realm: c.realm()})
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	defer l.TGT.Wipe()
	i, _, err := newInitiator(l.TGT, nil, c.now())
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	defer i.session.Value.Wipe()
	defer i.subkey.Value.Wipe()
	addrs, err := c.cfg.Servers.Addrs(ctx)
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	// Twice the same request would be refused by the password history, so once
	// there is a connection no other server is asked.
	conn, to, err := c.reach(ctx, addrs, portKpasswd)
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	reply, err := exchange(ctx, conn, to, func(local netip.Addr) ([]byte, error) {
		return kpasswdRequest(l.TGT, i, version, data, local, c.now())
	})
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	code, text, err := c.kpasswdReply(reply, i)
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	if code != 0 {
		return fault.Wrap(fault.Denied, op, &PasswordError{Code: code, Text: text})
	}
	return nil
}

// kpasswdRequest is length, version, length of AP-REQ, AP-REQ, KRB-PRIV
// (RFC 3244 2).
func kpasswdRequest(t *Ticket, i *Initiator, version uint16, data []byte, local netip.Addr, now time.Time) ([]byte, error) {
	ap, err := t.apReq(types.Authenticator{SubKey: i.subkey.library(), SeqNumber: int64(i.seq)}, i.ctime.Add(time.Duration(i.cusec)*time.Microsecond), usageAPReqAuth, apOptionMutual)
	if err != nil {
		return nil, err
	}
	sec, usec := micros(now)
	part := messages.EncKrbPrivPart{UserData: data, Timestamp: sec, Usec: usec, SequenceNumber: int64(i.seq), SAddress: hostAddress(local)}
	plain, err := marshalApp(part, tagEncKRBPriv)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(plain)
	cipher, err := i.subkey.seal(plain, usageKRBPriv)
	if err != nil {
		return nil, err
	}
	priv, err := marshalApp(krbPriv{PVNO: 5, MsgType: tagKRBPriv, EncPart: types.EncryptedData{EType: int32(i.subkey.EType), Cipher: cipher}}, tagKRBPriv)
	if err != nil {
		return nil, err
	}
	n := 6 + len(ap) + len(priv)
	if n > 0xffff {
		return nil, fault.Errorf(fault.Malformed, "the password request is too long: %d bytes", n)
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(n))
	out = binary.BigEndian.AppendUint16(out, version)
	out = binary.BigEndian.AppendUint16(out, uint16(len(ap)))
	return append(append(out, ap...), priv...), nil
}

// krbPriv is KRB-PRIV (RFC 4120 5.7.1).
type krbPriv struct {
	PVNO    int                 `asn1:"explicit,tag:0"`
	MsgType int                 `asn1:"explicit,tag:1"`
	EncPart types.EncryptedData `asn1:"explicit,tag:3"`
}

// kpasswdReply reads the reply and returns the result code and text.
func (c *Client) kpasswdReply(b []byte, i *Initiator) (code uint16, text string, err error) {
	if appTag(b) == tagKRBError { // some servers send it bare
		return c.kpasswdRefusal(b)
	}
	if len(b) < 6 || int(binary.BigEndian.Uint16(b)) != len(b) {
		return 0, "", fault.New(fault.Malformed, "not a reply of the kpasswd service")
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	b = b[6:]
	if n == 0 {
		return c.kpasswdRefusal(b)
	}
	if n > len(b) {
		return 0, "", fault.New(fault.Malformed, "the kpasswd reply is cut short")
	}
	enc, err := openAPRep(b[:n], i.session)
	if err != nil {
		return 0, "", err
	}
	if !enc.CTime.Equal(i.ctime) || enc.Cusec != i.cusec {
		return 0, "", fault.New(fault.BadCredential, "the service answered another request")
	}
	var priv krbPriv
	if err := unmarshalApp(b[n:], &priv, tagKRBPriv); err != nil {
		return 0, "", err
	}
	// Servers differ in which key they answer with.
	keys := []Key{i.subkey, {EType(enc.Subkey.KeyType), secret.Own(enc.Subkey.KeyValue)}, i.session}
	for _, k := range keys {
		if k.Value.Len() == 0 {
			continue
		}
		plain, err := k.open(priv.EncPart.Cipher, usageKRBPriv)
		if err != nil {
			continue
		}
		var part messages.EncKrbPrivPart
		if err := unmarshalApp(plain, &part, tagEncKRBPriv); err != nil {
			return 0, "", err
		}
		return resultOf(part.UserData)
	}
	return 0, "", fault.New(fault.BadCredential, "the kpasswd reply was made with another key")
}

func (c *Client) kpasswdRefusal(b []byte) (uint16, string, error) {
	kerr, err := readRefusal(b, invalidAddr)
	if err != nil {
		return 0, "", err
	}
	if len(kerr.data) >= 2 {
		if code, text, err := resultOf(kerr.data); err == nil && code != 0 && code < 16 {
			return code, text, nil
		}
	}
	return 0, "", c.fail("ask the kpasswd service", &kerr.Error)
}

// resultOf reads a result code and its text. Active Directory sends its policy
// as 30 bytes instead of text ([MS-SAMR] DOMAIN_PASSWORD_INFORMATION,
// big-endian, behind two zero bytes).
func resultOf(b []byte) (code uint16, text string, err error) {
	if len(b) < 2 {
		return 0, "", fault.New(fault.Malformed, "the kpasswd reply has no result")
	}
	code, b = binary.BigEndian.Uint16(b), b[2:]
	if len(b) == 30 && b[0] == 0 && b[1] == 0 {
		length, history, props := binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint32(b[6:]), binary.BigEndian.Uint32(b[10:])
		minAge := binary.BigEndian.Uint64(b[22:])
		text = fmt.Sprintf("at least %d characters, none of the last %d passwords", length, history)
		if props&1 != 0 {
			text += ", three of: capitals, small letters, digits, other characters"
		}
		if days := minAge / (10_000_000 * 86400); days > 0 {
			text += fmt.Sprintf(", at most one change in %d days", days)
		}
		return code, text, nil
	}
	b = b[:min(len(b), 500)]
	if !utf8.Valid(b) {
		return code, "", nil
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, string(b))
	return code, strings.TrimSpace(text), nil
}

// hostAddress is HostAddress (RFC 4120 5.2.5).
func hostAddress(a netip.Addr) types.HostAddress {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	kind := int32(2)
	if a.Is6() {
		kind = 24
	}
	return types.HostAddress{AddrType: kind, Address: a.AsSlice()}
}
