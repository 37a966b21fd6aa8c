// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/publish"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

const base = 100000001

var ranges = []snapshot.Range{{Low: base, High: base + 999999}}

func image(t testing.TB, o snapshot.Options, names ...string) *snapshot.Image {
	t.Helper()
	b, err := snapshot.NewBuilder(o)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if err := b.AddUser(snapshot.User{Name: name, UID: identity.UID(base + i), GID: base + 500, Gecos: strings.Repeat(name, 3000/len(name)), Dir: "/", Shell: "/bin/sh"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.AddGroup(snapshot.Group{Name: "everyone", GID: base + 500}); err != nil {
		t.Fatal(err)
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return im
}

var generation uint64

func sealed(t testing.TB, names ...string) *os.File {
	t.Helper()
	generation++
	f, _, err := publish.Seal(image(t, snapshot.Options{Generation: generation, Complete: true, Ranges: ranges}, names...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// memfd makes a memfd of any content with the given seals.
func memfd(t testing.TB, data []byte, add int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, add); err != nil {
		t.Fatal(err)
	}
	return f
}

func nobody() (map[string]struct{}, error) { return nil, nil }

func installer(t testing.TB, dir string) *Installer {
	t.Helper()
	i, err := open(Options{Owner: uint32(os.Getuid()), Dir: dir, Ranges: ranges, Local: nobody, Grace: time.Hour, NSCD: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func install(t testing.TB, i *Installer, names ...string) {
	t.Helper()
	if err := i.Install(context.Background(), sealed(t, names...)); err != nil {
		t.Fatal(err)
	}
}

// reader is a process that has mapped the file: it sees changes.
func reader(t testing.TB, dir string) *snapshot.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func knows(r *snapshot.Reader, name string) bool {
	_, ok := r.UserByName(name)
	return ok
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestInstallReplacesAndMarks(t *testing.T) {
	dir := t.TempDir()
	i := installer(t, dir)
	if _, ok := i.Current(); ok {
		t.Error("something is published in an empty directory")
	}
	install(t, i, "ana")
	first := reader(t, dir)
	if !knows(first, "ana") || first.Superseded() {
		t.Error("the first snapshot does not know ana")
	}
	install(t, i, "ana", "bob")
	second := reader(t, dir)
	if !first.Superseded() || second.Superseded() || !knows(second, "bob") {
		t.Errorf("superseded: the first %v, the second %v", first.Superseded(), second.Superseded())
	}
	if !knows(first, "ana") {
		t.Error("the content of the superseded one is gone before its grace is over")
	}
	if got := list(t, dir); !slices.Equal(got, []string{Name}) {
		t.Errorf("left behind: %q", got)
	}
	st, err := os.Stat(filepath.Join(dir, Name))
	if err != nil || st.Mode() != 0o644 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	info, ok := i.Current()
	if !ok || info.Users != 2 || info.Groups != 1 || info.Digest != second.Digest() || info.Size != st.Size() {
		t.Errorf("Current = %+v, %v", info, ok)
	}
}

func TestUnchangedContentIsNotWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	i := installer(t, dir)
	install(t, i, "ana")
	r := reader(t, dir)
	install(t, i, "ana") // another generation, another file, the same content
	if r.Superseded() {
		t.Error("the same content was published again")
	}
	// So it is after a restart, which reads what is there.
	install(t, installer(t, dir), "ana")
	if r.Superseded() {
		t.Error("the same content was published again by the next monitor")
	}
	// But not when the file is gone, or is another one.
	if err := os.Remove(filepath.Join(dir, Name)); err != nil {
		t.Fatal(err)
	}
	if _, ok := i.Current(); ok {
		t.Error("a file that is gone is current")
	}
	install(t, i, "ana")
	if !knows(reader(t, dir), "ana") {
		t.Error("a file that was removed is not published again")
	}
	// Nor where somebody wrote into it, of the same size, or let others write.
	for what, do := range map[string]func(path string) error{
		"wrote into it": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("noise"), 100)
			return errors.Join(err, f.Close())
		},
		"changed its mode": func(path string) error { return os.Chmod(path, 0o666) },
	} {
		if err := do(filepath.Join(dir, Name)); err != nil {
			t.Fatal(err)
		}
		if _, ok := i.Current(); ok {
			t.Errorf("somebody %s, and it is current", what)
		}
		install(t, i, "ana")
		if st, err := os.Stat(filepath.Join(dir, Name)); err != nil || st.Mode() != 0o644 || !knows(reader(t, dir), "ana") {
			t.Errorf("somebody %s: %v, %v", what, st.Mode(), err)
		}
	}
}

func TestDirectoryThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "names")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	i := installer(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := i.Install(t.Context(), sealed(t, "ana")); !strings.Contains(fault.Remedy(err), "restart") {
		t.Errorf("%v, remedy %q", err, fault.Remedy(err))
	}
}

func TestGraceEnds(t *testing.T) {
	dir := t.TempDir()
	i, err := open(Options{Owner: uint32(os.Getuid()), Dir: dir, Ranges: ranges, Local: nobody, Grace: time.Millisecond, NSCD: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	install(t, i, "ana")
	r := reader(t, dir)
	install(t, i, "bob")
	for knows(r, "ana") {
		time.Sleep(time.Millisecond)
	}
	if !r.Superseded() {
		t.Error("the content is gone, and the header does not say so")
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	// What waits for its grace is punched out at the end.
	i = installer(t, dir)
	r = reader(t, dir)
	install(t, i, "cleo")
	if err := i.Close(); err != nil || knows(r, "bob") {
		t.Errorf("Close = %v, bob is known: %v", err, knows(r, "bob"))
	}
}

func TestManyInOneMinute(t *testing.T) {
	dir := t.TempDir()
	i := installer(t, dir)
	var readers []*snapshot.Reader
	for n := range maxRetired + 10 {
		install(t, i, fmt.Sprintf("user%d", n))
		readers = append(readers, reader(t, dir))
	}
	if len(i.retired) > maxRetired {
		t.Errorf("%d superseded files are open", len(i.retired))
	}
	for n, r := range readers[:len(readers)-1] {
		if !r.Superseded() {
			t.Errorf("snapshot %d is not marked", n)
		}
	}
}

func TestWithdraw(t *testing.T) {
	dir := t.TempDir()
	i := installer(t, dir)
	if err := i.Withdraw(); err != nil {
		t.Errorf("Withdraw of nothing: %v", err)
	}
	install(t, i, "ana")
	r := reader(t, dir)
	if err := i.Withdraw(); err != nil || !r.Superseded() || len(list(t, dir)) != 0 {
		t.Errorf("Withdraw = %v, superseded %v, left %q", err, r.Superseded(), list(t, dir))
	}
	install(t, i, "ana")
	if !knows(reader(t, dir), "ana") {
		t.Error("nothing can be published after Withdraw")
	}
}

// A mark on the file that has the name is a mistake, such as a power failure
// could make if marks were written before names; it is taken back.
func TestMarkedFileWithTheNameIsRevived(t *testing.T) {
	dir := t.TempDir()
	install(t, installer(t, dir), "ana")
	f, err := os.OpenFile(filepath.Join(dir, Name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := setLive(f, 0); err != nil {
		t.Fatal(err)
	}
	r := reader(t, dir)
	if !r.Superseded() {
		t.Fatal("the mark does not show")
	}
	if info, ok := installer(t, dir).Current(); !ok || info.Users != 1 || r.Superseded() {
		t.Errorf("Current = %+v, %v; superseded %v", info, ok, r.Superseded())
	}
}

// steps of publishing, in order, and which snapshot readers find when the
// publisher dies right after.
var steps = []struct {
	name        string
	new, marked bool
}{
	{"checked", false, false}, {"half written", false, false}, {"written", false, false}, {"linked", false, false},
	{"renamed", true, false}, {"synced", true, false}, {"marked", true, true}, {"unlinked", true, true},
}
