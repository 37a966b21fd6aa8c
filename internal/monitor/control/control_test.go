// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// one of every kind, with every field set.
func all() []Message {
	host := Host{Realm: "AADDS.CONTOSO.TEST", Account: "NAS$", FQDN: "nas.aadds.contoso.test"}
	return []Message{
		&Welcome{Started: time.Unix(1795000000, 0), Restarts: 7, LastEnd: "killed: it was silent for 3 s"},
		&Reload{}, &Stop{},
		&Answer{Kind: fault.Denied, Failed: true, Text: "gid 27 is below 1000", Remedy: "look at the snapshot"},
		&Heartbeat{}, &Ready{}, &Publish{},
		&InstallKeys{Host: host, Keytab: secret.Own([]byte{5, 2, 0, 0})},
		&RemoveKeys{Host: host}, &Reconfigured{}, &Withdraw{}, &CheckPassword{}, &ServeWeb{}, &LeaveWeb{},
		&Admit{UIDs: []uint32{100001104, 100001108}, GIDs: []uint32{100001201}},
	}
}

func TestRoundTrip(t *testing.T) {
	seen := map[Verb]bool{}
	for i, m := range all() {
		b, err := Encode(uint32(i), m)
		if err != nil {
			t.Fatal(err)
		}
		number, got, err := Decode(b)
		if err != nil || number != uint32(i) || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %d %+v %v, want %d %+v", m.Verb(), number, got, err, i, m)
		}
		seen[m.Verb()] = true
		for cut := range b {
			if _, _, err := Decode(b[:cut]); !fault.Is(err, fault.Malformed) {
				t.Errorf("%s cut to %d bytes: got %v, want malformed", m.Verb(), cut, err)
			}
		}
		if _, _, err := Decode(append(b, 0)); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s with a byte too many: got %v, want malformed", m.Verb(), err)
		}
	}
	for v := Verb(1); blank(v) != nil; v++ {
		if !seen[v] || strings.HasPrefix(v.String(), "verb ") || blank(v).Verb() != v {
			t.Errorf("%s is not in the test, has no name, or is mixed up with %s", v, blank(v).Verb())
		}
	}
}

func TestLimits(t *testing.T) {
	if _, err := Encode(0, &InstallKeys{Keytab: secret.Own(make([]byte, MaxMessage))}); !fault.Is(err, fault.Malformed) {
		t.Errorf("a keytab that is too long: got %v, want malformed", err)
	}
	long := strings.Repeat("ä", maxText)
	b, err := Encode(0, &Answer{Failed: true, Text: long + "\xff", Remedy: "x"})
	if err != nil {
		t.Fatal(err)
	}
	_, m, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(*Answer).Text; got != long[:maxText] || m.(*Answer).Remedy != "x" {
		t.Errorf("long text: got %d bytes, want the first %d", len(got), maxText)
	}
}

func TestAnswer(t *testing.T) {
	if err := (&Answer{}).Of(nil).Err(); err != nil {
		t.Errorf("success: got %v", err)
	}
	err := (&Answer{}).Of(&fault.Error{Kind: fault.Denied, Op: "publish", Err: errors.New("gid 0"), Remedy: "r"}).Err()
	if !fault.Is(err, fault.Denied) || err.Error() != "publish: gid 0" || fault.Remedy(err) != "r" {
		t.Errorf("failure: got %v, %v, %q", err, fault.KindOf(err), fault.Remedy(err))
	}
	if err := (&Answer{}).Of(io.ErrUnexpectedEOF).Err(); err == nil {
		t.Error("an unclassified failure became a success")
	}
}

func pair(t *testing.T) (ours, theirs *Conn) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = Open(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	return ours, theirs
}

func memfd(t *testing.T, text string) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilePasses(t *testing.T) {
	ours, theirs := pair(t)
	if err := theirs.Send(3, &Publish{}, memfd(t, "snapshot")); err != nil {
		t.Fatal(err)
	}
	number, m, f, err := ours.Receive()
	if err != nil || number != 3 || m.Verb() != verbPublish || f == nil {
		t.Fatalf("got %d %v %v %v", number, m, f, err)
	}
	defer f.Close()
	got := make([]byte, 8)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "snapshot" {
		t.Errorf("got %q %v, want the text of the file", got, err)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the file would pass on to a child: flags %x %v", flags, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// What is no message is refused, and no descriptor that came with it stays open.
func TestRefused(t *testing.T) {
	ours, theirs := pair(t)
	f := memfd(t, "x")
	fd := int(f.Fd())
	heartbeat, _ := Encode(0, &Heartbeat{})
	publish, _ := Encode(0, &Publish{})
	before := descriptors(t)
	for _, test := range []struct {
		name   string
		packet []byte
		fds    []int
	}{
		{"no message", []byte("hello, monitor"), nil},
		{"no message with a file", []byte("hello, monitor"), []int{fd}},
		{"unknown verb", []byte{1, 200, 0, 0, 0, 0}, nil},
		{"other version", append([]byte{2}, heartbeat[1:]...), nil},
		{"heartbeat with a file", heartbeat, []int{fd}},
		{"publish without a file", publish, nil},
		{"publish with two files", publish, []int{fd, fd}},
		{"publish with thirty files", publish, bytesOf(fd, 30)},
		{"too long", make([]byte, MaxMessage+10), nil},
	} {
		var oob []byte
		if test.fds != nil {
			oob = unix.UnixRights(test.fds...)
		}
		if _, _, err := theirs.conn.WriteMsgUnix(test.packet, oob, nil); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if _, m, file, err := ours.Receive(); !fault.Is(err, fault.Malformed) || file != nil {
			t.Errorf("%s: got %v %v %v, want malformed", test.name, m, file, err)
		}
		if after := descriptors(t); after != before {
			t.Errorf("%s: %d descriptors, %d before", test.name, after, before)
		}
	}
}

func bytesOf(fd, n int) []int {
	fds := make([]int, n)
	for i := range fds {
		fds[i] = fd
	}
	return fds
}

func TestClient(t *testing.T) {
	ours, theirs := pair(t)
	want := &Welcome{Started: time.Unix(1795000000, 0), Restarts: 2, LastEnd: "exit status 1"}
	if err := ours.Send(0, want, nil); err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(theirs)
	if err != nil || c.Welcome() != *want {
		t.Fatalf("got %+v %v, want %+v", c.Welcome(), err, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reloads, stops := make(chan struct{}, 1), make(chan struct{}, 1)
	ran := make(chan error, 1)
	go func() {
		ran <- c.Run(ctx, Handlers{Reload: func() { reloads <- struct{}{} }, Stop: func() { stops <- struct{}{} }})
	}()
	if _, m, _, err := ours.Receive(); err != nil || m.Verb() != verbHeartbeat {
		t.Fatalf("got %v %v, want a heartbeat at once", m, err)
	}

	// Two calls under way, answered the other way round.
	host := Host{Realm: "R", Account: "A$", FQDN: "a.r"}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- c.Call(ctx, &InstallKeys{Host: host, Keytab: secret.FromString("k")}, nil) }()
	n1, m1 := request(t, ours)
	go func() { second <- c.Call(ctx, &RemoveKeys{Host: host}, nil) }()
	n2, m2 := request(t, ours)
	if k, ok := m1.(*InstallKeys); !ok || !bytes.Equal(k.Keytab.Reveal(), []byte("k")) || k.Host != host {
		t.Errorf("first request: got %+v", m1)
	}
	if _, ok := m2.(*RemoveKeys); !ok {
		t.Errorf("second request: got %+v", m2)
	}
	for _, m := range []struct {
		number uint32
		m      Message
	}{{n2, &Answer{}}, {99, &Answer{}}, {n1, (&Answer{}).Of(fault.New(fault.Conflict, "no"))}, {0, &Reload{}}, {0, &Stop{}}} {
		if err := ours.Send(m.number, m.m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-second; err != nil {
		t.Errorf("second call: %v", err)
	}
	if err := <-first; !fault.Is(err, fault.Conflict) {
		t.Errorf("first call: got %v, want conflict", err)
	}
	<-reloads
	<-stops

	// The monitor goes: the call that waits fails, and so does Run.
	go func() { first <- c.Call(ctx, &RemoveKeys{}, nil) }()
	request(t, ours)
	_ = ours.Close()
	if err := <-first; !fault.Is(err, fault.Unreachable) {
		t.Errorf("call when the monitor goes: got %v, want unreachable", err)
	}
	if err := <-ran; !fault.Is(err, fault.Unreachable) {
		t.Errorf("run when the monitor goes: got %v, want unreachable", err)
	}
	if err := c.Call(ctx, &RemoveKeys{}, nil); !fault.Is(err, fault.Unreachable) {
		t.Errorf("call after the monitor went: got %v, want unreachable", err)
	}
}

// request returns the next message that is no heartbeat.
func request(t *testing.T, c *Conn) (uint32, Message) {
	t.Helper()
	for {
		number, m, _, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if m.Verb() != verbHeartbeat {
			return number, m
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i, m := range all() {
		b, err := Encode(uint32(i), m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		number, m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(number, m)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: got %x %v, want %x", m.Verb(), again, err, b)
		}
	})
}
