// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Gate counts what each user holds on one socket, and refuses what is too much.
// Safe for concurrent use.
type Gate struct {
	door     Name
	limits   Limits
	identify func(*net.UnixConn) (Caller, error)
	log      *slog.Logger

	mu      sync.Mutex
	total   int
	holders map[identity.UID]*holder
	refused int       // since the last log line
	logged  time.Time // when that was
}

// holder is what one user holds; it lives as long as one of its connections.
type holder struct {
	conns   int          // under Gate.mu
	streams int          // under Gate.mu
	bytes   int          // under Gate.mu
	calls   atomic.Int64 // under way
	scale   int          // of the limits; see scaleOf
}

// scaleOf widens every limit for root, behind which many services stand.
func scaleOf(uid identity.UID) int {
	if uid == 0 {
		return 8
	}
	return 1
}

// NewGate returns a gate for one socket. identify is CallerOf everywhere but in
// tests that play another user.
func NewGate(door Name, limits Limits, log *slog.Logger, identify func(*net.UnixConn) (Caller, error)) *Gate {
	return &Gate{door: door, limits: limits.OrDefault(), identify: identify, log: log, holders: map[identity.UID]*holder{}}
}

// Listen wraps a listener of Unix stream sockets: its Accept returns *Conn. A
// connection over a limit, or whose peer the kernel does not name, is closed
// before a byte of it is read, and Accept goes on to the next.
func (g *Gate) Listen(ln net.Listener) net.Listener { return &gated{Listener: ln, gate: g} }

type gated struct {
	net.Listener
	gate *Gate
}

// Accept returns the next connection that may come in, as a *Conn.
func (l *gated) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn, err := l.gate.admit(raw)
		handed, _ := l.Listener.(*handedListener)
		if err == nil {
			if handed != nil {
				conn.over = handed.from.over
			}
			return conn, nil
		}
		_ = raw.Close()
		if unix, ok := raw.(*net.UnixConn); ok && handed != nil {
			handed.from.over(unix)
		}
		l.gate.report("connection refused", err)
	}
}

func (g *Gate) admit(raw net.Conn) (*Conn, error) {
	unix, ok := raw.(*net.UnixConn)
	if !ok {
		return nil, fault.Errorf(fault.Internal, "%s is not a Unix socket but %s", g.door, raw.LocalAddr().Network())
	}
	caller, err := g.identify(unix)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.holders[caller.UID]
	if h == nil {
		h = &holder{scale: scaleOf(caller.UID)}
	}
	switch {
	case h.conns >= h.scale*g.limits.ConnectionsPerUID:
		return nil, fault.Errorf(fault.Exhausted, "uid %d holds %d connections already", caller.UID, h.conns)
	case g.total >= g.limits.Connections:
		return nil, fault.Errorf(fault.Exhausted, "%d connections are open already", g.total)
	}
	h.conns++
	g.total++
	g.holders[caller.UID] = h
	return &Conn{UnixConn: unix, caller: caller, gate: g, holder: h}, nil
}

// Connections returns how many connections are open.
func (g *Gate) Connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// report logs refusals at most once a minute: a user who is refused must not be
// able to fill the log either.
func (g *Gate) report(what string, err error) {
	g.mu.Lock()
	g.refused++
	n, due := g.refused, time.Since(g.logged) >= time.Minute
	if due {
		g.refused, g.logged = 0, time.Now()
	}
	g.mu.Unlock()
	if due {
		g.log.Warn(what, "socket", g.door, "refused", n, "last", err)
	}
}

// Conn is an accepted connection whose other end is known. Its methods count
// what its user holds; all of it is given back when the connection closes.
type Conn struct {
	*net.UnixConn
	caller Caller
	gate   *Gate
	holder *holder
	closed bool                // under Gate.mu
	bytes  int                 // under Gate.mu: this connection's part of holder.bytes
	over   func(*net.UnixConn) // nil: nobody else has to know that it ended
}

// Caller returns who connected.
func (c *Conn) Caller() Caller { return c.caller }

// Close closes the connection and gives its place back. Safe to call twice.
func (c *Conn) Close() error {
	g := c.gate
	g.mu.Lock()
	first := !c.closed
	if first {
		c.closed = true
		g.total--
		c.holder.bytes -= c.bytes
		if c.holder.conns--; c.holder.conns == 0 {
			delete(g.holders, c.caller.UID)
		}
	}
	g.mu.Unlock()
	err := c.UnixConn.Close()
	if first && c.over != nil {
		c.over(c.UnixConn)
	}
	return err
}

// Full reports whether one call more would be too much.
func (c *Conn) Full() bool {
	return c.holder.calls.Load() >= int64(c.holder.scale*c.gate.limits.CallsPerUID)
}

// Begin counts a call. A user who has too many under way loses this
// connection: well-behaved clients stay far below, and a refusal would have to
// read the request first. The caller calls End once for each Begin.
func (c *Conn) Begin() {
	most := int64(c.holder.scale * c.gate.limits.CallsPerUID)
	if c.holder.calls.Add(1) > most {
		_ = c.Close()
		c.gate.report("connection closed", fault.Errorf(fault.Exhausted, "uid %d has more than %d calls under way", c.caller.UID, most))
	}
}

// End ends a call that Begin counted.
func (c *Conn) End() { c.holder.calls.Add(-1) }

// OpenStream takes a place for a long stream of this user; release gives it
// back. fault.Exhausted: the user holds all places.
func (c *Conn) OpenStream() (release func(), err error) {
	g, h := c.gate, c.holder
	g.mu.Lock()
	defer g.mu.Unlock()
	if most := h.scale * g.limits.StreamsPerUID; h.streams >= most {
		return nil, fault.Errorf(fault.Exhausted, "uid %d holds %d streams already", c.caller.UID, most)
	}
	h.streams++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		h.streams--
	}), nil
}

// Hold counts n bytes of an answer that waits until the user reads it; Release
// gives them back. fault.Exhausted: too much of the user's waits already.
func (c *Conn) Hold(n int) error {
	g, h := c.gate, c.holder
	g.mu.Lock()
	defer g.mu.Unlock()
	if most := h.scale * g.limits.UnreadBytesPerUID; h.bytes+n > most {
		return fault.Errorf(fault.Exhausted, "uid %d has %d bytes of answers to read already", c.caller.UID, h.bytes)
	}
	if !c.closed {
		h.bytes += n
		c.bytes += n
	}
	return nil
}

// Release gives back what Hold counted.
func (c *Conn) Release(n int) {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if !c.closed {
		c.holder.bytes -= n
		c.bytes -= n
	}
}
