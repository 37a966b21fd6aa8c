// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
)

func TestLabctl(t *testing.T) {
	labctl := filepath.Join(t.TempDir(), "labctl")
	if out, err := exec.Command("go", "build", "-o", labctl, "./labctl").CombinedOutput(); err != nil {
		t.Fatalf("building labctl: %v\n%s", err, out)
	}
	name := fmt.Sprintf("ctl%d", os.Getpid())
	run := func(want int, args ...string) string {
		t.Helper()
		command := exec.Command(labctl, append([]string{"--name", name}, args...)...)
		var stdout, stderr strings.Builder
		command.Stdout, command.Stderr, command.Stdin = &stdout, &stderr, strings.NewReader("typed\n")
		command.Run()
		if got := command.ProcessState.ExitCode(); got != want {
			t.Fatalf("labctl %v: exit status %d, want %d\n%s%s", args, got, want, stdout.String(), stderr.String())
		}
		return stdout.String()
	}
	run(0, "up", "--users", "3")
	t.Cleanup(func() { exec.Command(labctl, "--name", name, "down").Run() })
	run(1, "up")
	run(0, "box", "nas1", "--use-dns")
	run(1, "box", "nas1")
	if got, want := run(0, "run", "nas1", "sh", "-c", "hostname; cat"), "nas1\ntyped\n"; got != want {
		t.Errorf("run: got %q, want %q", got, want)
	}
	run(42, "run", "nas1", "--", "sh", "-c", "exit 42")
	if got := run(0, "dc", "samba-tool", "user", "list"); !strings.Contains(got, UserName(2)) {
		t.Errorf("users on the DC: got %q", got)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho sent $1 to $(hostname)\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := run(0, "run", "--send", "nas1", program, "it"), "sent it to nas1\n"; got != want {
		t.Errorf("run --send: got %q, want %q", got, want)
	}
	// At a terminal a shell has one of the box, of the same size.
	shell := exec.Command(labctl, "--name", name, "run", "nas1")
	terminal, err := pty.StartWithSize(shell, &pty.Winsize{Rows: 33, Cols: 99})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	fmt.Fprint(terminal, "tty; stty size; exit 3\n")
	seen, _ := io.ReadAll(terminal) // ends with EIO when the shell does
	shell.Wait()
	if got := shell.ProcessState.ExitCode(); got != 3 || !strings.Contains(string(seen), "/dev/pts/0") || !strings.Contains(string(seen), "33 99") {
		t.Errorf("a shell at a terminal: exit status %d, want 3; it showed %q", got, seen)
	}
	var reports []Report
	if err := json.Unmarshal([]byte(run(0, "status", "--json")), &reports); err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(reports, func(r Report) bool { return r.Name == name })
	if at < 0 || len(reports[at].Machines) != 3 || reports[at].Domain.Population.Users != 3 {
		t.Errorf("status: got %+v", reports)
	}
	run(0, "stop-dc")
	if got := run(255, "run", "nas1", "ldapsearch", "-x", "-H", "ldap://10.77.0.10"); got != "" {
		t.Errorf("LDAP while the DC is stopped: got %q", got)
	}
	run(0, "start-dc")
	run(0, "rm", "nas1")
	run(1, "run", "nas1", "true")
	run(0, "down")
	run(1, "down")
}
