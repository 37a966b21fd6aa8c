// SPDX-License-Identifier: Apache-2.0

package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
)

var (
	ctx       = context.Background()
	domainSID = identity.MustParseSID("S-1-5-21-1-2-3")
	domain    = identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST", SID: domainSID}
)

func guid(n byte) identity.GUID { return identity.GUID{15: n} }

// person makes a user whose row, RID and oid are n.
func person(n int, name, display string) identity.User {
	return identity.User{
		Common: identity.Common{
			Row: identity.RowID(n), OID: guid(byte(n)), ObjectGUID: guid(byte(100 + n)), SID: domainSID.WithRID(uint32(1000 + n)),
			Name: name, Account: strings.ToUpper(name[:1]) + name[1:], DisplayName: display, Mail: name + "@contoso.test",
			Aliases: []string{`contoso\` + name, name + "@aadds.contoso.test"},
		},
		UPN: name + "@contoso.onmicrosoft.test", UID: identity.UID(100000 + n), GID: 100513,
	}
}

func group(n int, name string) identity.Group {
	return identity.Group{Common: identity.Common{Row: identity.RowID(n), SID: domainSID.WithRID(uint32(1000 + n)), Name: name, Account: name},
		GID: identity.GID(100000 + n), Security: true, Scope: identity.ScopeGlobal}
}

func present(u *identity.User) { u.Home, u.Shell = "/home/"+u.Name, "/bin/bash" }

func house(t *testing.T) (*memorytest.Memory, *resolve.Resolver) {
	t.Helper()
	m := memorytest.New()
	m.PutUser(person(1, "alice", "Alice Adler"), person(2, "bob", "Bob Berg"))
	m.PutGroup(group(50, "staff"), 1, 2)
	m.PutGroup(group(51, "board"), 1)
	return m, resolve.New(m, resolve.Presentation{Present: present, Domain: domain})
}

func byName(n string) identity.Key { return identity.Key{Kind: identity.ByName, Name: n} }

func TestEveryKeyFindsTheSameRowAsItIsShown(t *testing.T) {
	_, r := house(t)
	for _, k := range []identity.Key{byName("ALICE"), byName(`contoso\Alice`), {Kind: identity.ByUID, ID: 100001},
		{Kind: identity.BySID, SID: domainSID.WithRID(1001)}, {Kind: identity.ByOID, GUID: guid(1)},
		{Kind: identity.ByObjectGUID, GUID: guid(101)}, {Kind: identity.ByRow, Row: 1}} {
		e, err := r.User(ctx, k)
		if err != nil || e.User.Row != 1 {
			t.Errorf("%+v: %+v, %v", k, e, err)
			continue
		}
		if e.Qualified != `CONTOSO\Alice` || e.User.Home != "/home/alice" || e.User.Shell != "/bin/bash" {
			t.Errorf("%+v is shown as %q, home %q", k, e.Qualified, e.User.Home)
		}
	}
	g, err := r.Group(ctx, byName("staff"))
	if err != nil || g.Group.Row != 50 || g.Members != 2 || g.Qualified != `CONTOSO\staff` {
		t.Errorf("staff = %+v, %v", g, err)
	}
	if _, err := r.User(ctx, byName("staff")); !fault.Is(err, fault.NotFound) {
		t.Errorf("a group found as a user: %v", err)
	}
}

func TestPresentationCanBeReplaced(t *testing.T) {
	_, r := house(t)
	r.SetPresentation(resolve.Presentation{})
	if e, err := r.User(ctx, byName("alice")); err != nil || e.Qualified != "" || e.User.Home != "" {
		t.Errorf("without presentation: %+v, %v", e, err)
	}
}

// What is not there is only said to be missing when everything has been seen.
func TestNobodyKnowsBeforeTheFirstCompletePass(t *testing.T) {
	m, r := house(t)
	m.SetComplete(false)
	if e, err := r.User(ctx, byName("alice")); err != nil || e.User.Row != 1 {
		t.Errorf("a row that is there already: %v", err)
	}
	questions := map[string]func() error{
		"user":    func() error { _, err := r.User(ctx, byName("zoe")); return err },
		"group":   func() error { _, err := r.Group(ctx, byName("zoe")); return err },
		"list":    func() error { _, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 1}); return err },
		"search":  func() error { _, _, err := r.Search(ctx, resolve.Search{Prefix: "a", Limit: 1}); return err },
		"groups":  func() error { _, err := r.UserGroups(ctx, byName("zoe"), 0, 1); return err },
		"members": func() error { _, err := r.GroupMembers(ctx, byName("zoe"), false, 0, 1); return err },
		"check":   func() error { _, err := r.Memberships(ctx, byName("zoe"), nil); return err },
		"watch":   func() error { _, err := r.Watch(ctx, resolve.Watch{Heartbeat: time.Hour}); return err },
		"resolve": func() error {
			a, err := r.Resolve(ctx, []resolve.Question{{Key: byName("zoe")}})
			return errors.Join(err, a[0].Err)
		},
	}
	for name, ask := range questions {
		if err := ask(); !fault.Is(err, fault.Unreachable) || fault.Remedy(err) == "" {
			t.Errorf("%s: %v, want Unreachable with a remedy", name, err)
		}
	}
	m.SetComplete(true)
	for name, ask := range questions {
		if err := ask(); err != nil && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s after the first pass: %v", name, err)
		}
	}
}

func TestAFailingStoreIsNotAMiss(t *testing.T) {
	m, r := house(t)
	m.Fail(fault.New(fault.Internal, "disk on fire"))
	if _, err := r.User(ctx, byName("alice")); !fault.Is(err, fault.Internal) {
		t.Errorf("User: %v", err)
	}
	if _, err := r.Resolve(ctx, []resolve.Question{{Key: byName("zoe")}}); !fault.Is(err, fault.Internal) {
		t.Errorf("Resolve: %v", err)
	}
	if _, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 1}); !fault.Is(err, fault.Internal) {
		t.Errorf("List: %v", err)
	}
}

func TestResolveAnswersEachInOrder(t *testing.T) {
	_, r := house(t)
	a, err := r.Resolve(ctx, []resolve.Question{
		{Key: byName("staff")}, {Key: byName("zoe")}, {Key: byName("bob")},
		{Key: identity.Key{Kind: identity.ByRow, Row: 1}, Kind: identity.KindGroup}})
	if err != nil || len(a) != 4 {
		t.Fatalf("Resolve = %v, %v", a, err)
	}
	if a[0].Group == nil || a[0].Group.Row != 50 || !fault.Is(a[1].Err, fault.NotFound) || a[2].User == nil || !fault.Is(a[3].Err, fault.NotFound) {
		t.Errorf("Resolve = %+v", a)
	}
}

func rowsOf(entries []resolve.Entry) (rows []identity.RowID) {
	for _, e := range entries {
		rows = append(rows, e.Common().Row)
	}
	return rows
}

func TestRelationsPageByRow(t *testing.T) {
	m := memorytest.New()
	var all []identity.RowID
	for n := 1; n <= 25; n++ {
		m.PutUser(person(n, fmt.Sprintf("u%02d", n), ""))
		all = append(all, identity.RowID(n))
	}
	m.PutGroup(group(50, "all"), all...)
	r := resolve.New(m, resolve.Presentation{})
	for _, size := range []int{1, 7, 25, 26} {
		var got []identity.RowID
		for after := identity.RowID(0); ; {
			page, err := r.GroupMembers(ctx, byName("all"), false, after, size)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rowsOf(page.Entries)...)
			if page.Next == 0 {
				break
			}
			after = page.Next
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %d gave %v", size, got)
		}
	}
	page, err := r.UserGroups(ctx, byName("u01"), 0, 10)
	if err != nil || !slices.Equal(rowsOf(page.Entries), []identity.RowID{50}) {
		t.Errorf("groups of u01 = %v, %v", rowsOf(page.Entries), err)
	}
	m.Delete(9) // its membership is still listed: a member that is gone is left out
	page, err = r.GroupMembers(ctx, byName("all"), true, 7, 3)
	if err != nil || !slices.Equal(rowsOf(page.Entries), []identity.RowID{8, 10}) || page.Next != 10 {
		t.Errorf("a page over a missing row = %v next %d, %v", rowsOf(page.Entries), page.Next, err)
	}
}

func TestMemberships(t *testing.T) {
	_, r := house(t)
	got, err := r.Memberships(ctx, byName("bob"), []identity.Key{byName("staff"), byName("board"), byName("zoe"), byName("alice")})
	if err != nil || len(got) != 4 {
		t.Fatalf("Memberships = %v, %v", got, err)
	}
	if !got[0].Member || got[1].Member || !fault.Is(got[2].Err, fault.NotFound) || !fault.Is(got[3].Err, fault.NotFound) {
		t.Errorf("Memberships = %+v", got)
	}
	if _, err := r.Memberships(ctx, byName("zoe"), nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("of nobody: %v", err)
	}
}

func TestAnEndedContextEndsLongAnswers(t *testing.T) {
	_, r := house(t)
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.List(over, identity.KindUser, resolve.Query{Limit: 10}); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
	if _, err := r.Resolve(over, make([]resolve.Question, 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve: %v", err)
	}
}
