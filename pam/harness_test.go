// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	libpam "github.com/msteinert/pam/v2"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/shim"
)

// How a test build is compiled.
var (
	plain   = []string{"-O2"}
	address = []string{"-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"}
)

var compiled struct {
	sync.Mutex
	dir   string
	files map[string]string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if compiled.dir != "" {
		_ = os.RemoveAll(compiled.dir)
	}
	os.Exit(code)
}

// compile compiles sources into a file once. Without a compiler the test fails.
func compile(t testing.TB, name string, flags []string, sources ...string) string {
	t.Helper()
	compiled.Lock()
	defer compiled.Unlock()
	key := name + strings.Join(flags, " ")
	if path, ok := compiled.files[key]; ok {
		return path
	}
	if compiled.dir == "" {
		dir, err := os.MkdirTemp("", "latchkey-pam")
		if err != nil {
			t.Fatal(err)
		}
		compiled.dir, compiled.files = dir, map[string]string{}
	}
	path := filepath.Join(compiled.dir, fmt.Sprintf("%d-%s", len(compiled.files), name))
	args := slices.Concat([]string{"-std=gnu11", "-g", "-D_GNU_SOURCE", "-DLATCHKEY_TEST", "-Wall", "-Wextra", "-Werror"}, flags,
		[]string{"-o", path}, sources, []string{"-lpam"})
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, out)
	}
	compiled.files[key] = path
	return path
}

// testModule is the module in its test build.
func testModule(t testing.TB, flags []string) string {
	t.Helper()
	sources, err := filepath.Glob("*.c")
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, "pam_latchkey.so", slices.Concat(flags, []string{"-fPIC", "-shared", "-Wl,--version-script=latchkey.map"}), sources...)
}

func neighbour(t testing.TB) string {
	return compile(t, "neighbour.so", []string{"-fPIC", "-shared"}, "testdata/neighbour.c")
}

// box is the surroundings of one test: a stack, a socket's path, a stash, the
// users' tickets, and a passwd file with root and a local user.
type box struct {
	dir string
	env map[string]string
}

func newBox(t testing.TB) *box {
	t.Helper()
	// Not the test's own directory, which other users cannot enter.
	dir, err := os.MkdirTemp("", "latchkey-pam-box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &box{dir: dir, env: map[string]string{}}
	b.write(t, "passwd", "root:x:0:0::/root:/bin/sh\nlocal:x:1000:1000::/home/local:/bin/sh\nno-end:x:1:1::/:/bin/sh")
	if err := os.Mkdir(b.path("ccaches"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.path("ccaches"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	b.set("SOCKET", b.path("s"))
	b.set("STASH", b.path("stash"))
	b.set("PASSWD", b.path("passwd"))
	b.set("CCACHES", b.path("ccaches"))
	b.set("PEER", strconv.Itoa(os.Getuid()))
	b.set("UID", strconv.Itoa(int(alice.UID)))
	return b
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func (b *box) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *box) set(name, value string) { b.env["LATCHKEY_TEST_"+name] = value }

func (b *box) environ() []string {
	env := os.Environ()
	for k, v := range b.env {
		env = append(env, k+"="+v)
	}
	return env
}

// service writes a stack of one module in all four types.
func (b *box) service(t testing.TB, module string, args ...string) {
	var text strings.Builder
	for _, kind := range []string{"auth", "account", "password", "session"} {
		fmt.Fprintf(&text, "%s required %s %s\n", kind, module, strings.Join(args, " "))
	}
	b.write(t, "test", text.String())
}

// user is the person at the terminal: answers in turn, and what was shown.
type user struct {
	answers []string
	seen    []string
}

// RespondPAM notes what is shown and gives the next answer.
func (u *user) RespondPAM(style libpam.Style, text string) (string, error) {
	u.seen = append(u.seen, text)
	switch {
	case style == libpam.TextInfo || style == libpam.ErrorMsg:
		return "", nil
	case len(u.answers) == 0:
		return "", errors.New("nobody answers")
	}
	a := u.answers[0]
	u.answers = u.answers[1:]
	return a, nil
}

// start begins a transaction in this process.
func (b *box) start(t testing.TB, name string, u *user) *libpam.Transaction {
	t.Helper()
	for k, v := range b.env {
		t.(*testing.T).Setenv(k, v)
	}
	tx, err := libpam.StartConfDir("test", name, u, b.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.End() })
	return tx
}

// listen opens the socket.
func (b *box) listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("unix", b.path("s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// serve has the door serve the socket, with people behind it.
func (b *box) serve(t testing.TB, people shim.Login) {
	t.Helper()
	s := shim.New(shim.Config{Log: slog.New(slog.DiscardHandler), Login: people,
		Identify: func(*net.UnixConn) (peer.Caller, error) { return peer.Caller{}, nil }, StillAt: 5 * time.Millisecond})
	ln := b.listen(t)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop(context.Background())
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

const password = "correct horse battery"

// alice is who may sign in. An ordinary user cannot make files of another, so
// then she has the number of who runs the test.
var alice = func() shim.Result {
	r := shim.Result{Name: "alice", UID: 100001103, GID: 100000513}
	if uid := os.Getuid(); uid != 0 {
		r.UID, r.GID = identity.UID(uid), identity.GID(os.Getgid())
	}
	return r
}()

// people plays the work behind the door.
type people struct {
	mu       sync.Mutex
	requests []shim.Request
	closed   int
	tickets  []byte
	warnings []string
	wait     time.Duration // before every decision
	auth     error         // instead of asking
	account  error
	change   func(current, next string) ([]string, error)
	place    func() (string, bool, error)
}

type attempt struct {
	p     *people
	asked bool
}

func (p *people) note(req shim.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, req)
}

func (p *people) Begin(req shim.Request) shim.Conversation {
	p.note(req)
	return &attempt{p: p}
}

func (a *attempt) Next(_ context.Context, answer secret.Bytes) (shim.Step, error) {
	switch {
	case a.p.auth != nil:
		return shim.Step{Tell: []string{"sorry"}}, a.p.auth
	case !a.asked:
		a.asked = true
		return shim.Step{Tell: []string{"hello"}, Ask: &shim.Prompt{Text: "Password: "}}, nil
	case string(answer.Reveal()) != password:
		time.Sleep(a.p.wait)
		return shim.Step{}, errWrong
	}
	time.Sleep(a.p.wait)
	r := alice
	r.CCache, r.Warnings = secret.Own(slices.Clone(a.p.tickets)), a.p.warnings
	return shim.Step{Done: &r}, nil
}

func (a *attempt) Close() {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.p.closed++
}

func (p *people) Account(_ context.Context, req shim.Request) (*shim.Result, []string, error) {
	p.note(req)
	time.Sleep(p.wait)
	if p.account != nil {
		return nil, []string{"no entry"}, p.account
	}
	r := alice
	return &r, nil, nil
}

func (p *people) PasswordPlace(context.Context, string) (string, bool, error) {
	if p.place == nil {
		return "", true, nil
	}
	return p.place()
}

func (p *people) ChangePassword(_ context.Context, _ shim.Request, current, next secret.Bytes) ([]string, error) {
	if p.change == nil {
		return []string{"changed"}, nil
	}
	return p.change(string(current.Reveal()), string(next.Reveal()))
}
