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
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/store"
)

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
		back := map[bool]int{how == "sweep first": 1}[true] // its row was in its grave
		if res.Added != back || now.Row != was.Row || now.UID != was.UID || now.SID == was.SID || now.ObjectGUID != again ||
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

// Somebody who had left comes back as two objects at once: nobody has the number
// until one of them is gone, and then it is the old one.
func TestTwoNewObjectsForSomebodyWhoHadLeft(t *testing.T) {
	dc := newFakeDC()
	dc.user("ana")
	dc.user("bob")
	b := newBox(t, dc)
	b.sync(Request{})
	was := b.user("ana")
	dc.remove(was.ObjectGUID)
	b.sweep()
	b.sweep()
	first, second := dc.user("ana3"), dc.user("ana4")
	for _, g := range []identity.GUID{first, second} {
		dc.change(g, func(o *directory.Object) { o.OID = oidOf("ana") })
	}
	b.sync(Request{})
	if e, err := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: first}); err != nil || e.User.UID != 0 || !e.User.State.Has(identity.Conflicted) {
		t.Errorf("while there are two, the first is %+v, %v", e.User, err)
	}
	dc.remove(second)
	b.sync(Request{Full: true, AcceptDeletions: true})
	if e, err := b.entry(identity.Key{Kind: identity.ByObjectGUID, GUID: first}); err != nil || e.User.UID != was.UID || e.User.Row != was.Row || e.User.State != 0 {
		t.Errorf("back as %+v, %v; was %+v", e.User, err, was)
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
