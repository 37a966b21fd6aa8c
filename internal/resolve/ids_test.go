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
