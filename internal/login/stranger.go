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
// who does not exist is refused no sooner than who does.
func (l *Login) even(ctx context.Context, a *attempt, p *pace, begun time.Time, err error) {
	spent := l.c.Now().Sub(begun)
	switch {
	case err == nil || fault.Is(err, fault.Unreachable) || errors.Is(err, ErrOtherDomain):
	case a.event.Sent:
		p.measured(spent)
	default:
		l.pause(ctx, p.median()-spent)
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
// here does not answer sooner.
type pace struct {
	mu   sync.Mutex
	last [33]time.Duration
	n    int
}

// measured adds the time of one refusal that came from a KDC.
func (p *pace) measured(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.n%len(p.last)] = d
	p.n++
}

// median is how long a refusal takes; a guess while none was measured.
func (p *pace) median() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.n, len(p.last))
	if n == 0 {
		return 15 * time.Millisecond
	}
	all := slices.Clone(p.last[:n])
	slices.Sort(all)
	return all[n/2]
}
