// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

const base = 100000001

var testOptions = Options{
	Generation: 7, Complete: true,
	Ranges: []Range{{base, base + 99999999}},
	Seed:   [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
}

// domain makes users and groups with every kind of name that occurs.
func domain(users, groups int, rng *rand.Rand) ([]User, []Group) {
	names := []string{"ana.núñez%d", "žofie%d", "user%05d", "o'neil%d", "two words %d", "Ærø%d", "a\u030angström%d", "李%d"}
	var us []User
	var gs []Group
	for i := range groups {
		g := Group{Name: fmt.Sprintf("group%04d", i), GID: identity.GID(base + 50000000 + i), Hidden: i%17 == 3}
		if i%13 == 5 {
			g.Name = fmt.Sprintf(`AADDSCONTOSO\Admins %d`, i)
		}
		g.Aliases = []string{fmt.Sprintf(`aaddscontoso\group%04d`, i), fmt.Sprintf("group%04d@aadds.contoso.test", i)}
		gs = append(gs, g)
	}
	for i := range users {
		name := fmt.Sprintf("user%05d", i)
		if i%5 == 0 {
			name = identity.Fold(fmt.Sprintf(names[i/5%len(names)], i))
		}
		u := User{
			Name: name, UID: identity.UID(base + 1000 + i*3), GID: base + 50000000,
			Gecos: fmt.Sprintf("User Number %d", i), Dir: "/home/AADDSCONTOSO/" + name, Shell: "/bin/bash",
			Aliases: []string{`aaddscontoso\` + name, name + "@aadds.contoso.test", fmt.Sprintf("First.Last%d@contoso.test", i)},
			Hidden:  i%11 == 2,
		}
		if i%23 == 7 {
			u.Name, u.Aliases = `AADDSCONTOSO\`+name, u.Aliases[1:]
		}
		for range rng.IntN(12) {
			if groups > 0 {
				u.Groups = append(u.Groups, gs[rng.IntN(groups)].GID)
			}
		}
		us = append(us, u)
	}
	return us, gs
}

func build(t testing.TB, o Options, us []User, gs []Group) []byte {
	t.Helper()
	b, err := NewBuilder(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range us {
		if err := b.AddUser(u); err != nil {
			t.Fatalf("AddUser(%q): %v", u.Name, err)
		}
	}
	for _, g := range gs {
		if err := b.AddGroup(g); err != nil {
			t.Fatalf("AddGroup(%q): %v", g.Name, err)
		}
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return im.Bytes()
}

func open(t testing.TB, data []byte) *Reader {
	t.Helper()
	r, err := Open(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(Rules{Ranges: testOptions.Ranges}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryRowComesBack(t *testing.T) {
	us, gs := domain(700, 60, rand.New(rand.NewPCG(1, 2)))
	r := open(t, build(t, testOptions, us, gs))
	members := map[identity.GID][]string{}
	slices.SortFunc(us, func(a, b User) int { return int(a.UID) - int(b.UID) })
	for _, u := range us {
		list := append([]identity.GID{}, u.Groups...)
		list = slices.DeleteFunc(list, func(g identity.GID) bool { return g == u.GID })
		slices.Sort(list)
		list = append([]identity.GID{u.GID}, slices.Compact(list)...)
		want := UserEntry{Row: Row{u.Name, uint32(u.UID), u.Hidden}, GID: u.GID, Gecos: u.Gecos, Dir: u.Dir, Shell: u.Shell}
		for _, g := range list {
			want.GIDs = append(want.GIDs, uint32(g))
			members[g] = append(members[g], u.Name)
		}
		if got, ok := r.UserByUID(u.UID); !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("UserByUID(%d) = %+v, %v, want %+v", u.UID, got, ok, want)
		}
		for _, name := range append([]string{u.Name}, u.Aliases...) {
			for _, asked := range []string{name, strings.ToUpper(name), strings.ToLower(name), mixedCase(name), norm.NFD.String(name), mixedCase(norm.NFD.String(name))} {
				if got, ok := r.UserByName(asked); !ok || !reflect.DeepEqual(got, want) {
					t.Fatalf("UserByName(%q) = %+v, %v, want %+v", asked, got, ok, want)
				}
			}
		}
	}
	for _, g := range gs {
		want := GroupEntry{Row: Row{g.Name, uint32(g.GID), g.Hidden}, Members: members[g.GID]}
		if got, ok := r.GroupByGID(g.GID); !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("GroupByGID(%d) = %+v, %v, want %+v", g.GID, got, ok, want)
		}
		for _, name := range append([]string{g.Name}, g.Aliases...) {
			if got, ok := r.GroupByName(mixedCase(name)); !ok || !reflect.DeepEqual(got, want) {
				t.Fatalf("GroupByName(%q) = %+v, %v", name, got, ok)
			}
		}
	}
	for _, absent := range []string{"", "nobody-here", "user0000", "user000000", `other\user00001`, strings.Repeat("x", MaxKey), strings.Repeat("x", MaxKey+1), "\xff"} {
		if got, ok := r.UserByName(absent); ok {
			t.Errorf("UserByName(%q) = %+v, want nothing", absent, got)
		}
		if got, ok := r.GroupByName(absent); ok {
			t.Errorf("GroupByName(%q) = %+v, want nothing", absent, got)
		}
	}
	if _, ok := r.UserByUID(base); ok {
		t.Error("a uid that nobody has was found")
	}
	n, listed := 0, 0
	for u := range r.Users() {
		if n++; !u.Hidden {
			listed++
		}
	}
	if users, shown, groups, _ := r.Counts(); users != len(us) || n != len(us) || shown != listed || groups != len(gs) {
		t.Errorf("Counts = %d, %d, %d; enumeration gave %d, %d listed", users, shown, groups, n, listed)
	}
}

// mixedCase puts every other letter in upper case.
func mixedCase(s string) string {
	up := false
	return strings.Map(func(r rune) rune {
		if up = !up; up {
			return unicode.ToUpper(r)
		}
		return r
	}, s)
}

func TestEqualContentGivesAnEqualFile(t *testing.T) {
	us, gs := domain(300, 40, rand.New(rand.NewPCG(3, 4)))
	first := build(t, testOptions, us, gs)
	rng := rand.New(rand.NewPCG(5, 6))
	rng.Shuffle(len(us), func(i, j int) { us[i], us[j] = us[j], us[i] })
	rng.Shuffle(len(gs), func(i, j int) { gs[i], gs[j] = gs[j], gs[i] })
	if again := build(t, testOptions, us, gs); !bytes.Equal(first, again) {
		t.Error("the order of rows changed the file")
	}
	other := testOptions
	other.Generation, other.Seed = 8, [16]byte{99}
	if a, b := open(t, first), open(t, build(t, other, us, gs)); a.Digest() != b.Digest() {
		t.Error("generation or seed changed the digest")
	}
	for name, change := range map[string]func(*User, *Options){
		"gecos":    func(u *User, _ *Options) { u.Gecos += "x" },
		"alias":    func(u *User, _ *Options) { u.Aliases = append(u.Aliases, "nickname") },
		"group":    func(u *User, _ *Options) { u.Groups = append(u.Groups, base+90000000) },
		"hidden":   func(u *User, _ *Options) { u.Hidden = !u.Hidden },
		"complete": func(_ *User, o *Options) { o.Complete = false },
		"ranges":   func(_ *User, o *Options) { o.Ranges = []Range{{base, base + 99999998}} },
	} {
		o, changed := testOptions, slices.Clone(us)
		change(&changed[17], &o)
		if open(t, build(t, o, changed, gs)).Digest() == open(t, first).Digest() {
			t.Errorf("a changed %s left the digest as it was", name)
		}
	}
}

func TestNothingIsASnapshotToo(t *testing.T) {
	r := open(t, build(t, testOptions, nil, nil))
	if _, ok := r.UserByName("root"); ok {
		t.Error("an empty snapshot found somebody")
	}
	for range r.Users() {
		t.Error("an empty snapshot listed somebody")
	}
}

func TestBuilderRefuses(t *testing.T) {
	good := User{Name: "ana", UID: base + 1, GID: base + 2, Dir: "/home/ana", Shell: "/bin/sh"}
	for name, change := range map[string]func(*User){
		"uid 0":                func(u *User) { u.UID = 0 },
		"uid 999":              func(u *User) { u.UID = 999 },
		"uid in range of none": func(u *User) { u.UID = 5000 },
		"gid 27":               func(u *User) { u.GID = 27 },
		"gid 0 in the list":    func(u *User) { u.Groups = []identity.GID{base + 3, 0} },
		"gid 27 in the list":   func(u *User) { u.Groups = []identity.GID{27} },
		"gid -1 in the list":   func(u *User) { u.Groups = []identity.GID{1<<32 - 1} },
		"too many groups": func(u *User) {
			for i := range MaxGroups {
				u.Groups = append(u.Groups, identity.GID(base+3+i))
			}
		},
		"empty name":        func(u *User) { u.Name = "" },
		"colon":             func(u *User) { u.Name = "a:b" },
		"slash":             func(u *User) { u.Name = "../etc" },
		"comma":             func(u *User) { u.Name = "a,root" },
		"newline":           func(u *User) { u.Name = "a\nroot" },
		"DEL":               func(u *User) { u.Name = "a\x7f" },
		"NUL":               func(u *User) { u.Name = "a\x00" },
		"not UTF-8":         func(u *User) { u.Name = "\xff" },
		"digits":            func(u *User) { u.Name = "1000" },
		"minus":             func(u *User) { u.Name = "-r" },
		"plus":              func(u *User) { u.Name = "+" },
		"at":                func(u *User) { u.Name = "a@b" },
		"no domain":         func(u *User) { u.Name = `\ana` },
		"no name":           func(u *User) { u.Name = `CONTOSO\` },
		"two domains":       func(u *User) { u.Name = `A\B\ana` },
		"long name":         func(u *User) { u.Name = strings.Repeat("a", MaxName+1) },
		"colon in gecos":    func(u *User) { u.Gecos = "x:0:0" },
		"newline in gecos":  func(u *User) { u.Gecos = "x\nroot::0:0" },
		"newline in home":   func(u *User) { u.Dir = "/\n" },
		"colon in shell":    func(u *User) { u.Shell = ":" },
		"long gecos":        func(u *User) { u.Gecos = strings.Repeat("x", MaxField+1) },
		"gecos not UTF-8":   func(u *User) { u.Gecos = "\xc3" },
		"dynamic user":      func(u *User) { u.UID = 61184 },
		"nobody":            func(u *User) { u.UID = 65534 },
		"minus one in 16":   func(u *User) { u.UID = 65535 },
		"minus one in 32":   func(u *User) { u.UID = 1<<32 - 1 },
		"dynamic group":     func(u *User) { u.Groups = []identity.GID{65519} },
		"nobody's group":    func(u *User) { u.GID = 65534 },
		"system uid in use": func(u *User) { u.UID = 101 },
	} {
		o := testOptions
		o.Ranges = []Range{{0, 4000}, {60000, 70000}, {base, 1<<32 - 1}}
		b, err := NewBuilder(o)
		if err != nil {
			t.Fatal(err)
		}
		u := good
		change(&u)
		if err := b.AddUser(u); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: AddUser = %v, want malformed", name, err)
		}
		if err := b.AddUser(good); err != nil {
			t.Errorf("%s: a good user after it: %v", name, err)
		}
		if im, err := b.Build(); err != nil || im.header.Users.Count != 1 {
			t.Errorf("%s: Build after it = %v", name, err)
		}
	}
	b, _ := NewBuilder(testOptions)
	for _, g := range []Group{{Name: "sudo", GID: 27}, {Name: "root", GID: 0}, {Name: "a:b", GID: base}, {Name: "", GID: base}} {
		if err := b.AddGroup(g); !fault.Is(err, fault.Malformed) {
			t.Errorf("AddGroup(%+v) = %v, want malformed", g, err)
		}
	}
	for _, ranges := range [][]Range{nil, {{5, 4}}, {{1, 5}, {5, 9}}, {{9, 10}, {1, 2}}, make([]Range, MaxRanges+1), {{0, 999}}, {{65534, 65535}}} {
		if _, err := NewBuilder(Options{Ranges: ranges}); !fault.Is(err, fault.Malformed) {
			t.Errorf("NewBuilder with ranges %v = %v, want malformed", ranges, err)
		}
	}
}

func TestConflicts(t *testing.T) {
	user := func(name string, uid identity.UID, aliases ...string) User {
		return User{Name: name, UID: uid, GID: base, Aliases: aliases}
	}
	for name, us := range map[string][]User{
		"same uid":          {user("ana", base+1), user("bob", base+1)},
		"same name":         {user("ana", base+1), user("ana", base+2)},
		"same but for case": {user(`C\ana`, base+1), user(`c\Ana`, base+2)},
		"same but for form": {user("ång", base+1), user("a\u030ang", base+2)},
	} {
		b, _ := NewBuilder(testOptions)
		for _, u := range us {
			if err := b.AddUser(u); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Build(); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: Build = %v, want conflict", name, err)
		}
	}
	us := []User{
		user("ana", base+1, "shared", "Bob", "ana@contoso.test", "ANA", "1234", ""),
		user("bob", base+2, "SHARED", "bob@contoso.test"),
		user("cleo", base+3, "Shared"),
	}
	r := open(t, build(t, testOptions, us, []Group{{Name: "ana", GID: base + 9, Aliases: []string{"shared"}}}))
	for asked, want := range map[string]string{"ana": "ana", "bob": "bob", "BOB": "bob", "shared": "", "ana@contoso.test": "ana", "1234": ""} {
		if got, _ := r.UserByName(asked); got.Name != want {
			t.Errorf("UserByName(%q) = %q, want %q", asked, got.Name, want)
		}
	}
	if got, ok := r.GroupByName("Shared"); !ok || got.Name != "ana" {
		t.Errorf("users and groups do not have names of their own: %+v, %v", got, ok)
	}
}

// Every letter of Unicode can be asked for in every case that it has.
func TestEveryLetterInEveryCase(t *testing.T) {
	for r := rune('A'); r <= unicode.MaxRune; r++ {
		if !unicode.IsLetter(r) {
			continue
		}
		name := "x" + string(r) + "y"
		keys := appendKeys(nil, name)
		if Lower(keys[0]) != keys[0] {
			t.Errorf("%q: its own key %q cannot be asked for", name, keys[0])
		}
		for _, asked := range []string{name, norm.NFC.String(name), norm.NFD.String(name), strings.ToLower(name), strings.ToLower(norm.NFD.String(name)), identity.Fold(name)} {
			if !slices.Contains(keys, Lower(asked)) {
				t.Errorf("%q: asked as %q, which is none of %q", name, Lower(asked), keys)
			}
		}
		if up := strings.ToUpper(name); identity.Fold(up) == identity.Fold(name) && !slices.Contains(keys, Lower(up)) {
			t.Errorf("%q: upper case %q is none of %q", name, up, keys)
		}
	}
}

func TestHeaderHasNoHoles(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Header](), reflect.TypeFor[Table](), reflect.TypeFor[Slot](), reflect.TypeFor[UserRow](), reflect.TypeFor[GroupRow](), reflect.TypeFor[Alias]()} {
		at := uintptr(0)
		for f := range typ.Fields() {
			if f.Offset != at {
				t.Errorf("%s.%s is at %d, want %d", typ.Name(), f.Name, f.Offset, at)
			}
			at += f.Type.Size()
		}
		if at != typ.Size() {
			t.Errorf("%s has %d bytes, its fields %d", typ.Name(), typ.Size(), at)
		}
	}
}

func TestAllowed(t *testing.T) {
	for _, tc := range []struct{ in, want []Range }{
		{[]Range{{base, base + 5}}, []Range{{base, base + 5}}},
		{[]Range{{0, 1<<32 - 1}}, []Range{{1000, 61183}, {65520, 65533}, {65536, 1<<32 - 2}}},
		{[]Range{{0, 999}}, nil},
		{[]Range{{500, 1500}, {61000, 61200}, {65519, 65535}, {70000, 1<<32 - 1}}, []Range{{1000, 1500}, {61000, 61183}, {65520, 65533}, {70000, 1<<32 - 2}}},
	} {
		got := Allowed(tc.in)
		if !slices.Equal(got, tc.want) || len(got) > MaxAllowed {
			t.Errorf("Allowed(%v) = %v, want %v", tc.in, got, tc.want)
		}
	}
}
