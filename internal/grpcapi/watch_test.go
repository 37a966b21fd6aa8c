// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

type watchStream = interface {
	Recv() (*latchkeyv1.WatchIdentitiesResponse, error)
}

func watch(t *testing.T, c latchkeyv1.IdentityServiceClient, req *latchkeyv1.WatchIdentitiesRequest) watchStream {
	t.Helper()
	s, err := c.WatchIdentities(bg(t), req)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func words(m *latchkeyv1.WatchIdentitiesResponse) string {
	event := strings.ToLower(strings.TrimPrefix(m.GetEvent().String(), "EVENT_"))
	switch i := m.GetIdentity().GetIdentity().(type) {
	case *latchkeyv1.Identity_User:
		return event + " " + i.User.GetUsername()
	case *latchkeyv1.Identity_Group:
		return event + " " + i.Group.GetGroupname()
	}
	return event
}

func expect(t *testing.T, s watchStream, events ...string) (token string) {
	t.Helper()
	for _, text := range events {
		m, err := s.Recv()
		if err != nil {
			t.Fatalf("want %q: %v", text, err)
		}
		if got := words(m); got != text {
			t.Fatalf("event %q, want %q", got, text)
		}
		if token = m.GetResumeToken(); token == "" {
			t.Fatalf("%q has no resume token", text)
		}
	}
	return token
}

func TestWatchSnapshotSyncedChangesResume(t *testing.T) {
	b := open(t, peer.Limits{})
	c := b.identity(user)
	s := watch(t, c, &latchkeyv1.WatchIdentitiesRequest{})
	token := expect(t, s, "upsert alice", "upsert bob", "upsert staff", "upsert board", "synced")
	b.memory.PutUser(person(3, "carol"))
	b.memory.PutGroup(group(51, "board"), 1, 3)
	expect(t, s, "upsert carol")
	if m, err := s.Recv(); err != nil || !m.GetMembershipChanged() || m.GetIdentity().GetGroup().GetMemberCount() != 2 {
		t.Errorf("membership change = %v, %v", m, err)
	}
	b.memory.Delete(2)
	m, err := s.Recv()
	if err != nil || words(m) != "delete bob" {
		t.Fatal(m, err)
	}
	if u := m.GetIdentity().GetUser(); u.GetName() != "users/2" || u.GetSid() == "" || u.GetOid() == "" || u.GetObjectGuid() == "" {
		t.Errorf("bob is gone as %v", u)
	}
	again := watch(t, c, &latchkeyv1.WatchIdentitiesRequest{ResumeToken: token})
	expect(t, again, "upsert carol", "upsert board", "delete bob", "synced")
	again = watch(t, c, &latchkeyv1.WatchIdentitiesRequest{ResumeToken: m.GetResumeToken(), Users: true})
	expect(t, again, "synced")
	b.memory.PutGroup(group(51, "board"))
	b.memory.PutUser(person(4, "dave"))
	expect(t, again, "upsert dave")
}

func TestWatchTokenTooOld(t *testing.T) {
	b := open(t, peer.Limits{})
	c := b.identity(user)
	token := expect(t, watch(t, c, &latchkeyv1.WatchIdentitiesRequest{}), "upsert alice")
	b.memory.KeepLog(1)
	b.memory.PutUser(person(3, "carol"), person(4, "dave"))
	_, err := watch(t, c, &latchkeyv1.WatchIdentitiesRequest{ResumeToken: token}).Recv()
	st := want(t, "an old token", err, codes.OutOfRange, "RESUME_TOKEN_TOO_OLD")
	if remedyOf(st) == "" {
		t.Error("there is no remedy")
	}
	b.memory.Restart()
	_, err = watch(t, c, &latchkeyv1.WatchIdentitiesRequest{ResumeToken: token}).Recv()
	want(t, "a token of another file", err, codes.OutOfRange, "RESUME_TOKEN_TOO_OLD")
}

func TestWatchHeartbeats(t *testing.T) {
	b := open(t, peer.Limits{Heartbeat: time.Millisecond})
	s := watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{Groups: true})
	expect(t, s, "upsert staff", "upsert board", "synced")
	token := expect(t, s, "heartbeat", "heartbeat")
	b.memory.PutUser(person(3, "carol"))
	expect(t, watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{ResumeToken: token}), "upsert carol", "synced")
}

func TestWatchBeforeTheFirstPass(t *testing.T) {
	b := open(t, peer.Limits{})
	b.memory.SetComplete(false)
	_, err := watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{}).Recv()
	want(t, "a watch", err, codes.Unavailable, "UNREACHABLE")
}

func TestOneUserHoldsSoManyWatches(t *testing.T) {
	b := open(t, peer.Limits{StreamsPerUID: 3})
	for range 3 {
		expect(t, watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{}), "upsert alice")
	}
	_, err := watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{}).Recv()
	want(t, "one watch more", err, codes.ResourceExhausted, "EXHAUSTED")
	expect(t, watch(t, b.identity(stranger), &latchkeyv1.WatchIdentitiesRequest{}), "upsert alice")
}

// A reader that stops reading holds a bounded amount of memory whatever
// happens meanwhile, and loses its stream in the end.
func TestAWatchThatNobodyReadsHoldsNoMemory(t *testing.T) {
	b, _ := crowd(t, peer.Limits{StallTimeout: 200 * time.Millisecond}, 2000)
	s := watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{})
	first, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	for round := range 20 {
		for i := 1; i <= 500; i++ {
			u := person(i, fmt.Sprintf("user%04d", i))
			u.DisplayName = strings.Repeat("x", 2000+round)
			b.memory.PutUser(u)
		}
	}
	// 10,000 changes of 2 KB each were made; the 500 rows of the fake itself take 1 MB.
	if after := heap(); after > before+8<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	var token string
	for {
		m, err := s.Recv()
		if err != nil {
			want(t, "a stalled watch", err, codes.ResourceExhausted, "EXHAUSTED")
			break
		}
		token = m.GetResumeToken()
		if m.GetEvent() == latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED {
			t.Fatal("the whole snapshot fitted into the buffers: this test proves nothing")
		}
		// The stream has ended on the server by now or will; what is in flight comes first.
		waitFor(t, func() bool { return b.memory.Subscribers() == 0 })
	}
	again := watch(t, b.identity(user), &latchkeyv1.WatchIdentitiesRequest{ResumeToken: token})
	if m, err := again.Recv(); err != nil || m.GetIdentity().GetUser().GetName() == first.GetIdentity().GetUser().GetName() {
		t.Errorf("resumed with %v, %v", m, err)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// waitFor polls until a condition holds; only a hanging test reaches its limit.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

func TestAReaderThatGoesAwayLeavesNothing(t *testing.T) {
	b := open(t, peer.Limits{})
	cc := b.dial(peer.API, user)
	s := watch(t, latchkeyv1.NewIdentityServiceClient(cc), &latchkeyv1.WatchIdentitiesRequest{})
	expect(t, s, "upsert alice")
	if err := cc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := last(s, nil); status.Code(err) != codes.Canceled {
		t.Errorf("the stream ended with %v", err)
	}
	waitFor(t, func() bool { return b.memory.Subscribers() == 0 })
}

// A program that follows a watch, with resumes, ends up with what is there.
func TestWatchConvergesOverTheWire(t *testing.T) {
	m := memorytest.New()
	for i := 1; i <= 200; i++ {
		m.PutUser(person(i, fmt.Sprintf("user%04d", i)))
	}
	b := openOver(t, peer.Limits{}, m, resolve.New(m, resolve.Presentation{}))
	c := b.identity(user)
	seen := map[string]string{}
	s, token := watch(t, c, &latchkeyv1.WatchIdentitiesRequest{}), ""
	const changes = 300
	for i := 0; ; i++ {
		switch {
		case i < changes && i%3 == 0:
			m.PutUser(person(1+i*7%220, fmt.Sprintf("new%04d", i)))
		case i == changes:
			m.Delete(5)
		}
		if i%37 == 36 || i == changes {
			s = watch(t, c, &latchkeyv1.WatchIdentitiesRequest{ResumeToken: token})
		}
		ev, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		token = ev.GetResumeToken()
		u := ev.GetIdentity().GetUser()
		switch ev.GetEvent() {
		case latchkeyv1.WatchIdentitiesResponse_EVENT_UPSERT:
			seen[u.GetName()] = u.GetUsername()
		case latchkeyv1.WatchIdentitiesResponse_EVENT_DELETE:
			delete(seen, u.GetName())
		}
		if i >= changes && ev.GetEvent() == latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED {
			break
		}
	}
	page, err := resolve.New(m, resolve.Presentation{}).List(bg(t), identity.KindUser, resolve.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	truth := map[string]string{}
	for _, e := range page.Entries {
		truth[fmt.Sprintf("users/%d", e.User.Row)] = e.User.Name
	}
	if fmt.Sprint(seen) != fmt.Sprint(truth) {
		t.Errorf("the reader has %v, want %v", seen, truth)
	}
}
