// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

var (
	contoso = identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST",
		SID: identity.MustParseSID("S-1-5-21-1-2-3")}
	rebuilt = identity.MustParseSID("S-1-5-21-7-8-9")
)

func policy(t testing.TB, domain identity.SID) Policy {
	t.Helper()
	ids, err := idmap.New(idmap.Config{}, domain)
	if err != nil {
		t.Fatal(err)
	}
	d := contoso
	d.SID = domain
	return Policy{Domain: d, IDs: ids, Reserved: idmap.Privileged(), Local: map[string]struct{}{"nasadmin": {}}}
}

// open opens a store, checks every index when the test is over, and closes it.
func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Errorf("after the test: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	s := open(t, filepath.Join(t.TempDir(), "latchkey.db"))
	if err := s.SetPolicy(context.Background(), policy(t, contoso.SID)); err != nil {
		t.Fatal(err)
	}
	return s
}

func guid(kind, n int) (g identity.GUID) {
	g[0], g[1], g[14], g[15] = 0xaa, byte(kind), byte(n>>8), byte(n)
	return g
}

func user(n int, account string) *Row {
	r := NewUser()
	u := r.User
	u.OID, u.ObjectGUID, u.SID = guid(1, n), guid(2, n), contoso.SID.WithRID(uint32(1000+n))
	u.Account, u.UPN, u.PrimaryGroup = account, account+"@contoso.com", contoso.SID.WithRID(513)
	u.DisplayName, u.DN = "User "+account, "CN="+account+",OU=AADDC Users,DC=aadds,DC=contoso,DC=test"
	return r
}

func group(n int, account string) *Row {
	r := NewGroup()
	g := r.Group
	g.OID, g.ObjectGUID, g.SID = guid(3, n), guid(4, n), contoso.SID.WithRID(uint32(5000+n))
	g.Account, g.Scope, g.Security = account, identity.ScopeGlobal, true
	return r
}

func domainUsers() *Row {
	r := group(0, "Domain Users")
	r.Group.OID, r.Group.SID = identity.GUID{}, contoso.SID.WithRID(513)
	return r
}

func update(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *Store, rows ...*Row) {
	t.Helper()
	update(t, s, func(tx *Tx) error {
		for _, r := range rows {
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func load(t testing.TB, s *Store, id identity.RowID) (r *Row) {
	t.Helper()
	if err := s.View(context.Background(), func(v *View) (err error) {
		r, err = v.load(id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if r == nil {
		t.Fatalf("row %d is gone", id)
	}
	return r
}

func getUser(t testing.TB, s *Store, key identity.Key) *identity.User {
	t.Helper()
	u, err := s.User(context.Background(), key)
	if err != nil {
		t.Fatalf("%+v: %v", key, err)
	}
	return u
}

func byName(name string) identity.Key { return identity.Key{Kind: identity.ByName, Name: name} }

func TestEveryKeyFindsTheSameRow(t *testing.T) {
	s := newStore(t)
	alice := user(1, "Alice")
	alice.User.HistorySIDs = []identity.SID{identity.MustParseSID("S-1-5-21-9-9-9-1105")}
	put(t, s, domainUsers(), alice, user(2, "bob"))
	want := load(t, s, alice.User.Row).User
	if want.Name != "alice" || want.UID != 100001002 || want.GID != 100000514 || want.Unpublished != "" {
		t.Errorf("alice is %q, %d, %d, %q", want.Name, want.UID, want.GID, want.Unpublished)
	}
	if got := want.Aliases; !slices.Equal(got, []string{`contoso\alice`, "alice@contoso.com", "alice@aadds.contoso.test"}) {
		t.Errorf("aliases %q", got)
	}
	for _, key := range []identity.Key{
		byName("alice"), byName("ALICE"), byName(`CONTOSO\Alice`), byName(`aadds.contoso.test\alice`),
		byName("Alice@Contoso.Com"), byName("alice@AADDS.CONTOSO.TEST"), byName("alice@contoso"),
		{Kind: identity.ByUID, ID: 100001002}, {Kind: identity.BySID, SID: want.SID},
		{Kind: identity.ByOID, GUID: want.OID}, {Kind: identity.ByObjectGUID, GUID: want.ObjectGUID}, {Kind: identity.ByRow, Row: want.Row},
	} {
		if got := getUser(t, s, key); got.Row != want.Row {
			t.Errorf("%+v finds row %d, want %d", key, got.Row, want.Row)
		}
	}
	for _, key := range []identity.Key{
		byName("alic"), byName(`OTHER\alice`), byName("alice@elsewhere.test"), byName("alice@"), byName("@contoso.com"), byName(`\alice`),
		{Kind: identity.ByGID, ID: 100001002}, {Kind: identity.ByUID, ID: 100000514}, {Kind: identity.ByUID},
		{Kind: identity.BySID, SID: want.HistorySIDs[0]}, // an ACL may name it, a person is not found by it
		{Kind: identity.ByOID, GUID: want.ObjectGUID}, {Kind: identity.ByRow, Row: 99}, {Kind: identity.ByRow},
	} {
		if u, err := s.User(context.Background(), key); !fault.Is(err, fault.NotFound) {
			t.Errorf("%+v: %v, %v, want not found", key, u, err)
		}
	}
	for _, key := range []identity.Key{byName(""), byName("a\nb"), {}, {Kind: identity.BySID}, {Kind: identity.ByOID}, {Kind: identity.ByObjectGUID}} {
		if _, err := s.User(context.Background(), key); !fault.Is(err, fault.Malformed) {
			t.Errorf("%+v: %v, want malformed", key, err)
		}
	}
	_ = s.View(context.Background(), func(v *View) error {
		if id, kind, ok := v.IDOfSID(want.HistorySIDs[0]); id != 100001002 || kind != identity.KindUser || !ok {
			t.Errorf("the SID of sIDHistory leads to %d, %v, %v", id, kind, ok)
		}
		return nil
	})
}

func TestGroupByID(t *testing.T) {
	s := newStore(t)
	staff := group(1, "Staff Berlin")
	put(t, s, staff)
	g, err := s.Group(context.Background(), identity.Key{Kind: identity.ByGID, ID: 100005002})
	if err != nil || g.Row != staff.Group.Row || g.Name != "staff berlin" {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := s.User(context.Background(), byName("staff berlin")); !fault.Is(err, fault.NotFound) {
		t.Errorf("a group was found as a user: %v", err)
	}
}

func TestExpiredAccountIsToldByTheClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, err := Open(context.Background(), path, Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := user(1, "temp")
	r.User.AccountExpires = now.Add(time.Hour)
	put(t, s, r)
	key := identity.Key{Kind: identity.ByOID, GUID: r.User.OID}
	if u := getUser(t, s, key); u.State.Has(identity.AccountExpired) {
		t.Error("expired an hour early")
	}
	now = now.Add(time.Hour)
	if u := getUser(t, s, key); !u.State.Has(identity.AccountExpired) {
		t.Error("not expired")
	}
}

func TestListIsInTheOrderOfNames(t *testing.T) {
	s := newStore(t)
	rows := []*Row{domainUsers()}
	for i, name := range []string{"zoe", "Ana", "root", "mia", "a:b", "Bob"} {
		rows = append(rows, user(i+1, name))
	}
	put(t, s, rows...)
	var got []string
	var cursors []string
	list := func(after string, limit int) (page []string, next string) {
		err := s.View(context.Background(), func(v *View) error {
			return v.List(identity.KindUser, after, func(e Entry, cursor string) bool {
				page, next = append(page, e.User.Name+"/"+e.User.Account), cursor
				return len(page) < limit
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return page, next
	}
	for cursor := ""; ; {
		page, next := list(cursor, 2)
		if len(page) == 0 {
			break
		}
		got, cursors, cursor = append(got, page...), append(cursors, next), next
	}
	want := []string{"ana/Ana", "bob/Bob", `CONTOSO\root/root`, "mia/mia", "zoe/zoe", "/a:b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{"x", "####", cursors[0] + "A!", "AA"} {
		err := s.View(context.Background(), func(v *View) error {
			return v.List(identity.KindUser, bad, func(Entry, string) bool { return true })
		})
		if !fault.Is(err, fault.Malformed) {
			t.Errorf("cursor %q: %v, want malformed", bad, err)
		}
	}
	// A page goes on where it was when rows came and went meanwhile.
	_, next := list("", 2) // up to bob
	update(t, s, func(tx *Tx) error { return tx.Retire(rows[6].User.Row) })
	put(t, s, user(50, "carl"))
	if page, _ := list(next, 2); !slices.Equal(page, []string{"carl/carl", `CONTOSO\root/root`}) {
		t.Errorf("the list goes on with %q", page)
	}
}

func TestEachAndCounts(t *testing.T) {
	s := newStore(t)
	disabled, guest := user(1, "dora"), user(2, "guest1")
	disabled.User.State = identity.Disabled
	guest.User.State = identity.Guest
	news, admins := group(2, "news"), group(3, "Administrators")
	news.Group.Security = false
	admins.Group.SID, admins.Group.Scope = identity.MustParseSID("S-1-5-32-544"), identity.ScopeBuiltin
	gone := user(9, "gone")
	put(t, s, domainUsers(), disabled, guest, user(3, "root"), user(4, "12345"), user(5, "x/y"), news, admins, group(4, "wheel"), gone)
	update(t, s, func(tx *Tx) error { return tx.Retire(gone.User.Row) })
	_ = s.View(context.Background(), func(v *View) error {
		c, err := v.Counts()
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprint(Counts{Users: 5, Groups: 4, Disabled: 1, Guests: 1, UnpublishedUsers: 3, UnpublishedGroups: 1, Distribution: 1, Builtin: 1, Retired: 1,
			Reasons: map[identity.Unpublished]int{idmap.ReasonPrivileged: 2, idmap.ReasonDigits: 1, idmap.ReasonCharacter: 1}})
		if fmt.Sprint(c) != want {
			t.Errorf("counts %+v, want %s", c, want)
		}
		var users, groups, both int
		_ = v.Each(identity.KindUser, func(e Entry) error { users++; return nil })
		_ = v.Each(identity.KindGroup, func(e Entry) error { groups++; return nil })
		_ = v.Each(0, func(e Entry) error { both++; return nil })
		if users != 5 || groups != 4 || both != 9 {
			t.Errorf("each: %d users, %d groups, %d rows", users, groups, both)
		}
		stop := errors.New("stop")
		if err := v.Each(0, func(Entry) error { return stop }); err != stop {
			t.Errorf("each returned %v", err)
		}
		return nil
	})
}
