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

// TestDeletedIsGone: a sweep does not see it and the DC says so when asked for
// it, which is twice.
func TestDeletedIsGone(t *testing.T) {
	for how, sweep := range map[string]func(*box) Result{
		"by the clock": (*box).sweep,
		"by a hint":    (*box).hint,
		"in full":      func(b *box) Result { return b.sync(Request{Full: true}) },
	} {
		t.Run(how, func(t *testing.T) {
			dc := newFakeDC()
			ana, bob := dc.user("ana"), dc.user("bob")
			dc.group("staff berlin", ana, bob)
			b := newBox(t, dc)
			b.sync(Request{})
			uid, sid := b.user("ana").UID, b.user("ana").SID
			dc.remove(ana)
			if res := b.sync(Request{}); res.Removed != 0 || b.user("ana").State.Has(identity.Missing) {
				t.Errorf("deletions are not seen without a sweep: %+v", res)
			}
			if res := sweep(b); res.Removed != 1 {
				t.Errorf("the sweep: %+v", res)
			}
			b.gone("ana")
			if !b.in("bob", "staff berlin") {
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
		})
	}
}

// TestADCThatIsBehindTakesNobodyAway: one that has just taken over may not have
// heard of everybody yet; what it does not know goes after two sweeps by the
// clock, hints or not.
func TestADCThatIsBehindTakesNobodyAway(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	dc.user("bob")
	b := newBox(t, dc)
	b.sync(Request{})
	o := dc.objects[ana]
	delete(dc.objects, ana)
	dc.invocation[4]++
	if res := b.sync(Request{}); !res.Full || res.Removed != 0 || !b.user("ana").State.Has(identity.Missing) {
		t.Errorf("the full pass on another DC: %+v, %+v", res, b.user("ana"))
	}
	for range 3 {
		if res := b.hint(); res.Removed != 0 {
			t.Errorf("a hint: %+v", res)
		}
	}
	b.user("ana")
	dc.objects[ana] = o // replication has caught up
	b.sweep()
	if u := b.user("ana"); u.State.Has(identity.Missing) {
		t.Errorf("still missing: %+v", u)
	}
	delete(dc.objects, ana)
	dc.invocation[4]++
	b.sync(Request{})
	if res := b.sweep(); res.Removed != 1 {
		t.Errorf("the second sweep: %+v", res)
	}
}

// TestHiddenAndShownAgain: a right that was wrong for a while, or an OU moved:
// no USN of the object tells of it.
func TestHiddenAndShownAgain(t *testing.T) {
	dc := newFakeDC()
	ana := dc.user("ana")
	dc.group("staff berlin", ana)
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	o := dc.objects[ana]
	delete(dc.objects, ana)
	b.sweep()
	b.gone("ana")
	dc.objects[ana] = o
	if res := b.sweep(); res.Added != 1 {
		t.Errorf("the sweep that sees her again: %+v", res)
	}
	if u := b.user("ana"); u.Row != was.Row || u.UID != was.UID || u.State != 0 || !b.in("ana", "staff berlin") {
		t.Errorf("back: %+v", u)
	}
}

// TestWhatAnOlderSnapshotOfTheDCBrings: a DC put back and grown past the counter
// we had, under its old invocation id, tells of nothing that happened between
// (USN rollback). The sweep finds whom it has and we do not.
func TestWhatAnOlderSnapshotOfTheDCBrings(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	usn := dc.usn
	dc.usn -= 3
	dc.user("eve") // below our counter
	dc.usn = usn + 5
	if b.sync(Request{}); b.named("eve") != "" {
		t.Fatal("this DC does not roll back")
	}
	b.sweep()
	if b.named("eve") != "eve" {
		t.Error("the sweep did not find eve")
	}
}

// TestACounterThatMovedUnexplainedIsLookedInto: the deletion of somebody changes
// no object that may be read, and Run is not to wait a quarter of an hour.
func TestACounterThatMovedUnexplainedIsLookedInto(t *testing.T) {
	dc := newFakeDC()
	ana, bob := dc.user("ana"), dc.user("bob")
	b := newBox(t, dc)
	now := time.Now()
	b.m.cfg.Now = func() time.Time { return now }
	pass := func() {
		t.Helper()
		if _, err := b.m.scheduled(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	pass() // in full
	dc.change(bob, func(o *directory.Object) { o.DisplayName = "Robert" })
	dc.reads = nil
	pass()
	if rest := b.m.untilSweep(time.Minute); rest != time.Minute || slices.Contains(dc.reads, "ids") {
		t.Errorf("a change that was read is explained: %s, %v", rest, dc.reads)
	}
	dc.remove(ana)
	pass()
	if rest := b.m.untilSweep(time.Minute); rest != 0 {
		t.Errorf("the sweep comes in %s, want now", rest)
	}
	pass()
	b.gone("ana")
	if rest := b.m.untilSweep(time.Minute); rest != time.Minute {
		t.Errorf("and then again in %s", rest)
	}
	// A DC that hints all the time does not sweep all the time.
	b.m.hints.next = now.Add(10 * time.Second)
	dc.remove(bob)
	pass()
	dc.reads = nil
	pass()
	if rest := b.m.untilSweep(time.Minute); rest != 10*time.Second || slices.Contains(dc.reads, "ids") {
		t.Errorf("too soon: %s, %v", rest, dc.reads)
	}
	now = now.Add(10 * time.Second)
	pass()
	b.gone("bob")
}

// A machine whose clock was in the year 2100 for a while reads the directory in
// full as soon as the clock is right, not seventy years later.
func TestFullPassAfterAClockThatRanAhead(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	now := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	b.m.cfg.Now = func() time.Time { return now }
	full := func() bool {
		t.Helper()
		r, err := b.m.scheduled(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return r.Full
	}
	if !full() {
		t.Error("the first pass is not full")
	}
	now = now.Add(-10 * time.Second)
	if full() {
		t.Error("a clock that is set a little is no reason for a full pass")
	}
	now = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	if !full() || full() {
		t.Error("after the clock was set right: want one full pass")
	}
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
	// Accepted before anybody has counted: that is enough as well.
	for i := 20; i < 40; i++ {
		dc.remove(dc.find(fmt.Sprintf("user%02d", i)))
	}
	if res := b.sync(Request{AcceptDeletions: true}); res.Removed != 20 {
		t.Errorf("accepted at once: %+v", res)
	}
	// Ten per cent may go.
	for i := 11; i < 17; i++ {
		dc.remove(dc.find(fmt.Sprintf("user%02d", i)))
	}
	if res := b.sweep(); res.Removed != 6 {
		t.Errorf("6 of 69: %+v", res)
	}
}

// TestBreakerCountsWhatGoesOneByOne: somebody who empties the domain in a loop is
// stopped as well as one who does it at once: the sweeps that the DC hints at, every
// few seconds, have one allowance for all of them.
func TestBreakerCountsWhatGoesOneByOne(t *testing.T) {
	dc := newFakeDC()
	for i := range 98 { // and two that every domain has
		dc.user(fmt.Sprintf("user%02d", i))
	}
	b := newBox(t, dc)
	b.sync(Request{})
	removed, deleted := 0, 0
	lose := func(n int) {
		for range n {
			dc.remove(dc.find(fmt.Sprintf("user%02d", deleted)))
			deleted++
		}
	}
	for range 10 {
		lose(4)
		removed += b.hint().Removed
	}
	if removed > 10 || b.m.Status().Held != deleted-removed {
		t.Errorf("of %d that were deleted four by four %d went and %d are held", deleted, removed, b.m.Status().Held)
	}
	if res := b.sweep(); res.Removed != 0 || res.Held != deleted-removed {
		t.Errorf("the sweep by the clock: %+v", res)
	}
	// What somebody accepted is not charged to those who go next.
	if res := b.sync(Request{AcceptDeletions: true}); res.Removed != deleted-removed {
		t.Errorf("accepted: %+v", res)
	}
	lose(5)
	if res := b.hint(); res.Removed != 5 {
		t.Errorf("five more: %+v", res)
	}
	lose(5)
	if res := b.hint(); res.Removed != 0 || res.Held != 5 {
		t.Errorf("and five more: %+v", res)
	}
	if res := b.sweep(); res.Removed != 5 || res.Held != 0 {
		t.Errorf("a quarter of an hour later: %+v", res)
	}
}

// TestAHintThatCannotBeFollowedStopsNoChange: what the DC tells is read, though it
// does not let anybody list who is there.
func TestAHintThatCannotBeFollowedStopsNoChange(t *testing.T) {
	dc := newFakeDC()
	ana, bob := dc.user("ana"), dc.user("bob")
	b := newBox(t, dc)
	pass := func() error {
		_, err := b.m.scheduled(context.Background())
		return err
	}
	if err := pass(); err != nil {
		t.Fatal(err)
	}
	dc.remove(ana)
	if err := pass(); err != nil || !b.m.hints.unexplained {
		t.Fatalf("before the hint: %v, %+v", err, b.m.hints)
	}
	dc.noIDs, b.m.hints.next = fault.New(fault.Denied, "not for you"), time.Time{}
	dc.change(bob, func(o *directory.Object) { o.DisplayName = "Roberta" })
	if err := pass(); !fault.Is(err, fault.Denied) {
		t.Fatalf("the sweep: %v", err)
	}
	if err := pass(); err != nil || b.user("bob").DisplayName != "Roberta" {
		t.Errorf("the next pass: %v, %q", err, b.user("bob").DisplayName)
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
	if res := b.sweep(); res.Removed != 2 || res.Held != 0 {
		t.Errorf("2 of 10: %+v", res)
	}
}
