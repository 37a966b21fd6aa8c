// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// What one caller may get wrong in a minute: of one name, and of all together. A
// program that signs in a whole office stays far below; one that tries names or
// passwords does not. The domain's own lockout is package login's affair, and
// stricter.
const (
	wrongPerTarget = 20
	wrongPerCaller = 300
	wrongWindow    = time.Minute
)

// throttle counts refusals by caller, and by caller and name. What is counted is
// the same for names that exist and for those that do not.
type throttle struct {
	now func() time.Time // nil: the machine's clock

	mu     sync.Mutex
	counts map[string]*refusals
	swept  time.Time
}

type refusals struct {
	since time.Time
	n     int
}

var errThrottled = fault.WithRemedy(fault.New(fault.Exhausted, "too many sign-ins failed in a short time"), "wait a minute and try again")

// take begins one attempt; settle ends it with what came of it. What is under way
// does not count: a crowd that signs in at once is none the worse, and guesses
// side by side are bounded by how many calls a caller may have under way.
func (t *throttle) take(caller, target string) (settle func(error), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock()
	t.sweep(now)
	all, one := t.count(caller, now), t.count(caller+"\x00"+target, now)
	if all.n >= wrongPerCaller || one.n >= wrongPerTarget {
		return nil, errThrottled
	}
	var once sync.Once
	return func(err error) { once.Do(func() { t.settle(all, one, err) }) }, nil
}

func (t *throttle) settle(all, one *refusals, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch fault.KindOf(err) {
	case fault.Unreachable, fault.Internal, fault.Malformed, fault.Unknown: // nothing was learnt; nil is Unknown
		return
	}
	all.n++
	one.n++
}

func (t *throttle) count(key string, now time.Time) *refusals {
	if t.counts == nil {
		t.counts = map[string]*refusals{}
	}
	r := t.counts[key]
	if r == nil {
		r = &refusals{since: now}
		t.counts[key] = r
	}
	if now.Sub(r.since).Abs() >= wrongWindow {
		r.since, r.n = now, 0
	}
	return r
}

// sweep forgets what is over, once a minute.
func (t *throttle) sweep(now time.Time) {
	if now.Sub(t.swept).Abs() < wrongWindow {
		return
	}
	t.swept = now
	for key, r := range t.counts {
		if now.Sub(r.since).Abs() >= wrongWindow {
			delete(t.counts, key)
		}
	}
}

func (t *throttle) clock() time.Time {
	if t.now == nil {
		return time.Now()
	}
	return t.now()
}
