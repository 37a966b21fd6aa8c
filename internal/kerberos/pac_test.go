// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// sambaPAC is a real PAC with what belongs to it.
func sambaPAC(t testing.TB) (raw []byte, key Key, client Principal, authTime time.Time) {
	t.Helper()
	text, err := os.ReadFile("testdata/samba-4.17.12.pac")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "")); err != nil {
		t.Fatal(err)
	}
	k, err := hex.DecodeString("ccbb65f7fe6be118b5dae3f67b9a1f5c3afde69ec107d4b3f5a4b11f1f1a60c4")
	if err != nil {
		t.Fatal(err)
	}
	return raw, Key{AES256, secret.Own(k)}, Account("user00002", "AADDS.CONTOSO.TEST"), time.Unix(1795320108, 0)
}

func TestPACOfSamba(t *testing.T) {
	raw, key, client, at := sambaPAC(t)
	p, err := openPAC(raw, key, client, at)
	if err != nil {
		t.Fatal(err)
	}
	const domain = "S-1-5-21-299832914-465242907-476758207"
	var groups []string
	for _, g := range p.Groups {
		groups = append(groups, g.String())
	}
	if p.User.String() != domain+"-1107" || p.PrimaryGroup.String() != domain+"-513" || strings.Join(groups, " ") != domain+"-513 "+domain+"-6278 "+domain+"-6605 S-1-18-1" {
		t.Errorf("user %v, primary group %v, groups %v", p.User, p.PrimaryGroup, groups)
	}
	if p.Account != "user00002" || p.FullName != "User 2" || p.Domain != "AADDSCONTOSO" || p.DNSDomain != "AADDS.CONTOSO.TEST" || p.UPN != "user00002@contoso.test" ||
		p.UPNMadeUp || p.LogonServer != "DC1" || !p.MustChange.IsZero() || p.PasswordSet.Year() != 2026 {
		t.Errorf("PAC = %+v", p)
	}
}

func TestPACIsNotBelievedOtherwise(t *testing.T) {
	raw, key, client, at := sambaPAC(t)
	other := key.Clone()
	other.Value.Reveal()[0] ^= 1
	for name, tc := range map[string]struct {
		key    Key
		client Principal
		at     time.Time
	}{
		"another key":     {other, client, at},
		"a shorter key":   {Key{AES128, secret.Own(key.Value.Clone().Reveal()[:16])}, client, at},
		"another client":  {key, Account("user00003", client.Realm), at},
		"another sign-in": {key, client, at.Add(time.Second)},
	} {
		if p, err := openPAC(raw, tc.key, tc.client, tc.at); !fault.Is(err, fault.BadCredential) {
			t.Errorf("%s: %+v, %v, want bad credential", name, p, err)
		}
	}
	buffers, err := pacBuffers(raw)
	if err != nil {
		t.Fatal(err)
	}
	// Every bit outside the KDC's own signature counts.
	free := make([]bool, len(raw))
	for _, b := range buffers {
		if b.kind == pacKDCSum {
			for i := b.from + 4; i < b.from+16; i++ {
				free[i] = true
			}
		}
	}
	for i := range raw {
		bent := bytes.Clone(raw)
		bent[i] ^= 0x01
		if _, err := openPAC(bent, key, client, at); (err == nil) != free[i] {
			t.Errorf("byte %d bent: %v", i, err)
		}
		if p, err := openPAC(raw[:i], key, client, at); err == nil {
			t.Errorf("the first %d bytes gave %+v", i, p)
		}
	}
}

func TestPACBuffersStayInside(t *testing.T) {
	head := func(n byte, entries ...byte) []byte { return append([]byte{n, 0, 0, 0, 0, 0, 0, 0}, entries...) }
	entry := func(kind, size, offset byte) []byte {
		return []byte{kind, 0, 0, 0, size, 0, 0, 0, offset, 0, 0, 0, 0, 0, 0, 0}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "no buffers": head(0), "too many": head(65), "other version": {1, 0, 0, 0, 1, 0, 0, 0}, "cut": head(1, 1, 0, 0),
		"past the end": head(1, entry(1, 1, 24)...), "size wraps": head(1, append(entry(1, 0xff, 8)[:4], 0xff, 0xff, 0xff, 0xff, 8, 0, 0, 0, 0, 0, 0, 0)...),
		"offset wraps": head(1, append(entry(1, 4, 0)[:8], bytes.Repeat([]byte{0xff}, 8)...)...),
		"twice":        head(2, append(entry(1, 0, 0), entry(1, 0, 0)...)...),
	} {
		if got, err := pacBuffers(b); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, %v, want malformed", name, got, err)
		}
	}
}

func TestPACRequestor(t *testing.T) {
	p := PAC{User: identity.MustParseSID("S-1-5-21-1-2-3-1104")}
	b := make([]byte, 20)
	b[8] = 2
	if err := p.upnInfo(b); !fault.Is(err, fault.BadCredential) {
		t.Errorf("extended UPN information without a SID: %v, want bad credential", err)
	}
	b = append(b, p.User.Bytes()...)
	b[16], b[18] = byte(len(p.User.Bytes())), 20
	if err := p.upnInfo(b); err != nil {
		t.Errorf("with the right SID: %v", err)
	}
}

func FuzzPAC(f *testing.F) {
	raw, key, client, at := sambaPAC(f)
	f.Add(raw)
	buffers, err := pacBuffers(raw)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range buffers {
		f.Add(b.data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := openPAC(b, key, client, at); err == nil {
			if bufs, err := pacBuffers(b); err != nil || len(bufs) != len(buffers) {
				t.Errorf("a PAC that nobody signed was read: %x", b)
			}
		}
		if len(b) > 4096 {
			return
		}
		var p PAC
		_ = p.upnInfo(b)
		_ = checkClientInfo(b, client, at)
		if p.logonInfo(b) == nil && p.User.IsZero() {
			t.Error("logon information without a user")
		}
	})
}

func TestCheckPAC(t *testing.T) {
	raw, key, client, at := sambaPAC(t)
	old := key.Clone()
	old.Value.Reveal()[0] ^= 1
	entry := func(name string, kvno uint32, k Key) KeytabEntry {
		return KeytabEntry{Principal: Account(name, client.Realm), KVNO: kvno, Key: k}
	}
	rc4 := Key{EType: 23, Value: secret.Own(make([]byte, 16))}
	for name, tc := range map[string]struct {
		keytab Keytab
		want   fault.Kind
	}{
		"the newest of several": {Keytab{[]KeytabEntry{entry("NAS$", 1, old), entry("NAS$", 1, rc4), entry("NAS$", 2, key)}}, 0},
		"the one before":        {Keytab{[]KeytabEntry{entry("NAS$", 2, key), entry("host/nas", 2, key), entry("NAS$", 3, old)}}, 0},
		"none that fits":        {Keytab{[]KeytabEntry{entry("NAS$", 2, old)}}, fault.BadCredential},
		"none at all":           {Keytab{[]KeytabEntry{entry("NAS$", 2, rc4)}}, fault.Conflict},
	} {
		got, err := CheckPAC(raw, &tc.keytab)
		if tc.want != 0 {
			if !fault.Is(err, tc.want) || got != nil {
				t.Errorf("%s: %+v, %v, want %v", name, got, err, tc.want)
			}
			continue
		}
		want, _ := openPAC(raw, key, client, at)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	bent := bytes.Clone(raw)
	bent[len(bent)/2] ^= 1
	if got, err := CheckPAC(bent, &Keytab{[]KeytabEntry{entry("NAS$", 2, key)}}); err == nil {
		t.Errorf("a bent one gave %+v", got)
	}
}

// FuzzCheckPAC takes PACs as another program hands them on: what is not signed
// with our key is refused, whatever it is, and what is signed reads the same
// twice. The second half reads the logon information without its signature.
func FuzzCheckPAC(f *testing.F) {
	raw, key, _, _ := sambaPAC(f)
	keytab := &Keytab{[]KeytabEntry{{Principal: Account("NAS$", "AADDS.CONTOSO.TEST"), KVNO: 1, Key: key}}}
	f.Add(raw)
	f.Add(raw[:len(raw)/2])
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0})
	buffers, err := pacBuffers(raw)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range buffers {
		f.Add(b.data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := CheckPAC(b, keytab)
		if err == nil {
			again, err := CheckPAC(b, keytab)
			if err != nil || !reflect.DeepEqual(p, again) {
				t.Errorf("read as %+v, then as %+v, %v", p, again, err)
			}
		} else if k := fault.KindOf(err); k != fault.Malformed && k != fault.BadCredential {
			t.Errorf("%v (%v)", err, k)
		}
		var loose PAC
		if err := loose.logonInfo(b); err == nil && (loose.User.IsZero() || len(loose.Groups) == 0) {
			t.Errorf("logon information about nobody: %+v", loose)
		}
		_ = loose.upnInfo(b)
	})
}
