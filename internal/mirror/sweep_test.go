// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func TestNothingToSeeIsNoEmptyDomain(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	dc.objects = map[identity.GUID]*directory.Object{}
	for _, r := range []Request{{Full: true}, {AcceptDeletions: true}} {
		if _, err := b.m.Sync(context.Background(), r, nil); !fault.Is(err, fault.Denied) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	b.user("ana")
}

func TestDeletedAfterTwoSweeps(t *testing.T) {
	dc := newFakeDC()
	ana, bob := dc.user("ana"), dc.user("bob")
	staff := dc.group("staff berlin", ana, bob)
	b := newBox(t, dc)
	b.sync(Request{})
	uid := b.user("ana").UID
	sid := b.user("ana").SID
	dc.remove(ana)
	if res := b.sync(Request{}); res.Removed != 0 || b.user("ana").State.Has(identity.Missing) {
		t.Errorf("deletions are not seen without a sweep: %+v", res)
	}
	if res := b.sweep(); res.Removed != 0 || !b.user("ana").State.Has(identity.Missing) || !b.in("ana", "staff berlin") {
		t.Errorf("the first sweep: %+v, %+v", res, b.user("ana"))
	}
	if res := b.sweep(); res.Removed != 1 {
		t.Errorf("the second sweep: %+v", res)
	}
	b.gone("ana")
	if b.in("bob", "staff berlin") != true {
		t.Error("bob went with her")
	}
	if _, err := b.entry(identity.Key{Kind: identity.ByUID, ID: uint32(uid)}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the uid is still found: %v", err)
	}
	// Back in scope: a new object, a new SID, the same person.
	dc.user("ana")
	b.sync(Request{})
	if u := b.user("ana"); u.UID != uid || u.SID == sid || !slices.Contains(u.PastSIDs, sid) || u.State != 0 {
		t.Errorf("back: %+v", u)
	}
	_ = staff
}

func TestSeenAgainIsNotMissing(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	o := dc.objects[ana]
	delete(dc.objects, ana)
	b.sweep()
	dc.objects[ana] = o // hidden for a while, by a right that was wrong
	b.sweep()
	if u := b.user("ana"); u.State.Has(identity.Missing) {
		t.Errorf("still missing: %+v", u)
	}
	delete(dc.objects, ana)
	if res := b.sweep(); res.Removed != 0 {
		t.Error("gone after one miss")
	}
	b.user("ana")
}

func TestBreaker(t *testing.T) {
	dc := newFakeDC()
	for i := range 98 { // and two that every domain has
		dc.user(fmt.Sprintf("user%02d", i))
	}
	b := newBox(t, dc)
	b.sync(Request{})
	for i := range 11 {
		dc.remove(dc.find(fmt.Sprintf("user%02d", i)))
	}
	b.sweep()
	res := b.sweep()
	if res.Removed != 0 || res.Held != 11 || b.m.Status().Held != 11 {
		t.Errorf("11 of 100: %+v", res)
	}
	if p := b.m.Status().Problems; len(p) != 1 || p[0].ID != ProblemHeld || !strings.Contains(p[0].Remedy, "--accept-deletions") {
		t.Errorf("problems %+v", p)
	}
	b.user("user03")
	if res := b.sync(Request{Full: true}); res.Removed != 0 || res.Held != 11 {
		t.Errorf("a full pass: %+v", res)
	}
	// Held is remembered by a daemon that was restarted.
	b.m = New(Config{Store: b.store, Directory: dc})
	if held := b.m.Status().Held; held != 11 {
		t.Errorf("held %d after a restart", held)
	}
	res = b.sync(Request{AcceptDeletions: true})
	if res.Removed != 11 || res.Held != 0 || b.m.Status().Held != 0 {
		t.Errorf("accepted: %+v", res)
	}
	b.gone("user03")
	// Ten per cent may go.
	for i := 11; i < 19; i++ {
		dc.remove(dc.find(fmt.Sprintf("user%02d", i)))
	}
	b.sweep()
	if res := b.sweep(); res.Removed != 8 {
		t.Errorf("8 of 89: %+v", res)
	}
}

func TestSmallDomainCanLosePeople(t *testing.T) {
	dc := newFakeDC()
	for i := range 8 {
		dc.user(fmt.Sprintf("user%02d", i))
	}
	b := newBox(t, dc)
	b.sync(Request{})
	dc.remove(dc.find("user01"))
	dc.remove(dc.find("user02"))
	b.sweep()
	if res := b.sweep(); res.Removed != 2 || res.Held != 0 {
		t.Errorf("2 of 10: %+v", res)
	}
}
