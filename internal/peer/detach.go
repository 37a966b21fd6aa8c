// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Detach takes the connection away from the poller of Go's runtime, for a door
// that waits for its connections by itself, and returns the descriptor, which
// does not block. Whoever has it closes it, and calls Close as well, which gives
// the place back; all other methods fail until Attach. It is not for a
// connection that a Keeper has handed over.
func (c *Conn) Detach() (fd int, err error) {
	if c.over != nil {
		return -1, fault.New(fault.Internal, "a keeper's connection cannot be detached")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, fault.Wrap(fault.Internal, "detach a connection", err)
	}
	// The copy shares the connection and its flags, and is in no poller.
	if failed := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); failed != nil {
		err = failed
	}
	if err != nil {
		return -1, fault.Wrap(fault.Internal, "detach a connection", err)
	}
	_ = c.UnixConn.Close()
	return fd, nil
}

// Attach undoes Detach: the descriptor belongs to the connection again. Where it
// fails, the descriptor is closed.
func (c *Conn) Attach(fd int) error {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return fault.Wrap(fault.Internal, "attach a connection", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return fault.New(fault.Internal, "the descriptor is of another kind of connection")
	}
	c.UnixConn = unixConn
	return nil
}
