// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func TestFullPass(t *testing.T) {
	dc := newFakeDC()
	ana, bob := dc.user("ana"), dc.user("bob")
	inner := dc.group("inner", bob)
	dc.group("outer", ana, inner)
	b := newBox(t, dc)
	var stages []Stage
	res, err := b.m.Sync(context.Background(), Request{}, func(p Progress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
	})
	if err != nil || !res.Full || res.Read != 11 || res.Added != 11 || res.Changed != 0 || res.Removed != 0 || res.Held != 0 || res.DC != "dc1.aadds.contoso.test" {
		t.Errorf("the first pass: %+v, %v", res, err)
	}
	if !slices.Equal(stages, []Stage{StageConnect, StageRead, StageApply}) {
		t.Errorf("progress told of %v", stages)
	}
	u := b.user("ana")
	if rid, _ := u.SID.RID(); u.Name != "ana" || u.UID != identity.UID(100000001+rid) || u.GID != 100000514 {
		t.Errorf("ana: %+v", u)
	}
	for group, want := range map[string]bool{"outer": true, "inner": false, "domain users": true, "domain admins": false} {
		if b.in("ana", group) != want {
			t.Errorf("ana in %s: %v", group, !want)
		}
	}
	if !b.in("bob", "outer") {
		t.Error("bob is not in outer through inner")
	}
	st := b.m.Status()
	if !st.Complete || st.LastFull.IsZero() || st.LastError != "" || st.DC == "" || len(st.Problems) != 0 || st.Running {
		t.Errorf("status %+v", st)
	}
	// Nothing changed: nothing is asked for, nothing written.
	at := b.store.Position()
	dc.reads = nil
	if res := b.sync(Request{}); res.Full || res.Read != 0 || res.Changed != 0 || len(dc.reads) != 0 || b.store.Position() != at {
		t.Errorf("an idle pass: %+v, asked %v", res, dc.reads)
	}
	if res := b.sync(Request{Full: true}); !res.Full || res.Read != 11 || res.Added+res.Changed+res.Removed != 0 || b.store.Position() != at {
		t.Errorf("the same in full: %+v", res)
	}
}

func TestIncrementalPass(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	staff := dc.group("staff berlin", ana)
	b := newBox(t, dc)
	b.sync(Request{})
	uid := b.user("ana").UID

	dc.change(ana, func(o *directory.Object) {
		o.SAMAccountName, o.DN, o.DisplayName = "ana.lopez", "CN=López,"+synced, "Ana López"
	})
	carl := dc.user("carl")
	dc.setMembers(staff, carl)
	dc.reads = nil
	res := b.sync(Request{})
	if res.Full || res.Read != 3 || res.Added != 1 || res.Changed != 2 {
		t.Errorf("pass %+v", res)
	}
	if u := b.user("ana"); u.Name != "ana.lopez" || u.UID != uid || u.DisplayName != "Ana López" || b.named("ana") != "" {
		t.Errorf("renamed: %+v", u)
	}
	if b.in("ana", "staff berlin") || !b.in("carl", "staff berlin") {
		t.Error("members did not follow")
	}
	// Moved to another container: the same object, but no oid to believe.
	dc.change(ana, func(o *directory.Object) { o.DN, o.UnderSyncedOU = "CN=López,"+custom, false })
	b.sync(Request{})
	if e, err := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: ana}); err != nil || e.User.UID != uid || !e.User.OID.IsZero() {
		t.Errorf("moved away: %+v, %v", e.User, err)
	}
	dc.change(ana, func(o *directory.Object) { o.DN, o.UnderSyncedOU = "CN=López,"+synced, true })
	b.sync(Request{})
	if u := b.user("ana"); u.UID != uid {
		t.Errorf("moved back: %+v", u)
	}
	// The oid cannot be read for once: it is what it was.
	dc.change(ana, func(o *directory.Object) { o.OID = identity.GUID{} })
	b.sync(Request{})
	if u := b.user("ana"); u.UID != uid {
		t.Errorf("oid not readable: %+v", u)
	}
}

func TestAnotherDCIsAFullPass(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	dc.user("bob")
	dc.invocation[5] = 7 // the other DC, with counters of its own
	if res := b.sync(Request{}); !res.Full || res.Added != 1 || res.Removed != 0 {
		t.Errorf("another DC: %+v", res)
	}
	dc.usn = 3 // the DC was put back from a backup
	if res := b.sync(Request{}); !res.Full {
		t.Errorf("a lower USN: %+v", res)
	}
	if res := b.sync(Request{}); res.Full {
		t.Errorf("and then: %+v", res)
	}
}

func TestPositionSurvivesARestart(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	dc.user("bob")
	b.m = New(Config{Store: b.store, Directory: dc})
	if st := b.m.Status(); !st.Complete || st.LastFull.IsZero() {
		t.Errorf("status after the restart %+v", st)
	}
	if res := b.sync(Request{}); res.Full || res.Added != 1 {
		t.Errorf("pass after the restart %+v", res)
	}
}

func TestDCDiesInTheMiddle(t *testing.T) {
	dc := newFakeDC()
	for i := range 20 {
		dc.user(fmt.Sprintf("user%02d", i))
	}
	b := newBox(t, dc)
	dc.dieAfter = 10
	if _, err := b.m.Sync(context.Background(), Request{}, nil); !fault.Is(err, fault.Unreachable) {
		t.Fatalf("the pass ended with %v", err)
	}
	if st := b.m.Status(); st.Complete || st.UnreachableSince.IsZero() || st.LastError == "" {
		t.Errorf("status %+v", st)
	}
	if n := len(b.ids()); n != 0 {
		t.Errorf("%d rows of a pass that failed", n)
	}
	b.sync(Request{})
	before := b.ids()
	// In an incremental pass: what was there stays, and it goes on where it was.
	for i := range 20 {
		dc.change(dc.find(fmt.Sprintf("user%02d", i)), func(o *directory.Object) { o.Surname = "New" })
	}
	dc.dieAfter = 10
	if _, err := b.m.Sync(context.Background(), Request{}, nil); !fault.Is(err, fault.Unreachable) {
		t.Fatal(err)
	}
	if b.user("user01").Surname != "" || !b.m.Status().Complete {
		t.Error("half of a pass is there")
	}
	if res := b.sync(Request{}); res.Full || res.Changed != 20 {
		t.Errorf("resumed with %+v", res)
	}
	if st := b.m.Status(); !st.UnreachableSince.IsZero() || st.LastError != "" {
		t.Errorf("status %+v", st)
	}
	if after := b.ids(); len(after) != len(before) {
		t.Errorf("%d ids, %d before", len(after), len(before))
	}
}

func TestDCGone(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	dc.down = true
	_, err := b.m.Sync(context.Background(), Request{}, nil)
	if !fault.Is(err, fault.Unreachable) {
		t.Fatalf("got %v", err)
	}
	since := b.m.Status().UnreachableSince
	if since.IsZero() {
		t.Error("the status does not tell")
	}
	if u := b.user("ana"); u.Name != "ana" {
		t.Errorf("lookups stopped: %+v", u)
	}
	if _, err := b.m.RefreshOne(context.Background(), identity.Key{Kind: identity.ByName, Name: "ana"}); !fault.Is(err, fault.Unreachable) {
		t.Errorf("refresh: %v", err)
	}
	_, _ = b.m.Sync(context.Background(), Request{}, nil)
	if again := b.m.Status().UnreachableSince; !again.Equal(since) {
		t.Errorf("unreachable since %v, then %v", since, again)
	}
}

func TestDCFallsSilent(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.m = New(Config{Store: b.store, Directory: silentDC{dc}, AnswerTimeout: 30 * time.Millisecond})
	if _, err := b.m.Sync(context.Background(), Request{}, nil); !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "silent") {
		t.Errorf("got %v", err)
	}
}

// silentDC answers, and stops in the middle of a read.
type silentDC struct{ *fakeDC }

func (dc silentDC) Session(ctx context.Context) (Session, error) {
	return silentConn{fakeConn{dc.fakeDC}}, nil
}

type silentConn struct{ fakeConn }

func (c silentConn) ReadAll(ctx context.Context, since directory.USN, fn func(directory.Object) error) (int, error) {
	return c.fakeConn.ReadAll(ctx, since, func(o directory.Object) error {
		if o.Class == directory.ClassUser {
			<-ctx.Done()
			return ctx.Err()
		}
		return fn(o)
	})
}

func TestObjectsThatChangeWhileTheyAreRead(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	b := newBox(t, dc)
	dc.during = func() {
		dc.change(ana, func(o *directory.Object) { o.DisplayName = "Changed in between" })
		dc.group("late group", dc.user("late"))
	}
	b.sync(Request{})
	b.sync(Request{})
	if u := b.user("ana"); u.DisplayName != "Changed in between" || !b.in("late", "late group") {
		t.Errorf("what changed during the pass was lost: %+v", u)
	}
}

func TestMembersReadBeforeTheirObjects(t *testing.T) {
	dc := newFakeDC()
	staff := dc.group("staff berlin")
	b := newBox(t, dc)
	b.sync(Request{})
	// The group comes with one pass, its member with the next.
	late := identity.GUID{0xfe}
	dc.change(staff, func(o *directory.Object) { o.Members = []directory.Reference{{DN: "CN=late", GUID: late}} })
	b.sync(Request{})
	dc.lock.Lock()
	o := dc.newObject(directory.ClassUser, "late", synced)
	delete(dc.objects, o.ObjectGUID)
	o.ObjectGUID, o.OID = late, oidOf("late")
	dc.objects[late] = o
	dc.lock.Unlock()
	b.sync(Request{})
	if !b.in("late", "staff berlin") {
		t.Error("late is not in the group")
	}
}
