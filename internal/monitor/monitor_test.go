// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/journal"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// The test binary is its own worker: "test-worker MODE --config FILE --control N".
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "test-worker" {
		if err := testWorker(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "test worker:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testWorker answers each connection on the api socket with a line about
// itself, and closes it.
func testWorker(mode string) error {
	listeners, err := peer.Inherited()
	if err != nil {
		return err
	}
	fd, err := strconv.Atoi(os.Args[len(os.Args)-1])
	if err != nil {
		return err
	}
	conn, err := control.Open(os.NewFile(uintptr(fd), "control"))
	if err != nil {
		return err
	}
	client, err := control.NewClient(conn)
	if err != nil {
		return err
	}
	if mode == "fails" {
		return fmt.Errorf("as asked")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reloads atomic.Int32
	stop := cancel
	if mode == "deaf" {
		stop = func() {}
	}
	ended := make(chan error, 1)
	web := &webs{}
	for _, ln := range listeners[peer.Web] {
		web.add(ln)
	}
	go func() {
		ended <- client.Run(ctx, control.Handlers{Reload: func() { reloads.Add(1) }, Stop: stop, LeaveWeb: web.leave,
			ServeWeb: func(f *os.File) {
				if ln, err := peer.TakeOver(f, peer.Web); err == nil {
					web.add(ln)
				}
			}})
	}()
	go func() {
		for {
			c, err := listeners.First(peer.API).Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%d %d %d %q\n", os.Getpid(), reloads.Load(), client.Welcome().Restarts, client.Welcome().LastEnd)
			_ = c.Close()
		}
	}()
	switch mode {
	case "strange":
		_ = conn.Send(0, &control.Stop{}, nil)
	case "nonsense":
		_ = conn.Send(0, &control.Welcome{}, nil)
	case "asks":
		if err := ask(ctx, client); err != nil {
			return err
		}
	}
	if err := client.Ready(); err != nil {
		return err
	}
	if err := <-ended; err != nil {
		return err
	}
	return nil
}

// ask makes every request that there is.
func ask(ctx context.Context, client *control.Client) error {
	fd, err := unix.MemfdCreate("snapshot", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "snapshot")
	if _, err := f.WriteString("who is who"); err != nil {
		return err
	}
	if err := client.Call(ctx, &control.Publish{}, f); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	host := control.Host{Realm: "R", Account: "A$", FQDN: "a.r"}
	if err := client.Call(ctx, &control.InstallKeys{Host: host, Keytab: secret.FromString("keys")}, nil); !fault.Is(err, fault.Conflict) {
		return fmt.Errorf("install keys: %w, want a conflict", err)
	}
	if err := client.Call(ctx, &control.RemoveKeys{Host: host}, nil); err != nil {
		return fmt.Errorf("remove keys: %w", err)
	}
	if err := client.Call(ctx, &control.Reconfigured{}, nil); err != nil {
		return fmt.Errorf("reconfigured: %w", err)
	}
	return client.Call(ctx, &control.Withdraw{}, nil)
}

// doer records what the monitor did.
type doer struct {
	mu   sync.Mutex
	done []string
}

func (d *doer) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, fmt.Sprintf(format, args...))
}

func (d *doer) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.done)
}

func (d *doer) Install(_ context.Context, f *os.File) error {
	b := make([]byte, 10)
	_, err := f.ReadAt(b, 0)
	d.note("publish %s", b)
	return err
}
func (d *doer) Withdraw() error              { d.note("withdraw"); return nil }
func (d *doer) Close() error                 { return nil }
func (d *doer) SetRanges(r []snapshot.Range) { d.note("range %d", r[0].Low) }
func (d *doer) InstallHostKeys(k krb5conf.HostKeys) error {
	d.note("install %s %s", k.Account, k.Keytab.Reveal())
	return fault.New(fault.Conflict, "something is there already")
}
func (d *doer) RemoveHostKeys(h krb5conf.Host) error { d.note("remove %s", h.Account); return nil }

// running is a monitor under test.
type running struct {
	*Monitor
	t      *testing.T
	socket string
	file   string // latchkey.toml
	doer   *doer
	log    *lockedBuffer
	stop   context.CancelFunc
	ended  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func run(t *testing.T, mode string, adjust func(*Monitor)) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &running{t: t, socket: dir + "/run/api.sock", file: dir + "/latchkey.toml", doer: &doer{}, log: &lockedBuffer{}, ended: make(chan error, 1)}
	if err := os.WriteFile(r.file, []byte("version = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := peer.Open(peer.Socket{Name: peer.API, Path: r.socket, Mode: 0o666, GID: identity.GID(os.Getegid()), DirMode: 0o755, DirGID: identity.GID(os.Getegid())})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(r.file, "")
	if err != nil {
		t.Fatal(err)
	}
	level := &slog.LevelVar{}
	log := slog.New(journal.New(r.log, level, "text", true))
	r.Monitor = newMonitor(Options{ConfigFile: r.file, publisher: r.doer, hostKeys: r.doer, Log: log, Level: level}, cfg, peer.Listeners{peer.API: {ln}})
	r.program = os.Args[0]
	if r.program, err = filepath.Abs(r.program); err != nil {
		t.Fatal(err)
	}
	r.arguments = []string{"latchkeyd", "test-worker", mode}
	if adjust != nil {
		adjust(r.Monitor)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.ended; err != nil {
			t.Errorf("the monitor ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

// answer is what a worker says about itself.
type answer struct {
	pid, reloads, restarts int
	lastEnd                string
}

// call connects as any program would, and waits for the answer. A connection
// that was taken by a worker in the moment it died is tried again: its client
// would do so too. One that is refused is the failure that this product is
// built to avoid.
func (r *running) call() answer {
	r.t.Helper()
	for range 1000 {
		c, err := net.Dial("unix", r.socket)
		if err != nil {
			r.t.Fatalf("a caller was refused: %v", err)
		}
		b, err := io.ReadAll(c)
		_ = c.Close()
		var a answer
		if n, scanErr := fmt.Sscanf(string(b), "%d %d %d %q", &a.pid, &a.reloads, &a.restarts, &a.lastEnd); n == 4 && scanErr == nil {
			return a
		}
		if err != nil {
			r.t.Logf("answer lost: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatal("no answer after a thousand tries")
	return answer{}
}

func (r *running) waitFor(what string, condition func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return
		}
	}
	r.t.Fatalf("waited in vain: %s", what)
}

func TestKilledWorkerIsReplaced(t *testing.T) {
	r := run(t, "serves", nil)
	first := r.call()
	if first.restarts != 0 || first.lastEnd != "" {
		t.Errorf("first worker: got %+v", first)
	}
	before := first.pid
	for i := 1; i <= 5; i++ {
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// The killed process may still own the queue's head for a moment.
		var next answer
		r.waitFor("another worker answers", func() bool { next = r.call(); return next.pid != before })
		if next.restarts != i || next.lastEnd != "signal: killed" {
			t.Errorf("after kill %d: got %+v", i, next)
		}
		before = next.pid
	}
}

func TestSilentWorkerIsKilled(t *testing.T) {
	r := run(t, "serves", func(m *Monitor) { m.silence = 1200 * time.Millisecond })
	first := r.call()
	if err := syscall.Kill(first.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the worker stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", first.pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	next := r.call() // waits in the queue of the socket meanwhile
	if next.pid == first.pid || next.lastEnd != "killed: it was silent for 1.2s" {
		t.Errorf("got %+v, want another worker after a silent one", next)
	}
}

func TestWorkerThatMisbehaves(t *testing.T) {
	for mode, want := range map[string]string{
		"strange":  "killed: it sent stop",
		"nonsense": "killed: it sent welcome",
		"fails":    "exit status 3",
	} {
		t.Run(mode, func(t *testing.T) {
			r := run(t, mode, nil)
			r.waitFor("the end is logged", func() bool { return strings.Contains(r.log.String(), want) })
		})
	}
}

func TestStop(t *testing.T) {
	for _, mode := range []string{"serves", "deaf"} {
		t.Run(mode, func(t *testing.T) {
			r := run(t, mode, nil)
			pid := r.call().pid
			r.stop()
			err := <-r.ended
			r.ended <- err
			if err != nil {
				t.Errorf("got %v, want nil", err)
			}
			if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
				t.Errorf("the worker lives on: %v", err)
			}
			if _, err := os.Lstat(r.socket); !os.IsNotExist(err) {
				t.Errorf("the socket is left behind: %v", err)
			}
			want := map[string]string{"serves": `worker="exit status 0"`, "deaf": "did not stop within"}[mode]
			if !strings.Contains(r.log.String(), want) {
				t.Errorf("the log does not say %s", want)
			}
		})
	}
}

func TestReload(t *testing.T) {
	r := run(t, "serves", nil)
	r.call()
	hup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(r.file, []byte("version = 1\n[idmap]\nmethod = \"sssd\"\n[log]\nlevel = \"debug\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hup()
	r.waitFor("the worker is told", func() bool { return r.call().reloads == 1 })
	if got := r.doer.all(); !slices.Equal(got, []string{"range 100000001", "range 200000"}) {
		t.Errorf("got %q", got)
	}
	if err := os.WriteFile(r.file, []byte("version = 1\n[idmpa]\nmethod = \"autorid\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hup()
	r.waitFor("the worker is told again", func() bool { return r.call().reloads == 2 })
	if cfg := r.config.Load(); cfg.IDMap.Method != "sssd" || cfg.Log.Level != "debug" {
		t.Errorf("a bad configuration was used: %+v", cfg.Config)
	}
	if !strings.Contains(r.log.String(), `the old one stays`) || !strings.Contains(r.log.String(), `latchkey.toml:2: unknown section`) {
		t.Error("the log does not say why the new configuration is not used")
	}
}

func TestRequests(t *testing.T) {
	r := run(t, "asks", nil)
	if a := r.call(); a.restarts != 0 {
		t.Errorf("the worker did not get what it asked for: %+v", a)
	}
	r.waitFor("ready", func() bool { return strings.Contains(r.log.String(), "the worker is ready") })
	want := []string{"range 100000001", "publish who is who", "install A$ keys", "remove A$", "range 100000001", "withdraw"}
	if got := r.doer.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if log := r.log.String(); strings.Contains(log, "keys") && strings.Contains(log, "install A$ keys") {
		t.Error("the log shows a key")
	}
}

// What a worker can see of us: no variable but the listed ones, no way to
// privilege, no core dump.
func TestWorkerIsPoor(t *testing.T) {
	t.Setenv("SECRET_THING", "hunter2")
	t.Setenv("NOTIFY_SOCKET", "")
	r := run(t, "serves", nil)
	pid := r.call().pid
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if env := read("environ"); strings.Contains(env, "hunter2") {
		t.Errorf("the worker has our variables: %q", env)
	}
	status := read("status")
	if !strings.Contains(status, "NoNewPrivs:\t1") {
		t.Errorf("no_new_privs is not set:\n%s", status)
	}
	if os.Geteuid() == 0 && !strings.Contains(status, "CapBnd:\t0000000000000000") {
		t.Errorf("capabilities are left in the bounding set:\n%s", status)
	}
	if own, err := os.ReadFile("/proc/self/status"); err != nil || strings.Contains(string(own), "NoNewPrivs:\t1") {
		t.Errorf("our own threads lost their privileges too: %v", err)
	}
}

// systemd is told what happens, and that we live.
func TestNotify(t *testing.T) {
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", dir+"/notify")
	t.Setenv("WATCHDOG_USEC", "40000")
	t.Setenv("WATCHDOG_PID", "")
	var told lockedBuffer
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := systemd.Read(b)
			if err != nil {
				return
			}
			_, _ = told.Write(append(b[:n], '\n'))
		}
	}()
	r := run(t, "serves", nil)
	count := func(state string) int { return strings.Count(told.String(), state) }
	r.waitFor("READY", func() bool { return count("READY=1") == 1 })
	r.waitFor("WATCHDOG", func() bool { return count("WATCHDOG=1") >= 2 })
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.waitFor("RELOADING and READY again", func() bool { return count("RELOADING=1\nMONOTONIC_USEC=") == 1 && count("READY=1") == 2 })
	r.stop()
	r.waitFor("STOPPING", func() bool { return count("STOPPING=1") >= 1 })
}

func TestOnlyRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root cannot see this refusal; TestKilledWorkerIsReplaced and the lab's tests cover its side.
		if _, err := New(Options{ConfigFile: t.TempDir() + "/none", Log: slog.New(slog.DiscardHandler)}); !fault.Is(err, fault.NotFound) {
			t.Errorf("a config file that is not there: got %v, want not found", err)
		}
		return
	}
	_, err := New(Options{Log: slog.New(slog.DiscardHandler)})
	if !fault.Is(err, fault.Denied) || fault.Remedy(err) == "" {
		t.Errorf("got %v, want denied with a remedy", err)
	}
}
