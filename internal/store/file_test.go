// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// written makes a store with a few rows and returns its path.
func written(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPolicy(context.Background(), policy(t, contoso.SID)); err != nil {
		t.Fatal(err)
	}
	u, g := people(t, s, 40, 5)
	setMembers(t, s, g[0], u...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refused opens a file that must be refused with a word and a remedy, and left
// as it is.
func refused(t *testing.T, path, word string) {
	t.Helper()
	before := read(t, path)
	s, err := Open(context.Background(), path, Options{LockTimeout: 50 * time.Millisecond})
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", word)
	}
	if !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), path) || fault.Remedy(err) == "" {
		t.Errorf("%v (%v, remedy %q), want %q, the path and a remedy", err, fault.KindOf(err), fault.Remedy(err), word)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Errorf("%s: the file was written to", word)
	}
}

func TestUnreadableFilesAreRefusedAndLeftAlone(t *testing.T) {
	good := read(t, written(t))
	file := func(b []byte) string {
		path := filepath.Join(t.TempDir(), "latchkey.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	edit := func(change func([]byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		return b
	}
	refused(t, file(nil), "empty")
	refused(t, file([]byte("just some text\n")), "no store of latchkey")
	refused(t, file(bytes.Repeat([]byte{0}, 1<<20)), "no store of latchkey")
	for _, size := range []int{5000, 2 * 4096, 4 * 4096, 10 * 4096, len(good) / 2} {
		refused(t, file(good[:size]), "truncated")
	}
	refused(t, file(edit(func(b []byte) { b[40] ^= 1; b[4096+40] ^= 1 })), "both of its headers are broken")

	// One broken header is what a crash leaves; the other is as good.
	s := open(t, file(edit(func(b []byte) { b[60] ^= 1 })))
	if u := getUser(t, s, identity.Key{Kind: identity.ByOID, GUID: guid(1, 3)}); u.Account == "" {
		t.Error("the row is empty")
	}
}

func TestForeignBoltFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("etcd")); return err }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	refused(t, path, "no store of latchkey")
}

func TestNewerFileIsRefused(t *testing.T) {
	path := written(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaSchema, u64(schema+1)) }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	refused(t, path, "newer latchkey")
}

func TestNoRegularFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "latchkey.db")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir, Options{}); err == nil {
		t.Error("a directory was opened")
	}
	if _, err := Open(context.Background(), filepath.Join(t.TempDir(), "missing", "latchkey.db"), Options{}); err == nil {
		t.Error("a store was made in a directory that is not there")
	}
}

// TestDamagedPages: whatever a page holds, opening and looking give an error or
// an answer, never a crash.
func TestDamagedPages(t *testing.T) {
	good := read(t, written(t))
	rng := rand.New(rand.NewPCG(9, 9))
	opened, broken := 0, 0
	for range 60 {
		b := bytes.Clone(good)
		page := 2 + rng.IntN(len(b)/4096-2)
		for range 40 {
			b[page*4096+rng.IntN(4096)] = byte(rng.Uint32())
		}
		path := filepath.Join(t.TempDir(), "latchkey.db")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		err := func() error {
			s, err := Open(context.Background(), path, Options{FullCheck: rng.IntN(2) == 0, LockTimeout: 20 * time.Millisecond})
			if err != nil {
				return err
			}
			defer func() {
				_ = s.Close()
			}()
			return s.View(context.Background(), func(v *View) error {
				for n := range 41 {
					if _, err := v.Get(identity.Key{Kind: identity.ByOID, GUID: guid(1, n)}, 0); err != nil && !fault.Is(err, fault.NotFound) {
						return err
					}
				}
				_, err := v.Counts()
				return err
			})
		}()
		if err == nil {
			opened++
			continue
		}
		broken++
		if kind := fault.KindOf(err); kind != fault.Internal {
			t.Errorf("%v has kind %v", err, kind)
		}
	}
	if opened == 0 || broken == 0 {
		t.Errorf("%d files were usable and %d were not: the test tests nothing", opened, broken)
	}
}

// helper runs the test binary again, as TestHelper with the given task.
func helper(t *testing.T, task string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestHelper$", "--", task}, args...)...)
	cmd.Env = append(os.Environ(), "STORE_TEST_HELPER=1")
	return cmd
}

// TestHelper is not a test: it is what other tests run in another process.
func TestHelper(t *testing.T) {
	if os.Getenv("STORE_TEST_HELPER") == "" {
		return
	}
	args := os.Args
	for args[0] != "--" {
		args = args[1:]
	}
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			os.Stdout.WriteString("failed: " + err.Error() + "\n")
			os.Exit(3)
		}
	}
	switch task, path := args[1], args[2]; task {
	case "hold": // keeps the file until its stdin ends
		s, err := Open(ctx, path, Options{})
		fail(err)
		os.Stdout.WriteString("open\n")
		_, _ = os.Stdin.Read(make([]byte, 1))
		fail(s.Close())
	case "fill", "fill-disk": // puts rows until there is no room
		s, err := Open(ctx, path, Options{})
		fail(err)
		if task == "fill" {
			size := uint64(s.Size()) + 1<<20
			fail(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size}))
			ignoreFileSize()
		}
		for n := 100; ; n++ {
			u := user(n, "filler")
			u.User.DN = strings.Repeat("x", 2000)
			u.User.Account += string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + string(rune('a'+n/676%26))
			err := s.Update(ctx, func(tx *Tx) error { return tx.Put(u) })
			if err == nil {
				if n > 20000 {
					fail(errors.New("the file is never full"))
				}
				continue
			}
			if !fault.Is(err, fault.Exhausted) || fault.Remedy(err) == "" {
				fail(err)
			}
			// What was there is still there, and lookups go on.
			for i := 100; i < n; i++ {
				_, err := s.User(ctx, identity.Key{Kind: identity.ByOID, GUID: guid(1, i)})
				fail(err)
			}
			if _, err := s.User(ctx, identity.Key{Kind: identity.ByOID, GUID: guid(1, n)}); !fault.Is(err, fault.NotFound) {
				fail(errors.New("the row that did not fit is there"))
			}
			fail(s.Check(ctx))
			os.Stdout.WriteString("full\n")
			os.Exit(0) // without Close: as if killed
		}
	}
	if args[1] == "more" { // goes on with a store that was full
		s, err := Open(ctx, args[2], Options{})
		fail(err)
		fail(s.Check(ctx))
		fail(s.Update(ctx, func(tx *Tx) error { return tx.Put(user(60000, "after")) }))
		fail(s.Close())
		os.Stdout.WriteString("written\n")
	}
	os.Exit(0)
}

func TestOneProcessAtATime(t *testing.T) {
	path := written(t)
	cmd := helper(t, "hold", path)
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
	buf := make([]byte, 5)
	if _, err := out.Read(buf); err != nil || string(buf) != "open\n" {
		t.Fatalf("the other process says %q, %v", buf, err)
	}
	_, err = Open(context.Background(), path, Options{LockTimeout: 50 * time.Millisecond})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "another process") || fault.Remedy(err) == "" {
		t.Errorf("a second process got %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestDiskFull(t *testing.T) {
	path := written(t)
	out, err := helper(t, "fill", path).CombinedOutput()
	if err != nil || string(out) != "full\n" {
		t.Fatalf("%s, %v", out, err)
	}
	s := open(t, path) // the room is back
	for i := range 40 {
		getUser(t, s, identity.Key{Kind: identity.ByOID, GUID: guid(1, i+1)})
	}
	put(t, s, user(9000, "after"))
}

func TestHalfMadeFileIsNotTaken(t *testing.T) {
	// A process killed while it made the store leaves a file under another name.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "latchkey.db.abcdefgh.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "latchkey.db"))
	put(t, s, user(1, "ana"))
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}
