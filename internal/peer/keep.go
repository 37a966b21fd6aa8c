// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// maxKept is how many connections a Keeper holds; more are closed at once.
const maxKept = 12288

// Keeper accepts connections in the process that stays, holds a descriptor of
// each, and hands them to the worker of the moment. When that dies, the next one
// gets them all: a client notices nothing, where the door behind takes a request
// off the socket only when it has been answered. Smbd's client does not ask
// twice when a connection breaks, and writes an ACL without the entries that it
// could not ask about.
//
// It reads nothing from a connection. Safe for concurrent use.
//
// Between keeper and worker is a SOCK_SEQPACKET pair (unix(7)). To the worker go
// packets of nine bytes with one descriptor: the door's place in Names, and a
// number (u64, little-endian). Back come numbers of eight bytes: connections that
// are over.
type Keeper struct {
	log *slog.Logger

	mu    sync.Mutex
	last  uint64
	held  map[uint64]kept
	queue []uint64 // what the worker has not got yet, in order
	way   *net.UnixConn
	wake  *sync.Cond // the queue or the way has changed
}

type kept struct {
	fd   int // its own; not in any poller, where each request would wake us
	name Name
}

// NewKeeper returns a keeper that holds nothing.
func NewKeeper(log *slog.Logger) *Keeper {
	k := &Keeper{log: log, held: map[uint64]kept{}}
	k.wake = sync.NewCond(&k.mu)
	return k
}

// Serve accepts connections until ln is closed, which is no error. ln is a Unix
// socket.
func (k *Keeper) Serve(ln *Listener) error {
	under, ok := ln.Listener.(*net.UnixListener)
	if !ok {
		return fault.Errorf(fault.Internal, "%s is not a Unix socket", ln.Name())
	}
	for {
		conn, err := under.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err == nil:
			if err = k.take(conn, ln.Name()); err == nil {
				continue
			}
		}
		// No descriptor is free, as a rule: the others wait in the queue.
		k.log.Warn("a connection cannot be accepted", "socket", string(ln.Name()), "error", err)
		time.Sleep(50 * time.Millisecond)
	}
}

// take holds a copy of the connection's descriptor, and closes conn.
func (k *Keeper) take(conn *net.UnixConn, name Name) error {
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) >= maxKept {
		return fault.Errorf(fault.Exhausted, "%d connections are open already", len(k.held))
	}
	fd, failed := -1, error(nil)
	if err := raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	k.last++
	k.held[k.last] = kept{fd, name}
	k.queue = append(k.queue, k.last)
	k.wake.Broadcast()
	return nil
}

// Attach begins with a new worker: all that is held goes to it, and then what
// comes. The file is the worker's end, for OpenHanded there; the caller closes
// it. The worker before gets nothing any more.
func (k *Keeper) Attach() (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "make a socketpair", err)
	}
	theirs, file := os.NewFile(uintptr(fds[1]), "connections"), os.NewFile(uintptr(fds[0]), "connections")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		_ = theirs.Close()
		return nil, fault.Wrap(fault.Internal, "make a socketpair", err)
	}
	way := conn.(*net.UnixConn)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.way != nil {
		_ = k.way.Close()
	}
	k.way = way
	k.queue = k.queue[:0]
	for id := range k.held {
		k.queue = append(k.queue, id)
	}
	slices.Sort(k.queue)
	k.wake.Broadcast()
	go k.feed(way)
	go k.hear(way)
	return theirs, nil
}

// feed sends what is queued until the way ends.
func (k *Keeper) feed(way *net.UnixConn) {
	for {
		id, name, fd := k.next(way)
		if fd < 0 {
			return
		}
		packet := binary.LittleEndian.AppendUint64([]byte{byte(slices.Index(names, name))}, id)
		_, _, err := way.WriteMsgUnix(packet, unix.UnixRights(fd), nil)
		_ = unix.Close(fd)
		if err != nil {
			return // the worker is gone; the next one is told of everything
		}
	}
}

// next waits for something to send. The descriptor is a copy, which the caller
// closes: its own may go at any moment. -1: the way has ended.
func (k *Keeper) next(way *net.UnixConn) (id uint64, name Name, fd int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.way == way {
		if len(k.queue) == 0 {
			k.wake.Wait()
			continue
		}
		id, k.queue = k.queue[0], k.queue[1:]
		c, ok := k.held[id]
		if !ok {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			k.log.Warn("a connection cannot be handed over", "socket", string(c.name), "error", err)
			delete(k.held, id)
			_ = unix.Close(c.fd)
			continue
		}
		return id, c.name, fd
	}
	return 0, "", -1
}

// hear lets go what the worker says is over. A worker that says something else
// is not listened to any longer.
func (k *Keeper) hear(way *net.UnixConn) {
	packet := make([]byte, 16)
	for {
		n, err := way.Read(packet)
		if err != nil || n != 8 {
			return
		}
		k.drop(binary.LittleEndian.Uint64(packet))
	}
}

func (k *Keeper) drop(id uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, ok := k.held[id]; ok {
		delete(k.held, id)
		_ = unix.Close(c.fd)
	}
}

// Forget lets go of all connections to a door that is no longer there.
func (k *Keeper) Forget(name Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.release(func(c kept) bool { return c.name == name })
}

// Shed lets go of everything; who connects again is held again.
func (k *Keeper) Shed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.release(func(kept) bool { return true })
}

func (k *Keeper) release(which func(kept) bool) {
	for id, c := range k.held {
		if which(c) {
			delete(k.held, id)
			_ = unix.Close(c.fd)
		}
	}
}

// Held returns how many connections there are.
func (k *Keeper) Held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// Close lets go of everything.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.release(func(kept) bool { return true })
	if k.way != nil {
		_ = k.way.Close()
		k.way = nil
	}
	k.wake.Broadcast()
}
