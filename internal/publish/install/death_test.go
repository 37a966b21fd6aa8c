// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// The test binary is also the publisher that dies: see TestDeathAtEveryStep.
func TestMain(m *testing.M) {
	if step := os.Getenv("LATCHKEY_TEST_DIE_AT"); step != "" {
		dieAt(step, os.Getenv("LATCHKEY_TEST_DIR"))
	}
	os.Exit(m.Run())
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
