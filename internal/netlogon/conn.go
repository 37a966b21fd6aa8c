// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// unread marks an error after which the request cannot have been acted upon:
// it may be asked again.
type unread struct{ error }

func (u *unread) Unwrap() error { return u.error }

func isUnread(err error) bool {
	var u *unread
	return errors.As(err, &u)
}

// silence is how long a request may stay unacknowledged by the other side's
// kernel until the connection is given up.
const silence = time.Second

var errUntaken = fmt.Errorf("the domain controller has not taken the request within %v", silence)

// keptWaiting says that an error is the end of a wait; a connection that broke
// off, as where a DC is started anew, was none.
func keptWaiting(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errUntaken)
}

// conn is one RPC connection over TCP, bound to one interface. One call at a
// time. After any error it is dead.
type conn struct {
	nc       net.Conn
	r        *bufio.Reader
	maxSend  int
	maxRead  int
	lastCall uint32
	sealer   *sealer // nil: in clear
	headers  bool    // the checksum covers the headers too
	dead     bool
	buf      []byte // of the PDU that is being sent or read
}

// Dialer connects to an address of a domain controller.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

func dial(ctx context.Context, d Dialer, address string) (*conn, error) {
	if d == nil {
		// A DC that is gone is noticed while nobody asks.
		d = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}).DialContext
	}
	nc, err := d(ctx, "tcp", address)
	if err != nil {
		return nil, &unread{err}
	}
	return &conn{nc: nc, r: bufio.NewReaderSize(nc, maxFragment), maxSend: maxFragment, maxRead: maxFragment}, nil
}

// close ends the connection. Safe twice and on nil.
func (c *conn) close() {
	if c == nil {
		return
	}
	c.dead = true
	_ = c.nc.Close()
	if c.sealer != nil {
		c.sealer.wipe()
	}
	secret.Wipe(c.buf[:cap(c.buf)])
}

// alive says whether the other side has kept the connection open. It is asked
// before a connection is used again: what is sent into one that the DC has
// closed may not be sent a second time.
func (c *conn) alive() bool {
	if c.dead || c.r.Buffered() > 0 {
		return false
	}
	if raw, ok := c.nc.(syscall.Conn); ok {
		rc, err := raw.SyscallConn()
		if err != nil {
			return false
		}
		open := false
		if err := rc.Control(func(fd uintptr) {
			var b [1]byte
			_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			open = errors.Is(err, unix.EAGAIN) // nothing to read, and not the end
		}); err != nil {
			return false
		}
		return open
	}
	return true
}

// watch makes ctx's end the end of everything that waits on the connection.
func (c *conn) watch(ctx context.Context) (stop func()) {
	deadline, _ := ctx.Deadline() // zero: none
	_ = c.nc.SetDeadline(deadline)
	undo := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if !undo() {
			c.dead = true // its deadline may come at any moment
		}
	}
}

// bind begins an association for one interface; with a sealer, under its
// channel, which token asks for.
func (c *conn) bind(ctx context.Context, abstract syntax, s *sealer, token []byte) (err error) {
	defer c.watch(ctx)()
	defer func() {
		if err != nil {
			c.dead = true
			err = &unread{c.explain(ctx, err)}
		}
	}()
	p := &pdu{kind: pduBind, flags: flagFirst | flagLast, call: c.number(), body: bindBody(abstract)}
	if s != nil {
		p.flags |= flagHeaderSign
		p.trailer = &trailer{kind: authNetlogon, level: authPrivacy, context: 1, token: token}
	}
	if _, err := c.nc.Write(p.append(nil)); err != nil {
		return err
	}
	p, err = c.read()
	if err != nil {
		return err
	}
	switch {
	case p.call != c.lastCall:
		return errPDU
	case p.kind == pduBindNak:
		return errors.New("the domain controller refuses the connection (bind_nak)")
	case p.kind == pduFault:
		f, err := parseFault(p)
		if err != nil {
			return err
		}
		return f
	case p.kind != pduBindAck:
		return errPDU
	}
	a, err := parseBound(p.body)
	if err != nil {
		return err
	}
	if a.result != 0 || [20]byte(ndr20.append(nil)) != a.transfer {
		return fmt.Errorf("the domain controller does not serve the interface here (result %d, reason %d)", a.result, a.reason)
	}
	if a.maxSend < 1024 || a.maxReceive > maxFragment {
		return errPDU
	}
	c.maxSend, c.maxRead = min(int(a.maxSend), maxFragment), int(a.maxReceive)
	if s == nil {
		return nil
	}
	if p.trailer == nil || p.trailer.kind != authNetlogon {
		return errPDU
	}
	if err := checkNegotiated(p.trailer.token); err != nil {
		return err
	}
	c.sealer, c.headers = s, p.flags&flagHeaderSign != 0
	return nil
}

func (c *conn) number() uint32 {
	c.lastCall++
	return c.lastCall
}

// call sends one request and returns the answer's stub data, which the caller
// wipes. An error that isUnread did not reach whoever could act upon it.
func (c *conn) call(ctx context.Context, opnum uint16, stub []byte) (reply []byte, err error) {
	if c.dead {
		return nil, &unread{net.ErrClosed}
	}
	defer c.watch(ctx)()
	defer func() {
		if err != nil {
			var f *rpcFault
			if c.dead = !errors.As(err, &f) || c.sealer != nil; c.dead {
				c.close()
			}
			if isUnread(err) {
				err = &unread{c.explain(ctx, err)}
			} else {
				err = c.explain(ctx, err)
			}
		}
	}()
	call := c.number()
	if err := c.send(call, opnum, stub); err != nil {
		return nil, err
	}
	if err := c.acknowledged(ctx); err != nil {
		return nil, err
	}
	return c.receive(call)
}

// explain puts the context's end in the place of the deadline that it caused.
func (c *conn) explain(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return context.DeadlineExceeded
	}
	return err
}

// send writes the request in as many fragments as it needs. The last is written
// last, so that an error leaves a request that cannot be read.
func (c *conn) send(call uint32, opnum uint16, stub []byte) error {
	room := c.maxSend - headSize - 8
	if c.sealer != nil {
		room -= trailerSize + tokenSize + 15
	}
	room &^= 15
	for first := true; ; first = false {
		part := stub[:min(room, len(stub))]
		rest := stub[len(part):]
		p := &pdu{kind: pduRequest, call: call}
		if first {
			p.flags |= flagFirst
		}
		if len(rest) == 0 {
			p.flags |= flagLast
		}
		body := binary.LittleEndian.AppendUint32(make([]byte, 0, len(part)+32), uint32(len(stub)))
		body = binary.LittleEndian.AppendUint16(body, 0) // presentation context
		body = binary.LittleEndian.AppendUint16(body, opnum)
		body = append(body, part...)
		if c.sealer != nil {
			p.trailer = &trailer{kind: authNetlogon, level: authPrivacy, context: 1, token: make([]byte, tokenSize)}
			p.trailer.pad = byte(-len(part) & 15)
			body = append(body, make([]byte, p.trailer.pad)...)
		}
		p.body = body
		c.buf = p.append(c.buf[:0])
		secret.Wipe(body)
		if c.sealer != nil {
			end := len(c.buf) - tokenSize
			data := c.buf[headSize+8 : end-trailerSize]
			signed := data
			if c.headers {
				signed = c.buf[:end]
			}
			c.sealer.seal(c.buf[end:], signed, data, true)
		}
		if _, err := c.nc.Write(c.buf); err != nil {
			return &unread{err}
		}
		if stub = rest; len(stub) == 0 {
			return nil
		}
	}
}

// acknowledged waits for the first byte of the answer. Where the other side's
// kernel has not even acknowledged the request after a whole second, far longer
// than any acknowledgement is put off, the request was not read, and never will
// be: the connection is reset with what is unsent.
func (c *conn) acknowledged(ctx context.Context) error {
	deadline, has := ctx.Deadline()
	first := time.Now().Add(silence)
	if !has || first.Before(deadline) {
		if err := c.setRead(ctx, first); err != nil {
			return err
		}
		_, err := c.r.Peek(1)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err != nil && time.Now().After(first) && c.unsent() > 0 {
			if t, ok := c.nc.(interface{ SetLinger(int) error }); ok && t.SetLinger(0) == nil {
				return &unread{errUntaken}
			}
		}
	}
	return c.setRead(ctx, deadline)
}

// setRead sets the deadline of what is read next; ctx may have ended meanwhile.
func (c *conn) setRead(ctx context.Context, deadline time.Time) error {
	if err := c.nc.SetReadDeadline(deadline); err != nil {
		return err
	}
	return ctx.Err()
}

// unsent is how many bytes the other side has not acknowledged; 0 where that
// cannot be known.
func (c *conn) unsent() (n int) {
	if raw, ok := c.nc.(syscall.Conn); ok {
		if rc, err := raw.SyscallConn(); err == nil {
			_ = rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		}
	}
	return n
}

// receive reads the fragments of the answer to call.
func (c *conn) receive(call uint32) (reply []byte, err error) {
	defer func() {
		if err != nil {
			secret.Wipe(reply)
			reply = nil
		}
	}()
	defer func() { secret.Wipe(c.buf[:cap(c.buf)]) }()
	for first := true; ; first = false {
		p, err := c.read()
		if err != nil {
			return reply, err
		}
		if p.call != call || (p.flags&flagFirst != 0) != first {
			return reply, errPDU
		}
		if p.kind == pduFault {
			f, err := parseFault(p)
			if err != nil {
				return reply, err
			}
			if f.unread {
				return reply, &unread{f}
			}
			return reply, f
		}
		if p.kind != pduResponse || len(p.body) < 8 {
			return reply, errPDU
		}
		data := p.body[8:]
		if c.sealer != nil {
			t := p.trailer
			if t == nil || t.kind != authNetlogon || t.level != authPrivacy || int(t.pad) > len(data) {
				return reply, fmt.Errorf("%w: it is not sealed", errPDU)
			}
			signed := data
			if c.headers {
				signed = c.buf[:len(c.buf)-len(t.token)]
			}
			if err := c.sealer.open(t.token, signed, data, false); err != nil {
				return reply, err
			}
			data = data[:len(data)-int(t.pad)]
		}
		if len(reply)+len(data) > maxReply {
			return reply, fmt.Errorf("%w: over %d bytes", errPDU, maxReply)
		}
		reply = append(reply, data...)
		if p.flags&flagLast != 0 {
			return reply, nil
		}
	}
}

// read reads one fragment into c.buf.
func (c *conn) read() (*pdu, error) {
	head, err := c.r.Peek(headSize)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := int(binary.LittleEndian.Uint16(head[8:]))
	if n < headSize || n > c.maxRead {
		return nil, fmt.Errorf("%w: a fragment of %d bytes", errPDU, n)
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, n, maxFragment)
	}
	c.buf = c.buf[:n]
	if _, err := io.ReadFull(c.r, c.buf); err != nil {
		return nil, err
	}
	return parsePDU(c.buf)
}
