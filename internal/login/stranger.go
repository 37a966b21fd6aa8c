// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// ForStranger returns what somebody may be told who has proved nothing: who does
// not exist, and whose account is locked, disabled or expired, looks like a
// wrong password, unless the password was known to be right. The text of the
// result gives nothing away; its kind is what doors map.
func ForStranger(err error) error {
	if err == nil {
		return nil
	}
	var p *proved
	known := errors.As(err, &p)
	switch kind := fault.KindOf(err); kind {
	case fault.Unreachable, fault.Malformed, fault.Internal, fault.Unknown:
		return err
	case fault.Locked, fault.Disabled, fault.Expired, fault.MustChange, fault.Denied:
		if known {
			return err
		}
	}
	return fault.New(fault.BadCredential, "the name or the password is wrong")
}

// even makes a refusal that was decided here take as long as one by the domain:
// who does not exist is refused no sooner than who does, and no later.
func (l *Login) even(ctx context.Context, a *attempt, p *pace, begun time.Time, err error) {
	spent := l.c.Now().Sub(begun)
	switch {
	case err == nil || fault.Is(err, fault.Unreachable) || errors.Is(err, ErrOtherDomain):
	case a.event.Sent:
		p.measured(spent)
	default:
		wait := p.pause() - spent
		if wait <= 0 {
			return
		}
		at := time.Now()
		l.pause(ctx, wait)
		p.overslept(time.Since(at) - wait)
	}
}

// coarse is what a timer of the runtime may be late: it waits in whole
// milliseconds, and a refusal by a near domain controller takes two.
const coarse = 2 * time.Millisecond

// pause waits, to a tenth of a millisecond.
func pause(ctx context.Context, d time.Duration) {
	end := time.Now().Add(d)
	if d > coarse {
		t := time.NewTimer(d - coarse)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
	if left := time.Until(end); left > 0 {
		rest := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.Nanosleep(&rest, nil)
	}
}

// pace remembers how long refusals by a KDC take, so that one that was decided
// here does not answer sooner; and how much later than asked for a pause ends on a
// busy machine, so that it does not answer later.
type pace struct {
	mu         sync.Mutex
	took, late ring
}

// ring is the last times of something.
type ring struct {
	last [33]time.Duration
	n    int
}

func (r *ring) add(d time.Duration) {
	r.last[r.n%len(r.last)] = d
	r.n++
}

// median is 0 where there is none.
func (r *ring) median() time.Duration {
	n := min(r.n, len(r.last))
	if n == 0 {
		return 0
	}
	all := slices.Clone(r.last[:n])
	slices.Sort(all)
	return all[n/2]
}

// measured adds the time of one refusal that came from a KDC.
func (p *pace) measured(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took.add(d)
}

// overslept adds how much later than asked for a pause ended.
func (p *pace) overslept(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late.add(min(max(d, 0), coarse))
}

// pause is how long a refusal is to take until a pause ends; a guess while none
// was measured.
func (p *pace) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.took.n == 0 {
		return 15 * time.Millisecond
	}
	return p.took.median() - p.late.median()
}
