// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// fillSamba tells why smbd is not served though it should be.
func (d *Daemon) fillSamba(problem func(id, summary, remedy string, since time.Time)) {
	c := d.settings.now().Samba
	if !c.Pipes || d.winbind == nil {
		return
	}
	if err := listensAt(c.Pipe, os.Getpid(), os.Getppid(), 1); err != nil {
		problem("samba-pipes", "smbd is not served: "+err.Error(), fault.Remedy(err), time.Time{})
	}
	if err := d.winbind.Problem(); err != nil {
		problem("samba-release", "smbd is not served: "+err.Error(), fault.Remedy(err), time.Time{})
	}
}

// listensAt says whether one of these processes listens on a Unix socket: the
// kernel names the one that began to (unix(7), SO_PEERCRED). A winbindd that is
// started takes the path over without a word. It does not wait.
func listensAt(path string, pids ...int) error {
	conn, err := net.DialTimeout("unix", path, 100*time.Millisecond)
	if err != nil {
		return fault.WithRemedy(fault.Errorf(fault.Unreachable, "nobody listens on %s", path), "see the log of latchkeyd, then: systemctl restart latchkeyd")
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var who *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { who, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || failed != nil {
		return fmt.Errorf("ask who listens on %s: %w", path, failed)
	}
	for _, pid := range pids {
		if int(who.Pid) == pid {
			return nil
		}
	}
	return fault.WithRemedy(fault.Errorf(fault.Conflict, "another program listens on %s (pid %d)", path, who.Pid),
		"systemctl disable --now winbind, then systemctl restart latchkeyd")
}
