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
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/store"
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

func TestReCreatedWithTheSameOIDAndANewSID(t *testing.T) {
	for _, how := range []string{"incremental", "full", "sweep first"} {
		dc := newFakeDC()
		ana := dc.user("ana")
		staff := dc.group("staff berlin", ana)
		b := newBox(t, dc)
		b.sync(Request{})
		was := b.user("ana")
		dc.remove(ana)
		if how == "sweep first" {
			b.sweep()
		}
		again := dc.user("ana")
		dc.setMembers(staff, again)
		res := b.sync(Request{Full: how == "full"})
		now := b.user("ana")
		if res.Added != 0 || now.Row != was.Row || now.UID != was.UID || now.SID == was.SID || now.ObjectGUID != again ||
			!slices.Equal(now.PastSIDs, []identity.SID{was.SID}) || now.State != 0 || now.Name != "ana" || !b.in("ana", "staff berlin") {
			t.Errorf("%s: %+v, %+v", how, res, now)
		}
		if e, err := b.entry(identity.Key{Kind: identity.BySID, SID: was.SID}); err != nil || e.User.Row != was.Row {
			t.Errorf("%s: the past SID finds %+v, %v", how, e.User, err)
		}
	}
}

func TestRebuiltDomain(t *testing.T) {
	for _, domain := range []string{"S-1-5-21-7-8-9", "S-1-5-21-1-2-3"} { // a new SID, and, against all odds, the old one
		dc := newFakeDC()
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("user%02d", i))
			dc.user(names[i])
		}
		b := newBox(t, dc)
		b.sync(Request{})
		before := b.ids()
		was := map[string]*identity.User{}
		for _, n := range names {
			was[n] = b.user(n)
		}
		group, _ := b.entry(identity.Key{Kind: identity.ByName, Name: "domain users"})

		// The same people in another order, and ten new ones before, between and
		// after them: every RID means somebody else.
		permuted := slices.Clone(names)
		slices.Reverse(permuted)
		for i := range 10 {
			permuted = slices.Insert(permuted, i*4, fmt.Sprintf("new%02d", i))
		}
		dc.recreate(identity.MustParseSID(domain), permuted...)
		b.policy()
		res := b.sync(Request{})
		if !res.Full || res.Added != 10 || res.Removed != 0 {
			t.Errorf("%s: %+v", domain, res)
		}
		after := b.ids() // fails when a number is shared
		for _, n := range names {
			now := b.user(n)
			if now.UID != was[n].UID || now.GID != was[n].GID || now.Row != was[n].Row || now.Name != n {
				t.Errorf("%s: %s was uid %d gid %d, is %d %d", domain, n, was[n].UID, was[n].GID, now.UID, now.GID)
			}
			if !slices.Contains(now.PastSIDs, was[n].SID) && now.SID != was[n].SID {
				t.Errorf("%s: %s forgot its SID", domain, n)
			}
		}
		for id, oid := range before {
			if after[id] != oid {
				t.Errorf("%s: %d belonged to %s and belongs to %s", domain, id, oid, after[id])
			}
		}
		if now, err := b.entry(identity.Key{Kind: identity.ByName, Name: "domain users"}); err != nil || now.Group.Row != group.Group.Row || now.Group.GID != group.Group.GID {
			t.Errorf("%s: Domain Users is another group: %+v, %v", domain, now.Group, err)
		}
		for i := range 10 {
			u := b.user(fmt.Sprintf("new%02d", i))
			if u.UID == 0 || before[uint32(u.UID)] != (identity.GUID{}) || u.Unpublished != "" {
				t.Errorf("%s: %+v", domain, u)
			}
		}
		if err := b.store.View(context.Background(), func(v *store.View) error {
			c, err := v.Counts()
			if c.Moved == 0 {
				t.Errorf("%s: no moved ids are counted", domain)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
		// A second pass finds nothing to do; the third neither.
		for range 2 {
			if res := b.sync(Request{Full: true}); res.Added+res.Changed+res.Removed+res.Held != 0 {
				t.Errorf("%s: again: %+v", domain, res)
			}
		}
	}
}

func TestTwoLiveObjectsWithOneOID(t *testing.T) {
	for _, how := range []string{"incremental", "full"} {
		dc := newFakeDC()
		first := dc.user("ana")
		b := newBox(t, dc)
		b.sync(Request{})
		was := b.user("ana")
		second := dc.user("ana2")
		dc.change(second, func(o *directory.Object) { o.OID = oidOf("ana") })
		b.sync(Request{Full: how == "full"})

		if e, err := b.entry(identity.Key{Kind: identity.ByOID, GUID: oidOf("ana")}); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: the oid finds %+v, %v", how, e.User, err)
		}
		one, err1 := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: first})
		two, err2 := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: second})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if !one.User.State.Has(identity.Conflicted) || !two.User.State.Has(identity.Conflicted) || one.User.UID != was.UID || two.User.UID != 0 || two.User.Unpublished != idmap.ReasonConflict {
			t.Errorf("%s: %+v and %+v", how, one.User, two.User)
		}
		p := b.m.Status().Problems
		if len(p) != 1 || p[0].ID != ProblemConflict || !strings.Contains(p[0].Summary, "ana2") || p[0].Remedy == "" {
			t.Errorf("%s: problems %+v", how, p)
		}
		if res := b.sync(Request{Full: true}); res.Added+res.Changed != 0 {
			t.Errorf("%s: again: %+v", how, res)
		}

		switch how {
		case "incremental": // the second one goes: the first is herself again
			dc.remove(second)
			b.sweep()
			b.sweep()
			if now := b.user("ana"); now.Row != was.Row || now.UID != was.UID || now.SID != was.SID || now.State != 0 {
				t.Errorf("%s: resolved to %+v", how, now)
			}
		case "full": // the first one goes: the second is the same person
			dc.remove(first)
			b.sync(Request{Full: true})
			now := b.user("ana")
			if now.Row != was.Row || now.UID != was.UID || now.ObjectGUID != second || now.State != 0 || now.Name != "ana2" || !slices.Contains(now.PastSIDs, was.SID) {
				t.Errorf("%s: resolved to %+v", how, now)
			}
		}
		if p := b.m.Status().Problems; len(p) != 0 {
			t.Errorf("%s: problems %+v", how, p)
		}
	}
}

func TestTwoLiveObjectsWithOneOIDTheOldOneGoesBySweep(t *testing.T) {
	dc := newFakeDC()
	first := dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	second := dc.user("ana2")
	dc.change(second, func(o *directory.Object) { o.OID = oidOf("ana") })
	b.sync(Request{})
	dc.remove(first)
	b.sweep()
	if now := b.user("ana"); now.Row != was.Row || now.UID != was.UID || now.ObjectGUID != second || now.State != 0 {
		t.Errorf("resolved to %+v", now)
	}
	b.sweep()
	if res := b.sweep(); res.Removed+res.Held+res.Changed != 0 {
		t.Errorf("and then %+v", res)
	}
}

func TestTwoNewObjectsWithOneOID(t *testing.T) {
	dc := newFakeDC()
	first, second := dc.user("ana"), dc.user("ana2")
	dc.change(second, func(o *directory.Object) { o.OID = oidOf("ana") })
	b := newBox(t, dc)
	b.sync(Request{})
	for _, g := range []identity.GUID{first, second} {
		e, err := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: g})
		if err != nil || e.User.UID != 0 || !e.User.State.Has(identity.Conflicted) || e.User.Name != "" {
			t.Errorf("%+v, %v", e.User, err)
		}
	}
	// Somebody mends the second one: two people.
	dc.change(second, func(o *directory.Object) { o.OID = oidOf("ana2") })
	b.sync(Request{})
	one, two := b.user("ana"), b.user("ana2")
	if one.UID == 0 || two.UID == 0 || one.UID == two.UID || one.State != 0 || two.State != 0 || one.ObjectGUID != first {
		t.Errorf("%+v and %+v", one, two)
	}
}

func TestOIDIsBelievedOnlyUnderTheSyncedOU(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	dc.lock.Lock()
	forged := dc.newObject(directory.ClassUser, "forged", custom)
	forged.OID = oidOf("ana")
	dc.lock.Unlock()
	b.sync(Request{})
	if now := b.user("ana"); now.Row != was.Row || now.ObjectGUID != ana || now.State != 0 {
		t.Errorf("ana is %+v", now)
	}
	e, err := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: forged.ObjectGUID})
	if err != nil || !e.User.OID.IsZero() || e.User.UID == 0 || e.User.State != 0 {
		t.Errorf("an object of a custom OU is a row without oid: %+v, %v", e.User, err)
	}
}

func TestTwoUsersSwapNames(t *testing.T) {
	dc := newFakeDC()
	a, z := dc.user("alice"), dc.user("zoe")
	b := newBox(t, dc)
	b.sync(Request{})
	idA, idZ := b.user("alice").UID, b.user("zoe").UID
	dc.change(a, func(o *directory.Object) { o.SAMAccountName, o.UPN = "zoe", "zoe@contoso.com" })
	dc.change(z, func(o *directory.Object) { o.SAMAccountName, o.UPN = "alice", "alice@contoso.com" })
	b.sync(Request{})
	if u := b.user("alice"); u.Name != "zoe" || u.UID != idA {
		t.Errorf("alice is %q, %d", u.Name, u.UID)
	}
	if u := b.user("zoe"); u.Name != "alice" || u.UID != idZ {
		t.Errorf("zoe is %q, %d", u.Name, u.UID)
	}
}

func TestNameOfSomebodyDeletedGoesToTheNextAtOnce(t *testing.T) {
	dc := newFakeDC()
	old := dc.user("alice")
	b := newBox(t, dc)
	b.sync(Request{})
	uid := b.user("alice").UID
	dc.remove(old)
	heir := dc.user("alice")
	dc.change(heir, func(o *directory.Object) { o.OID = oidOf("another alice") })
	b.sync(Request{}) // no sweep yet
	u := b.user("another alice")
	if u.Name != "alice" || u.UID == uid {
		t.Errorf("the next alice: %+v", u)
	}
	if was := b.user("alice"); was.Name != "" || !was.State.Has(identity.Missing) || was.UID != uid {
		t.Errorf("the deleted one: %+v", was)
	}
	if res := b.sweep(); res.Removed != 1 {
		t.Errorf("the sweep: %+v", res)
	}
}

func TestDisabledAndOtherStates(t *testing.T) {
	dc := newFakeDC()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678900, time.UTC)
	for name, fn := range map[string]func(*directory.Object){
		"disabled": func(o *directory.Object) { o.UserAccountControl |= directory.UACDisabled },
		"locked":   func(o *directory.Object) { o.LockoutTime = at },
		"must":     func(o *directory.Object) { o.MustChange = true },
		"never":    func(o *directory.Object) { o.MustChange = true; o.UserAccountControl |= directory.UACDontExpire },
		"guest":    func(o *directory.Object) { o.UPN = "eve_fabrikam.com#EXT#@contoso.onmicrosoft.com" },
		"over":     func(o *directory.Object) { o.AccountExpires = at },
		"pwexp":    func(o *directory.Object) { o.UserAccountControl |= directory.UACPasswordExpired },
		"plain":    func(o *directory.Object) { o.PwdLastSet = at },
	} {
		dc.change(dc.user(name), fn)
	}
	b := newBox(t, dc)
	b.sync(Request{})
	for name, want := range map[string]identity.State{
		"disabled": identity.Disabled, "locked": identity.LockedOut, "must": identity.MustChange, "never": 0, "guest": identity.Guest,
		"over": identity.AccountExpired, "pwexp": identity.PasswordExpired, "plain": 0,
	} {
		u := b.user(name)
		if u.State != want || u.UID == 0 || u.Name != name {
			t.Errorf("%s: %v, %q, uid %d", name, u.State.Words(), u.Name, u.UID)
		}
	}
	if u := b.user("plain"); !u.PasswordLastSet.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("password set %v", u.PasswordLastSet)
	}
	if res := b.sync(Request{Full: true}); res.Changed != 0 {
		t.Errorf("again: %+v", res)
	}
}

func TestGroupsOfEveryScope(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	for name, kind := range map[string]uint32{"global": directory.GroupGlobal, "universal": directory.GroupUniversal, "local": directory.GroupDomainLocal} {
		g := dc.group(name+" sec", ana)
		dc.change(g, func(o *directory.Object) { o.GroupType = kind | directory.GroupSecurity })
		g = dc.group(name+" dist", ana)
		dc.change(g, func(o *directory.Object) { o.GroupType = kind })
	}
	foreign := identity.MustParseSID("S-1-5-21-40-50-60-1234")
	g := dc.group("with foreigners")
	dc.change(g, func(o *directory.Object) {
		o.Members = []directory.Reference{{DN: "CN=S-1-5-21-40-50-60-1234,CN=ForeignSecurityPrincipals," + base, GUID: identity.GUID{9}, SID: foreign}}
	})
	dc.change(dc.find("Users"), func(o *directory.Object) {
		du := dc.objects[dcFindLocked(dc, "Domain Users")]
		o.Members = []directory.Reference{{DN: du.DN, GUID: du.ObjectGUID, SID: du.SID}}
	})
	b := newBox(t, dc)
	b.sync(Request{})
	for name, scope := range map[string]identity.Scope{"global": identity.ScopeGlobal, "universal": identity.ScopeUniversal, "local": identity.ScopeDomainLocal} {
		sec, err := b.entry(identity.Key{Kind: identity.ByName, Name: name + " sec"})
		if err != nil || sec.Group.Scope != scope || sec.Group.GID == 0 || !sec.Group.Security || sec.Group.Name != name+" sec" {
			t.Errorf("%s: %+v, %v", name, sec.Group, err)
		}
		dist, err := b.entry(identity.Key{Kind: identity.ByName, Name: name + " dist"})
		if err != nil || dist.Group.Scope != scope || dist.Group.GID != 0 || dist.Group.Security || dist.Group.Unpublished != idmap.ReasonDistribution {
			t.Errorf("%s: %+v, %v", name, dist.Group, err)
		}
		if !b.in("ana", name+" sec") || !b.in("ana", name+" dist") {
			t.Errorf("ana is not in %s", name)
		}
	}
	if e, err := b.entry(identity.Key{Kind: identity.ByName, Name: "with foreigners"}); err != nil || !slices.Equal(e.Group.ForeignMembers, []identity.SID{foreign}) {
		t.Errorf("foreign members: %+v, %v", e.Group, err)
	}
	if e, err := b.entry(identity.Key{Kind: identity.BySID, SID: builtin.WithRID(545)}); err != nil || e.Group.GID != 0 || e.Group.Scope != identity.ScopeBuiltin || !b.in("ana", `BUILTIN\Users`) {
		t.Errorf("BUILTIN\\Users: %+v, %v", e.Group, err)
	}
}

// dcFindLocked finds an object; the caller holds the lock.
func dcFindLocked(dc *fakeDC, name string) identity.GUID {
	for g, o := range dc.objects {
		if o.SAMAccountName == name {
			return g
		}
	}
	panic("no object " + name)
}

func TestPrimaryGroupOfAUser(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	staff := dc.group("staff berlin")
	b := newBox(t, dc)
	b.sync(Request{})
	rid, _ := dc.objects[staff].SID.RID()
	dc.change(ana, func(o *directory.Object) { o.PrimaryGroupID = rid })
	b.sync(Request{})
	if u := b.user("ana"); u.PrimaryGroup != dc.objects[staff].SID || u.GID != identity.GID(100000001+rid) || !b.in("ana", "staff berlin") || b.in("ana", "domain users") {
		t.Errorf("%+v", u)
	}
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

func TestHostileBytes(t *testing.T) {
	dc := newFakeDC()
	hostile := []string{"\xff\xfe\x00", "a\nb:c", strings.Repeat("A", 100000), "\u202eoot", "../../etc", "", "root", "-rf", "12345", "$(id)"}
	for i, h := range hostile {
		for _, guid := range []identity.GUID{dc.user(fmt.Sprintf("h%d", i)), dc.group(fmt.Sprintf("hg%d", i))} {
			dc.change(guid, func(o *directory.Object) {
				o.SAMAccountName, o.UPN, o.DisplayName, o.GivenName, o.Surname, o.Mail, o.MailNickname, o.DN = h, h, h, h, h, h, h, h
				o.SIDHistory = []identity.SID{{}, builtin, o.SID, builtin}
				o.Defects = []string{"mail: not UTF-8"}
				if i%3 == 0 {
					o.SID = identity.SID{}
				}
				o.PrimaryGroupID = uint32(i) << 30
				o.Members = []directory.Reference{{}, {DN: h}, {GUID: guid}, {SID: builtin}}
				o.UserAccountControl, o.GroupType = 0xffffffff, 0xffffffff
				o.AccountExpires, o.PwdLastSet = time.Unix(1<<40, 0), time.Unix(-1<<40, 0)
			})
		}
	}
	b := newBox(t, dc)
	b.sync(Request{})
	if res := b.sync(Request{Full: true}); res.Changed != 0 {
		t.Errorf("again: %+v", res)
	}
	b.ids()
	found := false
	for _, p := range b.m.Status().Problems {
		found = found || p.ID == ProblemDefects
	}
	if !found {
		t.Errorf("the defects are not told: %+v", b.m.Status().Problems)
	}
}

func TestOneSIDOnTwoLiveObjects(t *testing.T) {
	dc := newFakeDC()
	ana, eve := dc.user("ana"), dc.user("eve")
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	dc.change(eve, func(o *directory.Object) { o.SID = dc.objects[ana].SID })
	for _, full := range []bool{false, true, false} {
		b.sync(Request{Full: full})
		if now := b.user("ana"); now.SID != was.SID || now.Row != was.Row {
			t.Errorf("full %v: ana is %+v", full, now)
		}
		if e := b.user("eve"); e.SID == was.SID {
			t.Errorf("full %v: eve has ana's SID", full)
		}
	}
	told := false
	for _, p := range b.m.Status().Problems {
		told = told || p.ID == ProblemObjects
	}
	if !told {
		t.Errorf("problems %+v", b.m.Status().Problems)
	}
}
