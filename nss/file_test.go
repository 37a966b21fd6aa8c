// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/publish"
	"github.com/latchkey-nas/latchkey/internal/publish/install"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/snapshot/forge"
)

// calls makes every call once, with keys that a whole snapshot of w answers.
func calls(t testing.TB, w *world) map[string]Answer {
	b := buffer(t, 1<<16)
	SetPasswd()
	SetGroup()
	_, byName := b.PasswdByName(w.users[1].Name)
	_, byUID := b.PasswdByUID(uint32(w.users[1].UID))
	_, next := b.NextPasswd()
	_, groupByName := b.GroupByName(w.groups[1].Name)
	_, byGID := b.GroupByGID(uint32(w.groups[1].GID))
	_, nextGroup := b.NextGroup()
	_, list := Initgroups(w.users[1].Name, 1<<32-1, nil, 1, -1)
	_, unknown := b.PasswdByName("nobody-here")
	_, unknownUID := b.PasswdByUID(12345)
	return map[string]Answer{"passwd by name": byName, "passwd by uid": byUID, "next passwd": next, "group by name": groupByName,
		"group by gid": byGID, "next group": nextGroup, "initgroups": list, "an unknown name": unknown, "an unknown uid": unknownUID}
}

func everyCall(t *testing.T, what string, w *world, want Answer) {
	t.Helper()
	for call, got := range calls(t, w) {
		known := want
		if want == found && (call == "an unknown name" || call == "an unknown uid") {
			known = absent
		}
		if got != known {
			t.Errorf("%s: %s = %v, want %v", what, call, got, known)
		}
	}
}

// What cannot be believed is UNAVAIL at once, for what is known and what is not.
func TestFilesThatAreNotBelieved(t *testing.T) {
	w := makeWorld(10, 5, 20)
	good := w.image(t, options(1))
	at := func(offset uintptr, value uint32) []byte {
		data := bytes.Clone(good)
		binary.NativeEndian.PutUint32(data[offset:], value)
		return data
	}
	sealed := func(data []byte) []byte { forge.SealHeader(data); return data }
	var h snapshot.Header
	incomplete := options(1)
	incomplete.Complete = false
	file := func(data []byte, mode os.FileMode) func(string) error {
		return func(path string) error {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	for name, tc := range map[string]struct {
		make  func(path string) error
		owner int
	}{
		"missing":             {func(string) error { return nil }, os.Getuid()},
		"of another owner":    {file(good, 0o644), os.Getuid() + 1},
		"writable by a group": {file(good, 0o664), os.Getuid()},
		"writable by all":     {file(good, 0o646), os.Getuid()},
		"a link": {func(path string) error {
			return errorsOf(file(good, 0o644)(path+".there"), os.Symlink(path+".there", path))
		}, os.Getuid()},
		"a link to nothing":    {func(path string) error { return os.Symlink("/nowhere", path) }, os.Getuid()},
		"a FIFO":               {func(path string) error { return unix.Mkfifo(path, 0o644) }, os.Getuid()},
		"a directory":          {func(path string) error { return os.Mkdir(path, 0o755) }, os.Getuid()},
		"a socket":             {func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o644, 0) }, os.Getuid()},
		"empty":                {file(nil, 0o644), os.Getuid()},
		"a header's part":      {file(good[:100], 0o644), os.Getuid()},
		"a header":             {file(good[:snapshot.HeaderSize], 0o644), os.Getuid()},
		"truncated":            {file(good[:len(good)-8], 0o644), os.Getuid()},
		"with more behind":     {file(append(bytes.Clone(good), make([]byte, 8)...), 0o644), os.Getuid()},
		"noise":                {file(bytes.Repeat([]byte("noise!!!"), 4096), 0o644), os.Getuid()},
		"zeroes":               {file(make([]byte, len(good)), 0o644), os.Getuid()},
		"not complete":         {file(w.image(t, incomplete), 0o644), os.Getuid()},
		"superseded":           {file(at(unsafe.Offsetof(h.Live), 0), 0o644), os.Getuid()},
		"half superseded":      {file(at(unsafe.Offsetof(h.Live), snapshot.Live&0xffffff), 0o644), os.Getuid()},
		"magic":                {file(at(unsafe.Offsetof(h.Magic), 0), 0o644), os.Getuid()},
		"another version":      {file(sealed(at(unsafe.Offsetof(h.Version), 2)), 0o644), os.Getuid()},
		"another byte order":   {file(sealed(at(unsafe.Offsetof(h.ByteOrder), 0x04030201)), 0o644), os.Getuid()},
		"a wrong sum":          {file(at(unsafe.Offsetof(h.Sum), 7), 0o644), os.Getuid()},
		"another generation":   {file(at(unsafe.Offsetof(h.Generation), 9), 0o644), os.Getuid()},
		"no ranges":            {file(sealed(at(unsafe.Offsetof(h.RangeCount), 0)), 0o644), os.Getuid()},
		"too many ranges":      {file(sealed(at(unsafe.Offsetof(h.RangeCount), 5)), 0o644), os.Getuid()},
		"a range turned round": {file(sealed(at(unsafe.Offsetof(h.Ranges)+4, 5)), 0o644), os.Getuid()},
		"reserved ids only":    {file(sealed(at(unsafe.Offsetof(h.Ranges)+4, 0)), 0o644), os.Getuid()},
		"rows out of bounds":   {file(sealed(at(unsafe.Offsetof(h.Users)+unsafe.Offsetof(h.Users.Rows), 0x7fffff00)), 0o644), os.Getuid()},
		"rows in the header":   {file(sealed(at(unsafe.Offsetof(h.Users)+unsafe.Offsetof(h.Users.Rows), 8)), 0o644), os.Getuid()},
		"rows that are odd":    {file(sealed(at(unsafe.Offsetof(h.Users)+unsafe.Offsetof(h.Users.Rows), snapshot.HeaderSize+4)), 0o644), os.Getuid()},
		"an index too long":    {file(sealed(at(unsafe.Offsetof(h.Groups)+unsafe.Offsetof(h.Groups.Names)+8, 0x7fffff00)), 0o644), os.Getuid()},
		"an index of no homes": {file(sealed(at(unsafe.Offsetof(h.Groups)+unsafe.Offsetof(h.Groups.NameSlots), 0)), 0o644), os.Getuid()},
		"homes out of bounds":  {file(sealed(at(unsafe.Offsetof(h.Users)+unsafe.Offsetof(h.Users.IDSlots), 0xffffff)), 0o644), os.Getuid()},
		"a different end":      {file(sealed(at(unsafe.Offsetof(h.FileSize), uint32(len(good)+8))), 0o644), os.Getuid()},
	} {
		// Believed before, so that a mapping is there to be dropped.
		before := publishTo(t, good)
		everyCall(t, name+", before", w, found)
		path := filepath.Join(filepath.Dir(before), "x")
		if err := tc.make(path); err != nil {
			t.Fatal(err)
		}
		Use(path, tc.owner, forever)
		everyCall(t, name, w, unavailable)
		everyCall(t, name+", again", w, unavailable)
		// And once it is right, it is believed at once.
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, good)
		Use(path, os.Getuid(), forever)
		everyCall(t, name+", repaired", w, found)
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Ids that no snapshot may have are refused by the module too, whoever let them
// pass: root's publisher did not, so this is for the day when it would.
func TestForbiddenIDs(t *testing.T) {
	const uid, gid, other = base + 11, base + 22, base + 33
	b, err := snapshot.NewBuilder(snapshot.Options{Complete: true, Ranges: []snapshot.Range{{Low: 0, High: 1<<32 - 1}}})
	if err != nil {
		t.Fatal(err)
	}
	u := snapshot.User{Name: "mallory", UID: uid, GID: gid, Dir: "/", Shell: "/bin/sh", Groups: []identity.GID{other}}
	if err := b.AddUser(u); err != nil {
		t.Fatal(err)
	}
	if err := b.AddGroup(snapshot.Group{Name: "malice", GID: gid}); err != nil {
		t.Fatal(err)
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	good := im.Bytes()
	buf := buffer(t, 4096)
	for _, id := range []uint32{0, 27, 999, 61184, 65000, 65519, 65534, 65535, 1<<32 - 1} {
		for what, from := range map[string]uint32{"uid": uid, "primary gid": gid, "gid in the list": other} {
			var old, new [4]byte
			binary.NativeEndian.PutUint32(old[:], from)
			binary.NativeEndian.PutUint32(new[:], id)
			publishTo(t, bytes.ReplaceAll(good, old[:], new[:]))
			if got, a := Initgroups("mallory", 1<<32-1, nil, 1, -1); a.Status == Success || len(got) != 0 {
				t.Errorf("%s %d: Initgroups = %v, %v", what, id, got, a)
			}
			if got, a := buf.PasswdByUID(id); a.Status == Success {
				t.Errorf("%s %d: PasswdByUID = %+v", what, id, got)
			}
			if got, a := buf.GroupByGID(id); a.Status == Success {
				t.Errorf("%s %d: GroupByGID = %+v", what, id, got)
			}
			if what == "gid in the list" {
				continue
			}
			if got, a := buf.PasswdByName("mallory"); a != unavailable {
				t.Errorf("%s %d: PasswdByName = %+v, %v", what, id, got, a)
			}
			SetPasswd()
			if got, a := buf.NextPasswd(); a != unavailable {
				t.Errorf("%s %d: NextPasswd = %+v, %v", what, id, got, a)
			}
			if what == "primary gid" {
				if got, a := buf.GroupByName("malice"); a != unavailable {
					t.Errorf("%s %d: GroupByName = %+v, %v", what, id, got, a)
				}
			}
		}
	}
	// Nor one outside the snapshot's ranges.
	data := makeWorld(3, 1, 21).image(t, options(1))
	var outside [4]byte
	binary.NativeEndian.PutUint32(outside[:], 5000)
	var old [4]byte
	binary.NativeEndian.PutUint32(old[:], base+1003)
	publishTo(t, bytes.ReplaceAll(data, old[:], outside[:]))
	if got, a := buf.PasswdByName("user00001"); a != unavailable {
		t.Errorf("a uid outside the ranges: %+v, %v", got, a)
	}
	// With ranges that are several, all of them count, and what lies between does not.
	w := &world{users: []snapshot.User{{Name: "low", UID: 2000, GID: 70000, Groups: []identity.GID{61000, 65530, 4000000000}}, {Name: "high", UID: 1<<32 - 2, GID: 1001}},
		groups: []snapshot.Group{{Name: "g", GID: 65530}, {Name: "h", GID: 70000}}}
	o := options(1)
	o.Ranges = []snapshot.Range{{Low: 0, High: 66000}, {Low: 70000, High: 80000}, {Low: 3000000000, High: 1<<32 - 1}}
	publishTo(t, w.image(t, o))
	for i := range w.users {
		want := w.gids(&w.users[i])
		if got, a := Initgroups(w.users[i].Name, 1<<32-1, nil, 1, -1); a != found || !slices.Equal(got, want) {
			t.Errorf("Initgroups(%s) = %v, %v, want %v", w.users[i].Name, got, a, want)
		}
	}
}

// A changed file is noticed by its mark alone, at the next call.
func TestMarkIsNoticedAtOnce(t *testing.T) {
	dir := t.TempDir()
	i := openInstaller(t, dir)
	b := buffer(t, 4096)
	for n := range 50 {
		name := fmt.Sprintf("user%d", n)
		put(t, i, &world{users: []snapshot.User{{Name: name, UID: base + 5, GID: base}}})
		if n == 0 {
			look(t, filepath.Join(dir, install.Name))
		}
		if p, a := b.PasswdByUID(base + 5); a != found || p.Name != name {
			t.Fatalf("after %d changes: %+v, %v", n, p, a)
		}
		if _, a := b.PasswdByName(fmt.Sprintf("user%d", n-1)); a != absent {
			t.Fatalf("after %d changes the last one is still there: %v", n, a)
		}
	}
	if err := i.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if _, a := b.PasswdByUID(base + 5); a != unavailable {
		t.Errorf("after Withdraw: %v", a)
	}
	put(t, i, &world{users: []snapshot.User{{Name: "again", UID: base + 5, GID: base}}})
	if p, a := b.PasswdByUID(base + 5); a != found || p.Name != "again" {
		t.Errorf("after the next snapshot: %+v, %v", p, a)
	}
}

// Where nobody marks the old file, a glance at the path tells, when its time has
// come and not before.
func TestGlance(t *testing.T) {
	b := buffer(t, 4096)
	one := &world{users: []snapshot.User{{Name: "one", UID: base + 5, GID: base}}}
	two := &world{users: []snapshot.User{{Name: "two", UID: base + 5, GID: base}}}
	path := publishTo(t, one.image(t, options(1)))
	if p, a := b.PasswdByUID(base + 5); a != found || p.Name != "one" {
		t.Fatalf("first: %+v, %v", p, a)
	}
	write(t, path, two.image(t, options(2)))
	if p, a := b.PasswdByUID(base + 5); a != found || p.Name != "one" {
		t.Errorf("before its time: %+v, %v", p, a)
	}
	Use(path, os.Getuid(), forever)
	if p, a := b.PasswdByUID(base + 5); a != found || p.Name != "two" {
		t.Errorf("after a glance: %+v, %v", p, a)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, a := b.PasswdByUID(base + 5); a != found {
		t.Errorf("removed, before a glance: %v", a)
	}
	Use(path, os.Getuid(), forever)
	if _, a := b.PasswdByUID(base + 5); a != unavailable {
		t.Errorf("removed, after a glance: %v", a)
	}
	// A path that cannot be looked at says nothing about the file.
	write(t, path, one.image(t, options(3)))
	Use(path, os.Getuid(), 0)
	if _, a := b.PasswdByUID(base + 5); a != found {
		t.Fatalf("back again: %v", a)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	write(t, path, two.image(t, options(4)))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	p, a := b.PasswdByUID(base + 5)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if a != found || p.Name != "one" {
		t.Errorf("out of descriptors: %+v, %v, want the one that is known", p, a)
	}
	if p, a := b.PasswdByUID(base + 5); a != found || p.Name != "two" {
		t.Errorf("with descriptors again: %+v, %v", p, a)
	}
}

// A region of addresses takes files of all sizes, one after the other.
func TestFilesThatGrowAndShrink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities")
	for i, n := range []int{1, 3000, 10, 20000, 2, 30000, 3000, 1, 60000, 5} {
		w := makeWorld(n, 3, uint64(i))
		write(t, path, w.image(t, options(uint64(i))))
		look(t, path)
		b := buffer(t, 1<<22)
		for _, at := range []int{0, n / 2, n - 1} {
			if got, a := b.PasswdByUID(uint32(w.users[at].UID)); a != found || got != w.passwd(&w.users[at]) {
				t.Fatalf("%d users: %+v, %v", n, got, a)
			}
		}
		if got, a := b.GroupByGID(uint32(w.groups[0].GID)); a != found || len(got.Members) != n {
			t.Fatalf("%d users: %d members, %v", n, len(got.Members), a)
		}
	}
}

func openInstaller(t testing.TB, dir string) *install.Installer {
	t.Helper()
	i, err := install.Open(install.Options{Dir: dir, Owner: uint32(os.Getuid()), Ranges: ranges, Grace: time.Hour,
		Local: func() (map[string]struct{}, error) { return nil, nil }, NSCD: "/nonexistent", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

var generation uint64

// put publishes as the worker and the monitor do.
func put(t testing.TB, i *install.Installer, w *world) {
	t.Helper()
	generation++
	b, err := snapshot.NewBuilder(options(generation))
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range w.users {
		if err := b.AddUser(u); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range w.groups {
		if err := b.AddGroup(g); err != nil {
			t.Fatal(err)
		}
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := publish.Seal(im)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := i.Install(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}
