// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/latency"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// exchange is the memory of one request and its answer. A connection has it
// only while it is asked something: most of them are idle most of the time.
type exchange struct {
	in  [wire.RequestSize + roomForExtra]byte
	out [wire.ResponseSize + roomForExtra]byte

	n    int // bytes in in, which are still on the socket as well
	size int // bytes of the request that are still on the socket
	req  wire.Request
	resp wire.Response
}

// roomForExtra is what most requests and answers bring beside the structure; a
// longer one gets memory of its own.
const roomForExtra = 6 << 10

// slack stays free behind a request: version 31's grows by so much.
const slack = 8

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// client is one connection: one request after the other.
type client struct {
	s          *Server
	conn       *peer.Conn
	raw        syscall.RawConn
	privileged bool

	ex       *exchange
	readSome func(fd uintptr) bool
	readErr  error
	// unsent is what of the answer is still to be written.
	unsent    []byte
	writeSome func(fd uintptr) bool
	writeErr  error

	users, groups listing
}

// listing is how far an enumeration is.
type listing struct {
	after resolve.Mark
	end   bool
}

func (s *Server) newClient(conn *peer.Conn, privileged bool) (*client, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &client{s: s, conn: conn, raw: raw, privileged: privileged}
	c.readSome, c.writeSome = c.tryRead, c.tryWrite
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, s.life.Err()
	}
	s.conns[c] = struct{}{}
	s.all.Add(1)
	return c, nil
}

// serve answers until the client goes away or does what it should not.
func (c *client) serve() {
	defer c.release()
	for {
		err := c.exchange()
		c.release()
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF), errors.Is(err, errClose), errors.Is(err, os.ErrDeadlineExceeded), fault.Is(err, fault.Unreachable):
			c.s.cfg.Log.Debug("a connection to the pipe has ended", "caller", c.conn.Caller(), "error", err)
		default:
			c.complain(err)
		}
		return
	}
}

// complain logs that a client did what it should not. At most once a minute: who
// does it again and again must not fill the log.
func (c *client) complain(err error) {
	s := c.s
	s.mu.Lock()
	s.closed++
	n, due := s.closed, time.Since(s.complained) > time.Minute
	if due {
		s.closed, s.complained = 0, time.Now()
	}
	s.mu.Unlock()
	level := slog.LevelDebug
	if due {
		level = slog.LevelWarn
	}
	s.cfg.Log.Log(s.life, level, "a connection to the pipe was closed", "closed", n, "caller", c.conn.Caller(), "privileged", c.privileged, "error", err)
}

// exchange takes one request and answers it. A fault of ours that a request can
// cause ends the connection that brought it, and not the worker: the request
// would still be on the socket, and end the next worker as well.
func (c *client) exchange() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.s.cfg.Log.Error("a request on the pipe met a fault of the daemon's", "panic", p, "stack", string(debug.Stack()))
			err = fault.Errorf(fault.Internal, "a fault of the daemon's: %v", p)
		}
	}()
	if err := c.receive(); err != nil {
		return err
	}
	return c.answer()
}

// release gives the memory of the last exchange back.
func (c *client) release() {
	if c.ex != nil {
		exchanges.Put(c.ex)
		c.ex = nil
	}
}

// receive looks at one request and leaves it on the socket: where this process
// dies before it has answered, the next one finds it there (peer.Keeper). While
// nothing comes it holds no memory.
func (c *client) receive() error {
	if err := c.read(); err != nil {
		return err
	}
	x := c.ex
	var v wire.Version
	need, want := 4, 0 // bytes of the structure, and behind it
	late := false
	for {
		if x.n >= 4 && v == 0 {
			size, version, err := c.length(x.in[:])
			if err != nil {
				return err
			}
			need, v = size, version
		}
		if v != 0 && x.n >= need {
			var err error
			if want, err = wire.ExtraLen(x.in[:need], v); err != nil {
				return err
			}
			if x.n >= need+want || need+want > len(x.in)-slack {
				break
			}
		}
		if !late {
			late = true
			_ = c.conn.SetReadDeadline(time.Now().Add(c.s.cfg.SendTime))
		}
		if err := c.read(); err != nil {
			return err
		}
	}
	if x.n > need+want {
		return fault.New(fault.Malformed, "more was sent than one request")
	}
	x.size = x.n
	extra := x.in[need:x.n]
	if len(extra) < want {
		var err error
		if extra, err = c.long(need, want); err != nil {
			return err
		}
		late = true
	}
	if v != wire.V31 {
		extra = extra[:len(extra):cap(extra)]
	} else if x.n == need+want { // the structure grows by eight bytes
		copy(x.in[wire.RequestSize:], extra)
		extra = x.in[wire.RequestSize : wire.RequestSize+len(extra)]
	}
	if err := x.req.Reset(x.in[:need], v); err != nil {
		return err
	}
	x.req.Extra = extra
	if late {
		_ = c.conn.SetReadDeadline(time.Time{})
	}
	return nil
}

// length is the size of the structure that begins so. Nothing in a request tells
// 32 from 33: that is the machine's Samba to say.
func (c *client) length(b []byte) (int, wire.Version, error) {
	v, err := c.s.samba.now(c.s.life)
	if err != nil {
		return 0, 0, errors.Join(errClose, err)
	}
	return wire.Length(b, v.Interface)
}

// read reads what is there into the exchange, and waits for it.
func (c *client) read() error {
	c.readErr = nil
	if err := c.raw.Read(c.readSome); err != nil {
		return err
	}
	return c.readErr
}

func (c *client) tryRead(fd uintptr) bool {
	x := c.ex
	if x == nil {
		x = exchanges.Get().(*exchange)
		x.n, x.size = 0, 0
	}
	n, again, err := peek(int(fd), x.in[:len(x.in)-slack], x.n)
	if again {
		if c.ex == nil {
			exchanges.Put(x)
		}
		return false
	}
	x.n, c.ex, c.readErr = n, x, err
	return true
}

// peek looks at what is on the socket; had is how much there was before. again:
// nothing has come since.
func peek(fd int, b []byte, had int) (n int, again bool, err error) {
	for {
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return had, true, nil
		case err != nil:
			return had, false, fault.Wrap(fault.Unreachable, "read a request", err)
		case n == 0:
			return had, false, io.EOF
		case n == had: // half of a request, then; perhaps the other end is gone
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents != 0 {
				return had, false, io.EOF
			}
			return had, true, nil
		default:
			return n, false, nil
		}
	}
}

// maxPeek is the longest request that stays on the socket until it is answered: a
// longer one might not fit there (unix(7), SO_SNDBUF).
const maxPeek = 64 << 10

// long reads a request that does not fit into the exchange, and returns what came
// behind its structure.
func (c *client) long(need, want int) ([]byte, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.s.cfg.SendTime))
	x := c.ex
	whole := make([]byte, need+want)
	if len(whole) > maxPeek {
		x.size = 0
		_, err := io.ReadFull(c.conn, whole)
		return whole[need:], fault.Wrap(fault.Unreachable, "read the rest of a request", err)
	}
	var failed error
	for had := 0; had < len(whole); {
		err := c.raw.Read(func(fd uintptr) (done bool) {
			n, again, err := peek(int(fd), whole, had)
			had, failed = n, err
			return !again
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, fault.Wrap(fault.Unreachable, "read the rest of a request", err)
		}
	}
	x.size = len(whole)
	return whole[need:], nil
}

// consume takes the request that was answered off the socket.
func (c *client) consume() error {
	x := c.ex
	for x.size > 0 {
		n, err := io.ReadFull(c.conn, x.in[:min(x.size, len(x.in))])
		if x.size -= n; err != nil {
			return fault.Wrap(fault.Unreachable, "read a request", err)
		}
	}
	return nil
}

// answer works one request off, sends the answer, and only then takes the request
// off the socket. Where this process dies in between, the client gets a second
// answer, which it takes for a connection that is out of step and opens another.
func (c *client) answer() error {
	x, began := c.ex, time.Now()
	x.resp.Begin(x.out[:0])
	cmd, known := x.req.Command()
	what := "other"
	if known {
		if do := commands[cmd]; do != nil {
			what = cmd.String()
			if err := do(c, &x.req, &x.resp); err != nil {
				c.failed(cmd, err)
				if c.s.life.Err() != nil { // the next one may do better
					return errors.Join(errClose, err)
				}
			}
		}
	}
	err := c.send(x.resp.Finish())
	c.s.cfg.Latency.Observe(latency.Labels{what}, time.Since(began))
	if err == nil {
		err = c.consume()
	}
	if cmd == wire.PAMAuth || cmd == wire.PAMAuthCrap || cmd == wire.PAMChangePassword || cmd == wire.PAMChangePasswordCrap || cmd == wire.CacheSave {
		x.req.Wipe()
		x.resp.Wipe()
		secret.Wipe(x.in[:x.n])
	}
	return err
}

// errClose ends a connection without an answer: a client that cannot be served
// takes that for "no winbindd".
var errClose = &fault.Error{Kind: fault.Conflict, Op: "serve this release of Samba"}

// failed logs what an administrator may want to know of; that somebody does not
// exist is no such thing.
func (c *client) failed(cmd wire.Command, err error) {
	level := slog.LevelDebug
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unknown:
		level = slog.LevelError
	}
	c.s.cfg.Log.Log(c.s.life, level, "a request on the pipe failed", "command", cmd, "client", c.ex.req.Client(), "caller", c.conn.Caller(), "error", err)
}

// send writes the answer, as a rule in one piece.
func (c *client) send(b []byte) error {
	c.unsent, c.writeErr = b, nil
	if err := c.raw.Write(c.writeSome); err != nil {
		return fault.Wrap(fault.Unreachable, "send an answer", err)
	}
	rest := c.unsent
	c.unsent = nil
	if c.writeErr != nil || len(rest) == 0 {
		return c.writeErr
	}
	// A slow reader: what waits for it is counted, and it has its time.
	if err := c.conn.Hold(len(rest)); err != nil {
		return err
	}
	defer c.conn.Release(len(rest))
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.s.cfg.SendTime))
	if _, err := c.conn.Write(rest); err != nil {
		return fault.Wrap(fault.Unreachable, "send an answer", err)
	}
	return c.conn.SetWriteDeadline(time.Time{})
}

// tryWrite writes once, and never waits.
func (c *client) tryWrite(fd uintptr) bool {
	n, err := unix.Write(int(fd), c.unsent)
	for err == unix.EINTR {
		n, err = unix.Write(int(fd), c.unsent)
	}
	if err != nil && err != unix.EAGAIN {
		c.writeErr = fault.Wrap(fault.Unreachable, "send an answer", err)
	}
	c.unsent = c.unsent[max(n, 0):]
	return true
}

// patient is the context of a request that asks the domain.
func (c *client) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.s.life, c.s.cfg.AnswerTime)
}
