// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/publish/install"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// nightly reports whether the long forms are asked for: LATCHKEY_NIGHTLY=1.
func nightly() bool { return os.Getenv("LATCHKEY_NIGHTLY") == "1" }

// How a test program is compiled.
var (
	plain   = []string{"-O2"}
	address = []string{"-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"}
	threads = []string{"-O1", "-fsanitize=thread"}
)

var compiled struct {
	sync.Mutex
	dir      string
	programs map[string]string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if compiled.dir != "" {
		_ = os.RemoveAll(compiled.dir)
	}
	os.Exit(code)
}

// program compiles a program of testdata with the module's sources, but for
// those that it replaces. Without a compiler the test fails.
func program(t testing.TB, name string, flags []string, replaces ...string) string {
	t.Helper()
	compiled.Lock()
	defer compiled.Unlock()
	key := name + strings.Join(flags, " ")
	if path, ok := compiled.programs[key]; ok {
		return path
	}
	if compiled.dir == "" {
		dir, err := os.MkdirTemp("", "latchkey-nss")
		if err != nil {
			t.Fatal(err)
		}
		compiled.dir, compiled.programs = dir, map[string]string{}
	}
	sources, err := filepath.Glob("*.c")
	if err != nil {
		t.Fatal(err)
	}
	sources = slices.DeleteFunc(sources, func(s string) bool { return slices.Contains(replaces, s) })
	path := filepath.Join(compiled.dir, fmt.Sprintf("%s%d", name, len(compiled.programs)))
	args := slices.Concat([]string{"-std=gnu11", "-g", "-D_GNU_SOURCE", "-DLATCHKEY_TEST", "-Wall", "-Wextra", "-Werror"}, flags,
		[]string{"-o", path, "testdata/" + name + ".c"}, sources, []string{"-lpthread"})
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, out)
	}
	compiled.programs[key] = path
	return path
}

// run runs a program to its end and returns what it printed.
func run(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}

// numbered is a snapshot in which everything says k (see testdata/replaced.h),
// and whose size changes with it.
func numbered(k int) *world {
	w := &world{groups: []snapshot.Group{{Name: "crowd", GID: base + 100}}}
	anchor := snapshot.User{Name: "anchor", UID: base + 1, GID: base + 100, Aliases: []string{"anchor@contoso.test"},
		Gecos: fmt.Sprintf("gecos %d", k), Dir: fmt.Sprintf("/home/%d", k), Shell: fmt.Sprintf("/bin/%d", k)}
	for i := range 50 {
		anchor.Groups = append(anchor.Groups, identity.GID(base+1000+k*64+i))
	}
	w.users = append(w.users, anchor)
	for i := range 200 {
		w.users = append(w.users, snapshot.User{Name: fmt.Sprintf("m%d-%d", i, k), UID: identity.UID(base + 2 + i), GID: base + 100})
	}
	for i := range k * 37 % 1500 {
		w.users = append(w.users, snapshot.User{Name: fmt.Sprintf("filler%d", i), UID: identity.UID(base + 10000 + i), GID: base + 101, Gecos: strings.Repeat("x", 200)})
	}
	return w
}

// workplace is a directory for many snapshots: in memory where there is some.
func workplace(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "latchkey-nss")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// companion is a program that runs while snapshots are replaced.
type companion struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	trace bytes.Buffer
}

func start(t testing.TB, name string, args ...string) *companion {
	t.Helper()
	c := &companion{t: t, cmd: exec.Command(name, args...)}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	c.cmd.Stderr = &c.trace
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// tell writes a line and waits for the program to say it back.
func (c *companion) tell(line string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, line)
	if err == nil {
		var got string
		if got, err = c.out.ReadString('\n'); err == nil && strings.TrimSpace(got) == line {
			return
		}
	}
	_ = c.in.Close()
	_ = c.cmd.Wait()
	c.t.Fatalf("told %s: %v, %v\n%s", line, err, c.cmd.ProcessState, c.trace.String())
}

// end closes the program's input and returns what it says last.
func (c *companion) end() string {
	c.t.Helper()
	_ = c.in.Close()
	rest, _ := io.ReadAll(c.out)
	if err := c.cmd.Wait(); err != nil || c.trace.Len() > 0 {
		c.t.Fatalf("%v\n%s%s", err, rest, c.trace.String())
	}
	return string(rest)
}

// Without root there is less time; full_lab_test.go raises these.
var (
	replacements  = 60 // snapshots that follow each other, in each run
	mutateSeconds = 2
)

func init() {
	if nightly() {
		replacements, mutateSeconds = 10_000, 600
	}
}

func TestReplacedUnderThreads(t *testing.T) {
	for name, tc := range map[string]struct {
		flags []string
		args  []string
	}{
		"thread sanitizer":           {threads, []string{"16"}},
		"address sanitizer and fork": {address, []string{"16", "fork"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := workplace(t)
			i := openInstaller(t, dir)
			put(t, i, numbered(0))
			c := start(t, program(t, "replaced", tc.flags), append([]string{filepath.Join(dir, install.Name)}, tc.args...)...)
			for k := 1; k <= replacements; k++ {
				put(t, i, numbered(k))
				if k%5 == 0 {
					c.tell(fmt.Sprint(k))
				}
			}
			t.Log(c.end())
		})
	}
}

// What host processes do: cancel threads, look up in signal handlers, close
// every descriptor.
func TestHostsThatMisbehave(t *testing.T) {
	for _, what := range []string{"cancel", "signals", "descriptors"} {
		t.Run(what, func(t *testing.T) {
			dir := workplace(t)
			i := openInstaller(t, dir)
			put(t, i, numbered(0))
			c := start(t, program(t, "host", plain), filepath.Join(dir, install.Name), what)
			for k := 1; k <= replacements/2; k++ {
				put(t, i, numbered(k))
				if _, err := c.in.Write([]byte{'.'}); err != nil {
					t.Fatalf("%v\n%s", err, c.trace.String())
				}
			}
			t.Log(c.end())
		})
	}
}

// A lookup that is not the first makes no system call: seccomp would kill the
// process at the first one.
func TestNoSystemCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities")
	write(t, path, numbered(1).image(t, options(1)))
	if got := run(t, nil, program(t, "host", plain), path, "silent"); got != "silent\n" {
		t.Errorf("it said %q", got)
	}
}

func TestSystemdsVariablesAreReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities")
	write(t, path, numbered(1).image(t, options(1)))
	for _, env := range []string{"SYSTEMD_NSS_DYNAMIC_BYPASS=1", "SYSTEMD_NSS_BYPASS_SYNTHETIC=yes"} {
		if got := run(t, []string{env}, program(t, "host", plain), path, "bypassed"); got != "bypassed\n" {
			t.Errorf("%s: it said %q", env, got)
		}
	}
	if out, err := exec.Command(program(t, "host", plain), path, "bypassed").CombinedOutput(); err == nil {
		t.Errorf("without a variable it was bypassed too: %s", out)
	}
}

// Every call, with buffers of exactly the right size, under valgrind and under
// the address sanitizer; both find the same.
func TestWalk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities")
	write(t, path, makeWorld(150, 20, 30).image(t, options(1)))
	first := run(t, nil, program(t, "walk", address), path)
	again := run(t, nil, "valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all", program(t, "walk", plain), path)
	if first != again || !strings.HasPrefix(first, "136 users, ") {
		t.Errorf("the address sanitizer saw %q, valgrind %q", first, again)
	}
}

// Changed bytes never lead the module out of the file, into a loop, or to an id
// that is forbidden.
func TestMutatedSnapshots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities")
	write(t, path, makeWorld(12, 5, 31).image(t, options(1)))
	seed := fmt.Sprint(os.Getpid())
	t.Logf("seed %s: %s", seed, run(t, nil, program(t, "mutated", address, "mapping.c"), path, fmt.Sprint(mutateSeconds), seed))
}
