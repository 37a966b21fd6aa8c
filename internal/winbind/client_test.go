// SPDX-License-Identifier: Apache-2.0

package winbind_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/winbind"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// closed reports whether the server has closed the connection.
func (c *client) closed() bool {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Read(make([]byte, 1))
	var late net.Error
	return err != nil && !(errors.As(err, &late) && late.Timeout())
}

// smbd has two connections for each of its clients, most of them idle. They
// take little, and do not keep anybody waiting.
func TestFiveThousandIdleConnections(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.caller.UID = 0 })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const many = 5000
	conns := make([]*client, many)
	for i := range conns {
		conns[i] = r.pipe()
	}
	for _, c := range conns {
		c.ask(wire.InterfaceVersion)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)) / many
	// The test's own end of each connection is in it too.
	if each > 12<<10 {
		t.Errorf("an idle connection takes %d bytes, want 12 KiB at most", each)
	}
	if a := r.pipe().ask(wire.GetPwNam, text("alice")); !a.Succeeded() {
		t.Error("another one is not served")
	}
	if a := conns[many/2].ask(wire.Ping); !a.Succeeded() {
		t.Error("one in the middle is not served any more")
	}
}

// One user cannot take all connections.
func TestOneUserCannotTakeAll(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.caller.UID = 1000 })
	refused := false
	for range 2100 {
		c := r.pipe()
		if _, err := c.Write(c.request(wire.Ping).Append(nil)); err != nil {
			refused = true
			break
		}
		if _, err := c.answer(); err != nil {
			refused = true
			break
		}
	}
	if !refused {
		t.Error("one user holds 2,100 connections")
	}
	r.set(func() { r.caller.UID = 0 })
	if a := r.pipe().ask(wire.Ping); !a.Succeeded() {
		t.Error("root is not served any more")
	}
}

// What is no request ends the connection, and nothing else.
func TestHostileBytes(t *testing.T) {
	r := newRig(t)
	good := func(cmd wire.Command) []byte { return r.pipe().request(cmd).Append(nil) }
	long := good(wire.SIDsToXIDs)
	binary.LittleEndian.PutUint32(long[2128:], wire.MaxExtra+1)
	huge := good(wire.SIDsToXIDs)
	binary.LittleEndian.PutUint32(huge[2128:], 1<<32-1)
	for name, b := range map[string][]byte{
		"zeros":         make([]byte, 4000),
		"a length of 5": {5, 0, 0, 0, 1},
		"HTTP":          []byte("GET / HTTP/1.1\r\n\r\n"),
		"30's length":   binary.LittleEndian.AppendUint32(nil, 2096),
		"ones":          bytes.Repeat([]byte{0xff}, 3000),
		"too much":      long,
		"far too much":  huge,
		"two at once":   append(good(wire.Ping), good(wire.Ping)...),
		"one and a bit": append(good(wire.Ping), 'x'),
	} {
		c := r.pipe()
		if _, err := c.Write(b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !c.closed() {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	if n := strings.Count(r.logged.String(), "level=WARN"); n != 1 {
		t.Errorf("the log warned %d times: whoever may connect may fill it", n)
	}
	if a := r.pipe().ask(wire.Ping); !a.Succeeded() {
		t.Error("nobody is served any more")
	}
}

// Every command with every field full of rubbish gets an answer.
func TestRubbishInEveryField(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	for _, fill := range []byte{0xff, 'A', '\n', '\\', 0x01, '@', '-'} {
		c := r.privileged()
		for _, cmd := range wire.Commands() {
			n, ok := wire.V32.Number(cmd)
			if !ok || cmd == wire.InterfaceVersion {
				continue
			}
			b := c.request(cmd).Append(nil)
			for i := 24; i < 2128; i++ {
				b[i] = fill
			}
			binary.LittleEndian.PutUint32(b[4:], n)
			binary.LittleEndian.PutUint32(b[2128:], 100)
			b = append(b, bytes.Repeat([]byte{fill}, 100)...)
			c.send(b)
		}
	}
}

// A request may come in any pieces.
func TestPieces(t *testing.T) {
	r := newRig(t)
	for _, v := range []wire.Version{wire.V31, wire.V32} {
		c := r.pipe()
		c.version = v
		lines := strings.Repeat(sid(1104).String()+"\n", 400) + "\x00"
		b := c.request(wire.SIDsToXIDs, extra(lines)).Append(nil)
		for _, cuts := range [][]int{{1}, {3, 4, 5}, {311, 312, 320}, {2127}, {2128}, {2129}, {2135, 2136, 2137}, {8000, 8100, 8500}, {len(b) - 1}} {
			at := 0
			for _, cut := range append(cuts, len(b)) {
				if _, err := c.Write(b[at:cut]); err != nil {
					t.Fatal(err)
				}
				at = cut
				time.Sleep(2 * time.Millisecond) // so that it is read by itself
			}
			a, err := c.answer()
			if err != nil {
				t.Fatalf("version %d, cut at %v: %v", v, cuts, err)
			}
			if want := strings.Repeat("U100001104\n", 400) + "\x00"; string(a.Extra()) != want {
				t.Errorf("version %d, cut at %v: not the whole answer", v, cuts)
			}
		}
	}
}

// Who begins a request and does not end it, or does not take its answer, is
// given up.
func TestSlowClients(t *testing.T) {
	r := newRig(t, func(c *winbind.Config) { c.SendTime = 50 * time.Millisecond })
	for _, n := range []int{1, 4, 2000, 2136, 2140} {
		c := r.pipe()
		if _, err := c.Write(c.request(wire.SIDsToXIDs, extra("S-1-1-0\n\x00")).Append(nil)[:n]); err != nil {
			t.Fatal(err)
		}
		if !c.closed() {
			t.Errorf("%d bytes of a request: the connection goes on", n)
		}
	}
	for i := range uint32(2000) {
		u := alice
		u.Row, u.Name, u.UID, u.SID = identity.RowID(1000+i), "user-with-a-long-name-so-that-the-list-is-long-"+strings.Repeat("x", 150)+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)), identity.UID(100010000+i), sid(10000+i)
		r.memory.PutUser(u)
	}
	slow := r.pipe()
	if _, err := slow.Write(slow.request(wire.ListUsers).Append(nil)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	_ = slow.SetReadDeadline(time.Now().Add(20 * time.Second))
	// The request was not taken off the socket, so the end may be a reset.
	if n, err := io.Copy(io.Discard, slow); err != nil && !errors.Is(err, syscall.ECONNRESET) || n >= 2000*200 {
		t.Errorf("a reader that sleeps got %d bytes, %v; want an early end", n, err)
	}
	patient := r.pipe()
	time.Sleep(100 * time.Millisecond) // idle is not slow
	if a := patient.ask(wire.ListUsers); len(a.Extra()) < 2000*150 {
		t.Errorf("a reader that reads got %d bytes", len(a.Extra()))
	}
}

// A request that meets a fault of ours costs its own connection, no other.
func TestFaultOfOurs(t *testing.T) {
	r := newRig(t, func(c *winbind.Config) { c.IDs = nil })
	other, c := r.pipe(), r.pipe()
	other.ask(wire.Ping)
	if _, err := c.Write(c.request(wire.SIDsToXIDs, extra("S-1-1-0\n\x00")).Append(nil)); err != nil {
		t.Fatal(err)
	}
	if !c.closed() {
		t.Error("the connection goes on")
	}
	if a := other.ask(wire.Ping); !a.Succeeded() {
		t.Error("another one does not")
	}
	if log := r.logged.String(); !strings.Contains(log, "fault of the daemon") || !strings.Contains(log, "numbers.go") {
		t.Errorf("the log does not say where:\n%s", log)
	}
}

// Many at once, mixed, all get their own answers.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	var all sync.WaitGroup
	for i := range 40 {
		c := r.privileged()
		all.Go(func() {
			for n := range 50 {
				switch (i + n) % 4 {
				case 0:
					if a := c.ask(wire.GetPwNam, text("alice")); a.Passwd().UID != 100001104 {
						t.Errorf("GETPWNAM: %+v", a.Passwd())
					}
				case 1:
					if a := c.ask(wire.SIDsToXIDs, extra(sid(513).String()+"\n\x00")); string(a.Extra()) != "G100000513\n\x00" {
						t.Errorf("SIDS_TO_XIDS: %q", a.Extra())
					}
				case 2:
					if a := c.ask(wire.PAMAuthCrap, func(q *wire.Request) { q.SetAuthCrap(&wire.AuthCrap{User: "u", NT: make([]byte, 60), Flags: 0xe}) }); !a.Succeeded() {
						t.Error("PAM_AUTH_CRAP failed")
					}
				case 3:
					changed := alice
					changed.DisplayName = strings.Repeat("x", n)
					r.memory.PutUser(changed)
				}
			}
		})
	}
	all.Wait()
}

// The end of the server ends what is asked, at once.
func TestStop(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.hang = true })
	idle, busy := r.pipe(), r.privileged()
	idle.ask(wire.Ping)
	if _, err := busy.Write(busy.request(wire.PAMAuthCrap, func(q *wire.Request) { q.SetAuthCrap(&wire.AuthCrap{User: "u", NT: make([]byte, 60)}) }).Append(nil)); err != nil {
		t.Fatal(err)
	}
	for {
		n := len(r.login.asked().ntlm)
		if n > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r.server.Stop(ctx)
	if ctx.Err() != nil {
		t.Error("the end took too long")
	}
	for name, c := range map[string]*client{"idle": idle, "busy": busy} {
		if !c.closed() {
			t.Errorf("the %s connection goes on", name)
		}
	}
	if _, err := net.Dial("unix", filepath.Join(r.dir, "pipe")); err == nil {
		t.Error("somebody still listens")
	}
}

// FuzzConversation: whatever comes, the server neither falls nor answers what it
// should not, and goes on with the next one.
func FuzzConversation(f *testing.F) {
	for _, cmd := range []wire.Command{wire.GetPwNam, wire.LookupName, wire.SIDsToXIDs, wire.LookupRIDs, wire.XIDsToSIDs, wire.PAMAuth, wire.PAMAuthCrap, wire.GetPwEnt} {
		n, _ := wire.V32.Number(cmd)
		f.Add(n, []byte("alice"), []byte("S-1-1-0\n\x00"))
		f.Add(n, []byte(domainSID.String()), []byte("1104\n-1\n\x00"))
	}
	f.Fuzz(func(t *testing.T, n uint32, data, more []byte) {
		r := newRig(t)
		r.login.set(func(f *fakeLogin) { f.err = errors.New("not today") })
		c := r.privileged()
		b := c.request(wire.Ping).Append(nil)
		binary.LittleEndian.PutUint32(b[4:], n%60)
		copy(b[320:2120], data)
		more = more[:min(len(more), wire.MaxExtra)]
		binary.LittleEndian.PutUint32(b[2128:], uint32(len(more)))
		a := c.send(append(b, more...))
		if cmd := n % 60; (cmd == 13 || cmd == 14) && a.Succeeded() {
			t.Error("let in")
		}
		if a := c.ask(wire.Ping); !a.Succeeded() {
			t.Error("does not go on")
		}
	})
}
