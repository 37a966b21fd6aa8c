// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// The times of a connection: from the first byte of a question to its last, and
// of an answer, and from one question to the next.
const (
	headersTime = 5 * time.Second
	keptTime    = 2 * time.Minute
)

// A loop answers the plain questions of all connections from one goroutine, which
// waits for them in epoll_wait(2) by itself. A goroutine for each takes nearly
// three times the processor: the runtime hears of the question in its own poller,
// wakes a thread for the goroutine, and looks for other work before it sleeps
// again, while the proxy waits for one of two cores. docs/benchmarks.md has the
// figures.
//
// It must not wait for anything but the next question: what memory does not know
// is asked by a goroutine of its own, and the connection comes back with the
// answer.
type loop struct {
	f     *Forward
	poll  int // epoll(7), level-triggered
	wake  int // eventfd(2): something came, or it is over
	ended chan struct{}

	mu   sync.Mutex
	came []*asker
	over bool

	// What follows is the loop's own.
	askers map[int32]*asker
	in     []byte
	out    []byte
	swept  time.Time
}

// asker is a connection that asks plain questions. It is in the loop, or in the
// hands of one goroutine.
type asker struct {
	conn   *peer.Conn // detached
	fd     int
	caller session.Caller
	rest   []byte    // read and not answered
	out    []byte    // answered and not taken by the proxy
	until  time.Time // then it is closed
}

func (a *asker) close() {
	_ = unix.Close(a.fd)
	_ = a.conn.Close()
}

func newLoop(f *Forward) (*loop, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "make a poller", os.NewSyscallError("epoll_create1", err))
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		_, _ = unix.Close(poll), unix.Close(wake)
		return nil, fault.Wrap(fault.Internal, "make a poller", err)
	}
	return &loop{f: f, poll: poll, wake: wake, ended: make(chan struct{}), askers: map[int32]*asker{}, in: make([]byte, maxPlain)}, nil
}

// enter gives a connection to the loop, which closes it sooner or later.
func (l *loop) enter(a *asker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		a.close()
		return
	}
	l.came = append(l.came, a)
	l.call()
}

// end has the loop close its connections and return. Safe to call twice.
func (l *loop) end() {
	l.mu.Lock()
	if !l.over {
		l.over = true
		l.call()
	}
	l.mu.Unlock()
	<-l.ended
}

// call wakes the loop. l.mu is held, so that the descriptor is still open.
func (l *loop) call() {
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only where it was called 2^64 times
}

// schedEvery is how often the loop goes through Go's scheduler. The runtime's
// watcher takes a goroutine that was not scheduled for 10 ms for one that hogs a
// processor: from then on it looks at it every 20 us and takes the processor away
// from each system call, which costs more than the answers.
const schedEvery = 5 * time.Millisecond

// run answers until end.
func (l *loop) run() {
	defer close(l.ended)
	events := make([]unix.EpollEvent, 64)
	scheduled := time.Now()
	for {
		patience := -1
		if len(l.askers) > 0 {
			patience = 1000 // ms, until the next sweep
		}
		n, err := unix.EpollWait(l.poll, events, patience)
		if err != nil && err != unix.EINTR {
			panic("web: epoll_wait: " + err.Error()) // the descriptor is ours and open
		}
		now := time.Now()
		called := false
		for i := range max(n, 0) {
			if fd := events[i].Fd; fd == int32(l.wake) {
				called = true
			} else if a := l.askers[fd]; a != nil {
				l.ready(a, now)
			}
		}
		l.sweep(now)
		// Last, for a connection that comes may have the number of one that was just
		// closed, and there may have been an event of that.
		if called && !l.take(now) {
			return
		}
		if now.Sub(scheduled) >= schedEvery {
			scheduled = now
			runtime.Gosched()
		}
	}
}

// take lets in what came; false: it is over, and everything is closed.
func (l *loop) take(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	came := l.came
	l.came = nil
	if l.over {
		for _, a := range l.askers {
			a.close()
		}
		for _, a := range came {
			a.close()
		}
		_, _ = unix.Close(l.poll), unix.Close(l.wake)
		return false
	}
	for _, a := range came {
		if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, a.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(a.fd)}); err != nil {
			l.f.c.Log.Warn("a connection of a web proxy cannot be waited for", "error", err)
			a.close()
			continue
		}
		l.askers[int32(a.fd)] = a
		a.until = now.Add(keptTime)
		if out := a.out; len(out) > 0 { // it comes back with an answer
			a.out = nil
			if l.write(a, out, now) {
				l.answerRest(a, now)
			}
		}
	}
	return true
}

// leave takes a connection out of the loop.
func (l *loop) leave(a *asker) {
	_ = unix.EpollCtl(l.poll, unix.EPOLL_CTL_DEL, a.fd, nil)
	delete(l.askers, int32(a.fd))
}

func (l *loop) close(a *asker) {
	l.leave(a)
	a.close()
}

// sweep closes, once a second, what has taken too long.
func (l *loop) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for _, a := range l.askers {
		if !now.Before(a.until) {
			l.close(a)
		}
	}
}

// ready goes on with a connection that has something to read, or room for what is
// left of an answer.
func (l *loop) ready(a *asker, now time.Time) {
	if out := a.out; len(out) > 0 {
		a.out = nil
		if l.write(a, out, now) {
			_ = unix.EpollCtl(l.poll, unix.EPOLL_CTL_MOD, a.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(a.fd)})
			l.answerRest(a, now)
		}
		return
	}
	n := copy(l.in, a.rest)
	more, err := unix.Read(a.fd, l.in[n:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil || more == 0:
		l.close(a)
	default:
		l.answer(a, l.in[:n+more], now)
	}
}

// answerRest goes on after an answer that took its time, with what was read
// behind its question. The time of the next one begins here.
func (l *loop) answerRest(a *asker, now time.Time) {
	n := copy(l.in, a.rest)
	a.rest = a.rest[:0]
	l.answer(a, l.in[:n], now)
}

// answer answers the questions at the beginning of b, which was read from a, and
// keeps the rest. b is the loop's memory.
func (l *loop) answer(a *asker, b []byte, now time.Time) {
	fresh := len(a.rest) == 0
	for {
		q, size, err := parsePlain(b)
		if err == errMore {
			break
		}
		if err == errOther {
			l.leave(a)
			go l.f.handOver(a, bytes.Clone(b))
			return
		}
		b, fresh = b[size:], true
		p, ok := l.f.placeAt(place{host: q.host, path: q.uri, caller: a.caller})
		v, sure := verdict{status: http.StatusForbidden}, false
		if ok {
			v, sure = l.f.decideNow(p, q.token)
		}
		if !sure {
			l.leave(a)
			a.rest = bytes.Clone(b)
			go l.look(a, p, ok, q.token)
			return
		}
		l.out = v.append(l.out[:0], now)
		if !l.write(a, l.out, now) {
			a.rest = bytes.Clone(b)
			return
		}
	}
	switch {
	case len(b) == 0:
		a.until = now.Add(keptTime)
	case fresh: // the time of a question does not begin anew with each piece
		a.until = now.Add(headersTime)
	}
	a.rest = append(a.rest[:0], b...)
}

// write sends an answer. False: it is not all sent, and the loop goes on when
// there is room; or the connection was closed.
func (l *loop) write(a *asker, b []byte, now time.Time) bool {
	n, err := unix.Write(a.fd, b)
	switch {
	case err == nil && n == len(b):
		return true
	case err != nil && err != unix.EAGAIN && err != unix.EINTR:
		l.close(a)
		return false
	}
	a.out, a.until = bytes.Clone(b[max(n, 0):]), now.Add(headersTime)
	_ = unix.EpollCtl(l.poll, unix.EPOLL_CTL_MOD, a.fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(a.fd)})
	return false
}

// look answers a question that the loop cannot: it may wait for the store, or
// write to the log.
func (l *loop) look(a *asker, p place, ok bool, token string) {
	v := verdict{status: http.StatusForbidden}
	if ok {
		v = l.f.decide(context.Background(), p, token)
	} else {
		l.f.notOurs(p)
	}
	a.out = v.append(nil, time.Now())
	l.enter(a)
}

// Serve answers on a Unix socket until Stop; nil then.
func (f *Forward) Serve(ln net.Listener) error {
	gated := f.gate.Listen(ln)
	defer gated.Close()
	if open, err := f.open(gated); !open {
		return err
	}
	for {
		conn, err := gated.Accept()
		if err != nil {
			if f.over() {
				return nil
			}
			var passing interface{ Temporary() bool }
			if errors.As(err, &passing) && passing.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return fault.Wrap(fault.Internal, "serve auth", err)
		}
		c := conn.(*peer.Conn) // a gate's
		if f.c.Sessions == nil {
			go f.slow.take(&handed{Conn: c})
			continue
		}
		fd, err := c.Detach()
		if err != nil {
			f.c.Log.Warn("a connection of a web proxy cannot be served", "error", err)
			_ = c.Close()
			continue
		}
		f.loop.enter(&asker{conn: c, fd: fd, caller: callerOf(c)})
	}
}

// open begins to serve; false: it does not, and why.
func (f *Forward) open(ln net.Listener) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return false, nil
	}
	if f.loop == nil {
		l, err := newLoop(f)
		if err != nil {
			return false, err
		}
		f.loop = l
		go l.run()
		go func() { _ = f.http.Serve(f.slow) }()
	}
	f.listeners = append(f.listeners, ln)
	return true, nil
}

func (f *Forward) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

// Stop ends the door. Requests of net/http that are under way may go on until
// ctx ends; a plain question that is being answered is asked again by the proxy.
func (f *Forward) Stop(ctx context.Context) {
	f.mu.Lock()
	f.stopped = true
	for _, ln := range f.listeners {
		_ = ln.Close()
	}
	l := f.loop
	f.mu.Unlock()
	if l != nil {
		l.end()
	}
	if f.http.Shutdown(ctx) != nil {
		_ = f.http.Close()
	}
	_ = f.slow.Close()
}
