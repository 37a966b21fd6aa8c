// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net"
	"sync"

	"github.com/latchkey-nas/latchkey/internal/peer"
)

// handOver gives a connection of the loop to net/http for good, with the bytes of
// it that were read.
func (f *Forward) handOver(a *asker, before []byte) {
	if err := a.conn.Attach(a.fd); err != nil {
		f.c.Log.Warn("a connection of a web proxy cannot be served", "error", err)
		_ = a.conn.Close()
		return
	}
	f.slow.take(&handed{Conn: a.conn, before: before})
}

// handed is a connection with the bytes of it that were read already.
type handed struct {
	*peer.Conn
	before []byte
}

// Read gives the bytes again, and then what comes.
func (h *handed) Read(p []byte) (int, error) {
	if len(h.before) > 0 {
		n := copy(p, h.before)
		h.before = h.before[n:]
		return n, nil
	}
	return h.Conn.Read(p)
}

// handover is a listener whose connections were accepted elsewhere.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	shut  sync.Once
}

func newHandover() *handover { return &handover{conns: make(chan net.Conn), done: make(chan struct{})} }

// take hands a connection over, or closes it where nobody takes it any longer.
func (h *handover) take(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		_ = c.Close()
	}
}

// Accept waits for a connection.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends it. Safe to call twice.
func (h *handover) Close() error {
	h.shut.Do(func() { close(h.done) })
	return nil
}

// Addr is nobody's.
func (*handover) Addr() net.Addr { return &net.UnixAddr{Name: "auth", Net: "unix"} }
