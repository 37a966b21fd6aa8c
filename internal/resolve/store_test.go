// SPDX-License-Identifier: Apache-2.0

package resolve_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// realStore is an empty store with the rules of the domain.
func realStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, filepath.Join(t.TempDir(), "db"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	ids, err := idmap.New(idmap.Config{}, domain.SID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetPolicy(ctx, store.Policy{Domain: domain, IDs: ids, Reserved: idmap.Privileged(),
		Local: map[string]struct{}{"nasadmin": {}}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func storeUser(n int, account string) *store.Row {
	r := store.NewUser()
	u := r.User
	u.OID, u.ObjectGUID, u.SID = guid(byte(n)), guid(byte(100+n)), domainSID.WithRID(uint32(1000+n))
	u.Account, u.UPN, u.PrimaryGroup = account, account+"@contoso.onmicrosoft.test", domainSID.WithRID(513)
	u.DisplayName = "Person " + account
	return r
}

func storeGroup(rid uint32, n int, account string) *store.Row {
	r := store.NewGroup()
	g := r.Group
	g.ObjectGUID, g.SID, g.Account = guid(byte(200+n)), domainSID.WithRID(rid), account
	g.Scope, g.Security = identity.ScopeGlobal, true
	return r
}

func write(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(ctx, fn); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, s *store.Store, rows ...*store.Row) {
	t.Helper()
	write(t, s, func(tx *store.Tx) error {
		for _, r := range rows {
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return tx.SetSync(store.Sync{Complete: true})
	})
}

func TestOverTheRealStoreEveryFormFindsTheSameRow(t *testing.T) {
	s := realStore(t)
	alice := storeUser(1, "Alice")
	history := identity.MustParseSID("S-1-5-21-9-9-9-1105")
	alice.User.HistorySIDs = []identity.SID{history}
	put(t, s, storeGroup(513, 1, "Domain Users"), alice, storeUser(2, "wheel"), storeUser(3, "nasadmin"))
	r := resolve.New(resolve.FromStore(s), resolve.Presentation{Present: present, Domain: domain})
	first, err := r.User(ctx, byName("alice"))
	if err != nil {
		t.Fatal(err)
	}
	u := first.User
	for _, k := range []identity.Key{byName("ALICE"), byName(`CONTOSO\Alice`), byName(`aadds.contoso.test\ALICE`),
		byName("alice@AADDS.CONTOSO.TEST"), byName("Alice@contoso.onmicrosoft.test"), byName("alice@contoso"),
		{Kind: identity.ByUID, ID: uint32(u.UID)}, {Kind: identity.BySID, SID: u.SID}, {Kind: identity.ByOID, GUID: u.OID},
		{Kind: identity.ByObjectGUID, GUID: u.ObjectGUID}, {Kind: identity.ByRow, Row: u.Row}} {
		if e, err := r.User(ctx, k); err != nil || e.User.Row != u.Row || e.Qualified != `CONTOSO\Alice` || e.User.Home != "/home/alice" {
			t.Errorf("%+v: %+v, %v", k, e, err)
		}
	}
	for _, k := range []identity.Key{byName("wheel"), byName("nasadmin"), byName(`other\alice`), byName("alice@elsewhere.test"),
		{Kind: identity.BySID, SID: history}, {Kind: identity.ByGID, ID: uint32(u.UID)}} {
		if e, err := r.User(ctx, k); !fault.Is(err, fault.NotFound) {
			t.Errorf("%+v finds %+v, %v", k, e.User, err)
		}
	}
	page, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 10, Publication: resolve.Unpublished})
	if err != nil || len(page.Entries) != 2 {
		t.Errorf("unpublished: %d, %v", len(page.Entries), err)
	}
	for _, e := range page.Entries {
		if e.User.Unpublished == "" {
			t.Errorf("%s has no reason", e.User.Account)
		}
	}
}

func TestOverTheRealStoreAPastSIDFindsItsRow(t *testing.T) {
	s := realStore(t)
	alice := storeUser(1, "alice")
	put(t, s, storeGroup(513, 1, "Domain Users"), alice)
	was := alice.User.SID
	again := alice.Clone()
	again.User.SID, again.User.ObjectGUID = domainSID.WithRID(7777), guid(77)
	put(t, s, again)
	r := resolve.New(resolve.FromStore(s), resolve.Presentation{})
	e, err := r.User(ctx, identity.Key{Kind: identity.BySID, SID: was})
	if err != nil || e.User.SID == was || !slices.Contains(e.User.PastSIDs, was) {
		t.Errorf("by the SID of before: %+v, %v", e.User, err)
	}
}

func TestOverTheRealStoreNobodyKnowsBeforeTheFirstPass(t *testing.T) {
	r := resolve.New(resolve.FromStore(realStore(t)), resolve.Presentation{})
	if _, err := r.User(ctx, byName("alice")); !fault.Is(err, fault.Unreachable) {
		t.Errorf("User: %v, want Unreachable", err)
	}
	if _, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 1}); !fault.Is(err, fault.Unreachable) {
		t.Errorf("List: %v, want Unreachable", err)
	}
}

func TestOverTheRealStoreMembership(t *testing.T) {
	s := realStore(t)
	alice, bob := storeUser(1, "alice"), storeUser(2, "bob")
	inner, outer := storeGroup(600, 2, "inner"), storeGroup(601, 3, "outer")
	put(t, s, storeGroup(513, 1, "Domain Users"), alice, bob, inner, outer)
	write(t, s, func(tx *store.Tx) error {
		if err := tx.SetMembers(inner.Group.Row, []store.Member{{GUID: alice.User.ObjectGUID}}); err != nil {
			return err
		}
		return tx.SetMembers(outer.Group.Row, []store.Member{{GUID: inner.Group.ObjectGUID}})
	})
	r := resolve.New(resolve.FromStore(s), resolve.Presentation{})
	in, err := r.Memberships(ctx, byName("alice"), []identity.Key{byName("outer"), byName("inner"), byName("domain users")})
	if err != nil || !in[0].Member || !in[1].Member || !in[2].Member {
		t.Errorf("alice: %+v, %v", in, err)
	}
	in, err = r.Memberships(ctx, byName("bob"), []identity.Key{byName("outer")})
	if err != nil || in[0].Member {
		t.Errorf("bob: %+v, %v", in, err)
	}
	direct, err := r.GroupMembers(ctx, byName("outer"), true, 0, 10)
	if err != nil || len(direct.Entries) != 1 || direct.Entries[0].Group == nil {
		t.Errorf("direct members of outer: %+v, %v", direct, err)
	}
	all, err := r.GroupMembers(ctx, byName("outer"), false, 0, 10)
	if err != nil || len(all.Entries) != 1 || all.Entries[0].User.Name != "alice" {
		t.Errorf("members of outer: %+v, %v", all, err)
	}
}

// Snapshot in pieces, changes, resume and the catalogue, with the store's own
// cursors and log.
func TestOverTheRealStoreWatchAndLists(t *testing.T) {
	s := realStore(t)
	rows := []*store.Row{storeGroup(513, 1, "Domain Users")}
	for n := 1; n <= 99; n++ {
		rows = append(rows, storeUser(n, fmt.Sprintf("user%02d", n)))
	}
	put(t, s, rows...)
	r := resolve.New(resolve.FromStore(s), resolve.Presentation{})
	if got := pages(t, r, identity.KindUser, resolve.Query{Limit: 10}); len(got) != 99 || !slices.IsSorted(got) {
		t.Fatalf("list = %v", got)
	}
	w := watch(t, r, resolve.Watch{Users: true, Heartbeat: time.Hour})
	var half resolve.Position
	for i := range 99 {
		e := next(t, w)
		if e.Kind != resolve.Upsert {
			t.Fatalf("event %d is %s", i, words(e))
		}
		if i == 49 {
			half = e.At
		}
	}
	expect(t, w, "synced")
	changed := rows[5].Clone()
	changed.User.DisplayName = "Somebody Else"
	put(t, s, changed)
	at := expect(t, w, "upsert user05").At
	resumed := watch(t, r, resolve.Watch{Users: true, Resume: &half})
	n := 0
	for e := next(t, resumed); e.Kind != resolve.Synced; e = next(t, resumed) {
		n++
	}
	if n != 50 { // 49 rows that were left, and the change
		t.Errorf("resumed half way: %d events, want 50", n)
	}
	expect(t, watch(t, r, resolve.Watch{Users: true, Resume: &at}), "synced")
	if found, _, err := r.Search(ctx, resolve.Search{Prefix: "else", Limit: 5}); err != nil || len(found) != 1 {
		t.Errorf("the changed display name: %d hits, %v", len(found), err)
	}
}
