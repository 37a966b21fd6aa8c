// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/peer"
)

// call is one call under way, and its context. Its deadline is kept by a sweep
// over all calls instead of a timer and a context of its own: lookups take
// microseconds, and those would cost as much again.
type call struct {
	context.Context // the transport's
	conn            *peer.Conn
	deadline        time.Time // zero: none

	overdue atomic.Bool
	stopped atomic.Bool // by the door closing

	// Under calls.mu.
	begun      bool               // its request arrived: end will be called
	lasts      bool               // it is to be ended when the door closes
	cancel     context.CancelFunc // of a method that may wait; nil before it began
	prev, next *call              // prev is nil when the call is over
}

type callKey struct{}

// callOf returns the call that a context belongs to, or nil.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Value is the call itself for its own key.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// Deadline returns when the call is overdue.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Err tells an overdue call from one that was given up.
func (c *call) Err() error {
	if c.overdue.Load() {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

// calls are the calls of one door that are under way.
type calls struct {
	interval time.Duration // between sweeps

	mu       sync.Mutex
	ring     call // of the list; holds no call itself
	sweeping bool
	closed   bool
}

// begin counts a call of at most so long; 0 is without end.
func (cs *calls) begin(ctx context.Context, conn *peer.Conn, most time.Duration) *call {
	c := &call{Context: ctx, conn: conn}
	c.deadline, _ = ctx.Deadline()
	if most > 0 {
		if at := time.Now().Add(most); c.deadline.IsZero() || c.deadline.After(at) {
			c.deadline = at
		}
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.ring.next == nil {
		cs.ring.next, cs.ring.prev = &cs.ring, &cs.ring
	}
	if conn.Full() { // perhaps of calls that a client with a short deadline gave up
		cs.forget()
	}
	conn.Begin()
	c.prev, c.next = cs.ring.prev, &cs.ring
	c.prev.next, c.next.prev = c, c
	if !cs.sweeping {
		cs.sweeping = true
		time.AfterFunc(cs.interval, cs.sweep)
	}
	return c
}

// enter says that the request of a call arrived and its method begins, with
// cancel where the method may wait. lasts: it is to be cancelled when the door
// closes; false when the door is closed already.
func (cs *calls) enter(c *call, cancel context.CancelFunc, lasts bool) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.begun, c.cancel, c.lasts = true, cancel, lasts
	return !lasts || !cs.closed
}

// end takes a call off the list. Safe to call twice, and with nil.
func (cs *calls) end(c *call) {
	if c == nil {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.remove(c)
}

func (cs *calls) remove(c *call) {
	if c.prev != nil {
		c.prev.next, c.next.prev = c.next, c.prev
		c.prev, c.next = nil, nil
		c.conn.End()
	}
}

// close stops every call that lasts, and lets no more begin to.
func (cs *calls) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	for c := cs.ring.next; c != nil && c != &cs.ring; c = c.next {
		if c.lasts {
			c.stopped.Store(true)
			c.cancel()
		}
	}
}

// forget drops the calls that the transport ended before they came to a method:
// nobody will call end for them.
func (cs *calls) forget() {
	for c := cs.ring.next; c != &cs.ring; {
		next := c.next
		if !c.begun && c.Context.Err() != nil {
			cs.remove(c)
		}
		c = next
	}
}

// sweep ends what is overdue, and forgets what nobody ends. One whose request has still not arrived costs the
// connection: nothing less makes the transport let go of what it has of it.
func (cs *calls) sweep() {
	now := time.Now()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.forget()
	for c := cs.ring.next; c != &cs.ring; c = c.next {
		late := !c.deadline.IsZero() && now.After(c.deadline)
		switch {
		case c.begun && late && c.cancel != nil:
			c.overdue.Store(true)
			c.cancel()
		case !c.begun && late:
			_ = c.conn.Close()
		}
	}
	if cs.sweeping = cs.ring.next != &cs.ring; cs.sweeping {
		time.AfterFunc(cs.interval, cs.sweep)
	}
}
