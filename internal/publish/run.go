// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/store"
)

const (
	// firstRetry and lastRetry bound the wait after a failure, which doubles.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// refresh is how often a snapshot is handed over although nothing changed,
	// in case somebody has removed the published one.
	refresh = 10 * time.Minute
	// A change after a quiet time is published at once. After that there is a
	// pause of rest times what the last snapshot took, so that a sync that goes
	// on for minutes costs a part of one processor only.
	rest     = 2
	minPause = 100 * time.Millisecond
	// glance is how often the published file is looked at.
	glance = 2 * time.Second
)

// Options join a Publisher to the rest.
type Options struct {
	// Rows gives one consistent look at the store; see FromStore.
	Rows func(context.Context, func(Rows) error) error
	// Changed is told when rows may have changed: store.Subscribe.
	Changed <-chan struct{}
	// Position returns where the store's log of changes ends; for Shown. Nil:
	// Shown never waits.
	Position func() store.Position
	// Send hands a sealed memfd to root's half and returns what it says. It does
	// not keep the file.
	Send func(context.Context, *os.File) error
	// File is where root's half publishes: where somebody else has removed or
	// changed it, it is published again. Empty: nobody looks.
	File   string
	Glance time.Duration // how often that is looked at; 0: every two seconds
	Log    *slog.Logger  // nil: slog.Default()
}

// Settled is what a Publisher has to know before it can publish. It changes with
// a join and with the configuration.
type Settled struct {
	Domain identity.Domain
	Policy *Policy
	Ranges []snapshot.Range
}

// State is what a Publisher has done.
type State struct {
	Report     Report    // of the last snapshot that was built
	Generation uint64    // of the last one that root's half took; 0: none
	When       time.Time // when it was
	Bytes      int
	Err        error // why the last attempt failed; nil when it did not
}

// Publisher keeps the published names true to the store. Make it with New, give
// it Settle, and Run it.
type Publisher struct {
	opt     Options
	log     *slog.Logger
	settled chan struct{} // holds one token: Settle was called

	mu     sync.Mutex
	input  *Settled
	look   *Look
	state  State
	digest [32]byte // of what root's half has
	have   bool
	stamp  stamp          // of the published file, once root's half has taken ours
	shown  store.Position // what the machine sees holds every change up to here
	moved  chan struct{}  // closed when shown changes
}

// New returns a publisher that waits for Settle.
func New(o Options) *Publisher {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Glance == 0 {
		o.Glance = glance
	}
	return &Publisher{opt: o, log: o.Log, settled: make(chan struct{}, 1), moved: make(chan struct{})}
}

// Settle says by what to publish from now on; nil publishes nothing any more,
// as after a leave. It returns at once.
func (p *Publisher) Settle(s *Settled) {
	p.mu.Lock()
	p.input = s
	p.look, p.have = nil, false
	if s != nil {
		p.look = s.Policy.Plain(s.Domain)
	}
	p.mu.Unlock()
	select {
	case p.settled <- struct{}{}:
	default:
	}
}

// Present sets gecos, home and shell as getent shows them. Before Settle it
// leaves the user as they are.
func (p *Publisher) Present(u *identity.User) {
	p.mu.Lock()
	look := p.look
	p.mu.Unlock()
	if look != nil {
		look.Fill(u)
	}
}

// State returns what was done last.
func (p *Publisher) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Shown waits until every change that is in the store now can be seen by the
// machine, or ctx ends: fault.Unreachable.
func (p *Publisher) Shown(ctx context.Context) error {
	if p.opt.Position == nil {
		return nil
	}
	want := p.opt.Position()
	for {
		p.mu.Lock()
		shown, moved := p.shown, p.moved
		p.mu.Unlock()
		if shown.Epoch == want.Epoch && shown.Seq >= want.Seq {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fault.Wrap(fault.Unreachable, "wait for the names to be published", ctx.Err())
		}
	}
}

// show notes that the machine sees every change up to at. The caller holds mu.
func (p *Publisher) show(at store.Position) {
	if p.shown != at {
		p.shown = at
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

// Run publishes until ctx ends and returns its error.
func (p *Publisher) Run(ctx context.Context) error {
	again := time.NewTimer(0) // the first attempt, then refreshes and retries
	defer again.Stop()
	look := time.NewTicker(p.opt.Glance)
	defer look.Stop()
	retry := firstRetry
	for {
		forced := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.opt.Changed:
		case <-p.settled:
		case <-again.C:
			forced = true
		case <-look.C:
			if !p.altered() {
				continue
			}
			p.log.Warn("somebody has removed or changed the published names; they are published again", "file", p.opt.File)
			forced = true
		}
		started := time.Now()
		err := p.publish(ctx, forced)
		took := time.Since(started)
		p.mu.Lock()
		p.state.Err = err
		p.mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			p.log.Warn("names cannot be published; the machine goes on with those it has", "error", err, "retry", retry)
			again.Reset(retry)
			retry = min(2*retry, lastRetry)
		} else {
			again.Reset(refresh)
			retry = firstRetry
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(minPause, rest*took)):
		}
	}
}

// stamp tells a file that nobody has touched since from any other.
type stamp struct {
	ino  uint64
	size int64
	ctim syscall.Timespec
}

// stampOf is zero where there is no such file.
func stampOf(path string) (s stamp) {
	if info, err := os.Lstat(path); err == nil {
		st := info.Sys().(*syscall.Stat_t)
		s = stamp{st.Ino, st.Size, st.Ctim}
	}
	return s
}

// altered says whether the published file is another one than root's half made of
// what it took last. While publishing fails there is a pace for that already.
func (p *Publisher) altered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opt.File != "" && p.input != nil && p.have && p.state.Err == nil && stampOf(p.opt.File) != p.stamp
}

// publish builds a snapshot and sends it, unless it says what the last one said.
func (p *Publisher) publish(ctx context.Context, forced bool) error {
	p.mu.Lock()
	input := p.input
	p.mu.Unlock()
	if input == nil {
		return nil
	}
	generation := uint64(time.Now().UnixNano())
	var (
		im     *snapshot.Image
		look   *Look
		report *Report
	)
	var at store.Position
	if p.opt.Position != nil {
		at = p.opt.Position() // before the rows are read: they are at least as new
	}
	started := time.Now()
	err := p.opt.Rows(ctx, func(rows Rows) (err error) {
		if !rows.Complete() {
			return nil
		}
		im, look, report, err = Build(ctx, rows, Input{Domain: input.Domain, Policy: input.Policy, Ranges: input.Ranges, Generation: generation})
		return err
	})
	if err != nil || im == nil {
		return err
	}
	f, digest, err := Seal(im)
	if err != nil {
		return err
	}
	defer f.Close()

	p.mu.Lock()
	p.state.Report = *report
	if p.input == input {
		p.look = look
	}
	same := p.have && p.digest == digest
	if same {
		p.show(at)
	}
	p.mu.Unlock()
	for _, refused := range report.Refused {
		p.log.Error("a row cannot be published", "error", refused)
	}
	if same && !forced {
		return nil
	}
	built := time.Since(started)
	if err := p.opt.Send(ctx, f); err != nil {
		return fault.Wrap(fault.Unknown, "hand the snapshot over", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.input == input {
		p.digest, p.have, p.stamp = digest, true, stampOf(p.opt.File)
		p.show(at)
	}
	p.state.Generation, p.state.When, p.state.Bytes = generation, time.Now(), im.Size()
	if !same {
		p.log.Debug("a snapshot was handed over", "generation", generation, "bytes", im.Size(), "built", built, "taken", time.Since(started)-built)
	}
	return nil
}
