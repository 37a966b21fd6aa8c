// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// expect compares the published name and the reason of a row.
func expect(t *testing.T, s *Store, id identity.RowID, name string, why identity.Unpublished) {
	t.Helper()
	c := load(t, s, id).Common()
	if c.Name != name || c.Unpublished != why {
		t.Errorf("row %d (%s) is published as %q, %q, want %q, %q", id, c.Account, c.Name, c.Unpublished, name, why)
	}
}

func TestPrivilegedAndLocalNamesAreQualified(t *testing.T) {
	s := newStore(t)
	root, local, digits, wheel := user(1, "Root"), user(2, "NASAdmin"), user(3, "4711"), group(1, "wheel")
	put(t, s, domainUsers(), root, local, digits, wheel)
	expect(t, s, root.User.Row, `CONTOSO\root`, idmap.ReasonPrivileged)
	expect(t, s, local.User.Row, `CONTOSO\nasadmin`, idmap.ReasonLocal)
	expect(t, s, digits.User.Row, `CONTOSO\4711`, idmap.ReasonDigits)
	expect(t, s, wheel.Group.Row, `CONTOSO\wheel`, idmap.ReasonPrivileged)
	for name, want := range map[string]identity.RowID{
		"root": 0, "nasadmin": 0, "4711": 0, // the machine's own, or nobody
		`contoso\root`: root.User.Row, "root@contoso.com": root.User.Row, "nasadmin@aadds.contoso.test": local.User.Row,
	} {
		u, err := s.User(context.Background(), byName(name))
		if want == 0 && !fault.Is(err, fault.NotFound) || want != 0 && (err != nil || u.Row != want) {
			t.Errorf("%s finds %+v, %v, want row %d", name, u, err, want)
		}
	}
	if _, err := s.Group(context.Background(), byName("wheel")); !fault.Is(err, fault.NotFound) {
		t.Errorf("the bare name wheel finds a domain group: %v", err)
	}
}

func TestLocalAccountAddedLater(t *testing.T) {
	s := newStore(t)
	ana := user(1, "Ana")
	put(t, s, domainUsers(), ana)
	expect(t, s, ana.User.Row, "ana", "")
	uid := load(t, s, ana.User.Row).User.UID
	at := s.Position()

	p := policy(t, contoso.SID)
	p.Local["ana"] = struct{}{}
	if err := s.SetPolicy(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	expect(t, s, ana.User.Row, `CONTOSO\ana`, idmap.ReasonLocal)
	if changes, err := s.Changes(context.Background(), at, 10); err != nil || len(changes) != 1 || changes[0].Row != ana.User.Row {
		t.Errorf("the log tells %+v, %v", changes, err)
	}
	if err := s.SetPolicy(context.Background(), policy(t, contoso.SID)); err != nil {
		t.Fatal(err)
	}
	expect(t, s, ana.User.Row, "ana", "")
	if got := load(t, s, ana.User.Row).User.UID; got != uid {
		t.Errorf("the uid went from %d to %d", uid, got)
	}
	at = s.Position()
	if err := s.SetPolicy(context.Background(), policy(t, contoso.SID)); err != nil {
		t.Fatal(err)
	}
	if s.Position() != at {
		t.Error("the same policy again changed something")
	}
}

func TestTwoUsersSwapNamesInOneTransaction(t *testing.T) {
	for _, backwards := range []bool{false, true} {
		s := newStore(t)
		a, b := user(1, "alice"), user(2, "bob")
		put(t, s, domainUsers(), a, b)
		idA, idB := load(t, s, a.User.Row).User.UID, load(t, s, b.User.Row).User.UID
		a.User.Account, a.User.UPN, b.User.Account, b.User.UPN = "bob", "bob@contoso.com", "alice", "alice@contoso.com"
		rows := []*Row{a, b}
		if backwards {
			slices.Reverse(rows)
		}
		put(t, s, rows...)
		expect(t, s, a.User.Row, "bob", "")
		expect(t, s, b.User.Row, "alice", "")
		if got := getUser(t, s, byName("alice@contoso.com")); got.UID != idB {
			t.Errorf("alice is uid %d now, want %d", got.UID, idB)
		}
		if got := getUser(t, s, byName("bob")); got.UID != idA {
			t.Errorf("bob is uid %d now, want %d", got.UID, idA)
		}
	}
}

func TestNameCollision(t *testing.T) {
	s := newStore(t)
	first, second := user(1, "Müller"), user(2, "MU\u0308LLER") // the same name, composed and decomposed
	second.User.UPN = "mueller2@contoso.com"
	put(t, s, domainUsers(), second, first)
	first, second = second, first // the first row keeps it
	expect(t, s, first.User.Row, "müller", "")
	expect(t, s, second.User.Row, "", idmap.ReasonCollision)
	if got := getUser(t, s, byName("MÜLLER")); got.Row != first.User.Row {
		t.Errorf("the name finds row %d", got.Row)
	}
	if got := load(t, s, second.User.Row).User; got.UID == 0 || slices.Contains(got.Aliases, `contoso\müller`) {
		t.Errorf("the other has uid %d and aliases %q", got.UID, got.Aliases)
	}
	// Not seen lately: the name goes to the one that is there. Seen again: back.
	first.User.State |= identity.Missing
	put(t, s, first)
	expect(t, s, first.User.Row, "", idmap.ReasonCollision)
	expect(t, s, second.User.Row, "müller", "")
	first.User.State = 0
	put(t, s, first)
	expect(t, s, first.User.Row, "müller", "")
	expect(t, s, second.User.Row, "", idmap.ReasonCollision)
	update(t, s, func(tx *Tx) error { return tx.Retire(first.User.Row) })
	expect(t, s, second.User.Row, "müller", "")
}

func TestUPNBeforeAccountAtDomain(t *testing.T) {
	s := newStore(t)
	bob, sly := user(1, "bob"), user(2, "sly")
	put(t, s, domainUsers(), bob, sly)
	key := byName("bob@aadds.contoso.test")
	if getUser(t, s, key).Row != bob.User.Row {
		t.Fatal("account@domain does not find the account")
	}
	sly.User.UPN = "Bob@aadds.contoso.test" // as AD: an explicit UPN wins
	put(t, s, sly)
	if got := getUser(t, s, key); got.Row != sly.User.Row {
		t.Errorf("the UPN finds row %d", got.Row)
	}
	if a := load(t, s, bob.User.Row).User.Aliases; slices.Contains(a, "bob@aadds.contoso.test") {
		t.Errorf("two rows have one alias: %q", a)
	}
	sly.User.UPN = "sly@contoso.com"
	put(t, s, sly)
	if getUser(t, s, key).Row != bob.User.Row || !slices.Contains(load(t, s, bob.User.Row).User.Aliases, "bob@aadds.contoso.test") {
		t.Error("the alias did not come back")
	}
	// One UPN on two people means nobody.
	sly.User.UPN = bob.User.UPN
	put(t, s, sly)
	if u, err := s.User(context.Background(), byName("bob@contoso.com")); !fault.Is(err, fault.NotFound) {
		t.Errorf("an ambiguous UPN finds %+v, %v", u, err)
	}
	for _, r := range []*Row{bob, sly} {
		if a := load(t, s, r.User.Row).User.Aliases; slices.Contains(a, "bob@contoso.com") {
			t.Errorf("row %d has the ambiguous alias", r.User.Row)
		}
	}
}

// TestNoTwoRowsHaveOneName: whatever accounts and UPNs rows have, every
// published name and alias belongs to one row, and finds it.
func TestNoTwoRowsHaveOneName(t *testing.T) {
	s := newStore(t)
	words := []string{"ana", "Ana", "root", "bob", "bob@aadds.contoso.test", "x@y@z", `a\b`, "", "12", "-x", "ana@contoso.com", "Ä", "A\u0308", "contoso", "nasadmin", "a b"}
	var rows []*Row
	for i, w := range words {
		u := user(i+1, w)
		u.User.UPN = words[(i*7+3)%len(words)]
		rows = append(rows, u, group(i+1, words[(i*5+1)%len(words)]))
	}
	put(t, s, append([]*Row{domainUsers()}, rows...)...)
	owner := map[string]identity.RowID{}
	_ = s.View(context.Background(), func(v *View) error {
		return v.Each(0, func(e Entry) error {
			c := e.Common()
			for _, name := range append([]string{identity.Fold(c.Name)}, c.Aliases...) {
				if name == "" {
					continue
				}
				if other := owner[name]; other != 0 {
					t.Errorf("%q is a name of rows %d and %d", name, other, c.Row)
				}
				owner[name] = c.Row
				if got, err := v.Get(byName(name), 0); err != nil || got.Common().Row != c.Row {
					t.Errorf("%q, a name of row %d, finds %+v, %v", name, c.Row, got.Common(), err)
				}
				if strings.ContainsAny(name, ":/\n") {
					t.Errorf("%q is a name", name)
				}
			}
			return nil
		})
	})
}

func TestNamelessRowsAreFoundWhereTheNameIsNobodyElses(t *testing.T) {
	s := newStore(t)
	club, admins, users := group(2, "Club"), group(3, "Administrators"), group(4, "Users")
	club.Group.Security = false
	admins.Group.SID, admins.Group.Scope = identity.MustParseSID("S-1-5-32-544"), identity.ScopeBuiltin
	users.Group.SID, users.Group.Scope = identity.MustParseSID("S-1-5-32-545"), identity.ScopeBuiltin
	orphan := user(1, "orphan") // its primary group is not there
	put(t, s, club, admins, users, orphan)
	expect(t, s, club.Group.Row, "", idmap.ReasonDistribution)
	expect(t, s, admins.Group.Row, "", idmap.ReasonBuiltin)
	expect(t, s, orphan.User.Row, "", idmap.ReasonNoPrimary)
	for name, want := range map[string]identity.RowID{
		"club": club.Group.Row, `contoso\club`: club.Group.Row, "administrators": admins.Group.Row, `BUILTIN\Administrators`: admins.Group.Row,
		`builtin\users`: users.Group.Row, "users": 0, "orphan": orphan.User.Row, `BUILTIN\orphan`: 0,
	} {
		var got Entry
		err := s.View(context.Background(), func(v *View) (err error) { got, err = v.Get(byName(name), 0); return err })
		if want == 0 && !fault.Is(err, fault.NotFound) || want != 0 && (err != nil || got.Common().Row != want) {
			t.Errorf("%s finds %+v, %v, want row %d", name, got.Common(), err, want)
		}
	}
	if g := load(t, s, admins.Group.Row).Group; g.GID != 0 {
		t.Errorf("BUILTIN\\Administrators has gid %d", g.GID)
	}
	put(t, s, domainUsers())
	expect(t, s, orphan.User.Row, "orphan", "")
}

func TestDomainRenamedOnTheMachine(t *testing.T) {
	s := newStore(t)
	root := user(1, "root")
	put(t, s, domainUsers(), root)
	p := policy(t, contoso.SID)
	p.Domain.NetBIOS = "NEWNAME"
	if err := s.SetPolicy(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	expect(t, s, root.User.Row, `NEWNAME\root`, idmap.ReasonPrivileged)
	if got := getUser(t, s, byName(`newname\root`)); got.Row != root.User.Row {
		t.Errorf("found %+v", got)
	}
}

func TestHostileTexts(t *testing.T) {
	s := newStore(t)
	hostile := []string{"\xff\xfe", "a\x00b", "x\ny", strings.Repeat("é", 5000), "\u202eevil", "a\u0000", "::::", "$(reboot)", "'; drop", "\x7f"}
	rows := []*Row{domainUsers()}
	for i, h := range hostile {
		r := user(i+1, h)
		u := r.User
		u.UPN, u.DisplayName, u.GivenName, u.Surname, u.Mail, u.MailNickname, u.DN = h, h, h, h, h, h, h
		g := group(i+1, h+"g")
		g.Group.DisplayName, g.Group.DN = h, h
		rows = append(rows, r, g)
	}
	put(t, s, rows...)
	_ = s.View(context.Background(), func(v *View) error {
		n := 0
		err := v.Each(0, func(e Entry) error {
			n++
			c := e.Common()
			for _, text := range append([]string{c.Name, c.Account, c.DisplayName, c.Mail, c.DN}, c.Aliases...) {
				if text != cleanText(text) || strings.ContainsAny(text, "\n\x00") {
					t.Errorf("row %d holds %q", c.Row, text)
				}
			}
			return nil
		})
		if n != len(rows) || err != nil {
			t.Errorf("%d rows of %d, %v", n, len(rows), err)
		}
		return nil
	})
}
