// SPDX-License-Identifier: Apache-2.0

package resolve_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
)

// pages reads a whole list in pages of a size.
func pages(t *testing.T, r *resolve.Resolver, kind identity.Kind, q resolve.Query) (names []string) {
	t.Helper()
	for range 1000 {
		p, err := r.List(ctx, kind, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			names = append(names, e.Common().Name)
		}
		if !p.More {
			return names
		}
		q.After = p.End
	}
	t.Fatal("a list without end")
	return nil
}

func TestListIsInTheOrderOfPublishedNames(t *testing.T) {
	m := memorytest.New()
	var want []string
	for i, n := range rand.Perm(60) {
		name := fmt.Sprintf("u%02d", n)
		m.PutUser(person(i+1, name, ""))
		want = append(want, name)
	}
	m.PutGroup(group(100, "g"))
	slices.Sort(want)
	r := resolve.New(m, resolve.Presentation{})
	for _, size := range []int{1, 7, 60, 1000} {
		if got := pages(t, r, identity.KindUser, resolve.Query{Limit: size}); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	if got := pages(t, r, identity.KindGroup, resolve.Query{Limit: 5}); !slices.Equal(got, []string{"g"}) {
		t.Errorf("groups = %v", got)
	}
}

func TestListFilters(t *testing.T) {
	m, r := house(t)
	wheel := person(3, "wheel", "Wanda Wheeler")
	wheel.Name, wheel.Unpublished = `contoso\wheel`, "privileged"
	nameless := person(4, "nameless", "Nameless Ned")
	nameless.Name, nameless.Unpublished = "", "character"
	m.PutUser(wheel, nameless)
	for _, tc := range []struct {
		q    resolve.Query
		want []string
	}{
		{resolve.Query{}, []string{"alice", "bob", `contoso\wheel`, ""}},
		{resolve.Query{Publication: resolve.Published}, []string{"alice", "bob"}},
		{resolve.Query{Publication: resolve.Unpublished}, []string{`contoso\wheel`, ""}},
		{resolve.Query{Filter: "BERG"}, []string{"bob"}},
		{resolve.Query{Filter: "onmicrosoft"}, []string{"alice", "bob", `contoso\wheel`, ""}},
		{resolve.Query{Filter: "ed", Publication: resolve.Unpublished}, []string{""}},
		{resolve.Query{Filter: "nobody at all"}, nil},
		{resolve.Query{Filter: "adleralice"}, nil}, // fields do not run into each other
	} {
		for _, size := range []int{1, 100} {
			tc.q.Limit = size
			if got := pages(t, r, identity.KindUser, tc.q); !slices.Equal(got, tc.want) {
				t.Errorf("%+v: %q, want %q", tc.q, got, tc.want)
			}
		}
	}
}

func TestListGoesOnWhenRowsComeAndGo(t *testing.T) {
	m := memorytest.New()
	for n := 1; n <= 9; n++ {
		m.PutUser(person(n, fmt.Sprintf("u%d", n), ""))
	}
	r := resolve.New(m, resolve.Presentation{})
	p, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 3})
	if err != nil || len(p.Entries) != 3 || !p.More {
		t.Fatalf("first page = %+v, %v", p, err)
	}
	m.Delete(3) // the very row at which the page ended
	m.Delete(5)
	m.PutUser(person(20, "u00", ""), person(21, "u33", "")) // before and after that place
	renamed := person(9, "u0", "")
	m.PutUser(renamed)
	if got, want := pages(t, r, identity.KindUser, resolve.Query{Limit: 2, After: p.End}), []string{"u33", "u4", "u6", "u7", "u8"}; !slices.Equal(got, want) {
		t.Errorf("the rest = %v, want %v", got, want)
	}
}

// The catalogue that is kept current from the log must be the one that reading
// everything would make.
func TestCatalogueFollowsTheLog(t *testing.T) {
	for _, keep := range []int{1 << 20, 8, 0} {
		m := memorytest.New()
		m.KeepLog(keep)
		r := resolve.New(m, resolve.Presentation{})
		rnd := rand.New(rand.NewPCG(1, uint64(keep)))
		live := map[identity.RowID]bool{}
		for round := range 300 {
			for range rnd.IntN(12) {
				row := 1 + rnd.IntN(40)
				switch {
				case live[identity.RowID(row)] && rnd.IntN(3) == 0:
					m.Delete(identity.RowID(row))
					delete(live, identity.RowID(row))
				case row%4 == 0:
					m.PutGroup(group(row, fmt.Sprintf("g%d", rnd.IntN(1000))))
					live[identity.RowID(row)] = true
				default:
					m.PutUser(person(row, fmt.Sprintf("u%d", rnd.IntN(1000)), ""))
					live[identity.RowID(row)] = true
				}
			}
			if round == 150 {
				m.Restart()
			}
			for _, kind := range []identity.Kind{identity.KindUser, identity.KindGroup} {
				got := pages(t, r, kind, resolve.Query{Limit: 7})
				want := pages(t, resolve.New(m, resolve.Presentation{}), kind, resolve.Query{Limit: 100})
				if !slices.Equal(got, want) {
					t.Fatalf("log of %d, round %d: %ss are %v, want %v", keep, round, kind, got, want)
				}
				if !slices.IsSorted(got) {
					t.Fatalf("log of %d, round %d: out of order: %v", keep, round, got)
				}
			}
		}
	}
}

func TestSearchRanks(t *testing.T) {
	m := memorytest.New()
	put := func(row int, name, display, given, mail string) {
		u := person(row, name, display)
		u.GivenName, u.Mail, u.UPN = given, mail, name+"@upn.test"
		m.PutUser(u)
	}
	put(1, "annabel", "Bella Smith", "", "")
	put(2, "ann", "Z", "", "")
	put(3, "bob", "Bob van Annen", "", "")
	put(4, "carl", "Carl", "", "ann.x@contoso.test")
	put(5, "dora", "Joann Dora", "", "") // "ann" in the middle of a word is no match
	put(6, "zed", "Zed", "Anneliese", "")
	put(7, "anna", "Anna", "Anna", "anna@contoso.test")
	m.PutGroup(group(50, "annual report"))
	priv := person(8, "annette", "Q")
	priv.Name = `contoso\annette`
	m.PutUser(priv)
	r := resolve.New(m, resolve.Presentation{})
	for _, tc := range []struct {
		s    resolve.Search
		want []string
		more bool
	}{
		{resolve.Search{Prefix: "ann", Limit: 20}, []string{"ann", "anna", "annabel", "annual report", `contoso\annette`, "bob", "carl", "zed"}, false},
		{resolve.Search{Prefix: "ANN", Limit: 3}, []string{"ann", "anna", "annabel"}, true},
		{resolve.Search{Prefix: "ann", Limit: 20, Groups: true}, []string{"annual report"}, false},
		{resolve.Search{Prefix: "ann", Limit: 1, Users: true}, []string{"ann"}, true},
		{resolve.Search{Prefix: "ann", Limit: 20, Users: true, Groups: true}, []string{"ann", "anna", "annabel", "annual report", `contoso\annette`, "bob", "carl", "zed"}, false},
		{resolve.Search{Prefix: "van ann", Limit: 5}, []string{"bob"}, false},
		{resolve.Search{Prefix: "anna@contoso.test", Limit: 5}, []string{"anna"}, false},
		{resolve.Search{Prefix: `contoso\ann`, Limit: 5}, []string{`contoso\annette`}, false},
		{resolve.Search{Prefix: "smith", Limit: 5}, []string{"annabel"}, false},
		{resolve.Search{Prefix: "oann", Limit: 5}, nil, false},
		{resolve.Search{Prefix: "report", Limit: 5}, nil, false}, // a group's name is one word
	} {
		found, more, err := r.Search(ctx, tc.s)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range found {
			got = append(got, e.Common().Name)
		}
		if !slices.Equal(got, tc.want) || more != tc.more {
			t.Errorf("%+v: %q more %v, want %q more %v", tc.s, got, more, tc.want, tc.more)
		}
	}
}

func TestSearchFoldsAsLookupsDo(t *testing.T) {
	m := memorytest.New()
	m.PutUser(person(1, "x", "Žofie Ångström"))
	r := resolve.New(m, resolve.Presentation{})
	for _, prefix := range []string{"žof", "ŽOF", "ångs", "A\u030angs"} {
		if found, _, err := r.Search(ctx, resolve.Search{Prefix: prefix, Limit: 5}); err != nil || len(found) != 1 {
			t.Errorf("%q finds %d, %v", prefix, len(found), err)
		}
	}
}

func TestHostileTextStaysInItsField(t *testing.T) {
	m := memorytest.New()
	u := person(1, "mallory", "Mal\x00alice\x00alice@contoso.test\x00")
	u.GivenName = "\x00\x00"
	m.PutUser(u)
	r := resolve.New(m, resolve.Presentation{})
	found, _, err := r.Search(ctx, resolve.Search{Prefix: "alice@contoso.test", Limit: 5})
	if err != nil || len(found) != 1 {
		t.Fatalf("a word of a display name: %d, %v", len(found), err)
	}
	m.PutUser(person(2, "alice", "Alice"))
	found, _, err = r.Search(ctx, resolve.Search{Prefix: "alice@contoso.test", Limit: 5})
	if err != nil || len(found) != 2 || found[0].User.Name != "alice" {
		t.Errorf("alice comes after somebody who only claims her address: %v", err)
	}
}

func FuzzSearch(f *testing.F) {
	f.Add("ann", "Ann Other", "ann@x.test")
	f.Add("\u030a", "A\u030a", "\xff")
	f.Fuzz(func(t *testing.T, prefix, display, mail string) {
		m := memorytest.New()
		u := person(1, "probe", display)
		u.Mail = mail
		m.PutUser(u)
		r := resolve.New(m, resolve.Presentation{})
		if prefix == "" {
			return
		}
		found, _, err := r.Search(ctx, resolve.Search{Prefix: prefix, Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		page, err := r.List(ctx, identity.KindUser, resolve.Query{Limit: 3, Filter: prefix})
		if err != nil {
			t.Fatal(err)
		}
		// What begins with a text contains it.
		if len(found) > len(page.Entries) {
			t.Fatalf("search %q finds %q, the filter does not", prefix, display+"|"+mail)
		}
		if len(display) > 0 && !strings.Contains(display, "\x00") {
			if found, _, _ := r.Search(ctx, resolve.Search{Prefix: display, Limit: 3}); len(found) != 1 {
				t.Fatalf("%q is not found by itself", display)
			}
		}
	})
}
