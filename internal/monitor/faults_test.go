// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/peer"
)

// Whoever kills workers does not end the connections to the pipes; a request that
// one worker after the other fails over does.
func TestConnectionThatWorkersFailOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	ln, err := peer.Open(peer.Socket{Name: peer.Winbind, Path: path, Mode: 0o777, DirMode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, "serves", func(m *Monitor) { m.listeners[peer.Winbind] = []*peer.Listener{ln} })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pid := r.call().pid
	end := func(signal syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		before := pid
		r.waitFor("another worker answers", func() bool { pid = r.call().pid; return pid != before })
	}
	for range maxFaults + 1 {
		end(syscall.SIGKILL)
	}
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); err == io.EOF {
		t.Fatal("killing workers ended a connection")
	}
	for range maxFaults {
		end(syscall.SIGSEGV)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after %d workers that failed: %v, want the end", maxFaults, err)
	}
}
