// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// worker is one that a keeper's connections go to; it answers each byte by the
// next one.
func worker(t *testing.T, k *Keeper) (*Handed, *Gate) {
	t.Helper()
	file, err := k.Attach()
	if err != nil {
		t.Fatal(err)
	}
	h, err := OpenHanded(file)
	if err != nil {
		t.Fatal(err)
	}
	gate := NewGate(Winbind, Limits{Connections: 3, ConnectionsPerUID: 3}, slog.New(slog.DiscardHandler), CallerOf)
	ln := gate.Listen(h.Listener(Winbind))
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 1)
				for {
					if _, err := conn.Read(b); err != nil || b[0] == 'x' {
						return
					}
					b[0]++
					_, _ = conn.Write(b)
				}
			}()
		}
	}()
	go func() { _ = h.Run() }()
	return h, gate
}

// dies is what is left of a worker that was killed: nothing is open, nothing
// was said.
func dies(h *Handed) {
	h.Leave()
	_ = h.way.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.ids {
		_ = conn.Close()
	}
}

func keeping(t *testing.T) (*Keeper, func() net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	under, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	k := NewKeeper(slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	ln := &Listener{Listener: under, name: Winbind}
	go func() { served <- k.Serve(ln) }()
	t.Cleanup(func() {
		_ = ln.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v after its listener was closed", err)
		}
		k.Close()
	})
	return k, func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
}

func ask(t *testing.T, conn net.Conn, b byte) {
	t.Helper()
	if _, err := conn.Write([]byte{b}); err != nil {
		t.Fatal(err)
	}
	hear(t, conn, b+1)
}

func hear(t *testing.T, conn net.Conn, want byte) {
	t.Helper()
	got := make([]byte, 1)
	if _, err := io.ReadFull(conn, got); err != nil || got[0] != want {
		t.Fatalf("answered %q, %v, want %q", got, err, want)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(what)
}

func TestConnectionsOutliveTheWorker(t *testing.T) {
	k, dial := keeping(t)
	first, _ := worker(t, k)
	one, two := dial(), dial()
	ask(t, one, 'a')
	ask(t, two, 'b')
	dies(first)
	three := dial() // while nobody is there
	for _, c := range []net.Conn{one, two, three} {
		if _, err := c.Write([]byte{'k'}); err != nil { // asked of nobody
			t.Fatal(err)
		}
	}
	second, gate := worker(t, k)
	for _, c := range []net.Conn{one, two, three} {
		hear(t, c, 'l')
	}
	if n := gate.Connections(); n != 3 {
		t.Errorf("the next worker counts %d connections, want 3", n)
	}

	// What ends on either side is let go.
	_ = one.Close()
	if _, err := two.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection that the worker closed: %v, want its end", err)
	}
	eventually(t, "connections that have ended are held", func() bool { return k.Held() == 1 })

	// Nobody is there, and one goes away meanwhile.
	dies(second)
	_ = three.Close()
	worker(t, k)
	eventually(t, "a connection that ended without a worker is held", func() bool { return k.Held() == 0 })
	ask(t, dial(), 'c')
}

func TestConnectionsTooMany(t *testing.T) {
	k, dial := keeping(t)
	_, gate := worker(t, k)
	for range 3 {
		ask(t, dial(), 'a')
	}
	over := dial()
	if _, err := over.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a fourth connection of three: %v, want its end", err)
	}
	eventually(t, "the refused one is held", func() bool { return k.Held() == 3 })
	if n := gate.Connections(); n != 3 {
		t.Errorf("%d connections are counted, want 3", n)
	}
}

func TestConnectionsOfAClosedDoor(t *testing.T) {
	k, dial := keeping(t)
	h, _ := worker(t, k)
	conn := dial()
	ask(t, conn, 'a')
	k.Forget(Winbind)
	if k.Held() != 0 {
		t.Error("held after its door was closed")
	}
	ask(t, conn, 'b') // until the worker is replaced, which is next
	dies(h)
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
}

func TestWorkerThatTalksNonsenseIsNotHeard(t *testing.T) {
	k, dial := keeping(t)
	h, _ := worker(t, k)
	ask(t, dial(), 'a')
	for _, packet := range []string{"\xff\xff\xff\xff\xff\xff\xff\xff", "short", "\x01\x00\x00\x00\x00\x00\x00\x00"} {
		if _, err := h.way.Write([]byte(packet)); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, dial(), 'a')
	time.Sleep(20 * time.Millisecond)
	if n := k.Held(); n != 2 {
		t.Errorf("%d connections are held, want 2: the third packet came after nonsense", n)
	}
}
