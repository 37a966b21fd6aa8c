// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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

// The test binary is also the publisher that dies: see TestDeathAtEveryStep.
func TestMain(m *testing.M) {
	if step := os.Getenv("LATCHKEY_TEST_DIE_AT"); step != "" {
		dieAt(step, os.Getenv("LATCHKEY_TEST_DIR"))
	}
	os.Exit(m.Run())
}

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

func TestRefusedFilesChangeNothing(t *testing.T) {
	dir := t.TempDir()
	i := installer(t, dir)
	i.opt.Local = func() (map[string]struct{}, error) { return map[string]struct{}{"root": {}, "žofie": {}}, nil }
	install(t, i, "ana")
	good := image(t, snapshot.Options{Generation: 9, Complete: true, Ranges: ranges}, "bob").Bytes()

	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = pr.Close(), pw.Close() })
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	named, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = named.Close() })
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, good, 0o600); err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = onDisk.Close() })
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	shm, err := os.CreateTemp("/dev/shm", "latchkey-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = shm.Close(), os.Remove(shm.Name()) })
	if _, err := shm.Write(good); err != nil {
		t.Fatal(err)
	}
	huge := memfd(t, good, 0)
	if err := huge.Truncate(snapshot.MaxSize + 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(huge.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		t.Fatal(err)
	}
	patched := func(change func([]byte)) *os.File {
		data := bytes.Clone(good)
		change(data)
		return memfd(t, data, seals)
	}
	named2 := func(o snapshot.Options, names ...string) *os.File {
		return memfd(t, image(t, o, names...).Bytes(), seals)
	}
	complete := snapshot.Options{Generation: 9, Complete: true, Ranges: ranges}
	b, err := snapshot.NewBuilder(complete)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.AddUser(snapshot.User{Name: "mallory", UID: base, GID: base, Aliases: []string{"mallory@contoso.test", "Root"}}); err != nil {
		t.Fatal(err)
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	byAlias := memfd(t, im.Bytes(), seals)

	for name, tc := range map[string]struct {
		file *os.File
		kind fault.Kind
	}{
		"nothing":                 {nil, fault.Malformed},
		"a pipe":                  {pr, fault.Denied},
		"a FIFO":                  {named, fault.Denied},
		"a file":                  {onDisk, fault.Denied},
		"a file of tmpfs":         {shm, fault.Denied},
		"a directory":             {folder, fault.Denied},
		"not sealed":              {memfd(t, good, 0), fault.Denied},
		"sealed, but not in size": {memfd(t, good, unix.F_SEAL_WRITE|unix.F_SEAL_SEAL), fault.Denied},
		"seals that can be added": {memfd(t, good, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW), fault.Denied},
		"empty":                   {memfd(t, nil, seals), fault.Denied},
		"too large":               {huge, fault.Denied},
		"truncated":               {memfd(t, good[:len(good)-8], seals), fault.Malformed},
		"noise":                   {memfd(t, bytes.Repeat([]byte("noise"), 10000), seals), fault.Malformed},
		"a bit turned over":       {patched(func(b []byte) { b[len(b)/2] ^= 4 }), fault.Malformed},
		"another version":         {patched(func(b []byte) { b[12]++ }), fault.Malformed},
		"superseded":              {patched(func(b []byte) { b[liveOffset] = 0 }), fault.Malformed},
		"not complete":            {named2(snapshot.Options{Ranges: ranges}, "bob"), fault.Malformed},
		"ranges of its own":       {named2(snapshot.Options{Complete: true, Ranges: []snapshot.Range{{Low: base, High: base + 1000000}}}, "bob"), fault.Malformed},
		"the name of root":        {named2(complete, "root"), fault.Conflict},
		"a local name beyond A-Z": {named2(complete, "ŽOFIE"), fault.Conflict},
		"a local name by alias":   {byAlias, fault.Conflict},
	} {
		err := i.Install(context.Background(), tc.file)
		if !fault.Is(err, tc.kind) {
			t.Errorf("%s: Install = %v, want %v", name, err, tc.kind)
		}
		if r := reader(t, dir); r.Superseded() || !knows(r, "ana") || len(list(t, dir)) != 1 {
			t.Fatalf("%s: what was published is no more what it was; %q", name, list(t, dir))
		}
	}
}

// A worker in the wrong hands writes the numbers of root, sudo and others into
// a snapshot that is right in everything else, sums included.
func TestHijackedWorkerIsRefused(t *testing.T) {
	dir := t.TempDir()
	i := installer(t, dir)
	install(t, i, "ana")
	everything := []snapshot.Range{{Low: 0, High: 1<<32 - 1}}
	for _, id := range []uint32{0, 27, 999, 61184, 65519, 65534, 65535, 1<<32 - 1, 1000, base - 1, base + 1000000} {
		for what, data := range forged(t, id) {
			err := i.Install(context.Background(), memfd(t, data, seals))
			if !fault.Is(err, fault.Malformed) {
				t.Errorf("%s %d: Install = %v, want malformed", what, id, err)
			}
			// Nor does it help when the configuration's ranges hold everything.
			if snapshot.Refused(id) {
				r, err := snapshot.Open(data)
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Validate(snapshot.Rules{Ranges: everything}); !fault.Is(err, fault.Malformed) {
					t.Errorf("%s %d: Validate = %v, want malformed", what, id, err)
				}
			}
		}
	}
	if r := reader(t, dir); r.Superseded() {
		t.Error("what was published is superseded")
	}
}

func TestDirectoryThatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open2 := func(dir string, owner int) error {
		i, err := open(Options{Owner: uint32(owner), Dir: dir, Ranges: ranges, Local: nobody, NSCD: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, nil)
		if err == nil {
			_ = i.Close()
		}
		return err
	}
	if err := open2(dir, os.Getuid()+1); !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
		t.Errorf("of another owner: %v", err)
	}
	for name, path := range map[string]string{"missing": dir + "/x", "a link": link, "a file": file} {
		if err := open2(path, os.Getuid()); !fault.Is(err, fault.Internal) || fault.Remedy(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, mode := range []fs.FileMode{0o775, 0o757, 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := open2(dir, os.Getuid()); !fault.Is(err, fault.Denied) {
			t.Errorf("with mode %o: %v", mode, err)
		}
	}
}

// Whatever lies in the place of the snapshot, the next one takes its place.
func TestWhatIsInTheWay(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"noise": func(path string) error { return os.WriteFile(path, []byte("noise"), 0o644) },
		"link":  func(path string) error { return os.Symlink("/etc/passwd", path) },
		"fifo":  func(path string) error { return unix.Mkfifo(path, 0o644) },
	} {
		for _, at := range []string{Name, oldName, newName} {
			dir := t.TempDir()
			if err := make(filepath.Join(dir, at)); err != nil {
				t.Fatal(err)
			}
			install(t, installer(t, dir), "ana")
			if r := reader(t, dir); !knows(r, "ana") || r.Superseded() || len(list(t, dir)) != 1 {
				t.Errorf("%s at %s: left %q", name, at, list(t, dir))
			}
		}
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

// The readers are the NSS module itself in processes of their own: one that
// listens to the mark only, one that glances at the path at every lookup, and
// one that is started afterwards.
func TestDeathAtEveryStep(t *testing.T) {
	who := compileWho(t)
	for _, step := range steps {
		dir := t.TempDir()
		i := installer(t, dir)
		install(t, i, "old")
		listening, glancing := ask(t, who, dir, "1000000000"), ask(t, who, dir, "0")
		sees := func(when string, c *asked, wantNew bool) {
			t.Helper()
			if old, new := c.knows("old"), c.knows("new"); old == wantNew || new != wantNew {
				t.Errorf("%s: %s: old is known %v, new %v", step.name, when, old, new)
			}
		}
		sees("before, listening", listening, false)
		sees("before, glancing", glancing, false)

		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "LATCHKEY_TEST_DIE_AT="+step.name, "LATCHKEY_TEST_DIR="+dir)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: the publisher did not die there: %v %s", step.name, err, out)
		}

		sees("afterwards, listening", listening, step.marked)
		sees("afterwards, glancing", glancing, step.new)
		sees("afterwards, started", ask(t, who, dir, "1000000000"), step.new)
		if err := reader(t, dir).Validate(snapshot.Rules{Ranges: ranges}); err != nil {
			t.Errorf("%s: afterwards: %v", step.name, err)
		}
		next := installer(t, dir)
		sees("after the next start, listening", listening, step.new)
		sees("after the next start, started", ask(t, who, dir, "1000000000"), step.new)
		if got := list(t, dir); !slices.Equal(got, []string{Name}) {
			t.Errorf("%s: left behind %q", step.name, got)
		}
		install(t, next, "newer")
		for _, c := range []*asked{listening, glancing} {
			if !c.knows("newer") || c.knows("old") || c.knows("new") {
				t.Errorf("%s: the next snapshot is not published, or the others are not marked", step.name)
			}
		}
	}
}

// compileWho compiles a program with the NSS module in it. Without a compiler
// the test fails.
func compileWho(t *testing.T) string {
	t.Helper()
	sources, err := filepath.Glob("../../../nss/*.c")
	if err != nil || len(sources) == 0 {
		t.Fatalf("the module's sources: %q, %v", sources, err)
	}
	path := filepath.Join(t.TempDir(), "who")
	args := append([]string{"-std=gnu11", "-O1", "-D_GNU_SOURCE", "-DLATCHKEY_TEST", "-o", path, "../../../nss/testdata/who.c"}, sources...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	return path
}

// asked is a process with the NSS module in it.
type asked struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func ask(t *testing.T, program, dir, period string) *asked {
	t.Helper()
	cmd := exec.Command(program, filepath.Join(dir, Name), period)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &asked{t, in, bufio.NewReader(out)}
}

func (c *asked) knows(name string) bool {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, name); err != nil {
		c.t.Fatal(err)
	}
	switch line, err := c.out.ReadString('\n'); line {
	case name + " found\n":
		return true
	case name + " absent\n":
		return false
	default:
		c.t.Fatalf("asked for %s, the module said %q, %v", name, line, err)
		return false
	}
}

// dieAt publishes as another process and dies after a step.
func dieAt(step, dir string) {
	generation = 100
	t := &failing{}
	i, err := open(Options{Owner: uint32(os.Getuid()), Dir: dir, Ranges: ranges, Local: nobody, NSCD: "/nonexistent", Log: slog.New(slog.DiscardHandler)}, func(name string) {
		if name == step {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	if err == nil {
		err = i.Install(context.Background(), sealed(t, "new"))
	}
	fmt.Println("still alive", err)
	os.Exit(1)
}

// failing is a testing.TB for a process that runs no test.
type failing struct{ testing.TB }

func (*failing) Helper()           {}
func (*failing) Cleanup(func())    {}
func (*failing) Fatal(args ...any) { fmt.Println(args...); os.Exit(1) }
