// SPDX-License-Identifier: Apache-2.0

// Package monitor is the half of the daemon that stays root. It holds the
// listening sockets, starts the worker without any privilege, kills it when it
// has been silent for three seconds, and starts it again, while callers wait in
// the sockets' queues and notice nothing but a delay.
//
// For the worker it does the few things that only root can do: the requests of
// package control, each checked as if a stranger had sent it. It never touches
// the network, opens no database and parses nothing that came from outside
// except the snapshot and the keytab, by readers made for hostile bytes.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/journal"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/publish/install"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// stopTime is how long a worker may take to end in good order. The daemon as a
// whole stops in under two seconds.
const stopTime = 1500 * time.Millisecond

// Publisher checks a snapshot and puts it where the machine reads it.
type Publisher interface {
	// Install publishes the snapshot in the file, which is a sealed memfd. It
	// believes nothing in it.
	Install(ctx context.Context, snapshot *os.File) error
	// Withdraw takes the published snapshot away.
	Withdraw() error
	// Close gives back what it holds; what is published stays.
	Close() error
	// SetRanges says which ids a snapshot may hold from now on.
	SetRanges([]snapshot.Range)
}

// HostKeys puts root's copy of the host keys into place; krb5conf.Files does.
type HostKeys interface {
	InstallHostKeys(krb5conf.HostKeys) error
	RemoveHostKeys(krb5conf.Host) error
}

// Options say what to run.
type Options struct {
	ConfigFile   string
	ConfigFolder string
	Log          *slog.Logger
	Level        *slog.LevelVar // set from the configuration; nil: left alone

	publisher Publisher
	hostKeys  HostKeys
}

// Monitor watches one worker. Make it with New, then Run it once.
type Monitor struct {
	opt       Options
	log       *slog.Logger
	arranging sync.Mutex // held while sockets are opened and closed, and while a worker starts with them
	mu        sync.Mutex // guards listeners
	listeners peer.Listeners
	keeper    *peer.Keeper                       // accepts at winbind's pipes
	wanted    func(*config.Config) []peer.Socket // nil: those that are open, in tests
	life      *life                              // the worker that was started last; guarded by arranging
	started   time.Time
	restarts  uint32
	lastEnd   string
	config    atomic.Pointer[config.Loaded]
	program   string // the worker's executable
	arguments []string
	identity  *syscall.Credential // nil: as ourselves, in tests
	silence   time.Duration
	checks    chan struct{} // one for each password check under way
}

// New reads the configuration and prepares the machine: no core dumps, system
// accounts, directories, listeners (systemd's, or our own). It wants root. A
// bad configuration is fault.Malformed, the wrong user fault.Denied.
func New(opt Options) (*Monitor, error) {
	if os.Geteuid() != 0 {
		return nil, &fault.Error{Kind: fault.Denied, Op: "start latchkeyd", Err: errors.New("it is not run by root"),
			Remedy: "start it by `systemctl start latchkeyd`, or as root; it gives up root by itself where it need not be"}
	}
	cfg, err := config.Load(opt.ConfigFile, opt.ConfigFolder)
	if err != nil {
		return nil, err
	}
	if err := hardenProcess(); err != nil {
		return nil, err
	}
	ids, err := prepareAccounts(opt.Log)
	if err != nil {
		return nil, err
	}
	if err := prepareDirectories(ids); err != nil {
		return nil, err
	}
	names, err := install.Open(install.Options{Dir: config.SnapshotDir, Ranges: ranges(cfg), Log: opt.Log})
	if err != nil {
		return nil, err
	}
	listeners, err := openListeners(opt.Log, wanted(&cfg.Config, ids))
	if err != nil {
		return nil, errors.Join(err, names.Close())
	}
	opt.publisher, opt.hostKeys = names, krb5conf.Files{}
	m := newMonitor(opt, cfg, listeners)
	m.wanted = func(cfg *config.Config) []peer.Socket { return wanted(cfg, ids) }
	m.identity = &syscall.Credential{Uid: ids.worker.uid, Gid: ids.worker.gid}
	m.log.Info("latchkeyd is starting", "config", opt.ConfigFile)
	return m, nil
}

func newMonitor(opt Options, cfg *config.Loaded, listeners peer.Listeners) *Monitor {
	m := &Monitor{opt: opt, log: opt.Log, listeners: listeners, keeper: peer.NewKeeper(opt.Log), started: time.Now(),
		program:   program(),
		arguments: []string{"latchkeyd", "worker", "--config", opt.ConfigFile},
		checks:    make(chan struct{}, maxChecks),
		silence:   control.Silence}
	m.adopt(cfg)
	return m
}

// program is the file to start the worker from: by its name as long as that is
// still the file that runs, so that ps shows it; whatever happened to the name
// otherwise, as during an upgrade. Without /proc, as in a bare chroot, the name.
func program() string {
	const self = "/proc/self/exe"
	if running, err := os.Stat(self); err == nil {
		if path, err := os.Readlink(self); err == nil {
			if named, err := os.Stat(path); err == nil && os.SameFile(running, named) {
				return path
			}
		}
		return self
	}
	if path, err := exec.LookPath(os.Args[0]); err == nil {
		return path
	}
	return os.Args[0]
}

// Run starts the worker and watches it until SIGTERM, SIGINT or the end of ctx,
// which are a clean stop: nil. SIGHUP reads the configuration again.
func (m *Monitor) Run(ctx context.Context) error {
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		err := errors.Join(m.listeners.Close(), m.opt.publisher.Close())
		m.keeper.Close()
		if err != nil {
			m.log.Warn("the end was not clean", "error", err)
		}
	}()
	m.mu.Lock()
	for _, name := range []peer.Name{peer.Winbind, peer.WinbindPriv} {
		for _, ln := range m.listeners[name] {
			m.keep(ln)
		}
	}
	m.mu.Unlock()
	// The journal may go away for a moment; a write to it must not end us.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	defer m.watchdog(ctx)()

	failed := 0 // starts in a row that never became ready
	faults := 0 // ends in a row, soon after the start, by a fault of the worker's own
	for {
		began := time.Now()
		life, err := m.start()
		if err != nil {
			failed++
			m.log.Error("the worker cannot be started", "error", err)
		} else {
			end := m.watch(ctx, life, hup)
			if ctx.Err() != nil {
				m.notify(daemon.SdNotifyStopping)
				m.log.Info("latchkeyd has stopped", "worker", end)
				return nil
			}
			m.restarts++
			m.lastEnd = end
			if failed++; life.ready {
				failed = 0
			}
			if faults++; !faulty(life.cmd.ProcessState) || time.Since(began) > faultTime {
				faults = 0
			}
			if faults >= maxFaults { // what each of them died of may be asked again and again
				m.log.Error("the connections to winbind's pipes are let go: the workers that had them have failed", "connections", m.keeper.Held(), "failed", faults)
				m.keeper.Shed()
				faults = 0
			}
			m.log.Error("the worker has ended and is started again", "end", end, "lived", time.Since(began).Round(time.Millisecond))
		}
		if !m.pause(ctx, failed, time.Since(began), hup) {
			return nil
		}
	}
}

// A worker that meets the same request as the one before may die of it as well.
const (
	maxFaults = 3
	faultTime = 10 * time.Second
)

// faulty says whether a process ended by a fault of its own, and not because
// somebody or the kernel killed it.
func faulty(s *os.ProcessState) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return s.ExitCode() != 0
	}
	return status.Signal() != syscall.SIGKILL && status.Signal() != syscall.SIGTERM
}

// pause waits before the next start: not at all after a worker that had served
// for a second, longer and longer, up to 5 s, while none gets ready. It returns
// false when ctx ended.
func (m *Monitor) pause(ctx context.Context, failed int, lived time.Duration, hup <-chan os.Signal) bool {
	var wait time.Duration
	switch {
	case failed > 0:
		wait = min(5*time.Second, 100*time.Millisecond<<min(failed-1, 10))
	case lived < time.Second:
		wait = 100 * time.Millisecond
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			m.notify(daemon.SdNotifyStopping)
			return false
		case <-hup:
			_ = m.reload()
			m.notify(daemon.SdNotifyReady)
		case <-timer.C:
			return ctx.Err() == nil
		}
	}
}

// reload is what SIGHUP asks for. systemd is told that it began; the caller
// tells that it is over.
func (m *Monitor) reload() error {
	now := &unix.Timespec{}
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, now) == nil {
		m.notify(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10))
	}
	return m.reconfigure()
}

// reconfigure reads the configuration again. A bad one is logged and returned,
// and the old one stays.
func (m *Monitor) reconfigure() error {
	cfg, err := config.Load(m.opt.ConfigFile, m.opt.ConfigFolder)
	if err != nil {
		m.log.Error("the new configuration is not used, the old one stays", "error", err)
		return err
	}
	before := m.config.Load()
	m.adopt(cfg)
	m.log.Info("the configuration has been read again")
	if err := m.arrange(&cfg.Config, &before.Config); err != nil {
		m.log.Error("a socket cannot be opened or closed", "error", err)
		return err
	}
	return nil
}

// adopt makes cfg count.
func (m *Monitor) adopt(cfg *config.Loaded) {
	m.config.Store(cfg)
	if m.opt.Level != nil {
		m.opt.Level.Set(journal.Level(cfg.Log.Level))
	}
	if m.opt.publisher != nil {
		m.opt.publisher.SetRanges(ranges(cfg))
	}
}

// ranges are the ids that a configuration allows.
func ranges(cfg *config.Loaded) []snapshot.Range {
	low, high, err := cfg.IDMap.Range()
	if err != nil { // it was checked when it was loaded
		return nil
	}
	return []snapshot.Range{{Low: low, High: high}}
}

// notify tells systemd, where it listens (sd_notify(3)).
func (m *Monitor) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		m.log.Debug("systemd was not told", "state", state, "error", err)
	}
}

// watchdog tells systemd that we live, as often as it asked for it.
func (m *Monitor) watchdog(ctx context.Context) (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(interval / 2)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				m.notify(daemon.SdNotifyWatchdog)
			}
		}
	}()
	return cancel
}
