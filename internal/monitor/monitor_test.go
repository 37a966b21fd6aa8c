// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/journal/journaltest"
)

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
	var told journaltest.Buffer
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
