// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

func TestWantedSockets(t *testing.T) {
	cfg := config.Default()
	names := func() (all []string) {
		for _, s := range wanted(&cfg, accountIDs{admin: 7, winbind: 8}) {
			all = append(all, string(s.Name))
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"api", "admin", "shim-root", "auth", "metrics", "web"}) {
		t.Errorf("by default: got %v", got)
	}
	cfg.Samba.Pipes = true
	if got := names(); !slices.Equal(got, []string{"api", "admin", "shim-root", "auth", "metrics", "winbind", "winbind-priv", "web"}) {
		t.Errorf("with winbind's pipes: got %v", got)
	}
	cfg.Samba.Pipes, cfg.Web.Listen = false, ""
	if got := names(); !slices.Equal(got, []string{"api", "admin", "shim-root", "auth", "metrics"}) {
		t.Errorf("without the web: got %v", got)
	}
	for _, s := range pipes(cfg.Samba, 8) {
		if s.Mode != 0o777 || s.Name == peer.WinbindPriv && (s.DirMode != 0o750 || s.DirGID != 8) {
			t.Errorf("%s: got %+v", s.Name, s)
		}
	}
}

// The sockets follow the configuration: a worker with the new ones takes the
// place of the old one, nobody is refused, and it does not count as a failure.
func TestSocketsFollowTheConfiguration(t *testing.T) {
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
	first := r.call()
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(r.file, []byte("version = 1\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	set("[samba]\npipes = true\n")
	r.waitFor("somebody listens on the pipe", func() bool {
		c, err := net.Dial("unix", pipe)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	r.waitFor("the pipe is gone", func() bool {
		set("[samba]\npipes = false\n")
		_, err := os.Lstat(pipe)
		return os.IsNotExist(err)
	})
	// Whatever the worker was about, it went on.
	if now := r.call(); now.pid != first.pid {
		t.Errorf("the worker was replaced for a pipe: %+v", now)
	}

	// Somebody else's pipe is left alone, and told of.
	if err := os.MkdirAll(filepath.Dir(pipe), 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	set("[samba]\npipes = true\n")
	r.waitFor("the log says who holds the pipe", func() bool { return strings.Contains(r.log.String(), "another process listens on "+pipe) })
}

func TestMoved(t *testing.T) {
	ln, err := peer.Open(peer.Socket{Name: peer.Web, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"127.0.0.1:" + port: false, "127.0.0.1:1": true, ":" + port: true, "127.0.0.2:" + port: true} {
		if got := moved(ln, peer.Socket{Name: peer.Web, Address: address}); got != want {
			t.Errorf("from %s to %s: got %v", ln.Addr(), address, got)
		}
	}
	everywhere, err := peer.Open(peer.Socket{Name: peer.Web, Address: ":0"})
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	_, port, err = net.SplitHostPort(everywhere.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if moved(everywhere, peer.Socket{Name: peer.Web, Address: ":" + port}) {
		t.Error("everywhere is taken for another place")
	}
}
