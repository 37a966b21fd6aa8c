// SPDX-License-Identifier: Apache-2.0

package resolve_test

import (
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/store"
)

func TestNumbersOfSIDs(t *testing.T) {
	s := realStore(t)
	r := resolve.New(resolve.FromStore(s), resolve.Presentation{})
	sid := identity.MustParseSID
	if _, err := r.IDOfSID(ctx, domainSID.WithRID(1001)); !fault.Is(err, fault.Unreachable) {
		t.Errorf("before the first pass: %v", err)
	}
	if _, err := r.SIDOfID(ctx, resolve.ID{Number: 100001002, Kind: identity.KindUser}); !fault.Is(err, fault.Unreachable) {
		t.Errorf("a number before the first pass: %v", err)
	}
	if _, err := r.SIDOfID(ctx, resolve.ID{Number: 65534, Kind: identity.KindGroup}); !fault.Is(err, fault.NotFound) {
		t.Errorf("nogroup: %v", err)
	}
	// What does not depend on the directory is known at once.
	admins, err := r.IDOfSID(ctx, sid("S-1-5-32-544"))
	if err != nil || admins != (resolve.ID{Number: 200_000_000, Kind: identity.KindGroup}) {
		t.Errorf("BUILTIN\\Administrators: %v, %v", admins, err)
	}
	ana := storeUser(1, "ana")
	ana.User.HistorySIDs = []identity.SID{sid("S-1-5-21-9-9-9-77")}
	put(t, s, storeGroup(513, 1, "Domain Users"), ana)
	uid := resolve.ID{Number: 100_001_002, Kind: identity.KindUser}
	got, err := r.IDsOfSIDs(ctx, []identity.SID{ana.User.SID, sid("S-1-5-21-9-9-9-77"), domainSID.WithRID(513), sid("S-1-5-32-544"), sid("S-1-1-0"),
		sid("S-1-22-1-0"), sid("S-1-22-2-33"), sid("S-1-18-1"), domainSID.WithRID(4711), {}})
	want := []resolve.ID{uid, uid, {Number: 100_000_514, Kind: identity.KindGroup}, admins, {Number: 199_999_991, Kind: identity.KindGroup},
		{Kind: identity.KindUser}, {Number: 33, Kind: identity.KindGroup}, {}, {}, {}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %v, %v\nwant %v", got, err, want)
	}
	sids, err := r.SIDsOfIDs(ctx, []resolve.ID{uid, {Number: 100_001_002, Kind: identity.KindGroup}, admins, {Number: 1000, Kind: identity.KindUser}, {}})
	if err != nil || !slices.Equal(sids, []identity.SID{ana.User.SID, {}, sid("S-1-5-32-544"), {}, {}}) {
		t.Errorf("got %v, %v", sids, err)
	}
	// A row that is gone keeps its number for itself, and leads nowhere.
	write(t, s, func(tx *store.Tx) error { return tx.Retire(ana.User.Row) })
	if _, err := r.SIDOfID(ctx, uid); !fault.Is(err, fault.NotFound) {
		t.Errorf("the number of a row that is gone: %v", err)
	}
	if _, err := r.IDOfSID(ctx, ana.User.SID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the SID of a row that is gone: %v", err)
	}
}

// TestAfterALeave: the rows are put aside, the answer says why, and another join
// brings them back as they were.
func TestAfterALeave(t *testing.T) {
	s := realStore(t)
	r := resolve.New(resolve.FromStore(s), resolve.Presentation{Domain: domain})
	ana := storeUser(1, "ana")
	put(t, s, storeGroup(513, 1, "Domain Users"), ana)
	key := identity.Key{Kind: identity.ByName, Name: "ana"}
	before, err := r.User(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, (*store.Tx).RetireAll)
	r.SetPresentation(resolve.Presentation{Unjoined: true})
	for what, err := range map[string]error{
		"user": second(r.User(ctx, key)), "group": second(r.Group(ctx, identity.Key{Kind: identity.ByName, Name: "domain users"})),
		"list": second(r.List(ctx, identity.KindUser, resolve.Query{Limit: 10})), "SID": second(r.IDOfSID(ctx, ana.User.SID)),
		"uid": second(r.SIDOfID(ctx, resolve.ID{Number: uint32(before.User.UID), Kind: identity.KindUser})), "watch": second(r.Watch(ctx, resolve.Watch{})),
	} {
		if !fault.Is(err, fault.Unreachable) || err.Error() != "this machine is in no domain" {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The same person again, as the mirror puts her after another join.
	write(t, s, func(tx *store.Tx) error {
		found, err := tx.FindObject(ana.User.ObjectGUID)
		if err != nil || found == nil || !found.Gone {
			t.Fatalf("she is not found: %+v, %v", found, err)
		}
		if err := tx.Put(found); err != nil {
			return err
		}
		return tx.SetSync(store.Sync{Complete: true})
	})
	r.SetPresentation(resolve.Presentation{Domain: domain})
	if again, err := r.User(ctx, key); err != nil || again.User.UID != before.User.UID || again.User.Row != before.User.Row {
		t.Errorf("after another join: %+v, %v", again, err)
	}
}

func second[T any](_ T, err error) error { return err }
