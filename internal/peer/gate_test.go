// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// played is a gate whose callers are the uids in a list, in order.
func played(t *testing.T, l Limits, log *slog.Logger, uids ...identity.UID) (g *Gate, dial func() net.Conn, accepted <-chan *Conn) {
	t.Helper()
	var mu sync.Mutex
	g = NewGate(API, l, log, func(*net.UnixConn) (Caller, error) {
		mu.Lock()
		defer mu.Unlock()
		uid := uids[0]
		uids = uids[1:]
		if uid == noCredentials {
			return Caller{}, fault.New(fault.Internal, "no credentials")
		}
		return Caller{UID: uid}, nil
	})
	raw, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ln := g.Listen(raw)
	t.Cleanup(func() { _ = ln.Close() })
	ch := make(chan *Conn, 100)
	go func() {
		defer close(ch)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			ch <- c.(*Conn)
		}
	}()
	return g, func() net.Conn {
		c, err := net.Dial("unix", raw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}, ch
}

const noCredentials identity.UID = 1<<32 - 1

// refused reports whether the server closes c without a byte.
func refused(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return err == io.EOF || strings.Contains(err.Error(), "reset")
}

func TestGateLimitsConnectionsOfOneUser(t *testing.T) {
	g, dial, accepted := played(t, Limits{ConnectionsPerUID: 2, Connections: 100}, quiet, 1000, 1000, 1000, 1001, 1000, 1000)
	dial()
	dial()
	first, second := <-accepted, <-accepted
	if !refused(dial()) {
		t.Error("a third connection of uid 1000 was let in")
	}
	dial()
	if c := <-accepted; c.Caller().UID != 1001 {
		t.Errorf("uid %d came in, want 1001", c.Caller().UID)
	}
	_ = first.Close()
	_ = first.Close() // gives its place back once
	dial()
	if c := <-accepted; c.Caller().UID != 1000 {
		t.Errorf("after a close uid %d came in, want 1000", c.Caller().UID)
	}
	if !refused(dial()) {
		t.Error("closing one connection twice made two places")
	}
	if got, want := g.Connections(), 3; got != want {
		t.Errorf("Connections = %d, want %d", got, want)
	}
	_ = second.Close()
}

func TestGateLimitsAllConnections(t *testing.T) {
	_, dial, accepted := played(t, Limits{ConnectionsPerUID: 100, Connections: 2}, quiet, 1, 2, 3, 4)
	dial()
	dial()
	one := <-accepted
	if !refused(dial()) {
		t.Error("a third connection was let in")
	}
	_ = one.Close()
	dial()
	if <-accepted; (<-accepted).Caller().UID != 4 {
		t.Error("a free place was not given to the next")
	}
}

func TestGateRefusesWhomTheKernelDoesNotName(t *testing.T) {
	_, dial, accepted := played(t, Limits{}, quiet, noCredentials, 5)
	if !refused(dial()) {
		t.Error("a peer without credentials was let in")
	}
	dial()
	if c := <-accepted; c.Caller().UID != 5 {
		t.Errorf("uid %d came in, want 5", c.Caller().UID)
	}
}

func TestGateRefusesOtherKindsOfSocket(t *testing.T) {
	g := NewGate(API, Limits{}, quiet, CallerOf)
	a, b := net.Pipe()
	defer b.Close()
	if c, err := g.admit(a); err == nil {
		t.Errorf("a pipe was let in as %v", c.Caller())
	}
}

func TestGateLogsRefusalsSparingly(t *testing.T) {
	var log bytes.Buffer
	g := NewGate(API, Limits{}, slog.New(slog.NewTextHandler(&log, nil)), CallerOf)
	for range 1000 {
		g.report("connection refused", fault.New(fault.Exhausted, "too many"))
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines were logged, want 1:\n%s", n, log.String())
	}
}

func TestGateCountsStreamsPerUserAcrossConnections(t *testing.T) {
	_, dial, accepted := played(t, Limits{StreamsPerUID: 2}, quiet, 7, 7, 8)
	dial()
	dial()
	dial()
	a, b, other := <-accepted, <-accepted, <-accepted
	release, err := a.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenStream(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenStream(); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a third stream of uid 7: %v, want Exhausted", err)
	}
	if _, err := other.OpenStream(); err != nil {
		t.Errorf("uid 8: %v", err)
	}
	release()
	release()
	if _, err := a.OpenStream(); err != nil {
		t.Errorf("after release: %v", err)
	}
	if _, err := a.OpenStream(); !fault.Is(err, fault.Exhausted) {
		t.Errorf("releasing twice made two places: %v", err)
	}
}

func TestGateCountsUnreadBytes(t *testing.T) {
	_, dial, accepted := played(t, Limits{UnreadBytesPerUID: 1000}, quiet, 7, 7)
	dial()
	dial()
	a, b := <-accepted, <-accepted
	if err := a.Hold(600); err != nil {
		t.Fatal(err)
	}
	if err := b.Hold(600); !fault.Is(err, fault.Exhausted) {
		t.Errorf("1,200 of 1,000 bytes: %v, want Exhausted", err)
	}
	a.Release(600)
	if err := b.Hold(1000); err != nil {
		t.Errorf("after release: %v", err)
	}
	_ = b.Close() // gives back what was never read
	if err := a.Hold(1000); err != nil {
		t.Errorf("after the other connection closed: %v", err)
	}
	b.Release(1000) // late, and counted already
	if err := a.Hold(1); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a late release counted twice: %v", err)
	}
}

func TestGateClosesTheConnectionOfOneCallTooMany(t *testing.T) {
	_, dial, accepted := played(t, Limits{CallsPerUID: 3}, quiet, 7, 7, 0)
	dial()
	end := dial()
	dial()
	a, b, root := <-accepted, <-accepted, <-accepted
	for range 3 {
		a.Begin()
	}
	a.End()
	b.Begin()
	b.Begin()
	if !refused(end) {
		t.Error("the fourth call of uid 7 did not cost the connection")
	}
	for range 24 {
		root.Begin()
	}
	if err := root.Hold(1); err != nil || root.closed {
		t.Error("root has eight times the room")
	}
}
