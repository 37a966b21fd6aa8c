// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// systemd plays the one who is notified: it returns the states, and the
// descriptors that came with them.
func systemd(t *testing.T) (told func(word string) (state string, file *os.File)) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/n", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", dir+"/n")
	return func(word string) (string, *os.File) {
		t.Helper()
		b, oob := make([]byte, 4096), make([]byte, 256)
		for {
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
			if err != nil {
				t.Fatalf("systemd is not told of %s: %v", word, err)
			}
			if !strings.Contains(string(b[:n]), word) {
				continue
			}
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil || len(messages) == 0 {
				return string(b[:n]), nil
			}
			fds, err := unix.ParseUnixRights(&messages[0])
			if err != nil || len(fds) != 1 {
				t.Fatalf("%d descriptors: %v", len(fds), err)
			}
			return string(b[:n]), os.NewFile(uintptr(fds[0]), "stored")
		}
	}
}

// A restart of the whole daemon closes no pipe: systemd has it, and who connects
// meanwhile waits.
func TestSystemdHoldsThePipesOverARestart(t *testing.T) {
	told := systemd(t)
	dir := t.TempDir()
	pipe := filepath.Join(dir, "w", "pipe")
	gid := identity.GID(os.Getegid())
	r := run(t, "serves", func(m *Monitor) {
		m.wanted = func(cfg *config.Config) []peer.Socket {
			if !cfg.Samba.Pipes {
				return nil
			}
			return []peer.Socket{{Name: peer.Winbind, Path: pipe, Mode: 0o777, GID: gid, DirMode: 0o755, DirGID: gid}}
		}
	})
	r.call()
	set := func(pipes string) {
		t.Helper()
		if err := os.WriteFile(r.file, []byte("version = 1\n[samba]\npipes = "+pipes+"\npipe = \""+pipe+"\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	set("true")
	state, file := told("FDSTORE=1")
	if file == nil || !strings.Contains(state, "FDNAME=winbind\n") {
		t.Fatalf("systemd is told %q, with %v", state, file)
	}
	defer file.Close()
	set("false")
	if state, _ := told("FDSTOREREMOVE=1"); !strings.Contains(state, "FDNAME=winbind") {
		t.Errorf("systemd is told %q", state)
	}
	r.waitFor("the pipe's file is gone", func() bool { _, err := os.Lstat(pipe); return os.IsNotExist(err) })

	set("true")
	_, again := told("FDSTORE=1")
	if again == nil {
		t.Fatal("no descriptor")
	}
	defer again.Close()
	r.stop()
	err := <-r.ended
	r.ended <- err
	c, err := net.Dial("unix", pipe)
	if err != nil {
		t.Fatalf("the daemon has stopped, and the pipe with it: %v", err)
	}
	defer c.Close()
	stored, err := net.FileListener(again)
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if waiting, err := stored.Accept(); err != nil {
		t.Errorf("who connected meanwhile is not there: %v", err)
	} else {
		_ = waiting.Close()
	}
}
