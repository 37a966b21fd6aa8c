// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Socket says where a listener goes and who may reach it.
type Socket struct {
	Name Name
	// Address is host:port; a listener with one is a TCP listener, and the
	// other fields do not count.
	Address string
	// Path of a Unix stream socket: absolute, at most 107 bytes (unix(7)).
	Path string
	// Mode and GID of the socket; its owner is the user that runs this process.
	Mode fs.FileMode
	GID  identity.GID
	// DirMode and DirGID of the directory that holds it. It is made where it is
	// missing; one that is there must be ours and writable by nobody else.
	DirMode fs.FileMode
	DirGID  identity.GID
}

// Standard returns the sockets that are always open: api, admin, shim-root, auth
// and metrics, in the directory run (of the contract: /run/latchkey). The gids
// are 0 where a group does not exist: then only root gets in.
func Standard(run string, adminGroup identity.GID) []Socket {
	at := func(n Name, file string, mode fs.FileMode, gid identity.GID) Socket {
		return Socket{Name: n, Path: filepath.Join(run, file), Mode: mode, GID: gid, DirMode: 0o755}
	}
	return []Socket{
		at(API, "api.sock", 0o666, 0),
		at(Admin, "admin.sock", 0o660, adminGroup),
		at(ShimRoot, "shim-root.sock", 0o600, 0),
		at(Auth, "auth.sock", 0o666, 0),
		at(Metrics, "metrics.sock", 0o600, 0),
	}
}

// Listener is an open listener with its name.
type Listener struct {
	net.Listener
	name Name
	path string   // to be removed on Close; empty for an inherited one
	lock *os.File // held as long as the socket is ours
}

// Name returns the listener's name.
func (l *Listener) Name() Name { return l.name }

// File returns a duplicate of the listener's descriptor, to hand to a child.
// The caller closes it.
func (l *Listener) File() (*os.File, error) {
	f, ok := l.Listener.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fault.Errorf(fault.Internal, "the listener %s has no descriptor", l.name)
	}
	return f.File()
}

// Leave makes Close leave the socket file where it is: somebody else listens on
// it, too.
func (l *Listener) Leave() { l.path = "" }

// Close closes the listener and removes the socket file if this process made it.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if l.path != "" {
		err = errors.Join(err, ignoreMissing(os.Remove(l.path)))
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}

// Open opens a listener. A Unix socket gets its owner and mode before it
// listens, so that nobody slips in between; a socket file that was left behind
// is removed only when nothing answers on it and this process holds the lock
// file beside it. fault.Conflict: another process serves the socket.
func Open(s Socket) (*Listener, error) {
	if s.Address != "" {
		ln, err := net.Listen("tcp", s.Address)
		if err != nil {
			return nil, fault.WithRemedy(fault.Wrap(fault.Conflict, "listen on "+s.Address, err),
				"choose another address, or stop the service that uses this one")
		}
		return &Listener{Listener: ln, name: s.Name}, nil
	}
	if !filepath.IsAbs(s.Path) || len(s.Path) > 107 {
		return nil, fault.Errorf(fault.Malformed, "socket path %.200q: want an absolute path of at most 107 bytes", s.Path)
	}
	if err := ownDirectory(filepath.Dir(s.Path), s.DirMode, s.DirGID); err != nil {
		return nil, err
	}
	lock, err := lockFile(s.Path + ".lock")
	if err != nil {
		return nil, err
	}
	ln, err := listenUnix(s)
	if err != nil {
		_ = lock.Close()
		return nil, fault.Wrap(fault.Unknown, "open the socket "+s.Path, err)
	}
	return &Listener{Listener: ln, name: s.Name, path: s.Path, lock: lock}, nil
}

// ownDirectory makes dir, or checks that the one there can be trusted: whoever
// can write to it could put a socket of theirs in place of ours.
func ownDirectory(dir string, mode fs.FileMode, gid identity.GID) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fault.Wrap(fault.Internal, "make the socket directory", err)
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if err := errors.Join(os.Lchown(dir, -1, int(gid)), os.Chmod(dir, mode)); err != nil {
			return fault.Wrap(fault.Internal, "make the socket directory", err)
		}
		return nil
	case !errors.Is(err, fs.ErrExist):
		return fault.Wrap(fault.Internal, "make the socket directory", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fault.Wrap(fault.Internal, "look at the socket directory", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.IsDir():
		err = fault.Errorf(fault.Conflict, "%s is not a directory", dir)
	case int(owner) != os.Geteuid():
		err = fault.Errorf(fault.Conflict, "%s belongs to uid %d", dir, owner)
	case info.Mode().Perm()&0o022 != 0:
		err = fault.Errorf(fault.Conflict, "%s can be written to by others (mode %04o)", dir, info.Mode().Perm())
	default:
		return nil
	}
	return fault.WithRemedy(err, "remove "+dir+" and start again: the daemon makes it")
}

// lockFile takes the lock that says whose socket it is. It is held until the
// file is closed, or the process dies.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "open the lock of a socket", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is held by another latchkeyd", path),
				"stop the other daemon first: systemctl stop latchkeyd")
		}
		return nil, fault.Wrap(fault.Internal, "lock a socket", err)
	}
	return f, nil
}

func listenUnix(s Socket) (net.Listener, error) {
	if err := removeStale(s.Path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), s.Path)
	defer file.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: s.Path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	ln, err := func() (net.Listener, error) {
		// Until listen(2) every connect is refused, whatever the mode.
		if err := os.Lchown(s.Path, -1, int(s.GID)); err != nil {
			return nil, err
		}
		if err := unix.Fchmodat(unix.AT_FDCWD, s.Path, uint32(s.Mode.Perm()), 0); err != nil {
			return nil, os.NewSyscallError("chmod", err)
		}
		if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
			return nil, os.NewSyscallError("listen", err)
		}
		return net.FileListener(file)
	}()
	if err != nil {
		return nil, errors.Join(err, ignoreMissing(os.Remove(s.Path)))
	}
	return ln, nil
}

// removeStale removes a socket file on which nobody answers. Anything else in
// its place is somebody's, and stays.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return ignoreMissing(err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is there and is not a socket", path), "move it away")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "another process listens on %s", path),
			"stop that process first")
	}
	return ignoreMissing(os.Remove(path))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
