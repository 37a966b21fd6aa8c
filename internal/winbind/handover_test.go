// SPDX-License-Identifier: Apache-2.0

package winbind_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/winbind"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// stuck numbers never come.
type stuck struct {
	*ids
	asked, free chan struct{}
}

func (s stuck) IDsOfSIDs(ctx context.Context, sids []identity.SID) ([]winbind.ID, error) {
	s.asked <- struct{}{}
	<-s.free
	return nil, context.Canceled
}

// A worker dies while it works on requests, short and long. The next one answers
// them, on the same connections.
func TestRequestsOutliveTheWorker(t *testing.T) {
	var cfg winbind.Config
	r := newRig(t, func(c *winbind.Config) { cfg = *c })
	keeper := peer.NewKeeper(slog.New(slog.DiscardHandler))
	ln, err := peer.Open(peer.Socket{Name: peer.Winbind, Path: filepath.Join(r.dir, "kept", "pipe"), Mode: 0o777, DirMode: 0o755})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = keeper.Serve(ln) }()
	t.Cleanup(func() { _ = ln.Close(); keeper.Close() })
	begin := func(numbers winbind.IDs) (end func()) {
		file, err := keeper.Attach()
		if err != nil {
			t.Fatal(err)
		}
		handed, err := peer.OpenHanded(file)
		if err != nil {
			t.Fatal(err)
		}
		c := cfg
		c.IDs = numbers
		server := winbind.New(c)
		ln := handed.Listener(peer.Winbind) // before Run, which closes what nobody listens for
		go func() { _ = server.Serve(ln, peer.Winbind) }()
		go func() { _ = handed.Run() }()
		return func() {
			handed.Leave()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			server.Stop(ctx)
		}
	}
	first := stuck{ids: r.ids, asked: make(chan struct{}, 10), free: make(chan struct{})}
	end := begin(first)
	var clients []*client
	for _, n := range []int{1, 100, 300, 2500} { // 2,500 do not fit beside what a socket holds
		conn, err := net.Dial("unix", filepath.Join(r.dir, "kept", "pipe"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		c := &client{t: t, Conn: conn, version: wire.V32}
		clients = append(clients, c)
		if _, err := c.Write(c.request(wire.SIDsToXIDs, extra(strings.Repeat(alice.SID.String()+"\n", n)+"\x00")).Append(nil)); err != nil {
			t.Fatal(err)
		}
		<-first.asked
	}
	end()
	defer begin(r.ids)()
	for i, n := range []int{1, 100, 300} {
		a, err := clients[i].answer()
		if err != nil {
			t.Fatalf("%d SIDs: %v", n, err)
		}
		if got := strings.Count(string(a.Extra()), "\n"); got != n {
			t.Errorf("%d SIDs: %d lines", n, got)
		}
		// And the connection goes on, in step.
		if a := clients[i].ask(wire.SIDsToXIDs, extra(alice.SID.String()+"\n\x00")); strings.Count(string(a.Extra()), "\n") != 1 {
			t.Errorf("the next request: %q", a.Extra())
		}
	}
	close(first.free)
	time.Sleep(20 * time.Millisecond)
}

func TestDisconnect(t *testing.T) {
	r := newRig(t)
	old := r.pipe()
	old.ask(wire.Ping)
	r.server.Disconnect()
	if !old.closed() {
		t.Error("a connection outlived the end of all")
	}
	r.pipe().ask(wire.Ping)
}
