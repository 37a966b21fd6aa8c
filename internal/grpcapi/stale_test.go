// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Answers are kept encoded; nobody may notice.
func TestKeptAnswersAreNeverStale(t *testing.T) {
	m := memorytest.New()
	m.PutUser(person(1, "alice"))
	m.PutGroup(group(50, "staff"), 1)
	r := resolve.New(m, resolve.Presentation{})
	b := openOver(t, peer.Limits{}, m, r)
	c := b.identity(user)
	get := func() *latchkeyv1.User {
		t.Helper()
		u, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	members := func() uint32 {
		t.Helper()
		g, err := c.GetGroup(bg(t), &latchkeyv1.GetGroupRequest{Key: byName("staff")})
		if err != nil {
			t.Fatal(err)
		}
		return g.GetMemberCount()
	}
	get()
	if got := get().GetHome(); got != "" || members() != 1 {
		t.Fatalf("home = %q, %d members", got, members())
	}
	changed := person(1, "alice")
	changed.DisplayName = "Alice B."
	m.PutUser(changed)
	if got := get().GetDisplayName(); got != "Alice B." {
		t.Errorf("after a change: %q", got)
	}
	m.PutGroup(group(50, "staff"), 1, 2)
	if got := members(); got != 2 {
		t.Errorf("after a change of members: %d", got)
	}
	r.SetPresentation(resolve.Presentation{Present: func(u *identity.User) { u.Home = "/home/" + u.Name }})
	if got := get().GetHome(); got != "/home/alice" {
		t.Errorf("after a change of the templates: %q", got)
	}
	if _, err := c.GetGroup(bg(t), &latchkeyv1.GetGroupRequest{Key: byName("alice")}); err == nil {
		t.Error("a kept user is a group")
	}
	m.Delete(1)
	_, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
	want(t, "after deletion", err, codes.NotFound, "NOT_FOUND")
}

// A call that begins after a change was made sees that change, whatever else
// happens at the same time.
func TestKeptAnswersFollowChangesUnderLoad(t *testing.T) {
	m := memorytest.New()
	m.PutUser(person(1, "alice"))
	b := openOver(t, peer.Limits{}, m, resolve.New(m, resolve.Presentation{}))
	c := b.identity(user)
	var made atomic.Int64
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		defer close(done)
		for n := range int64(300) {
			u := person(1, "alice")
			u.DisplayName = fmt.Sprint(n)
			m.PutUser(u)
			made.Store(n)
		}
	})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				before := made.Load()
				u, err := c.GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
				if err != nil {
					t.Error(err)
					return
				}
				var seen int64
				_, _ = fmt.Sscan(u.GetDisplayName(), &seen)
				if seen < before {
					t.Errorf("a call that began after change %d saw change %d", before, seen)
					return
				}
			}
		})
	}
	all.Wait()
}
