// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// breath is the shortest time between two passes that a DC's notifications
// cause: a DC tells of every logon of every computer.
const breath = 500 * time.Millisecond

// Run keeps the store true until ctx ends, and returns ctx's error. A pass that
// fails is logged when it is the first to fail, told by Status, and tried
// again.
func (m *Mirror) Run(ctx context.Context) error {
	kick := make(chan struct{}, 1)
	go m.watch(ctx, kick)
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-kick:
		}
		began := time.Now()
		wait := m.cfg.Interval
		switch res, err := m.scheduled(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wait = min(m.cfg.RetryInterval, wait)
			if failing != fault.KindOf(err).String() {
				m.cfg.Log.Warn("the mirror could not be brought up to date; going on with what it has", "error", err, "remedy", fault.Remedy(err))
				failing = fault.KindOf(err).String()
			}
		default:
			if failing != "" {
				m.cfg.Log.Info("the mirror is brought up to date again", "dc", res.DC)
				failing = ""
			}
			wait = m.untilSweep(wait)
			if res.Full { // its garbage is several times what stays
				debug.FreeOSMemory()
			}
			if res.Full || res.Added+res.Changed+res.Removed+res.Held > 0 {
				m.cfg.Log.Info("mirror brought up to date", "full", res.Full, "read", res.Read, "added", res.Added, "changed", res.Changed,
					"removed", res.Removed, "held", res.Held, "duration", res.Duration, "dc", res.DC)
			}
		}
		if rest := breath - time.Since(began); rest > 0 {
			pause(ctx, rest)
		}
		timer.Reset(wait)
	}
}

// clockBack is how far the clock may be set back before what was noted by it is
// not believed any more: a machine that was for a while in the year 2100 is not to
// wait for that.
const clockBack = time.Minute

// scheduled makes the pass that is due: full, with a sweep, or neither.
func (m *Mirror) scheduled(ctx context.Context) (Result, error) {
	if err := m.load(ctx); err != nil {
		return Result{}, err
	}
	m.lock.Lock()
	since := m.cfg.Now().Sub(m.at.LastFull)
	full := since >= m.cfg.FullInterval || since < -clockBack
	if m.swept.IsZero() {
		m.swept = m.cfg.Now() // the first sweep of this run is a whole interval away, unless the pass is full
	}
	sweeping := sweepNone
	switch {
	case full || m.cfg.Now().Sub(m.swept) >= m.cfg.SweepInterval:
		sweeping = sweepDue
	case m.hints.due(m.cfg.Now()):
		sweeping = sweepHint
	}
	m.lock.Unlock()
	return m.syncNow(ctx, Request{Full: full}, sweeping, nil)
}

// untilSweep returns how long Run may rest: wait, or less where something went
// by that no pass has explained.
func (m *Mirror) untilSweep(wait time.Duration) time.Duration {
	m.lock.Lock()
	defer m.lock.Unlock()
	if !m.hints.unexplained {
		return wait
	}
	return min(wait, max(0, m.hints.next.Sub(m.cfg.Now())))
}

// watch has a pass made when a DC tells of a change. Where it cannot, or falls
// silent, the passes by the clock go on.
func (m *Mirror) watch(ctx context.Context, kick chan<- struct{}) {
	now := func() {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, m.cfg.Interval) {
		began := time.Now()
		err := m.cfg.Directory.Watch(ctx, now, now) // ready: what happened while nobody listened
		if ctx.Err() != nil {
			return
		}
		m.cfg.Log.Debug("the domain controller tells of changes no more", "error", err)
		if time.Since(began) > time.Minute {
			wait = time.Second
		}
		pause(ctx, wait)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
