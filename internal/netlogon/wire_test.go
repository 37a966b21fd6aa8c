// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/msrpc/nrpc/logon/v1"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// capture is testdata/samba-4.17.txt: whole PDUs, sent and received, of the
// endpoint mapper, the handshake and the sealed channel.
func capture(t testing.TB) (sent, received [4][][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/samba-4.17.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		n := f[0][0] - '0'
		if f[1] == ">" {
			sent[n] = append(sent[n], b)
		} else {
			received[n] = append(received[n], b)
		}
	}
	if len(sent[3]) != 4 || len(received[3]) != 4 {
		t.Fatal("the capture is not complete")
	}
	return sent, received
}

func stubOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	p, err := parsePDU(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p.body[8:]
}

// captured returns the session key of the capture, after having checked both
// proofs against what a domain controller of Samba sent and accepted.
func captured(t *testing.T) [16]byte {
	t.Helper()
	sent, received := capture(t)
	request := stubOf(t, sent[2][1])
	mine := [8]byte(request[len(request)-8:])
	theirs := [8]byte(stubOf(t, received[2][1]))
	key := newSessionKey(ntHash(secret.FromString("Maschine-Passw0rd!ü")), mine, theirs)
	proof := newCredential(key, mine)
	if !bytes.Contains(stubOf(t, sent[2][2]), proof[:]) {
		t.Errorf("our proof %x was not sent", proof)
	}
	if got, want := newCredential(key, theirs), stubOf(t, received[2][2])[:8]; !bytes.Equal(got[:], want) {
		t.Errorf("the server's proof = %x, want %x", got, want)
	}
	return key
}

func TestHandshakeOfACapture(t *testing.T) { captured(t) }

func TestNTHash(t *testing.T) {
	// MS-NLMP 4.2.2.1.2
	if got := ntHash(secret.FromString("Password")); hex.EncodeToString(got[:]) != "a4f49c406510bdcab6824ee7c30fd852" {
		t.Errorf("NT hash = %x", got)
	}
}

func TestCFB8(t *testing.T) {
	// NIST SP 800-38A F.3.7 and F.3.8
	key := [16]byte{0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c}
	iv := func() []byte { return []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} }
	plain, _ := hex.DecodeString("6bc1bee22e409f96e93d7e117393172aae2d")
	b := bytes.Clone(plain)
	at := iv()
	cfb8(newAES(key), at, b[:7], false)
	cfb8(newAES(key), at, b[7:], false) // goes on where it was
	if hex.EncodeToString(b) != "3b79424c9c0dd436bace9e0ed4586a4f32b9" {
		t.Errorf("encrypted = %x", b)
	}
	cfb8(newAES(key), iv(), b, true)
	if !bytes.Equal(b, plain) {
		t.Errorf("decrypted = %x", b)
	}
}

// Every sealed message of the capture, ours and the server's, opens in the order
// in which they went, with one counter.
func TestSealOfACapture(t *testing.T) {
	s := newSealer(captured(t))
	sent, received := capture(t)
	for i := 1; i < 4; i++ {
		for _, m := range []struct {
			raw  []byte
			ours bool
		}{{sent[3][i], true}, {received[3][i], false}} {
			p, err := parsePDU(m.raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.open(p.trailer.token, m.raw[:len(m.raw)-len(p.trailer.token)], p.body[8:], m.ours); err != nil {
				t.Fatalf("message %d, ours %v: %v", i, m.ours, err)
			}
			if m.ours && !bytes.Contains(p.body, []byte("u\x00s\x00e\x00r\x000\x000\x000\x00")) {
				t.Error("the request does not hold the user's name")
			}
		}
	}
}

func TestSealRefuses(t *testing.T) {
	key := [16]byte{1, 2, 3}
	data := []byte("0123456789abcdef")
	seal := func() (token, body []byte) {
		token, body = make([]byte, tokenSize), bytes.Clone(data)
		newSealer(key).seal(token, body, body, true)
		if bytes.Contains(body, data[:4]) {
			t.Fatal("it is not sealed")
		}
		return token, body
	}
	token, body := seal()
	if err := newSealer(key).open(token, body, body, true); err != nil || !bytes.Equal(body, data) {
		t.Fatalf("as sent: %q, %v", body, err)
	}
	for what, change := range map[string]func(s *sealer, token, body []byte) ([]byte, bool){
		"a byte of it":      func(_ *sealer, token, body []byte) ([]byte, bool) { body[3] ^= 1; return token, true },
		"the checksum":      func(_ *sealer, token, body []byte) ([]byte, bool) { token[16] ^= 1; return token, true },
		"the confounder":    func(_ *sealer, token, body []byte) ([]byte, bool) { token[24] ^= 1; return token, true },
		"the number":        func(_ *sealer, token, body []byte) ([]byte, bool) { token[8] ^= 1; return token, true },
		"the algorithm":     func(_ *sealer, token, body []byte) ([]byte, bool) { token[0] = 0x77; return token, true },
		"a short token":     func(_ *sealer, token, body []byte) ([]byte, bool) { return token[:31], true },
		"another key":       func(s *sealer, token, body []byte) ([]byte, bool) { *s = *newSealer([16]byte{9}); return token, true },
		"our own, returned": func(_ *sealer, token, body []byte) ([]byte, bool) { return token, false },
		"one left out":      func(s *sealer, token, body []byte) ([]byte, bool) { s.next = 1; return token, true },
	} {
		token, body := seal()
		s := newSealer(key)
		token, client := change(s, token, body)
		if err := s.open(token, body, body, client); err == nil {
			t.Errorf("%s: it was taken", what)
		}
	}
	s := newSealer(key)
	token, body = seal()
	again, twiceBody := bytes.Clone(token), bytes.Clone(body)
	if err := s.open(token, body, body, true); err != nil {
		t.Fatal(err)
	}
	if err := s.open(again, twiceBody, twiceBody, true); err == nil {
		t.Error("the same message was taken twice")
	}
}

// player is a connection whose other side says what was captured.
type player struct {
	net.Conn
	io.Reader
}

func (p player) Read(b []byte) (int, error)       { return p.Reader.Read(b) }
func (p player) Write(b []byte) (int, error)      { return len(b), nil }
func (p player) Close() error                     { return nil }
func (p player) SetDeadline(time.Time) error      { return nil }
func (p player) SetReadDeadline(time.Time) error  { return nil }
func (p player) SetWriteDeadline(time.Time) error { return nil }

// The answers of a Samba domain controller, as they were on the wire, read by
// the connection itself.
func TestAnswersOfACapture(t *testing.T) {
	key := captured(t)
	_, received := capture(t)
	play := func(n int) *conn {
		c, err := dial(t.Context(), func(context.Context, string, string) (net.Conn, error) {
			return player{Reader: bytes.NewReader(slices.Concat(received[n]...))}, nil
		}, "dc")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := play(1)
	if err := c.bind(t.Context(), mapperInterface, nil, nil); err != nil {
		t.Fatal(err)
	}
	if port, err := mapEndpoint(t.Context(), c, logon.LogonSyntaxV1_0); err != nil || port != 49152 {
		t.Errorf("port %d, %v, want 49152", port, err)
	}
	c = play(3)
	if err := c.bind(t.Context(), netlogonInterface, newSealer(key), negotiateToken("X", "Y")); err != nil {
		t.Fatal(err)
	}
	if !c.headers {
		t.Error("Samba signs headers")
	}
	v, authoritative, err := samLogonEx(t.Context(), c, `\\dc`, "Y", question())
	if err != nil || !authoritative {
		t.Fatal(err)
	}
	want, _ := hex.DecodeString("4936e74857e5e7a12fa3dce74afb13aa")
	if v.EffectiveName != "user00001" || v.SID().String() != "S-1-5-21-299832914-465242907-476758207-1106" || v.UPN != "user00001@contoso.test" || !bytes.Equal(v.SessionKey.Reveal(), want) {
		t.Errorf("validation = %+v, key %x", v, v.SessionKey.Reveal())
	}
	for _, what := range []string{"a wrong password", "no hash"} {
		_, _, err := samLogonEx(t.Context(), c, `\\dc`, "Y", question())
		if code, _ := StatusOf(err); code != StatusWrongPassword {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCaptureReadsAndWritesTheSame(t *testing.T) {
	sent, received := capture(t)
	for _, conns := range [][4][][]byte{sent, received} {
		for _, all := range conns {
			for _, raw := range all {
				p, err := parsePDU(raw)
				if err != nil {
					t.Fatal(err)
				}
				if got := p.append(nil); !bytes.Equal(got, raw) {
					t.Errorf("%x became %x", raw, got)
				}
			}
		}
	}
}
