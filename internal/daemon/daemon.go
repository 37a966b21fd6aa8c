// SPDX-License-Identifier: Apache-2.0

// Package daemon is the half of the daemon that does the work, without any
// privilege: it joins the packages that know something to the doors through
// which they are asked, for as long as the monitor keeps it.
//
// It decides nothing about people itself. It never gets root's help except by
// the requests of package monitor/control, and it is ready to die at any
// moment: everything that has to last is in the store.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/join"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/publish"
	"github.com/latchkey-nas/latchkey/internal/release"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/shim"
	"github.com/latchkey-nas/latchkey/internal/store"
	"github.com/latchkey-nas/latchkey/internal/web"
	"github.com/latchkey-nas/latchkey/internal/winbind"
)

// Monitor is the other half, as root.
type Monitor interface {
	// Call asks for something and returns how it went.
	Call(ctx context.Context, m control.Message, file *os.File) error
	// Ready says that the doors are open.
	Ready() error
	// Welcome is what it said first.
	Welcome() control.Welcome
}

// Options say where everything is. All but Accounts are required.
type Options struct {
	ConfigFile   string
	ConfigFolder string
	StoreFile    string
	KeytabFile   string
	AuditFile    string // empty: audit.jsonl in config.LogDir
	Listeners    peer.Listeners
	Handed       *peer.Handed // connections to winbind's pipes; nil: none
	Monitor      Monitor
	Accounts     accounts.Source // zero: this machine's own
	Log          *slog.Logger
	Level        *slog.LevelVar
}

// Daemon is the worker. Make it with New, then Run it once.
type Daemon struct {
	opt      Options
	log      *slog.Logger
	settings *settings
	policy   *peer.Policy
	doors    *grpcapi.Server
	shim     *shim.Server
	winbind  *winbind.Server // nil without a store
	web      *web.Server
	forward  *web.Forward
	resolver *resolve.Resolver

	// Nil where the store could not be opened; then broken says why, and the
	// daemon does nothing but explain it.
	store     *store.Store
	broken    error
	joiner    *join.Joiner
	publisher *publish.Publisher
	login     *login.Login
	audit     *audit.Recorder
	sso       *sso // nil without a store, too
	forms     formOutcomes

	task       sync.Mutex // held by a join or a leave
	turn       sync.Mutex // held while the membership is ended or taken up
	settingSso sync.Mutex // held while [sso] is checked and changed
	settling   sync.Mutex // held while the rules for rows are changed

	mu     sync.Mutex
	local  accounts.Set
	member *member // nil while the machine is in no domain
	life   context.Context

	took timings
	webs webListeners

	keyKick chan struct{} // wakes the keeper of the machine's key

	adminKick chan struct{} // wakes who looks up the administrators
	admins    atomic.Pointer[admins]
	admitted  atomic.Bool // the socket lets them in
}

// New opens the store and prepares the doors. It fails only where not even an
// explanation could be served.
func New(ctx context.Context, opt Options) (*Daemon, error) {
	d := &Daemon{opt: opt, log: opt.Log, life: ctx, keyKick: make(chan struct{}, 1), adminKick: make(chan struct{}, 1),
		webs: webListeners{ready: make(chan struct{})}}
	var err error
	if d.settings, err = openSettings(opt); err != nil {
		return nil, err
	}
	// What `config set` writes; the folder is ours.
	if err := errors.Join(os.MkdirAll(opt.ConfigFolder, 0o755), os.Chmod(opt.ConfigFolder, 0o755)); err != nil {
		d.log.Warn("settings cannot be kept", "error", err)
	}
	if d.local, err = opt.Accounts.Read(); err != nil {
		return nil, err
	}
	d.policy = peer.NewPolicy(d.members())
	var memory resolve.Memory
	d.store, d.broken = store.Open(ctx, opt.StoreFile, store.Options{Log: opt.Log})
	if d.broken != nil {
		d.log.Error("the store cannot be opened; nothing but an explanation is served", "file", opt.StoreFile, "error", d.broken, "remedy", fault.Remedy(d.broken))
		memory = nowhere{d.broken}
	} else {
		memory = resolve.FromStore(d.store)
		d.joiner = join.New(join.Config{Memory: d.store, KeytabPath: opt.KeytabFile, HostKeys: hostKeys{opt.Monitor},
			OperatingSystem: "latchkey", OperatingSystemVersion: release.Version, Log: opt.Log})
	}
	d.resolver = resolve.New(memory, resolve.Presentation{})
	doors := grpcapi.Config{Log: opt.Log, Policy: d.policy, Limits: limits(d.settings.now()), Directory: d.resolver, Latency: &d.took.calls,
		Admin: grpcapi.Admin{Joiner: d, Leaver: d, Syncer: d, Statuser: d, Configurer: d}}
	if d.store != nil {
		doors.Machine = d
		d.openLogin()
		doors.Audit = d.audit
		doors.Login = signIns{d.login}
		if d.openSso(ctx) {
			doors.Sso, doors.SsoSetter = d.sso.sessions, d
		}
	}
	d.doors = grpcapi.New(doors)
	d.shim = d.openShim()
	d.winbind = d.openWinbind()
	d.web = d.openWeb()
	d.forward = d.openForward()
	return d, nil
}

// stopTime is how long calls that are under way may go on when the daemon
// stops. The monitor waits a little longer.
const stopTime = 700 * time.Millisecond

// Run serves until ctx ends, which is a clean stop: nil. Whatever is in the
// store is served at once; the domain is asked afterwards.
func (d *Daemon) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	d.life = ctx
	var all sync.WaitGroup
	defer func() { cancel(); d.close(&all) }()
	failed := make(chan error, 1)
	fail := func(err error) {
		if err != nil && ctx.Err() == nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	if d.store != nil {
		wake, cancel := d.store.Subscribe()
		defer cancel()
		d.publisher = publish.New(publish.Options{Rows: publish.FromStore(d.store), Changed: wake, Position: d.store.Position, Log: d.log, File: config.Snapshot,
			Send: func(ctx context.Context, f *os.File) error { return d.opt.Monitor.Call(ctx, &control.Publish{}, f) }})
		d.present(ctx)
		all.Go(func() { d.watchCompleteness(ctx) })
		all.Go(func() { d.giveBack(ctx) })
		all.Go(func() { d.login.Run(ctx) })
		all.Go(func() { d.keepKeyYoung(ctx) })
		all.Go(func() { d.keepAdmins(ctx) })
		all.Go(func() { d.runSso(ctx) })
		// Before any door opens: who waits in its queue may want to sign in.
		if err := d.restart(ctx, nil); err != nil {
			d.log.Error("the membership cannot be taken up", "error", err)
		}
	}
	for _, name := range []peer.Name{peer.API, peer.Admin} {
		for _, ln := range d.opt.Listeners[name] {
			all.Go(func() { fail(d.doors.Serve(ln)) })
		}
	}
	for _, ln := range d.opt.Listeners[peer.Auth] {
		all.Go(func() { fail(d.forward.Serve(ln)) })
	}
	d.webs.serve = func(ln *peer.Listener) {
		all.Go(func() {
			if err := d.web.Serve(ln); d.webs.has(ln) {
				fail(err)
			}
		})
	}
	for _, ln := range d.opt.Listeners[peer.Web] {
		d.webs.add(ln)
	}
	close(d.webs.ready)
	for _, ln := range d.opt.Listeners[peer.Metrics] {
		all.Go(func() { fail(d.serveMetrics(ctx, ln)) })
	}
	for _, ln := range d.opt.Listeners[peer.ShimRoot] {
		all.Go(func() { fail(d.shim.Serve(ln)) })
	}
	if err := d.opt.Monitor.Ready(); err != nil {
		return err
	}
	if d.store != nil {
		all.Go(func() { fail(d.publisher.Run(ctx)) })
	}
	d.serveWinbind(func(serve func() error) { all.Go(func() { fail(serve()) }) })
	all.Go(func() {
		fail(d.opt.Accounts.Watch(ctx, func(s accounts.Set) { d.accountsChanged(ctx, s) }))
	})
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// close ends everything in the order in which it depends on each other.
func (d *Daemon) close(all *sync.WaitGroup) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	d.webs.end()
	stopped := make(chan struct{})
	go func() { defer close(stopped); d.halt() }()
	d.doors.Stop(ctx)
	d.shim.Stop(ctx)
	d.forward.Stop(ctx)
	d.web.Stop(ctx)
	if d.winbind != nil {
		if d.opt.Handed != nil {
			d.opt.Handed.Leave()
		}
		d.winbind.Stop(ctx)
	}
	<-stopped
	all.Wait() // what hangs is the monitor's to end
	if d.store != nil {
		d.login.Close()
		d.audit.Close()
		if err := d.store.Close(); err != nil {
			d.log.Error("the store was not closed well", "error", err)
		}
	}
}

// watchCompleteness says by the health service whether answers can be had.
func (d *Daemon) watchCompleteness(ctx context.Context) {
	wake, cancel := d.store.Subscribe()
	defer cancel()
	for {
		complete := false
		if err := d.store.View(ctx, func(v *store.View) error { complete = v.Complete(); return nil }); err != nil && ctx.Err() == nil {
			d.log.Error("the store cannot be read", "error", err)
		}
		d.doors.SetServing(complete)
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
	}
}

// limits are those of the doors, as the configuration has them.
func limits(c *config.Loaded) peer.Limits {
	return peer.Limits{ConnectionsPerUID: int(c.Limits.ConnectionsPerUID), CallsPerUID: int(c.Limits.CallsPerUID),
		StreamsPerUID: int(c.Limits.StreamsPerUID), RequestBytes: int(c.Limits.RequestBytes), CallTimeout: c.Limits.CallTimeout}
}

// nowhere is the memory of a daemon without a store: it knows why.
type nowhere struct{ err error }

// View fails.
func (n nowhere) View(context.Context, func(resolve.View) error) error {
	return &fault.Error{Kind: fault.Unreachable, Op: "read the store", Err: n.err, Remedy: fault.Remedy(n.err)}
}

// Position is the beginning.
func (nowhere) Position() store.Position { return store.Position{} }

// Changes fails.
func (n nowhere) Changes(context.Context, store.Position, int) ([]store.Change, error) {
	return nil, errors.Join(n.err)
}

// Subscribe never wakes.
func (nowhere) Subscribe() (<-chan struct{}, func()) { return nil, func() {} }

// goodFile is where the last configuration without a mistake is kept.
func (o Options) goodFile() string { return filepath.Join(filepath.Dir(o.StoreFile), "config.good") }
