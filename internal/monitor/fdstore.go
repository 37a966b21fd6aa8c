// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/peer"
)

// errNoSystemd is that nobody asked to be notified.
var errNoSystemd = errors.New("NOTIFY_SOCKET is not set")

// deposit gives systemd a duplicate of a listener (sd_notify(3), FDSTORE): after a
// restart of the whole daemon it comes back by its name, and whoever connected
// meanwhile has waited in its queue. Without systemd nothing happens.
func (m *Monitor) deposit(ln *peer.Listener) {
	f, err := ln.File()
	if err == nil {
		err = notifyWith("FDSTORE=1\nFDNAME="+string(ln.Name())+"\nFDPOLL=0", f)
		_ = f.Close()
	}
	switch {
	case err == nil:
		ln.Leave() // the file belongs to a socket that outlives us
	case !errors.Is(err, errNoSystemd):
		m.log.Warn("systemd does not hold a pipe of winbind over a restart", "name", string(ln.Name()), "error", err)
	}
}

// withdraw takes a listener back from systemd.
func (m *Monitor) withdraw(name peer.Name) {
	if err := notifyWith("FDSTOREREMOVE=1\nFDNAME="+string(name), nil); err != nil && !errors.Is(err, errNoSystemd) {
		m.log.Warn("systemd goes on to hold a pipe of winbind", "name", string(name), "error", err)
	}
}

// notifyWith sends a state, and perhaps a descriptor, to systemd.
func notifyWith(state string, f *os.File) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return errNoSystemd
	}
	// A name that begins with @ is abstract, here as in package unix.
	conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(conn)
	to := &unix.SockaddrUnix{Name: address}
	if f == nil {
		return unix.Sendto(conn, []byte(state), 0, to)
	}
	fd := int(f.Fd())
	err = unix.Sendmsg(conn, []byte(state), unix.UnixRights(fd), to, 0)
	// Fd made it a blocking one, for every duplicate, and nothing would ever end
	// an accept on it.
	return errors.Join(err, unix.SetNonblock(fd, true))
}
