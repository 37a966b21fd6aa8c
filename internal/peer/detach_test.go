// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestADetachedConnectionKeepsItsPlaceAndComesBack(t *testing.T) {
	g, dial, accepted := played(t, Limits{ConnectionsPerUID: 1}, quiet, 7, 7, 7)
	end := dial()
	c := <-accepted
	fd, err := c.Detach()
	if err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the descriptor blocks: %#x, %v", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("programs inherit the descriptor: %#x, %v", flags, err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the connection can be read from both sides")
	}
	if _, err := unix.Write(fd, []byte("a")); err != nil {
		t.Fatal(err)
	}
	if !refused(dial()) {
		t.Error("a detached connection gave its place back")
	}
	if err := c.Attach(fd); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("b")); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if got, err := io.ReadAll(end); string(got) != "ab" || err != nil {
		t.Errorf("the other end read %q, %v", got, err)
	}
	if n := g.Connections(); n != 0 {
		t.Errorf("%d connections are held", n)
	}
	dial()
	if c := <-accepted; c.Caller().UID != 7 {
		t.Error("the place was not given back")
	}
}

func TestAKeepersConnectionIsNotDetached(t *testing.T) {
	_, dial, accepted := played(t, Limits{}, quiet, 7)
	dial()
	c := <-accepted
	c.over = func(*net.UnixConn) {}
	if fd, err := c.Detach(); err == nil {
		t.Errorf("it was, as descriptor %d", fd)
	}
}
