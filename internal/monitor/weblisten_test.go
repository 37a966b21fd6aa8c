// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// webs is what a worker of the tests has of the web: who connects is told its pid.
type webs struct {
	mu   sync.Mutex
	open []net.Listener
}

func (w *webs) add(ln net.Listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, ln)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, os.Getpid())
			_ = c.Close()
		}
	}()
}

func (w *webs) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ln := range w.open {
		_ = ln.Close()
	}
	w.open = nil
}

// answers returns the pid of who serves an address, "" for nobody.
func answers(address string) string {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return ""
	}
	defer c.Close()
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

// webOf is the web's socket alone.
func webOf(cfg *config.Config) []peer.Socket {
	if cfg.Web.Listen == "" {
		return nil
	}
	return []peer.Socket{{Name: peer.Web, Address: cfg.Web.Listen}}
}

// The web goes where the configuration says, also to the same port of another
// address, and the worker goes on. Where it cannot go it stays.
func TestWebMovesWithoutAnotherWorker(t *testing.T) {
	free := func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		return port
	}
	r := run(t, "serves", func(m *Monitor) { m.wanted = webOf })
	first := r.call()
	pid := fmt.Sprint(first.pid)
	set := func(listen string) {
		t.Helper()
		if err := os.WriteFile(r.file, []byte("version = 1\n[web]\nlisten = \""+listen+"\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	one, other := free(), free()
	for _, step := range []struct{ listen, at, not string }{
		{":" + one, "127.0.0.1:" + one, ""},
		{"127.0.0.1:" + one, "127.0.0.1:" + one, "127.0.0.2:" + one}, // the same port: the old one has to go first
		{":" + one, "127.0.0.2:" + one, ""},
		{"127.0.0.1:" + other, "127.0.0.1:" + other, "127.0.0.1:" + one},
		{"", "", "127.0.0.1:" + other},
		{"127.0.0.1:" + one, "127.0.0.1:" + one, ""},
	} {
		set(step.listen)
		r.waitFor("the web is at "+step.at+", not at "+step.not, func() bool {
			return (step.at == "" || answers(step.at) == pid) && (step.not == "" || answers(step.not) == "")
		})
	}
	taken, err := net.Listen("tcp", "127.0.0.1:"+other)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	set("127.0.0.1:" + other)
	r.waitFor("the log says why it stays", func() bool { return strings.Contains(r.log.String(), "address already in use") })
	r.waitFor("the web is where it was", func() bool { return answers("127.0.0.1:"+one) == pid })
	if now := r.call(); now.pid != first.pid {
		t.Errorf("the worker was replaced: %+v", now)
	}
}

// What cannot be opened is the fault of the change that asks for it, and of no
// later one, which is about something else.
func TestAPortThatIsTakenSpoilsNoOtherSetting(t *testing.T) {
	taken := func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		return ln.Addr().String()
	}
	r := run(t, "serves", func(m *Monitor) { m.wanted = webOf })
	r.call()
	set := func(listen, level string) error {
		t.Helper()
		if err := os.WriteFile(r.file, []byte("version = 1\n[web]\nlisten = \""+listen+"\"\n[log]\nlevel = \""+level+"\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return r.reconfigure()
	}
	if err := set("", "info"); err != nil {
		t.Fatal(err)
	}
	one, other := taken(), taken()
	if err := set(one, "info"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := set(one, "debug"); err != nil {
		t.Errorf("another setting, while the port is taken: %v", err)
	}
	if !strings.Contains(r.log.String(), "still cannot be opened") {
		t.Error("nothing is said of the port any longer")
	}
	if err := set(other, "debug"); !fault.Is(err, fault.Conflict) {
		t.Errorf("another port that is taken: %v", err)
	}
}
