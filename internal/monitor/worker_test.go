// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/journal"
	"github.com/latchkey-nas/latchkey/internal/journal/journaltest"
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
	log    *journaltest.Buffer
	stop   context.CancelFunc
	ended  chan error
}

func run(t *testing.T, mode string, adjust func(*Monitor)) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &running{t: t, socket: dir + "/run/api.sock", file: dir + "/latchkey.toml", doer: &doer{}, log: &journaltest.Buffer{}, ended: make(chan error, 1)}
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
