// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/peer"
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

// leanConn takes a read buffer only when there is something to read, so that an
// idle connection pins none. gRPC does the same for a bare *net.UnixConn, but
// closing that would pass the gate by.
type leanConn struct {
	*peer.Conn
	raw syscall.RawConn

	// Of the read under way; fields, so that a read allocates nothing.
	size int
	pool mem.BufferPool
	buf  *[]byte
	n    int
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
		c.buf = c.pool.Get(c.size)
		for {
			c.n, c.err = syscall.Read(int(fd), *c.buf)
			if c.err != syscall.EINTR {
				break
			}
		}
		if c.err == nil {
			return true
		}
		c.pool.Put(c.buf)
		c.buf, c.n = nil, 0
		return c.err != syscall.EAGAIN
	}
	return c, nil
}

// ReadOnReady waits until there is something to read and reads it into a buffer
// of the pool. One goroutine at a time reads from a connection.
func (c *leanConn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	c.size, c.pool = size, pool
	err := c.raw.Read(c.read)
	buf, n := c.buf, c.n
	if err == nil {
		err = c.err
	}
	c.buf, c.pool, c.n, c.err = nil, nil, 0, nil
	switch {
	case err != nil:
		if buf != nil {
			pool.Put(buf)
		}
		return nil, 0, err
	case n == 0:
		pool.Put(buf)
		return nil, 0, io.EOF
	}
	return buf, n, nil
}
