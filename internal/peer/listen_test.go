// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func TestStandardSocketsAreThoseOfTheContract(t *testing.T) {
	want := map[Name]struct {
		path string
		mode fs.FileMode
		gid  identity.GID
	}{
		API:      {"/run/latchkey/api.sock", 0o666, 0},
		Admin:    {"/run/latchkey/admin.sock", 0o660, 990},
		ShimRoot: {"/run/latchkey/shim-root.sock", 0o600, 0},
		Auth:     {"/run/latchkey/auth.sock", 0o666, 0},
		Metrics:  {"/run/latchkey/metrics.sock", 0o600, 0},
	}
	got := Standard("/run/latchkey", 990)
	if len(got) != len(want) {
		t.Errorf("%d sockets, want %d", len(got), len(want))
	}
	for _, s := range got {
		if w := want[s.Name]; s.Path != w.path || s.Mode != w.mode || s.GID != w.gid || s.DirMode != 0o755 {
			t.Errorf("%s = %+v, want %+v", s.Name, s, w)
		}
	}
}

func TestOpenSetsModesWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "run")
	own := identity.GID(os.Getegid())
	for _, mode := range []fs.FileMode{0o666, 0o660, 0o600, 0o777} {
		path := filepath.Join(dir, mode.String())
		ln, err := Open(Socket{Name: API, Path: path, Mode: mode, GID: own, DirMode: 0o755, DirGID: own})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|mode {
			t.Errorf("mode = %v, %v, want a socket with %v", info.Mode(), err, mode)
		}
		if ln.Name() != API || ln.Addr().String() != path {
			t.Errorf("listener %s at %s", ln.Name(), ln.Addr())
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is there after Close: %v", err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("directory mode = %v, %v, want 0755", info.Mode(), err)
	}
}

func at(path string) Socket {
	return Socket{Name: API, Path: path, Mode: 0o600, GID: identity.GID(os.Getegid()), DirMode: 0o755}
}

func TestOpenReplacesASocketThatWasLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	ln, err := Open(at(path))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("nobody listens on the new socket: %v", err)
	} else {
		_ = c.Close()
	}
}

func TestOpenLeavesWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	alive := filepath.Join(dir, "alive")
	other, err := net.Listen("unix", alive)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(alive, link); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{alive, file, link, sub} {
		ln, err := Open(at(path))
		if !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
			t.Errorf("Open(%s) = %v, %v, want a Conflict with a remedy", path, ln, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("Open removed %s: %v", path, err)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "precious" {
		t.Errorf("the file holds %q", text)
	}
}

func TestOpenRefusesADirectoryThatOthersCanWriteTo(t *testing.T) {
	for _, mode := range []fs.FileMode{0o777, 0o775, 0o757, 0o1777 &^ 0o1000} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if ln, err := Open(at(filepath.Join(dir, "s"))); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
			t.Errorf("mode %v: Open = %v, %v, want a Conflict with a remedy", mode, ln, err)
		}
	}
}

func TestOpenRefusesALinkInPlaceOfTheDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	if ln, err := Open(at(filepath.Join(dir, "run", "s"))); !fault.Is(err, fault.Conflict) {
		t.Errorf("Open = %v, %v, want a Conflict", ln, err)
	}
}

func TestOpenTwiceIsAConflict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Open(at(path))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Open(at(path)); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "stop") {
		t.Errorf("Open = %v, %v, want a Conflict that says to stop the other", second, err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first listener suffered: %v", err)
	} else {
		_ = c.Close()
	}
	_ = ln.Close()
	third, err := Open(at(path))
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	_ = third.Close()
}

func TestOpenRefusesBadPaths(t *testing.T) {
	for _, path := range []string{"", "relative/s", "/" + strings.Repeat("x", 107)} {
		if ln, err := Open(at(path)); !fault.Is(err, fault.Malformed) {
			t.Errorf("Open(%.20q) = %v, %v, want Malformed", path, ln, err)
		}
	}
}

func TestOpenTCP(t *testing.T) {
	ln, err := Open(Socket{Name: Web, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if second, err := Open(Socket{Name: Web, Address: ln.Addr().String()}); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
		t.Errorf("Open = %v, %v, want a Conflict with a remedy", second, err)
	}
}
