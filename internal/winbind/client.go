// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
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

	n    int // bytes in in
	req  wire.Request
	resp wire.Response
}

// roomForExtra is what most requests and answers bring beside the structure; a
// longer one gets memory of its own.
const roomForExtra = 6 << 10

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
		err := c.receive()
		if err == nil {
			err = c.answer()
		}
		c.release()
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF), errors.Is(err, errClose), errors.Is(err, os.ErrDeadlineExceeded), fault.Is(err, fault.Unreachable):
			c.s.cfg.Log.Debug("a connection to the pipe has ended", "caller", c.conn.Caller(), "error", err)
		default:
			c.s.cfg.Log.Warn("a connection to the pipe was closed", "caller", c.conn.Caller(), "privileged", c.privileged, "error", err)
		}
		return
	}
}

// release gives the memory of the last exchange back.
func (c *client) release() {
	if c.ex != nil {
		exchanges.Put(c.ex)
		c.ex = nil
	}
}

// receive reads one request. While nothing comes it holds no memory.
func (c *client) receive() error {
	if err := c.read(); err != nil {
		return err
	}
	x := c.ex
	var v wire.Version
	need, late := 4, false
	for {
		if x.n >= 4 {
			if v == 0 {
				size, version, err := c.length(x.in[:])
				if err != nil {
					return err
				}
				need, v = size, version
			}
			if x.n >= need {
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
	extra := x.in[need:x.n]
	if v != wire.V31 {
		extra = x.in[need:x.n:len(x.in)]
	} else { // the structure grows by eight bytes
		copy(x.in[wire.RequestSize:], extra)
		extra = x.in[wire.RequestSize : wire.RequestSize+len(extra)]
	}
	if err := x.req.Reset(x.in[:need], v); err != nil {
		return err
	}
	want := int(x.req.ExtraLen())
	if len(extra) > want {
		return fault.New(fault.Malformed, "more was sent than one request")
	}
	if len(extra) < want {
		if !late {
			late = true
			_ = c.conn.SetReadDeadline(time.Now().Add(c.s.cfg.SendTime))
		}
		whole := make([]byte, want)
		if _, err := io.ReadFull(c.conn, whole[copy(whole, extra):]); err != nil {
			return fault.Wrap(fault.Unreachable, "read the rest of a request", err)
		}
		extra = whole
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
		x.n = 0
	}
	// One byte stays free: a buffer that is full would read as the end.
	n, err := unix.Read(int(fd), x.in[x.n:len(x.in)-8])
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), x.in[x.n:len(x.in)-8])
	}
	switch {
	case err == unix.EAGAIN:
		if c.ex == nil {
			exchanges.Put(x)
		}
		return false
	case err != nil:
		c.readErr = fault.Wrap(fault.Unreachable, "read a request", err)
	case n == 0:
		c.readErr = io.EOF
	}
	x.n += max(n, 0)
	c.ex = x
	return true
}

// answer works one request off and sends the answer.
func (c *client) answer() error {
	x := c.ex
	x.resp.Begin(x.out[:0])
	cmd, known := x.req.Command()
	if known {
		if do := commands[cmd]; do != nil {
			if err := do(c, &x.req, &x.resp); err != nil {
				c.failed(cmd, err)
			}
		}
	}
	err := c.send(x.resp.Finish())
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
