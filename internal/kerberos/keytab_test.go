// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func testKey(b byte, e EType) Key {
	return Key{e, secret.Own(bytes.Repeat([]byte{b}, e.size()))}
}

func testKeytab() *Keytab {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	kt := &Keytab{}
	kt.Add(MachineEntries([]Principal{Account("NAS$", "EXAMPLE.TEST"), Service("host", "nas.example.test", "EXAMPLE.TEST")},
		[]Key{testKey(1, AES256), testKey(2, AES128)}, 2, at)...)
	kt.Add(MachineEntries([]Principal{Account("NAS$", "EXAMPLE.TEST"), Service("host", "nas.example.test", "EXAMPLE.TEST")},
		[]Key{testKey(3, AES256), testKey(4, AES128)}, 3, at)...) // rotated in the same second
	return kt
}

// Written by MIT ktutil 1.20.1: addent -key -p HTTP/nas.example.test@EXAMPLE.TEST -k 300 -e aes128-cts.
const mitKeytab = "0502000000490002000c4558414d504c452e5445535400044854545000106e61732e6578616d706c652e74657374" +
	"000000016b0261842c001100100102030405060708090a0b0c0d0e0f100000012c"

func TestKeytabOfMIT(t *testing.T) {
	b, err := hex.DecodeString(mitKeytab)
	if err != nil {
		t.Fatal(err)
	}
	kt, err := ParseKeytab(b)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kt.Find(Service("HTTP", "nas.example.test", "example.test"), 300, AES128)
	if err != nil || e.KVNO != 300 || e.Key.Value.Reveal()[15] != 0x10 {
		t.Errorf("entry = %+v, %v", e, err)
	}
	if again, err := kt.Marshal(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("written back %x, %v, want %x", again, err, b)
	}
}

func TestKeytabSkipsHolesAndStopsAtZero(t *testing.T) {
	b, _ := hex.DecodeString(mitKeytab)
	entry := b[2:]
	hole := append([]byte{0xff, 0xff, 0xff, 0xfc}, 1, 2, 3, 4)
	withHoles := append(append(append([]byte{5, 2}, hole...), entry...), hole...)
	withHoles = append(withHoles, 0, 0, 0, 0, 9, 9, 9)
	if kt, err := ParseKeytab(withHoles); err != nil || len(kt.Entries) != 1 {
		t.Errorf("holes: %+v, %v, want one entry", kt, err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "version 1": {5, 1}, "short length": {5, 2, 0}, "past the end": {5, 2, 0, 0, 0, 9, 1}, "short entry": {5, 2, 0, 0, 0, 2, 0, 1},
		"hole past the end": {5, 2, 0xff, 0xff, 0xff, 0x00}, "smallest number": {5, 2, 0x80, 0, 0, 0},
	} {
		if _, err := ParseKeytab(bad); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, want malformed", name, err)
		}
	}
}

func TestKeytabFindsByVersionNotByTime(t *testing.T) {
	kt := testKeytab()
	nas := Account("nas$", "example.test")
	for _, tc := range []struct {
		kvno uint32
		e    EType
		want byte
	}{{0, AES256, 3}, {2, AES256, 1}, {3, AES128, 4}, {2, AES128, 2}} {
		e, err := kt.Find(nas, tc.kvno, tc.e)
		if err != nil || e.Key.Value.Reveal()[0] != tc.want {
			t.Errorf("Find(%d, %d) = %v, %v, want key %d", tc.kvno, tc.e, e.Key.Value.Reveal(), err, tc.want)
		}
	}
	for _, who := range []Principal{Account("NAS", "EXAMPLE.TEST"), Account("NAS$", "OTHER.TEST"), Service("cifs", "nas.example.test", "EXAMPLE.TEST")} {
		if e, err := kt.Find(who, 0, AES256); !fault.Is(err, fault.NotFound) {
			t.Errorf("Find(%v) = %+v, %v, want not found", who, e, err)
		}
	}
	if got := kt.Newest(nas); got != 3 {
		t.Errorf("Newest = %d, want 3", got)
	}
}

func TestKeytabKeepVersions(t *testing.T) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	nas := Account("NAS$", "EXAMPLE.TEST")
	kt := &Keytab{}
	for v := uint32(1); v <= 4; v++ {
		kt.Add(MachineEntries([]Principal{nas}, []Key{testKey(byte(v), AES256)}, v, start.AddDate(0, 0, int(v)))...)
	}
	foreign := Account("OTHER$", "EXAMPLE.TEST")
	kt.Add(MachineEntries([]Principal{foreign}, []Key{testKey(9, AES256)}, 1, start)...)
	// Version 4 was written on the 5th: version 3 is needed by tickets from before.
	if n := kt.KeepVersions(1, start.AddDate(0, 0, 3).Add(time.Hour)); n != 2 {
		t.Errorf("dropped %d, want versions 1 and 2", n)
	}
	if _, err := kt.Find(nas, 3, AES256); err != nil {
		t.Errorf("version 3 went although version 4 is younger than the limit: %v", err)
	}
	if n := kt.KeepVersions(2, start.AddDate(1, 0, 0)); n != 0 {
		t.Errorf("dropped %d of the two newest", n)
	}
	if n := kt.KeepVersions(1, start.AddDate(1, 0, 0)); n != 1 || kt.Newest(nas) != 4 || kt.Newest(foreign) != 1 {
		t.Errorf("dropped %d, newest %d and %d, want 1, 4 and 1", n, kt.Newest(nas), kt.Newest(foreign))
	}
}

func TestKeytabAddReplacesTheSameVersion(t *testing.T) {
	kt := testKeytab()
	n := len(kt.Entries)
	kt.Add(KeytabEntry{Principal: Account("NAS$", "EXAMPLE.TEST"), KVNO: 3, Key: testKey(7, AES256), Time: time.Unix(1, 0)})
	e, err := kt.Find(Account("NAS$", "EXAMPLE.TEST"), 3, AES256)
	if err != nil || e.Key.Value.Reveal()[0] != 7 || len(kt.Entries) != n {
		t.Errorf("after Add: %+v, %v, %d entries, want key 7 and %d entries", e, err, len(kt.Entries), n)
	}
}

func TestKeytabFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "krb5.keytab")
	if _, err := ReadKeytab(path); !fault.Is(err, fault.NotFound) {
		t.Errorf("no file: %v, want not found", err)
	}
	kt := testKeytab()
	for range 2 { // new, and over an existing one
		if err := kt.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := kt.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v, want 0600", st.Mode(), err)
	}
	got, err := ReadKeytab(path)
	if err != nil || len(got.Entries) != len(kt.Entries) {
		t.Errorf("read back %d entries, %v, want %d", len(got.Entries), err, len(kt.Entries))
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := kt.WriteFile(filepath.Join(t.TempDir(), "no", "dir")); !fault.Is(err, fault.NotFound) {
		t.Errorf("no directory: %v, want not found", err)
	}
	if _, err := ReadKeytab(filepath.Dir(path)); !fault.Is(err, fault.Malformed) {
		t.Errorf("a directory: %v, want malformed", err)
	}
}

func TestKeytabWipe(t *testing.T) {
	kt := testKeytab()
	key := kt.Entries[0].Key.Value.Reveal()
	clone := kt.Clone()
	kt.Wipe()
	if !bytes.Equal(key, make([]byte, len(key))) || len(kt.Entries) != 0 {
		t.Errorf("after Wipe: %x, %d entries", key, len(kt.Entries))
	}
	if clone.Entries[0].Key.Value.Reveal()[0] != 1 {
		t.Error("the clone was wiped with its origin")
	}
}

func FuzzParseKeytab(f *testing.F) {
	b, _ := hex.DecodeString(mitKeytab)
	f.Add(b)
	if b, err := testKeytab().Marshal(); err == nil {
		f.Add(b)
	}
	f.Add([]byte{5, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		kt, err := ParseKeytab(b)
		if err != nil {
			return
		}
		out, err := kt.Marshal()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		again, err := ParseKeytab(out)
		if err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		out2, err := again.Marshal()
		if err != nil || !bytes.Equal(out, out2) {
			t.Errorf("prints %x, then %x, %v", out, out2, err)
		}
	})
}
