// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func name(n string) identity.Key { return identity.Key{Kind: identity.ByName, Name: n} }

func TestRefreshOne(t *testing.T) {
	dc := newFakeDC()
	ana, bob := dc.user("ana"), dc.user("bob")
	dc.group("staff berlin", ana)
	b := newBox(t, dc)
	b.sync(Request{})

	dc.change(ana, func(o *directory.Object) { o.UserAccountControl |= directory.UACDisabled })
	dc.change(bob, func(o *directory.Object) { o.DisplayName = "Not Read" })
	dc.reads = nil
	e, err := b.m.RefreshOne(context.Background(), name("ana@contoso.com"))
	if err != nil || !e.User.State.Has(identity.Disabled) {
		t.Fatalf("%+v, %v", e.User, err)
	}
	if !slices.Equal(dc.reads, []string{"one by 6"}) { // by objectGUID, and nothing else
		t.Errorf("asked %v", dc.reads)
	}
	if b.user("bob").DisplayName == "Not Read" {
		t.Error("others were read as well")
	}
	if u := b.user("ana"); !u.State.Has(identity.Disabled) {
		t.Error("the row was not written")
	}
}

func TestRefreshSeesARevokedGroup(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	inner := dc.group("inner", ana)
	dc.group("outer", inner)
	b := newBox(t, dc)
	b.sync(Request{})
	if !b.in("ana", "outer") {
		t.Fatal("ana is not in outer")
	}
	dc.setMembers(dc.find("outer")) // her own object does not change, nor does inner
	if _, err := b.m.RefreshOne(context.Background(), name("ana")); err != nil {
		t.Fatal(err)
	}
	if b.in("ana", "outer") || !b.in("ana", "inner") {
		t.Error("the revoked group is still there")
	}
	dc.setMembers(inner)
	if _, err := b.m.RefreshOne(context.Background(), name("ana")); err != nil || b.in("ana", "inner") {
		t.Errorf("a direct group: %v", err)
	}
}

// TestRefreshSeesADeletedGroup: nothing that was read tells of the deletion, and
// a rule for the group must not let anybody in until the next sweep.
func TestRefreshSeesADeletedGroup(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	inner := dc.group("inner", ana)
	outer := dc.group("outer", inner)
	b := newBox(t, dc)
	b.sync(Request{})
	dc.remove(outer)
	e, err := b.m.RefreshOne(context.Background(), name("ana"))
	if err != nil || e.User == nil || b.named("outer") != "" || !b.in("ana", "inner") {
		t.Errorf("%+v, %v, outer is %q", e.User, err, b.named("outer"))
	}
	dc.remove(inner)
	if _, err := b.m.RefreshOne(context.Background(), name("ana")); err != nil || b.named("inner") != "" {
		t.Errorf("a direct group: %v, %q", err, b.named("inner"))
	}
}

func TestRefreshOfSomebodyNew(t *testing.T) {
	dc := newFakeDC()
	staff := dc.group("staff berlin")
	b := newBox(t, dc)
	b.sync(Request{})
	new := dc.user("new")
	dc.setMembers(staff, new)
	e, err := b.m.RefreshOne(context.Background(), name("NEW@contoso.com"))
	if err != nil || e.User.Name != "new" || e.User.UID == 0 || !b.in("new", "staff berlin") {
		t.Errorf("%+v, %v", e.User, err)
	}
	for _, key := range []identity.Key{name("nobody"), {Kind: identity.ByUID, ID: 4}, {Kind: identity.ByOID, GUID: oidOf("nobody")}} {
		if e, err := b.m.RefreshOne(context.Background(), key); !fault.Is(err, fault.NotFound) {
			t.Errorf("%+v: %+v, %v", key, e, err)
		}
	}
	// An oid that somebody without rights wrote is nobody's.
	dc.lock.Lock()
	forged := dc.newObject(directory.ClassUser, "forged", custom)
	forged.OID = oidOf("ceo")
	dc.lock.Unlock()
	if e, err := b.m.RefreshOne(context.Background(), identity.Key{Kind: identity.ByOID, GUID: oidOf("ceo")}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a forged oid finds %+v, %v", e.User, err)
	}
}

func TestRefreshBeforeTheFirstPassReadsEverything(t *testing.T) {
	dc := newFakeDC()
	dc.group("staff berlin", dc.user("ana"))
	b := newBox(t, dc)
	e, err := b.m.RefreshOne(context.Background(), name("ana"))
	if err != nil || e.User.GID == 0 || !b.in("ana", "staff berlin") || !b.m.Status().Complete {
		t.Errorf("%+v, %v", e.User, err)
	}
}

func TestRefreshOfSomebodyDeleted(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	dc.remove(ana)
	if e, err := b.m.RefreshOne(context.Background(), name("ana")); !fault.Is(err, fault.NotFound) {
		t.Errorf("%+v, %v", e.User, err)
	}
	if u := b.user("ana"); !u.State.Has(identity.Missing) {
		t.Errorf("not marked: %+v", u)
	}
	if res := b.sweep(); res.Removed != 1 {
		t.Errorf("the sweep: %+v", res)
	}
}

// TestRefreshByAMachineThatTheDomainDoesNotKnow: that our own account was
// deleted does not make anybody else's go.
func TestRefreshByAMachineThatTheDomainDoesNotKnow(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	// Nor does a DC, or what plays one, that takes none of our tickets make a
	// password wrong.
	for _, kind := range []fault.Kind{fault.NotFound, fault.BadCredential, fault.Denied, fault.Disabled} {
		dc.refuses = fault.WithRemedy(fault.New(kind, "the domain has no such account"), "join again")
		if _, err := b.m.RefreshOne(context.Background(), name("ana")); !fault.Is(err, fault.Unreachable) || fault.Remedy(err) != "join again" {
			t.Errorf("%s: got %v", kind, err)
		}
	}
	if u := b.user("ana"); u.State != 0 {
		t.Errorf("ana is %+v", u)
	}
}

func TestRefreshOfSomebodyReCreated(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	dc.remove(ana)
	again := dc.user("ana")
	e, err := b.m.RefreshOne(context.Background(), name("ana"))
	if err != nil || e.User.Row != was.Row || e.User.UID != was.UID || e.User.ObjectGUID != again || !slices.Equal(e.User.PastSIDs, []identity.SID{was.SID}) {
		t.Errorf("%+v, %v", e.User, err)
	}
}

func TestRefreshOfAGroup(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	staff := dc.group("staff berlin")
	b := newBox(t, dc)
	b.sync(Request{})
	dc.setMembers(staff, ana)
	if e, err := b.m.RefreshOne(context.Background(), name("staff berlin")); err != nil || e.Group == nil || !b.in("ana", "staff berlin") {
		t.Errorf("%+v, %v", e.Group, err)
	}
}

// TestRefreshDuringAFullPass: what the pass read before is older, and must not
// come back.
func TestRefreshDuringAFullPass(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	var during error
	dc.during = func() { // the pass has its list already
		dc.remove(ana)
		dc.change(dc.user("ana"), func(o *directory.Object) { o.DisplayName = "The new one" })
		_, during = b.m.RefreshOne(context.Background(), identity.Key{Kind: identity.ByOID, GUID: oidOf("ana")})
	}
	b.sync(Request{Full: true})
	if u := b.user("ana"); during != nil || u.Row != was.Row || u.UID != was.UID || u.DisplayName != "The new one" || u.State != 0 {
		t.Errorf("%v, %+v", during, u)
	}
	b.sync(Request{})
	b.sync(Request{Full: true})
	if u := b.user("ana"); u.Row != was.Row || u.DisplayName != "The new one" || u.State != 0 || u.SID == was.SID {
		t.Errorf("afterwards %+v", u)
	}
}

func TestRunFollowsNotifications(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.m = New(Config{Store: b.store, Directory: dc, Interval: time.Hour, Log: b.m.cfg.Log})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	wake, stop := b.store.Subscribe()
	defer stop()
	go func() { done <- b.m.Run(ctx) }()
	until := func(what string, reached func() bool) {
		t.Helper()
		for !reached() {
			select {
			case <-wake:
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("%s: never", what)
			}
		}
	}
	until("the first pass", func() bool { return b.m.Status().Complete })
	until("somebody watches", func() bool { dc.lock.Lock(); defer dc.lock.Unlock(); return len(dc.watchers) > 0 })
	dc.user("bob")
	dc.tell()
	until("bob", func() bool { return b.named("bob") == "bob" })
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunComesBack(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	dc.down = true
	b := newBox(t, dc)
	b.m = New(Config{Store: b.store, Directory: dc, Interval: time.Hour, RetryInterval: time.Millisecond, Log: b.m.cfg.Log})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.m.Run(ctx) }()
	until := func(what string, reached func() bool) {
		t.Helper()
		for !reached() {
			if pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
				t.Fatalf("%s: never", what)
			}
		}
	}
	until("the failure is told", func() bool { return !b.m.Status().UnreachableSince.IsZero() })
	dc.lock.Lock()
	dc.down = false
	dc.lock.Unlock()
	until("the DC is back", func() bool { s := b.m.Status(); return s.Complete && s.UnreachableSince.IsZero() })
	cancel()
	<-done
}

func TestSyncWaitsItsTurn(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	ctx, cancel := context.WithCancel(context.Background())
	dc.during = func() {
		cancel()
		if _, err := b.m.Sync(ctx, Request{}, nil); err != context.Canceled {
			t.Errorf("a second pass at the same time: %v", err)
		}
		if !b.m.Status().Running {
			t.Error("the status does not tell of the pass")
		}
	}
	b.sync(Request{})
}
