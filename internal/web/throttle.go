// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Failures that one address may have within the window, and one address with one
// name. Behind them stand the budget of package login for people of the domain
// and whatever the PAM stack does for accounts of the machine.
const (
	window        = 10 * time.Minute
	failuresEach  = 30
	failuresNamed = 6
	maxTracked    = 50_000
)

// throttle slows guessing down. It never locks a name for everybody: that would
// let anybody lock anybody out.
type throttle struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[attempt][]time.Time
}

// attempt is who guesses at what; an empty name is all of an address.
type attempt struct {
	from netip.Addr
	name string
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, failed: map[attempt][]time.Time{}}
}

// network is what one household or attacker is behind: an IPv4 address, or the
// 64 bits of an IPv6 one.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// wait returns how long an address has to wait before it may try the name.
func (t *throttle) wait(from netip.Addr, name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	wait := time.Duration(0)
	for key, limit := range map[attempt]int{{network(from), ""}: failuresEach, {network(from), fold(name)}: failuresNamed} {
		times := t.recent(key, now)
		if len(times) >= limit {
			wait = max(wait, times[len(times)-limit].Add(window).Sub(now))
		}
	}
	return wait
}

// fail notes a failure.
func (t *throttle) fail(from netip.Addr, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.failed) >= maxTracked {
		for key := range t.failed {
			t.recent(key, now)
		}
	}
	for _, key := range []attempt{{network(from), ""}, {network(from), fold(name)}} {
		if _, known := t.failed[key]; known || len(t.failed) < maxTracked {
			t.failed[key] = append(t.recent(key, now), now)
		}
	}
}

// succeed takes back the failure that was counted last, and forgets the others
// with the name, not those of the address: one good password buys no guesses at
// others.
func (t *throttle) succeed(from netip.Addr, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeBack(attempt{network(from), ""})
	delete(t.failed, attempt{network(from), fold(name)})
}

// forgive takes back the failure that was counted last: the password was right,
// or nobody could say.
func (t *throttle) forgive(from netip.Addr, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range []attempt{{network(from), ""}, {network(from), fold(name)}} {
		t.takeBack(key)
	}
}

// takeBack drops the last failure. The caller holds mu.
func (t *throttle) takeBack(key attempt) {
	if times := t.failed[key]; len(times) > 1 {
		t.failed[key] = times[:len(times)-1]
	} else {
		delete(t.failed, key)
	}
}

// recent drops what is older than the window. The caller holds mu.
func (t *throttle) recent(key attempt, now time.Time) []time.Time {
	times := t.failed[key]
	for len(times) > 0 && now.Sub(times[0]) >= window {
		times = times[1:]
	}
	if len(times) == 0 {
		delete(t.failed, key)
		return nil
	}
	t.failed[key] = times
	return times
}

func fold(name string) string { return strings.ToLower(strings.TrimSpace(name)) + "\x00" }
