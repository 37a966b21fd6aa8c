// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

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
		"noise":     func(path string) error { return os.WriteFile(path, []byte("noise"), 0o644) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o644) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
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
