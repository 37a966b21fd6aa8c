// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// speak opens a connection that says what an HTTP/2 client says first, and
// nothing more.
func (b *box) speak(name peer.Name, as peer.Caller) (net.Conn, *http2.Framer, error) {
	conn, err := b.dialRaw(name, as)
	if err != nil {
		return nil, nil, err
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, nil, err
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(); err != nil {
		return nil, nil, err
	}
	frame, err := f.ReadFrame()
	if err != nil {
		return nil, nil, err
	}
	if _, ok := frame.(*http2.SettingsFrame); !ok {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return conn, f, f.WriteSettingsAck()
}

func TestAThousandIdleConnections(t *testing.T) {
	b := open(t, peer.Limits{})
	before := heap()
	for i := range 1000 {
		if _, _, err := b.speak(peer.API, peer.Caller{UID: identity.UID(2000 + i/50)}); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	t.Logf("%d bytes a connection, both ends", (heap()-before)/1000)
	if after := heap(); after > before+40<<20 {
		t.Errorf("1,000 idle connections take %d KB each", (after-before)/1000/1024)
	}
	for who, c := range map[string]latchkeyv1.IdentityServiceClient{"another": b.identity(user), "one of them": b.identity(peer.Caller{UID: 2000})} {
		if _, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")}); err != nil {
			t.Errorf("%s cannot ask: %v", who, err)
		}
	}
	if _, err := b.admin().GetStatus(bg(t), &latchkeyv1.GetStatusRequest{}); err != nil {
		t.Errorf("the administrator cannot ask: %v", err)
	}
}

// One user's 1,000 connections end at that user's limit.
func TestAThousandConnectionsOfOneUser(t *testing.T) {
	b := open(t, peer.Limits{ConnectionsPerUID: 10})
	open := 0
	for range 1000 {
		if _, _, err := b.speak(peer.API, user); err == nil {
			open++
		}
	}
	if open != 10 {
		t.Errorf("%d connections were let in, want 10", open)
	}
	if _, err := b.identity(stranger).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")}); err != nil {
		t.Errorf("another user cannot ask: %v", err)
	}
	if n := strings.Count(b.log.String(), "connection refused"); n != 1 {
		t.Errorf("%d lines about refused connections, want 1", n)
	}
}

func TestAConnectionThatSaysNothingIsClosed(t *testing.T) {
	b := open(t, peer.Limits{HandshakeTimeout: 50 * time.Millisecond})
	conn, err := b.dialRaw(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.Copy(io.Discard, conn) // ends only when the server closes
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

func TestAnIdleConnectionIsClosedAndComesBackByItself(t *testing.T) {
	b := open(t, peer.Limits{IdleTimeout: 50 * time.Millisecond})
	_, f, err := b.speak(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	c := b.identity(user)
	if _, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")}); err != nil {
		t.Fatal(err)
	}
	saidGoodbye := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			break // closed by the server: nothing else ends this
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			saidGoodbye = true
		case *http2.PingFrame:
			if err := f.WritePing(true, frame.Data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !saidGoodbye {
		t.Error("the connection was closed without GOAWAY")
	}
	if _, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")}); err != nil {
		t.Errorf("after the idle time: %v", err)
	}
}

func TestATooBigRequestIsRefused(t *testing.T) {
	b := open(t, peer.Limits{})
	keys := make([]*latchkeyv1.Key, 1000)
	for i := range keys {
		keys[i] = byName(strings.Repeat("x", 1024))
	}
	_, err := b.identity(user).ResolveIdentities(bg(t), &latchkeyv1.ResolveIdentitiesRequest{Keys: keys})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("1 MB of keys: %v, want RESOURCE_EXHAUSTED", err)
	}
	for i := range keys {
		keys[i] = byName(strings.Repeat("x", 240))
	}
	if _, err := b.identity(user).ResolveIdentities(bg(t), &latchkeyv1.ResolveIdentitiesRequest{Keys: keys}); err != nil {
		t.Errorf("1,000 names of 240 bytes: %v", err)
	}
}

// headers opens a stream for a method and sends no request on it.
func headers(f *http2.Framer, stream uint32, method string) error {
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(block.String()), EndHeaders: true})
}

const getUser = latchkeyv1.IdentityService_GetUser_FullMethodName

func TestTooManyStreamsOnOneConnectionAreRefused(t *testing.T) {
	b := open(t, peer.Limits{StreamsPerConnection: 5})
	_, f, err := b.speak(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(6) {
		if err := headers(f, 1+2*i, getUser); err != nil {
			t.Fatal(err)
		}
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if rst, ok := frame.(*http2.RSTStreamFrame); ok {
			if rst.StreamID != 11 || rst.ErrCode != http2.ErrCodeRefusedStream {
				t.Errorf("stream %d was reset with %v", rst.StreamID, rst.ErrCode)
			}
			return
		}
	}
}

func TestTooManyCallsOfOneUserCostTheConnection(t *testing.T) {
	b := open(t, peer.Limits{CallsPerUID: 20})
	conn, f, err := b.speak(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(21) {
		if err := headers(f, 1+2*i, getUser); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, conn) // ends only when the server closes
	// The calls ended with the connection: the user may go on.
	waitFor(t, func() bool {
		_, err := b.identity(user).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
		return err == nil
	})
}

// A program with short deadlines gives calls up before their requests are read;
// they are not under way any longer, and cost nobody a connection.
func TestCallsThatWereGivenUpAreNotCounted(t *testing.T) {
	b := open(t, peer.Limits{CallsPerUID: 20, CallTimeout: time.Hour})
	neighbour := b.identity(user)
	if _, err := neighbour.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")}); err != nil {
		t.Fatal(err)
	}
	conn, f, err := b.speak(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	for i := range uint32(500) {
		err := headers(f, 1+2*i, getUser)
		if err == nil {
			err = f.WriteRSTStream(1+2*i, http2.ErrCodeCancel)
		}
		if err != nil {
			t.Fatalf("the connection was closed after %d calls: %v", i, err)
		}
		if i%10 == 0 {
			if _, err := neighbour.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")}); err != nil {
				t.Fatalf("another connection of the same user, after %d calls: %v", i, err)
			}
		}
	}
}

// A client that opens a call and sends its request drop by drop, or never.
func TestACallWhoseRequestNeverComesEnds(t *testing.T) {
	b := open(t, peer.Limits{CallTimeout: 50 * time.Millisecond, CallsPerUID: 1})
	conn, f, err := b.speak(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	if err := headers(f, 1, getUser); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteData(1, false, []byte{0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // ends only when the server closes
	waitFor(t, func() bool {
		_, err := b.identity(user).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
		return err == nil
	})
}

// slow is a directory whose lists take until their context ends.
type slow struct{ grpcapi.Directory }

func (slow) List(ctx context.Context, _ identity.Kind, _ resolve.Query) (resolve.Page, error) {
	at, ok := ctx.Deadline()
	if !ok || time.Until(at) > 100*time.Millisecond {
		panic("a call without a deadline")
	}
	<-ctx.Done()
	return resolve.Page{}, ctx.Err()
}

func TestCallsWithoutADeadlineGetOneAndLongOnesAreCut(t *testing.T) {
	b := openOver(t, peer.Limits{CallTimeout: 100 * time.Millisecond}, memorytest.New(), slow{})
	c := b.identity(user)
	for name, ctx := range map[string]context.Context{"none": context.Background(), "an hour": bg(t)} {
		_, err := c.ListUsers(ctx, &latchkeyv1.ListUsersRequest{})
		want(t, name, err, codes.Unavailable, "UNREACHABLE")
	}
	if log := b.log.String(); strings.Contains(log, "given up by the client") {
		t.Errorf("the log blames the client:\n%s", log)
	}
}

// A user who asks for long answers and reads none of them.
func TestAnswersThatNobodyReadAreCounted(t *testing.T) {
	b, _ := crowd(t, peer.Limits{UnreadBytesPerUID: 1 << 20}, 1000)
	conn, f, err := b.speak(peer.API, user)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(stream uint32) {
		if err := headers(f, stream, latchkeyv1.IdentityService_ListUsers_FullMethodName); err != nil {
			t.Fatal(err)
		}
		// page_size 1000
		if err := f.WriteData(stream, true, []byte{0, 0, 0, 0, 3, 8, 0xe8, 7}); err != nil {
			t.Fatal(err)
		}
	}
	// About 250 KB each; the client never gives a window update beyond the first 64 KB.
	refused := false
	for i := range uint32(20) {
		ask(1 + 2*i)
	}
	for !refused {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok {
			for _, field := range h.Fields {
				refused = refused || field.Name == "grpc-status" && field.Value == "8"
			}
		}
	}
	_, err = b.identity(user).ListUsers(bg(t), &latchkeyv1.ListUsersRequest{PageSize: 1000})
	want(t, "another long answer", err, codes.ResourceExhausted, "EXHAUSTED")
	if _, err := b.identity(user).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("user0001")}); err != nil {
		t.Errorf("a short answer: %v", err)
	}
	if _, err := b.identity(stranger).ListUsers(bg(t), &latchkeyv1.ListUsersRequest{PageSize: 1000}); err != nil {
		t.Errorf("another user: %v", err)
	}
	_ = conn.Close()
	waitFor(t, func() bool {
		_, err := b.identity(user).ListUsers(bg(t), &latchkeyv1.ListUsersRequest{PageSize: 1000})
		return err == nil
	})
}

// Long answers that are read, or given up half way, give their bytes back.
func TestLongAnswersGiveTheirBytesBack(t *testing.T) {
	b, _ := crowd(t, peer.Limits{UnreadBytesPerUID: 2 << 20}, 1000)
	c := b.identity(user)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 30 {
				ctx, cancel := context.WithCancel(bg(t))
				if i%3 == 0 {
					go cancel()
				}
				_, err := c.ListUsers(ctx, &latchkeyv1.ListUsersRequest{PageSize: 1000})
				if err != nil && status.Code(err) != codes.Canceled {
					t.Errorf("round %d: %v", i, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
}

func TestAnUnknownMethodOfAnyService(t *testing.T) {
	b := open(t, peer.Limits{})
	err := b.dial(peer.API, user).Invoke(bg(t), "/latchkey.v1.IdentityService/Guess", &emptypb.Empty{}, &emptypb.Empty{})
	want(t, "an unknown method", err, codes.PermissionDenied, "DENIED")
}

// What the documents say about limits is what holds.
func TestLimitsAreAsDocumented(t *testing.T) {
	l := peer.DefaultLimits()
	for file, sentences := range map[string][]string{
		"../../docs/apps.md": {fmt.Sprintf("%d connections, %d calls under way, %d watches (root: eight times as many); %d calls on a connection, %d KiB for a request, %d MiB for an answer",
			l.ConnectionsPerUID, l.CallsPerUID, l.StreamsPerUID, l.StreamsPerConnection, l.RequestBytes>>10, l.AnswerBytes>>20)},
		"../../proto/latchkey/v1/identity.proto": {fmt.Sprintf("at most %d watches, root %d", l.StreamsPerUID, 8*l.StreamsPerUID), fmt.Sprintf("A call has %.0f seconds", l.CallTimeout.Seconds()),
			fmt.Sprintf("a request is over %d KiB", l.RequestBytes>>10), fmt.Sprintf("at most %d MiB", l.AnswerBytes>>20)},
		"../../proto/latchkey/v1/admin.proto": {fmt.Sprintf("may take %.0f minutes", l.TaskTimeout.Minutes())},
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		plain := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "//", "")), " ")
		for _, sentence := range sentences {
			if !strings.Contains(plain, sentence) {
				t.Errorf("%s does not say %q", file, sentence)
			}
		}
	}
}
