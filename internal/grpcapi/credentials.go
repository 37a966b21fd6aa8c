// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// authInfo hands the connection, and with it the caller, to every call on it.
type authInfo struct {
	credentials.CommonAuthInfo
	conn *peer.Conn
}

// AuthType names the means by which the caller is known.
func (authInfo) AuthType() string { return "so_peercred" }

// connOf returns the connection of a call. A call without one did not come
// through a gate, and is refused.
func connOf(ctx context.Context) (*peer.Conn, error) {
	if p, ok := grpcpeer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(authInfo); ok {
			return info.conn, nil
		}
	}
	return nil, fault.New(fault.Denied, "the caller is not known")
}

// peerCredentials takes over what the gate learnt from the kernel. There is no
// handshake: both ends are on this machine.
type peerCredentials struct{}

// ServerHandshake accepts only what came through a gate.
func (peerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := raw.(*peer.Conn)
	if !ok {
		return nil, nil, fault.Errorf(fault.Internal, "a connection of type %T did not come through the gate", raw)
	}
	info := authInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, conn: conn}
	wrapped, err := newLeanConn(conn)
	if err != nil {
		return nil, nil, err
	}
	return wrapped, info, nil
}

// ClientHandshake is not for servers.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials cannot dial")
}

// Info describes the credentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "so_peercred"}
}

// Clone returns the same: there is nothing to copy.
func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing.
func (peerCredentials) OverrideServerName(string) error { return nil }

// readSize is how much is read from a connection at once.
const readSize = 32 << 10

// readBuffers are shared by all connections. Every one in it is blank.
var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// leanConn reads ahead into a buffer that it takes only when there is something
// to read and gives back, wiped, when all of it was taken: an idle connection pins
// none, and a password that was read stays in none. gRPC's own buffering does the
// first for a bare *net.UnixConn; it is switched off. One goroutine at a time
// reads from a connection.
type leanConn struct {
	*peer.Conn
	raw  syscall.RawConn
	buf  *[readSize]byte // nil when there is nothing left to take
	r, w int             // what is left of it
	n    int             // of the read under way; fields, so that a read allocates nothing
	err  error
	read func(fd uintptr) bool
}

func newLeanConn(conn *peer.Conn) (*leanConn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &leanConn{Conn: conn, raw: raw}
	c.read = func(fd uintptr) bool {
		c.buf = readBuffers.Get().(*[readSize]byte)
		for {
			c.n, c.err = syscall.Read(int(fd), c.buf[:])
			if c.err != syscall.EINTR {
				break
			}
		}
		if c.err == nil && c.n > 0 {
			return true
		}
		c.release(0)
		return c.err != syscall.EAGAIN
	}
	return c, nil
}

// release wipes the first n bytes of the buffer and gives it back.
func (c *leanConn) release(n int) {
	secret.Wipe(c.buf[:n])
	readBuffers.Put(c.buf)
	c.buf, c.r, c.w = nil, 0, 0
}

// Read takes what was read ahead, or waits until there is something to read.
func (c *leanConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.buf == nil {
		c.n, c.err = 0, nil
		if err := c.raw.Read(c.read); err != nil {
			if c.buf != nil {
				c.release(c.n)
			}
			return 0, err
		}
		switch {
		case c.err != nil:
			return 0, c.err
		case c.n == 0:
			return 0, io.EOF
		}
		c.r, c.w = 0, c.n
	}
	n := copy(p, c.buf[c.r:c.w])
	if c.r += n; c.r == c.w {
		c.release(c.w)
	}
	return n, nil
}
