// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// A local user may fail so often at once, and once in each interval after that,
// and have so many attempts under way. Root is behind services that have their
// own clients; the accounts' budget in package login is what holds those.
const (
	failuresAtOnce  = 10
	failureInterval = 6 * time.Second
	attemptsAtOnce  = 8
)

// throttle slows down who guesses passwords on the public pipe.
type throttle struct {
	now func() time.Time

	mu    sync.Mutex
	users map[identity.UID]*guesser
}

// guesser is one local user. spent goes down by one in each interval.
type guesser struct {
	spent float64
	at    time.Time
	under int
}

func (t *throttle) init(now func() time.Time) {
	t.now, t.users = now, map[identity.UID]*guesser{}
}

// take counts an attempt as failed until settle says otherwise.
// fault.Exhausted: too many failed lately.
func (t *throttle) take(uid identity.UID) (settle func(failed bool), err error) {
	if uid == 0 {
		return func(bool) {}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.sweep(now)
	g := t.users[uid]
	if g == nil {
		g = &guesser{at: now}
		t.users[uid] = g
	}
	g.cool(now)
	if g.spent+1 > failuresAtOnce || g.under >= attemptsAtOnce {
		return nil, fault.Errorf(fault.Exhausted, "uid %d has tried too often", uid)
	}
	g.spent++
	g.under++
	return func(failed bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		g.under--
		if !failed {
			g.spent = max(0, g.spent-1)
		}
	}, nil
}

func (g *guesser) cool(now time.Time) {
	g.spent = max(0, g.spent-float64(now.Sub(g.at))/float64(failureInterval))
	g.at = now
}

// sweep forgets who has been quiet long enough, once there are many.
func (t *throttle) sweep(now time.Time) {
	if len(t.users) < 1024 {
		return
	}
	for uid, g := range t.users {
		if g.cool(now); g.spent == 0 && g.under == 0 {
			delete(t.users, uid)
		}
	}
}
