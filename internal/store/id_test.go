// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

func TestIDIsForLife(t *testing.T) {
	s := newStore(t)
	ana := user(1, "ana")
	put(t, s, domainUsers(), ana)
	uid := load(t, s, ana.User.Row).ID
	past := ana.User.SID

	// A new SID (the domain was rebuilt) and everything else new: the number stays.
	ana.User.SID, ana.User.ObjectGUID, ana.User.Account = rebuilt.WithRID(2000), guid(2, 77), "ana2"
	put(t, s, ana)
	got := load(t, s, ana.User.Row)
	if got.ID != uid || !slices.Equal(got.User.PastSIDs, []identity.SID{past}) {
		t.Errorf("id %d and past SIDs %v, want %d and %v", got.ID, got.User.PastSIDs, uid, past)
	}
	if getUser(t, s, identity.Key{Kind: identity.BySID, SID: past}).Row != ana.User.Row {
		t.Error("the past SID does not find the row")
	}
	// Gone: nobody gets the number, not even the account that the arithmetic
	// gives it to.
	update(t, s, func(tx *Tx) error { return tx.Retire(ana.User.Row) })
	if u, err := s.User(context.Background(), identity.Key{Kind: identity.ByUID, ID: uid}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the uid of a row that is gone finds %+v, %v", u, err)
	}
	heir := user(1, "heir")
	heir.User.OID, heir.User.ObjectGUID = guid(1, 100), guid(2, 100)
	put(t, s, heir)
	if got := load(t, s, heir.User.Row); got.ID == uid || got.ID != 101001002 || !got.Moved {
		t.Errorf("the namesake got id %d, moved %v, want the next slice", got.ID, got.Moved)
	}
	// Back with the same oid: the same row, the same number.
	update(t, s, func(tx *Tx) error {
		found, err := tx.FindOID(ana.User.OID)
		if err != nil || len(found) != 1 || !found[0].Gone {
			t.Fatalf("the grave is not found: %v, %v", found, err)
		}
		found[0].User.SID = rebuilt.WithRID(3000)
		return tx.Put(found[0])
	})
	got = load(t, s, ana.User.Row)
	if got.ID != uid || got.Gone || len(got.User.PastSIDs) != 2 {
		t.Errorf("back with id %d, past SIDs %v", got.ID, got.User.PastSIDs)
	}
	if u := getUser(t, s, identity.Key{Kind: identity.ByUID, ID: uid}); u.Row != ana.User.Row {
		t.Errorf("the uid finds row %d", u.Row)
	}
}

func TestLocalIDsAreNotGiven(t *testing.T) {
	s := newStore(t)
	p := policy(t, contoso.SID)
	p.LocalIDs = map[uint32]struct{}{100001002: {}}
	if err := s.SetPolicy(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	ana := user(1, "ana")
	put(t, s, domainUsers(), ana)
	if got := load(t, s, ana.User.Row); got.ID != 101001002 || !got.Moved {
		t.Errorf("id %d, moved %v", got.ID, got.Moved)
	}
}

func TestRowsWithoutRangeGetTheirIDLater(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	ana, staff := user(1, "ana"), group(1, "staff berlin")
	put(t, s, domainUsers(), ana, staff)
	expect(t, s, ana.User.Row, "", idmap.ReasonNoID)
	if err := s.SetPolicy(context.Background(), policy(t, contoso.SID)); err != nil {
		t.Fatal(err)
	}
	expect(t, s, ana.User.Row, "ana", "")
	expect(t, s, staff.Group.Row, "staff berlin", "")
	if u := load(t, s, ana.User.Row).User; u.UID != 100001002 || u.GID != 100000514 {
		t.Errorf("uid %d, gid %d", u.UID, u.GID)
	}
}

func TestDistributionGroupGetsItsIDWhenItBecomesASecurityGroup(t *testing.T) {
	s := newStore(t)
	g := group(1, "club")
	g.Group.Security = false
	put(t, s, g)
	if got := load(t, s, g.Group.Row); got.ID != 0 || got.Group.GID != 0 {
		t.Errorf("a distribution group has id %d, gid %d", got.ID, got.Group.GID)
	}
	g.Group.Security = true
	put(t, s, g)
	got := load(t, s, g.Group.Row)
	if got.Group.GID != 100005002 {
		t.Errorf("gid %d", got.Group.GID)
	}
	g.Group.Security = false
	put(t, s, g)
	if again := load(t, s, g.Group.Row); again.ID != got.ID || again.Group.GID != 0 {
		t.Errorf("id %d, gid %d: the number stays, the group is no unix group", again.ID, again.Group.GID)
	}
	if _, err := s.Group(context.Background(), identity.Key{Kind: identity.ByGID, ID: got.ID}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a distribution group is found by gid: %v", err)
	}
}

func TestOnlyOneRowHasASID(t *testing.T) {
	s := newStore(t)
	a, b := user(1, "a"), user(2, "b")
	put(t, s, a)
	for name, change := range map[string]func(){
		"SID": func() { b.User.SID = a.User.SID }, "objectGUID": func() { b.User.ObjectGUID = a.User.ObjectGUID }, "oid": func() { b.User.OID = a.User.OID },
	} {
		b = user(2, "b")
		change()
		if err := s.Update(context.Background(), func(tx *Tx) error { return tx.Put(b) }); !fault.Is(err, fault.Conflict) {
			t.Errorf("two rows with one %s: %v", name, err)
		}
	}
	b = user(2, "b")
	b.User.OID, b.User.State = a.User.OID, identity.Conflicted
	a.User.State = identity.Conflicted
	put(t, s, a, b)
	if got := load(t, s, b.User.Row); got.ID != 0 || got.User.Unpublished != idmap.ReasonConflict {
		t.Errorf("the new row in conflict has id %d, %q", got.ID, got.User.Unpublished)
	}
	if u, err := s.User(context.Background(), identity.Key{Kind: identity.ByOID, GUID: a.User.OID}); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
		t.Errorf("an oid of two live objects finds %+v, %v", u, err)
	}
}

func TestAnotherDomainStartsEmpty(t *testing.T) {
	s := newStore(t)
	ana, staff := user(1, "ana"), group(1, "staff berlin")
	put(t, s, domainUsers(), ana, staff)
	update(t, s, func(tx *Tx) error {
		if err := tx.SetMembers(staff.Group.Row, []Member{{GUID: ana.User.ObjectGUID}}); err != nil {
			return err
		}
		return tx.SetSync(Sync{Complete: true, USN: 7})
	})
	uid := load(t, s, ana.User.Row).ID
	p := policy(t, rebuilt)
	p.Domain = identity.Domain{NetBIOS: "OTHER", DNS: "other.test", Realm: "OTHER.TEST", SID: rebuilt}
	if err := s.SetPolicy(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	_ = s.View(context.Background(), func(v *View) error {
		if v.Complete() || v.Sync().USN != 0 {
			t.Error("the mirror of the other domain is complete")
		}
		return v.Each(0, func(e Entry) error { return fmt.Errorf("row %d is still there", e.Common().Row) })
	})
	// Its first account has the RID of ana; it gets another number.
	eve := user(1, "eve")
	eve.User.SID, eve.User.OID, eve.User.ObjectGUID = rebuilt.WithRID(1001), guid(1, 500), guid(2, 500)
	put(t, s, eve)
	if got := load(t, s, eve.User.Row); got.ID == uid || got.ID == 0 {
		t.Errorf("eve has id %d, ana had %d", got.ID, uid)
	}
}
