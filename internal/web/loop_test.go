// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// fakeSessions know nobody; what is not sure waits until the test lets it go.
type fakeSessions struct {
	Forwarded
	asked chan string // tokens that came to Check
	reply chan struct{}
}

func (*fakeSessions) Base() string { return "https://nas.test" }

func (*fakeSessions) Seen(token, _ string) (*session.Person, bool) { return nil, token != "slow" }

func (s *fakeSessions) Check(_ context.Context, token, _ string) (*session.Person, error) {
	s.asked <- token
	<-s.reply
	return nil, session.ErrNone
}

// opened is a door on a socket over fake sessions.
func opened(t *testing.T, l peer.Limits) (f *Forward, s *fakeSessions, dial func() net.Conn) {
	t.Helper()
	s = &fakeSessions{asked: make(chan string, 16), reply: make(chan struct{})}
	f = NewForward(ForwardConfig{Log: slog.New(slog.DiscardHandler), Sessions: s, Limits: l})
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(ln) }()
	t.Cleanup(func() {
		f.Stop(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := f.gate.Connections(); n != 0 {
			t.Errorf("%d connections are held after the stop", n)
		}
	})
	return f, s, func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(30 * time.Second)) // a test that hangs tells where
		return c
	}
}

func plainText(path, token string) string {
	return plainLine + "Host: nas.test\r\nX-Forwarded-Uri: " + path + "\r\nCookie: " + session.Cookie + "=" + token + "\r\n\r\n"
}

// answered reads one answer, which sends a browser to the sign-in and back.
func answered(t *testing.T, r *bufio.Reader, path string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if to := resp.Header.Get(HeaderSignIn); resp.StatusCode != http.StatusUnauthorized || !strings.HasSuffix(to, "?return=%2F"+path[1:]) {
		t.Fatalf("%s is answered %s, %s", path, resp.Status, to)
	}
}

func TestAQuestionThatTakesLongHoldsNobodyUp(t *testing.T) {
	_, s, dial := opened(t, peer.Limits{})
	slow, quick := dial(), dial()
	// What follows on the same connection waits for its turn.
	fmt.Fprint(slow, plainText("/slow", "slow")+plainText("/after", "x")+plainText("/piece", "x")[:60])
	if token := <-s.asked; token != "slow" {
		t.Fatalf("%s was asked", token)
	}
	answers := bufio.NewReader(quick)
	for range 100 {
		fmt.Fprint(quick, plainText("/quick", "x"))
		answered(t, answers, "/quick")
	}
	s.reply <- struct{}{}
	answers = bufio.NewReader(slow)
	answered(t, answers, "/slow")
	answered(t, answers, "/after")
	fmt.Fprint(slow, plainText("/piece", "x")[60:])
	answered(t, answers, "/piece")
}

// A proxy that asks and does not read waits for its own answers only, and gets
// them all in the end.
func TestAProxyThatDoesNotReadGetsItsAnswersLater(t *testing.T) {
	f, _, dial := opened(t, peer.Limits{})
	lazy, other := dial(), dial()
	const most = 20000
	sent := make(chan int, 1)
	go func() {
		w := bufio.NewWriter(lazy)
		for n := range most {
			if _, err := io.WriteString(w, plainText(fmt.Sprintf("/%d", n), "x")); err != nil {
				t.Error(err)
				break
			}
		}
		if err := w.Flush(); err != nil {
			t.Error(err)
		}
		sent <- most
	}()
	answers := bufio.NewReader(other)
	for had, same := 0, 0; same < 50; { // until nothing more fits into the sockets
		fmt.Fprint(other, plainText("/other", "x"))
		answered(t, answers, "/other")
		if now := queued(t, lazy); now == had && now > 0 {
			same++
		} else {
			had, same = now, 0
		}
	}
	select {
	case <-sent:
		t.Fatal("everything was sent: the sockets have room for more than this test has")
	default:
	}
	answers = bufio.NewReader(lazy)
	for n := range most {
		answered(t, answers, fmt.Sprintf("/%d", n))
	}
	<-sent
	if n := f.gate.Connections(); n != 2 {
		t.Errorf("%d connections are open, want 2", n)
	}
}

// Whoever sends a byte now and then does not hold a connection for ever, and
// neither does one who sends nothing, or does not take an answer.
func TestConnectionsEndInTime(t *testing.T) {
	f := NewForward(ForwardConfig{Log: slog.New(slog.DiscardHandler), Sessions: &fakeSessions{}})
	l, err := newLoop(f)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	gated := f.gate.Listen(ln)
	defer gated.Close()
	now := time.Unix(1e9, 0)
	one := func() (net.Conn, *asker) {
		t.Helper()
		c, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conn, err := gated.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := conn.(*peer.Conn).Detach()
		if err != nil {
			t.Fatal(err)
		}
		a := &asker{conn: conn.(*peer.Conn), fd: fd}
		l.enter(a)
		l.take(now)
		return c, a
	}
	left := func(a *asker, after time.Duration) bool {
		now = now.Add(after)
		l.sweep(now)
		_, open := l.askers[int32(a.fd)]
		return open
	}
	send := func(c net.Conn, a *asker, text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		l.ready(a, now)
	}
	_, silent := one()
	if !left(silent, keptTime-time.Second) || left(silent, time.Second) {
		t.Error("a connection that says nothing is open for another time than the kept one")
	}
	c, drip := one()
	send(c, drip, "G")
	for i := range 4 {
		if !left(drip, time.Second) {
			t.Fatalf("it was closed after %d s", i+1)
		}
		send(c, drip, plainLine[i+1:i+2])
	}
	if left(drip, time.Second) {
		t.Error("a byte each second keeps a connection open")
	}
	c, kept := one()
	send(c, kept, plainText("/", "x"))
	if !left(kept, keptTime-time.Second) {
		t.Error("a connection that has asked is not kept")
	}
	send(c, kept, plainText("/", "x")+"GET")
	if !left(kept, headersTime-time.Second) || left(kept, time.Second) {
		t.Error("the time of the second question is another")
	}
	c, lazy := one()
	for lazy.out == nil {
		send(c, lazy, strings.Repeat(plainText("/", "x"), 20))
	}
	if !left(lazy, headersTime-time.Second) || left(lazy, time.Second) {
		t.Error("an answer that nobody takes holds a connection open for another time")
	}
	// Who has begun the next question meanwhile has the time of a question for it.
	c, late := one()
	for late.out == nil {
		send(c, late, strings.Repeat(plainText("/", "x"), 20))
	}
	late.rest = []byte(plainLine[:5])
	if !left(late, headersTime-time.Second) {
		t.Fatal("an answer that waits is not kept")
	}
	if _, err := io.CopyN(io.Discard, c, int64(queued(t, c))); err != nil {
		t.Fatal(err)
	}
	l.ready(late, now)
	if late.out != nil || !left(late, headersTime-time.Second) || left(late, time.Second) {
		t.Error("after an answer that was taken late, the time of a question is another")
	}
	_, back := one()
	l.leave(back)
	back.out, back.rest = []byte("answer"), []byte(plainLine[:5])
	l.enter(back)
	l.take(now)
	if !left(back, headersTime-time.Second) || left(back, time.Second) {
		t.Error("after a question that took long, the time of the next is another")
	}
	if n := f.gate.Connections(); n != 0 {
		t.Errorf("%d connections are held", n)
	}
	l.over = true
	l.take(now)
}

// A question that is longer than what net/http reads at once comes to it whole.
func TestALongQuestionIsHandedOverWhole(t *testing.T) {
	_, s, dial := opened(t, peer.Limits{})
	close(s.reply)
	c := dial()
	fmt.Fprint(c, strings.Replace(plainText("/long", "x"), "Host:", "Connection: keep-alive\r\nX-Long: "+strings.Repeat("x", maxPlain-1000)+"\r\nHost:", 1))
	answered(t, bufio.NewReader(c), "/long")
}

// failing is a listener that fails once before each connection.
type failing struct {
	net.Listener
	with   error
	failed bool
}

func (f *failing) Accept() (net.Conn, error) {
	if f.failed = !f.failed; f.failed {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", f.with)}
	}
	return f.Listener.Accept()
}

// A machine or a process that is short of descriptors for a moment does not end
// the door; a listener that is broken does.
func TestTheDoorOutlivesAShortageOfDescriptors(t *testing.T) {
	for with, outlives := range map[unix.Errno]bool{unix.EMFILE: true, unix.ENFILE: true, unix.EBADF: false} {
		f := NewForward(ForwardConfig{Log: slog.New(slog.DiscardHandler), Sessions: &fakeSessions{}})
		ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- f.Serve(&failing{Listener: ln, with: with}) }()
		if !outlives {
			if err := <-served; !errors.Is(err, with) {
				t.Errorf("%v: %v", with, err)
			}
			f.Stop(t.Context())
			continue
		}
		c, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprint(c, plainText("/", "x"))
		answered(t, bufio.NewReader(c), "/")
		_ = c.Close()
		f.Stop(t.Context())
		if err := <-served; err != nil {
			t.Errorf("%v: %v", with, err)
		}
	}
}

// queued is how many bytes wait to be read from c.
func queued(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if failed := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return n
}

func TestStopEndsAll(t *testing.T) {
	f, s, dial := opened(t, peer.Limits{})
	idle, half, asking, other := dial(), dial(), dial(), dial()
	answers := bufio.NewReader(idle)
	fmt.Fprint(idle, plainText("/", "x"))
	answered(t, answers, "/")
	fmt.Fprint(half, plainLine)
	fmt.Fprint(asking, plainText("/", "slow"))
	fmt.Fprint(other, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(other), nil); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Fatalf("%v, %v", resp, err)
	}
	<-s.asked
	f.Stop(t.Context())
	f.Stop(t.Context())
	for name, c := range map[string]net.Conn{"idle": idle, "half": half, "net/http's": other} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the %s connection: %d bytes, %v", name, n, err)
		}
	}
	s.reply <- struct{}{}
	if n, err := asking.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the connection of a question under way: %d bytes, %v", n, err)
	}
}

// Many at once, each with its own questions, in pieces, through both halves of
// the door: nobody gets another's answer.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	_, s, dial := opened(t, peer.Limits{ConnectionsPerUID: 1000})
	close(s.reply)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-s.asked:
			case <-done:
				return
			}
		}
	}()
	var group sync.WaitGroup
	for i := range 40 {
		c := dial()
		group.Go(func() {
			answers := bufio.NewReader(c)
			for n := range 200 {
				path, token := fmt.Sprintf("/%d-%d", i, n), "x"
				if n%5 == 0 {
					token = "slow"
				}
				text := plainText(path, token)
				if i%4 == 0 && n == 150 {
					text = strings.Replace(text, "Host:", "Connection: keep-alive\r\nHost:", 1) // net/http's from now on
				}
				cut := (i*7 + n) % len(text)
				fmt.Fprint(c, text[:cut])
				fmt.Fprint(c, text[cut:])
				resp, err := http.ReadResponse(answers, nil)
				if err != nil || !strings.HasSuffix(resp.Header.Get(HeaderSignIn), "%2F"+path[1:]) {
					t.Errorf("%s: %v, %v", path, resp, err)
					return
				}
			}
		})
	}
	group.Wait()
}
