// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// nobody is what the kernel puts in place of an id that has no number in our
// user namespace (/proc/sys/kernel/overflowuid).
const nobody = 65534

// maxGroups is NGROUPS_MAX of Linux.
const maxGroups = 65536

// CallerOf asks the kernel who connected (unix(7): SO_PEERCRED and
// SO_PEERGROUPS, both fixed at connect time). The connection must be one of a
// Unix stream socket; anything else is fault.Internal.
func CallerOf(conn *net.UnixConn) (Caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Caller{}, fault.Wrap(fault.Internal, "read the peer's credentials", err)
	}
	var (
		cred    *unix.Ucred
		groups  []identity.GID
		inquiry error
	)
	err = raw.Control(func(fd uintptr) {
		if cred, inquiry = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inquiry == nil {
			groups, inquiry = peerGroups(fd)
		}
	})
	if err = errors.Join(err, inquiry); err != nil {
		return Caller{}, fault.Wrap(fault.Internal, "read the peer's credentials", err)
	}
	return Caller{PID: cred.Pid, UID: identity.UID(cred.Uid), GID: identity.GID(cred.Gid), Groups: groups}, nil
}

// peerGroups reads SO_PEERGROUPS: an array of gid_t of any length. The kernel
// answers ERANGE and the length that it needs when the buffer is too small.
func peerGroups(fd uintptr) ([]identity.GID, error) {
	buf := make([]identity.GID, 64)
	for {
		size := uint32(len(buf)) * 4
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return append([]identity.GID(nil), buf[:size/4]...), nil
		case errno == syscall.ENODATA: // no credentials were attached
			return nil, nil
		case errno == syscall.ERANGE && size/4 > uint32(len(buf)) && size/4 <= maxGroups:
			buf = make([]identity.GID, size/4)
		default:
			return nil, errno
		}
	}
}
