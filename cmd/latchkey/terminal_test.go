// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// rootEnv is where the command writes what would be the machine's /etc.
const rootEnv = "LATCHKEY_TEST_ROOT"

// The test binary is the command itself when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "as-latchkey" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		c := terminal()
		c.krb5.Root = os.Getenv(rootEnv)
		if c.krb5.Root == "" {
			panic("this test must not write to the machine's /etc")
		}
		os.Exit(run(ctx, os.Args[2:], c))
	}
	os.Exit(m.Run())
}

// session is the command at a real terminal.
type session struct {
	t    *testing.T
	cmd  *exec.Cmd
	file *os.File
	mu   sync.Mutex
	seen strings.Builder
	done chan struct{}
}

func atTerminal(t *testing.T, env []string, args ...string) *session {
	t.Helper()
	s := &session{t: t, cmd: exec.Command(os.Args[0], append([]string{"as-latchkey"}, args...)...), done: make(chan struct{})}
	s.cmd.Env = append([]string{rootEnv + "=" + t.TempDir(), "TERM=xterm", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH")}, env...)
	var err error
	if s.file, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		b := make([]byte, 4096)
		for {
			n, err := s.file.Read(b)
			s.mu.Lock()
			s.seen.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.file.Close() })
	return s
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

// expect waits until the terminal shows text.
func (s *session) expect(text string) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(s.text(), text) {
			return
		}
	}
	s.t.Fatalf("the terminal never showed %q:\n%s", text, s.text())
}

func (s *session) enter(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.file, text); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the command and returns its exit status.
func (s *session) end() int {
	s.t.Helper()
	<-s.done
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// echoes says whether the terminal shows what is typed.
func (s *session) echoes() bool {
	s.t.Helper()
	state, err := termios(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

const typed = "typed Passw0rd!"

// At a real terminal the password is not echoed, and it is nowhere that another
// user of the machine could look: not in the command line, not in the
// environment. The questions come at the end.
func TestPasswordAtATerminal(t *testing.T) {
	daemon, dir := serve(t)
	s := atTerminal(t, nil, "join", "aadds.contoso.test", "--user", "alice", "--admin-socket", dir+"/admin.sock")
	s.expect("Password of alice: ")
	if s.echoes() {
		t.Error("the terminal echoes the password")
	}
	s.enter(typed + "\n")
	s.expect("hybrid)?")
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), typed) || len(b) == 0 {
			t.Errorf("%s: %q", name, b)
		}
	}
	if !s.echoes() {
		t.Error("the terminal stays without an echo")
	}
	s.enter("c\n")
	s.expect("Entra tenant")
	s.enter("\n")
	if exit := s.end(); exit != 0 {
		t.Errorf("exit status %d", exit)
	}
	text := s.text()
	if strings.Contains(text, typed) {
		t.Errorf("the terminal shows the password:\n%s", text)
	}
	if !strings.Contains(text, "✓") || !strings.Contains(text, "\x1b[32m") {
		t.Errorf("no marks or colours at a terminal:\n%q", text)
	}
	daemon.mu.Lock()
	defer daemon.mu.Unlock()
	if set, _ := daemon.last.(*latchkeyv1.SetConfigRequest); set.GetKey() != "directory.people" || set.GetValue() != "cloud-only" {
		t.Errorf("the last request is %v", daemon.last)
	}
}

// Ctrl-C at the prompt ends the command and gives the terminal its echo back.
func TestInterrupt(t *testing.T) {
	_, dir := serve(t)
	s := atTerminal(t, []string{"NO_COLOR=1"}, "join", "aadds.contoso.test", "--user", "alice", "--admin-socket", dir+"/admin.sock")
	s.expect("Password of alice: ")
	s.enter("half\x03")
	exit := s.end()
	if exit != exitFailed || !strings.Contains(s.text(), "latchkey: interrupted") || strings.Contains(s.text(), "half") || strings.Contains(s.text(), "\x1b[3") {
		t.Errorf("exit status %d:\n%q", exit, s.text())
	}
}

// Ctrl-C is how somebody ends what goes on for ever, and no failure.
func TestInterruptOfAStream(t *testing.T) {
	_, dir := serve(t)
	s := atTerminal(t, nil, "audit", "--follow", "--admin-socket", dir+"/admin.sock")
	s.expect("access-rule")
	s.enter("\x03")
	if exit := s.end(); exit != exitDone || strings.Contains(s.text(), "interrupted") {
		t.Errorf("exit status %d:\n%q", exit, s.text())
	}
}

// termios reads the settings of the terminal behind its other end.
func termios(f *os.File) (*unix.Termios, error) {
	return unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
}
