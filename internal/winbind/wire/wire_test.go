// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// captured are exchanges between Debian's smbd and wbinfo 4.17.12 and the
// winbindd of that release.
func captured(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/captured/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no captured exchanges %s: %v", pattern, err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f)] = b
	}
	return all
}

// parse cuts a request into its structure and the rest.
func parse(t testing.TB, b []byte, v wire.Version) *wire.Request {
	t.Helper()
	n, got, err := wire.Length(b, v)
	if err != nil || got != v {
		t.Fatalf("Length: version %d, %v", got, err)
	}
	r, err := wire.Parse(append(make([]byte, 0, wire.RequestSize), b[:n]...), v)
	if err != nil {
		t.Fatal(err)
	}
	if int(r.ExtraLen()) != len(b)-n {
		t.Fatalf("ExtraLen = %d, want %d", r.ExtraLen(), len(b)-n)
	}
	r.Extra = b[n:]
	return r
}

// The address of the sender's own memory is in each structure; the other side
// ignores it.
const requestPointer, responsePointer = 2120, 4000

func TestCapturedRequests(t *testing.T) {
	for name, raw := range captured(t, "*.req") {
		r := parse(t, raw, wire.V32)
		if got := r.Append(nil); !bytes.Equal(got, raw) {
			t.Errorf("%s: printed again it differs", name)
		}
		if c, ok := r.Command(); !ok || c != wire.PAMAuthCrap {
			t.Errorf("%s: command %v", name, c)
		}
		a, err := r.AuthCrap()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := wire.NewRequest(wire.V32, wire.PAMAuthCrap)
		if err != nil {
			t.Fatal(err)
		}
		again.SetPID(r.PID())
		again.SetClient(r.Client())
		again.SetAuthCrap(&a)
		want := bytes.Clone(raw)
		clear(want[requestPointer : requestPointer+8])
		if got := again.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%s: built from its fields it differs at byte %d", name, firstDifference(got, want))
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestCapturedResponses(t *testing.T) {
	for name, raw := range captured(t, "*.resp") {
		r, err := wire.ReadResponse(bytes.Clone(raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a, err := r.Auth()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var again wire.Response
		again.Begin(nil)
		if r.Succeeded() {
			again.OK()
		}
		again.SetAuth(a)
		want := bytes.Clone(raw)
		clear(want[responsePointer : responsePointer+8])
		if got := again.Finish(); !bytes.Equal(got, want) {
			t.Errorf("%s: built from its fields it differs at byte %d", name, firstDifference(got, want))
		}
	}
}

func TestCapturedWords(t *testing.T) {
	all := captured(t, "*")
	req := parse(t, all["auth-crap-ntlmv2-ok.req"], wire.V32)
	crap, err := req.AuthCrap()
	if err != nil || req.Client() != "smbd" || crap.User != "user00001" || crap.Domain != "AADDSCONTOSO" || crap.Workstation != "NASD" ||
		crap.Parameters != 0x820 || len(crap.LM) != 24 || len(crap.NT) != 330 || crap.Flags != 0x1000e {
		t.Errorf("got %+v, %v", crap, err)
	}
	short := parse(t, all["auth-crap-short-ntlm-ok.req"], wire.V32)
	if crap, err := short.AuthCrap(); err != nil || len(crap.NT) != 88 || short.Client() != "wbinfo" {
		t.Errorf("short: got %+v, %v", crap, err)
	}
	pac := parse(t, all["auth-crap-pac-ok.req"], wire.V32)
	if crap, err := pac.AuthCrap(); err != nil || len(crap.PAC) != 864 || crap.User != "" {
		t.Errorf("PAC: got %d bytes, %v", len(crap.PAC), err)
	}
	resp, err := wire.ReadResponse(all["auth-crap-pac-ok.resp"])
	if err != nil {
		t.Fatal(err)
	}
	a, err := resp.Auth()
	if err != nil || !resp.Succeeded() || a.ValidationLevel != 6 || !a.Authoritative || a.Info.UserRID != 1104 || a.Info.GroupRID != 513 ||
		len(a.Info.Groups) != 4 || len(a.Info.Others) != 1 || a.Info.Others[0].SID.String() != "S-1-18-1" || !a.Info.Logoff.IsZero() || a.Info.UPN != "user00001@contoso.test" {
		t.Errorf("got %+v %+v, %v", a, a.Info, err)
	}
}

func TestVersion31IsOneLayout(t *testing.T) {
	r, err := wire.NewRequest(wire.V31, wire.LookupName)
	if err != nil {
		t.Fatal(err)
	}
	r.SetClient("smbd")
	r.SetLookupName("EXAMPLE", "alice")
	r.SetExtra([]byte("more"))
	b := r.Append(nil)
	if len(b) != 2128+4 || string(b[312:319]) != "EXAMPLE" || string(b[568:573]) != "alice" || binary.LittleEndian.Uint32(b[2120:]) != 4 {
		t.Errorf("printed %d bytes, fields not where version 31 has them", len(b))
	}
	got := parse(t, b, wire.V31)
	domain, name := got.LookupName()
	if domain != "EXAMPLE" || name != "alice" || got.Client() != "smbd" {
		t.Errorf("got %q %q %q", domain, name, got.Client())
	}
	if !bytes.Equal(got.Append(nil), b) {
		t.Error("printed again it differs")
	}
}

func TestNumbers(t *testing.T) {
	for _, v := range []wire.Version{wire.V31, wire.V32, wire.V33} {
		for _, c := range wire.Commands() {
			n, ok := v.Number(c)
			missing := c == wire.Internal || c == wire.InitConnection && v != wire.V31 || c == wire.ShowSequence && v == wire.V33
			if ok == missing {
				t.Errorf("version %d: %s has a number: %t", v, c, ok)
			}
			if !ok {
				continue
			}
			r, err := wire.NewRequest(v, c)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := r.Command(); !ok || got != c {
				t.Errorf("version %d: %s is number %d, which is %s", v, c, n, got)
			}
		}
	}
	for _, tt := range []struct {
		v    wire.Version
		c    wire.Command
		want uint32
	}{
		{wire.V32, wire.PAMAuthCrap, 14}, {wire.V32, wire.PrivilegedPipeDir, 44}, {wire.V32, wire.GetSIDAliases, 47}, {wire.V32, wire.CacheNTLMAuth, 56}, {wire.V32, wire.CacheSave, 57},
		{wire.V31, wire.CacheNTLMAuth, 57}, {wire.V31, wire.CacheSave, 58}, {wire.V31, wire.PrivilegedPipeDir, 44}, {wire.V31, wire.InitConnection, 48},
		{wire.V33, wire.PrivilegedPipeDir, 43}, {wire.V33, wire.WINSByIP, 39}, {wire.V33, wire.DCInfo, 38}, {wire.V33, wire.CacheSave, 56},
	} {
		if got, _ := tt.v.Number(tt.c); got != tt.want {
			t.Errorf("version %d: %s = %d, want %d", tt.v, tt.c, got, tt.want)
		}
	}
	last := map[wire.Version]uint32{wire.V31: 58, wire.V32: 57, wire.V33: 56}
	for v, n := range last {
		b := make([]byte, v.RequestSize(), wire.RequestSize)
		binary.LittleEndian.PutUint32(b, uint32(len(b)))
		binary.LittleEndian.PutUint32(b[4:], n+1)
		r, err := wire.Parse(b, v)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := r.Command(); ok {
			t.Errorf("version %d: number %d is %s, want none", v, n+1, c)
		}
		inner := make([]byte, v.RequestSize(), wire.RequestSize)
		binary.LittleEndian.PutUint32(inner, uint32(len(inner)))
		binary.LittleEndian.PutUint32(inner[4:], n-2)
		r, err = wire.Parse(inner, v)
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := r.Command(); c != wire.Internal {
			t.Errorf("version %d: number %d is %s, want an internal one", v, n-2, c)
		}
	}
}

func TestForSamba(t *testing.T) {
	for _, tt := range []struct {
		printed string
		want    wire.Version
		kind    fault.Kind
	}{
		{"Version 4.10.0", wire.V31, 0},
		{"Version 4.16.11-Ubuntu", wire.V31, 0},
		{"Version 4.17.12-Debian\n", wire.V32, 0},
		{"Version 4.21.4-Debian-4.21.4+dfsg-1+deb13u1", wire.V32, 0},
		{"4.22.0", wire.V33, 0},
		{"Version 4.24.5", wire.V33, 0},
		{"Version 4.9.5-Debian", 0, fault.Conflict},
		{"Version 4.25.0rc1", 0, fault.Conflict},
		{"Version 5.0.0", 0, fault.Conflict},
		{"Version ", 0, fault.Malformed},
		{"smbd: not found", 0, fault.Malformed},
		{"4.", 0, fault.Malformed},
		{"4.x", 0, fault.Malformed},
	} {
		got, err := wire.ForSamba(tt.printed)
		if got != tt.want || fault.KindOf(err) != tt.kind {
			t.Errorf("ForSamba(%q) = %d, %v; want %d, kind %v", tt.printed, got, err, tt.want, tt.kind)
		}
		if tt.kind == fault.Conflict && fault.Remedy(err) == "" {
			t.Errorf("ForSamba(%q): no word about what to do", tt.printed)
		}
	}
}

func TestRefusedLengths(t *testing.T) {
	for _, n := range []uint32{0, 2096, 2127, 2129, 2137, 4008, 1<<32 - 1} {
		b := binary.LittleEndian.AppendUint32(nil, n)
		if _, _, err := wire.Length(b, wire.V32); !fault.Is(err, fault.Malformed) {
			t.Errorf("Length(%d) = %v, want malformed", n, err)
		}
	}
	if _, _, err := wire.Length(binary.LittleEndian.AppendUint32(nil, wire.RequestSize), wire.V31); !fault.Is(err, fault.Malformed) {
		t.Errorf("the longer structure on a machine of version 31: %v, want malformed", err)
	}
	long, err := wire.NewRequest(wire.V32, wire.SIDsToXIDs)
	if err != nil {
		t.Fatal(err)
	}
	long.SetExtra(make([]byte, wire.MaxExtra+1))
	if _, err := wire.Parse(long.Append(nil)[:wire.RequestSize], wire.V32); !fault.Is(err, fault.Malformed) {
		t.Errorf("too much extra data: %v, want malformed", err)
	}
	for _, change := range []func(a *wire.AuthCrap) (at int, n uint32){
		func(*wire.AuthCrap) (int, uint32) { return 1100, 257 },
		func(*wire.AuthCrap) (int, uint32) { return 1360, 257 },
		func(a *wire.AuthCrap) (int, uint32) { a.Flags = wire.FlagBigNTLMv2; return 1360, 3 },
	} {
		r, _ := wire.NewRequest(wire.V32, wire.PAMAuthCrap)
		a := &wire.AuthCrap{}
		at, n := change(a)
		r.SetAuthCrap(a)
		b := r.Append(nil)
		binary.LittleEndian.PutUint32(b[at:], n)
		bad, err := wire.Parse(b, wire.V32)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bad.AuthCrap(); !fault.Is(err, fault.Malformed) {
			t.Errorf("length %d at %d: %v, want malformed", n, at, err)
		}
	}
}

func TestFields(t *testing.T) {
	var r wire.Response
	r.Begin(make([]byte, 10))
	if r.Succeeded() {
		t.Error("an answer begins as a success")
	}
	pw := wire.Passwd{Name: "alice", Password: "*", UID: 100001104, GID: 100000514, Gecos: "Alice ☺", Home: "/home/alice", Shell: "/bin/sh"}
	r.SetPasswd(&pw)
	if got := r.Passwd(); got != pw {
		t.Errorf("passwd: %+v", got)
	}
	gr := wire.Group{Name: "staff", Password: "x", GID: 7, Members: 2, Offset: 9}
	r.SetGroup(&gr)
	if got := r.Group(); got != gr {
		t.Errorf("group: %+v", got)
	}
	r.AppendPasswd(&wire.Passwd{Name: "first"})
	r.AppendPasswd(&pw)
	if got := r.PasswdAt(1); got != pw || len(r.Extra()) != 2*wire.PasswdSize {
		t.Errorf("second passwd: %+v", got)
	}
	r.Begin(nil)
	r.AppendGroup(&gr)
	r.AppendGroup(&wire.Group{Name: "last"})
	if got := r.GroupAt(0); got != gr || len(r.Extra()) != 2*wire.GroupSize {
		t.Errorf("first group: %+v", got)
	}
	r.SetSID("S-1-1-0", wire.TypeWellKnown)
	if sid, kind := r.SID(); sid != "S-1-1-0" || kind != wire.TypeWellKnown {
		t.Errorf("SID: %s %d", sid, kind)
	}
	r.SetName("EXAMPLE", "alice", wire.TypeUser)
	if d, n, kind := r.Name(); d != "EXAMPLE" || n != "alice" || kind != wire.TypeUser {
		t.Errorf("name: %s %s %d", d, n, kind)
	}
	r.SetInfo('\\', "4.17.12")
	if c, v := r.Info(); c != '\\' || v != "4.17.12" {
		t.Errorf("info: %c %s", c, v)
	}
	d := wire.Domain{NetBIOS: "EXAMPLE", DNS: "example.test", SID: "S-1-5-21-1-2-3", Native: true, Primary: true}
	r.SetDomain(&d)
	if got := r.Domain(); got != d {
		t.Errorf("domain: %+v", got)
	}
	dc := wire.DC{UNC: `\\dc1`, Address: `\\192.0.2.1`, AddressType: 1, DomainGUID: "g", Domain: "example.test", Forest: "example.test", Flags: 5, DCSite: "a", ClientSite: "b"}
	r.SetDC(&dc)
	if got := r.DC(); got != dc {
		t.Errorf("DC: %+v", got)
	}
	r.SetText(strings.Repeat("x", 300))
	if got := r.Text(); len(got) != 255 {
		t.Errorf("a text that is too long: %d bytes, want 255", len(got))
	}
	r.Wipe()
	if r.Text() != "" {
		t.Error("wiped, it still says something")
	}
}

func TestNeverIsNever(t *testing.T) {
	in := &wire.Auth{ValidationLevel: 3, Info: &wire.Info3{DomainSID: identity.MustParseSID("S-1-5-21-1-2-3"), Logon: time.Unix(1700000000, 0), UPN: "not at level 3"}}
	var r wire.Response
	r.Begin(nil)
	r.SetAuth(in)
	if n := binary.LittleEndian.Uint64(r.Finish()[856:]); n != 910692730085 {
		t.Errorf("never is %d", n)
	}
	got, err := r.Auth()
	if err != nil {
		t.Fatal(err)
	}
	in.Info.UPN = ""
	if !reflect.DeepEqual(got, in) {
		t.Errorf("got %+v %+v", got, got.Info)
	}
	if string(r.Extra()) != "\x00" {
		t.Errorf("extra data without groups: %q, want one NUL", r.Extra())
	}
}

// FuzzRequest: what parses prints back the same, and no accessor panics.
func FuzzRequest(f *testing.F) {
	for _, raw := range captured(f, "*.req") {
		f.Add(raw, uint32(32))
		f.Add(raw, uint32(33))
	}
	for _, v := range []wire.Version{wire.V31, wire.V33} {
		for _, c := range []wire.Command{wire.InterfaceVersion, wire.LookupName, wire.SIDsToXIDs, wire.PAMAuth, wire.DsGetDCName} {
			r, err := wire.NewRequest(v, c)
			if err != nil {
				f.Fatal(err)
			}
			r.SetText("S-1-5-21-1-2-3-4")
			r.SetExtra([]byte("S-1-1-0\n\x00"))
			f.Add(r.Append(nil), uint32(v))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, assumed uint32) {
		if len(b) < 4 {
			return
		}
		n, v, err := wire.Length(b, wire.Version(assumed))
		if err != nil || len(b) < n {
			return
		}
		r, err := wire.Parse(append(make([]byte, 0, wire.RequestSize), b[:n]...), v)
		if err != nil || int(r.ExtraLen()) != len(b)-n {
			return
		}
		r.Extra = b[n:]
		if !bytes.Equal(r.Append(nil), b) {
			t.Error("printed again it differs")
		}
		c, ok := r.Command()
		_, _, _, _ = c.String(), r.Domain(), r.Client(), r.Text()
		_, _ = r.LookupName()
		_, password := r.Password()
		_, _, _ = r.DsGetDCName()
		_, _, _ = password.Len(), r.Membership(), r.ID()
		if number, has := v.Number(c); ok && has && c != wire.Internal && number != binary.LittleEndian.Uint32(b[4:]) {
			t.Errorf("number %d became %s, which is %d", binary.LittleEndian.Uint32(b[4:]), c, number)
		}
		a, err := r.AuthCrap()
		if err != nil {
			return
		}
		again, err := wire.NewRequest(v, wire.PAMAuthCrap)
		if err != nil {
			t.Fatal(err)
		}
		again.SetAuthCrap(&a)
		second, err := again.AuthCrap()
		if err != nil {
			t.Fatal(err)
		}
		// A text fills its field to the last byte only where it is hostile; it is
		// printed with an end.
		for _, s := range []*string{&a.User, &a.Domain, &a.Workstation, &a.Membership} {
			*s = (*s)[:min(len(*s), 255)]
		}
		if !same(a, second) {
			t.Errorf("got %+v, want %+v", second, a)
		}
	})
}

func same(a, b wire.AuthCrap) bool {
	if !bytes.Equal(a.LM, b.LM) || !bytes.Equal(a.NT, b.NT) || !bytes.Equal(a.PAC, b.PAC) {
		return false
	}
	a.LM, a.NT, a.PAC, b.LM, b.NT, b.PAC = nil, nil, nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// FuzzAuthResponse: an answer that can be read is printed back so that it reads
// the same.
func FuzzAuthResponse(f *testing.F) {
	for _, raw := range captured(f, "*.resp") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := wire.ReadResponse(b)
		if err != nil {
			return
		}
		a, err := r.Auth()
		if err != nil {
			return
		}
		var again wire.Response
		again.Begin(nil)
		again.SetAuth(a)
		second, err := again.Auth()
		if err != nil {
			t.Fatal(err)
		}
		var third wire.Response
		third.Begin(nil)
		third.SetAuth(second)
		if !bytes.Equal(again.Finish(), third.Finish()) {
			t.Error("printed twice it differs")
		}
	})
}
