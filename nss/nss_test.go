// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

var found, absent, unavailable, small = Answer{Success, 0}, Answer{NotFound, syscall.ENOENT}, Answer{Unavail, syscall.EAGAIN}, Answer{TryAgain, syscall.ERANGE}

// Go writes, C reads, every record is compared, by every key in every case.
func TestEveryRecord(t *testing.T) {
	w := makeWorld(700, 60, 1)
	publishTo(t, w.image(t, options(1)))
	b := buffer(t, 1<<18)
	for i := range w.users {
		u := &w.users[i]
		want, gids := w.passwd(u), w.gids(u)
		if got, a := b.PasswdByUID(want.UID); a != found || got != want {
			t.Fatalf("PasswdByUID(%d) = %+v, %v, want %+v", want.UID, got, a, want)
		}
		for _, name := range append([]string{u.Name}, u.Aliases...) {
			for _, asked := range []string{name, strings.ToUpper(name), strings.ToLower(name), mixedCase(name), norm.NFC.String(name), mixedCase(norm.NFC.String(name)), norm.NFD.String(name), mixedCase(norm.NFD.String(name))} {
				if got, a := b.PasswdByName(asked); a != found || got != want {
					t.Fatalf("PasswdByName(%q) = %+v, %v, want %+v", asked, got, a, want)
				}
				if got, a := Initgroups(asked, 1<<32-1, nil, 1, -1); a != found || !slices.Equal(got, gids) {
					t.Fatalf("Initgroups(%q) = %v, %v, want %v", asked, got, a, gids)
				}
			}
		}
	}
	for i := range w.groups {
		g := &w.groups[i]
		want := w.group(g)
		if got, a := b.GroupByGID(want.GID); a != found || !reflect.DeepEqual(got, want) {
			t.Fatalf("GroupByGID(%d) = %+v, %v, want %+v", want.GID, got, a, want)
		}
		for _, name := range append([]string{g.Name}, g.Aliases...) {
			for _, asked := range []string{name, mixedCase(name)} {
				if got, a := b.GroupByName(asked); a != found || !reflect.DeepEqual(got, want) {
					t.Fatalf("GroupByName(%q) = %+v, %v, want %+v", asked, got, a, want)
				}
			}
		}
	}
}

func TestUnknownIsNotFound(t *testing.T) {
	w := makeWorld(50, 10, 2)
	publishTo(t, w.image(t, options(1)))
	b := buffer(t, 4096)
	for _, name := range []string{"", "x", "user0000", "user000001", `other\user00001`, "user00001@", strings.Repeat("x", snapshot.MaxKey), strings.Repeat("x", snapshot.MaxKey+1),
		strings.Repeat("é", snapshot.MaxKey/2), strings.Repeat("é", snapshot.MaxKey), "\xff", "user00001\xff", "\xc3", "\xe2\x84", "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\x80", "group0001"} {
		if got, a := b.PasswdByName(name); a != absent {
			t.Errorf("PasswdByName(%.20q) = %+v, %v, want %v", name, got, a, absent)
		}
		if got, a := Initgroups(name, 1<<32-1, []uint32{5}, 4, -1); a != absent || !slices.Equal(got, []uint32{5}) {
			t.Errorf("Initgroups(%.20q) = %v, %v, want %v", name, got, a, absent)
		}
	}
	if got, a := b.GroupByName("user00001"); a != absent {
		t.Errorf("a user as a group: %+v, %v", got, a)
	}
	for _, id := range []uint32{0, 27, 999, 1000, 65534, base - 1, base, base + 1001, base + 50000001, base + 99999999, base + 100000000, 1<<32 - 1} {
		if got, a := b.PasswdByUID(id); a != absent {
			t.Errorf("PasswdByUID(%d) = %+v, %v, want %v", id, got, a, absent)
		}
		if got, a := b.GroupByGID(id); a != absent {
			t.Errorf("GroupByGID(%d) = %+v, %v, want %v", id, got, a, absent)
		}
	}
}

// A local namesake must not inherit a domain user's groups: whoever names a
// group has a passwd entry, and it is ours only if the group is.
func TestInitgroupsOfANamesake(t *testing.T) {
	w := makeWorld(20, 10, 3)
	publishTo(t, w.image(t, options(1)))
	u := &w.users[3]
	gids := w.gids(u)
	for _, group := range []uint32{0, 100, 1000, uint32(u.GID) + 1, gids[1]} {
		if got, a := Initgroups(u.Name, group, []uint32{group}, 8, -1); a != absent || !slices.Equal(got, []uint32{group}) {
			t.Errorf("Initgroups with group %d = %v, %v, want %v", group, got, a, absent)
		}
	}
	// glibc has put the primary gid there already.
	if got, a := Initgroups(u.Name, gids[0], gids[:1], 1, -1); a != found || !slices.Equal(got, gids) {
		t.Errorf("Initgroups with the primary group = %v, %v, want %v", got, a, gids)
	}
}

func TestInitgroupsLimits(t *testing.T) {
	w := makeWorld(20, 10, 4)
	for i := range 300 {
		w.users[3].Groups = append(w.users[3].Groups, identity.GID(base+60000000+i))
	}
	publishTo(t, w.image(t, options(1)))
	u := &w.users[3]
	gids := w.gids(u)
	for _, limit := range []int{-1, 0, 1, 2, 7, len(gids) - 1, len(gids), len(gids) + 1, 1000} {
		for _, size := range []int{1, 2, 16, len(gids), 400} {
			for _, have := range [][]uint32{nil, gids[:1]} {
				if limit > 0 && (size > limit || len(have) > limit) {
					continue
				}
				want := append(slices.Clone(have), gids...)
				if limit > 0 && len(want) > limit {
					want = want[:limit]
				}
				if got, a := Initgroups(u.Name, 1<<32-1, have, max(size, len(have)), limit); a != found || !slices.Equal(got, want) {
					t.Errorf("limit %d, size %d, %d there: %d gids, %v, want %d", limit, size, len(have), len(got), a, len(want))
				}
			}
		}
	}
	// A user whose only group is the primary one adds nothing to it.
	w.users[4].Groups = nil
	publishTo(t, w.image(t, options(2)))
	if got, a := Initgroups(w.users[4].Name, uint32(w.users[4].GID), []uint32{uint32(w.users[4].GID)}, 1, -1); a != found || len(got) != 1 {
		t.Errorf("a user with one group: %v, %v", got, a)
	}
}

func TestEnumeration(t *testing.T) {
	w := makeWorld(300, 60, 5)
	publishTo(t, w.image(t, options(1)))
	var users, groups []string
	for i := range w.users { // they are by uid already
		if !w.users[i].Hidden {
			users = append(users, w.users[i].Name)
		}
	}
	for i := range w.groups {
		if !w.groups[i].Hidden {
			groups = append(groups, w.groups[i].Name)
		}
	}
	b := buffer(t, 1<<16)
	none := buffer(t, 3)
	for range 2 {
		if s := SetPasswd(); s != Success {
			t.Errorf("setpwent = %v", s)
		}
		var got []string
		for {
			if _, a := none.NextPasswd(); a != small && a != absent {
				t.Fatalf("NextPasswd with a small buffer: %v", a)
			}
			p, a := b.NextPasswd()
			if a != found {
				if a != absent {
					t.Errorf("the end of users is %v", a)
				}
				break
			}
			got = append(got, p.Name)
		}
		if !slices.Equal(got, users) {
			t.Errorf("enumeration gave %d users, want %d", len(got), len(users))
		}
		if _, a := b.NextPasswd(); a != absent {
			t.Errorf("after the end of users comes %v", a)
		}
		got = nil
		SetGroup()
		for {
			g, a := b.NextGroup()
			if a != found {
				break
			}
			if want, _ := b.GroupByGID(g.GID); !reflect.DeepEqual(g, want) {
				t.Errorf("enumeration gave %+v, a lookup %+v", g, want)
			}
			got = append(got, g.Name)
		}
		if !slices.Equal(got, groups) {
			t.Errorf("enumeration gave %d groups, want %d", len(got), len(groups))
		}
		if EndPasswd() != Success || EndGroup() != Success {
			t.Error("endpwent or endgrent failed")
		}
	}
	// Ended in the middle, it begins anew.
	b.NextPasswd()
	b.NextPasswd()
	EndPasswd()
	if p, a := b.NextPasswd(); a != found || p.Name != users[0] {
		t.Errorf("after endpwent comes %q, %v", p.Name, a)
	}
	EndPasswd()
}

// Whoever is there before and after a change is listed once, whatever was added
// or taken away in the middle of the list.
func TestEnumerationAcrossSnapshots(t *testing.T) {
	w := makeWorld(200, 0, 6)
	for i := range w.users {
		w.users[i].Hidden = false
	}
	path := publishTo(t, w.image(t, options(1)))
	b := buffer(t, 4096)
	SetPasswd()
	defer EndPasswd()
	seen := map[uint32]int{}
	for i := 0; ; i++ {
		p, a := b.NextPasswd()
		if a != found {
			break
		}
		seen[p.UID]++
		if i%20 == 10 {
			next := &world{users: slices.Clone(w.users)}
			// The one just told goes, as do the one before and the one after;
			// others come everywhere.
			at := slices.IndexFunc(next.users, func(u snapshot.User) bool { return uint32(u.UID) == p.UID })
			if i%40 == 10 {
				next.users = slices.Delete(next.users, at-1, at+2)
			}
			next.users = append(next.users, snapshot.User{Name: "newcomer" + p.Name, UID: identity.UID(p.UID - 400), GID: base},
				snapshot.User{Name: "latecomer" + p.Name, UID: identity.UID(p.UID + 1), GID: base})
			write(t, path, next.image(t, options(uint64(i))))
			look(t, path)
		}
	}
	for _, u := range w.users {
		if n := seen[uint32(u.UID)]; n > 1 {
			t.Errorf("%s was listed %d times", u.Name, n)
		}
	}
	if len(seen) < 190 {
		t.Errorf("%d were listed", len(seen))
	}
}

func TestBuffersOfEverySize(t *testing.T) {
	w := makeWorld(40, 3, 7)
	publishTo(t, w.image(t, options(1)))
	u := &w.users[5]
	want := w.passwd(u)
	need := len(want.Name) + len(want.Password) + len(want.Gecos) + len(want.Dir) + len(want.Shell) + 5
	for misalign := range 16 {
		for size := range need + 20 {
			b := NewBuffer(size, misalign)
			got, a := b.PasswdByName(u.Name)
			if enough := size >= need; enough != (a == found) || !enough && a != small || enough && got != want {
				t.Errorf("passwd, %d of %d bytes at %d: %+v, %v", size, need, misalign, got, a)
			}
			b.Free()
		}
	}
	for i := range w.groups {
		want := w.group(&w.groups[i])
		strings := len(want.Name) + len(want.Password) + 2
		for _, m := range want.Members {
			strings += len(m) + 1
		}
		for misalign := range 16 {
			need := (8-misalign%8)%8 + 8*(len(want.Members)+1) + strings
			for _, size := range []int{0, 1, 7, 8, 9, need / 2, need - 9, need - 8, need - 1, need, need + 1, need + 8, 2 * need} {
				b := NewBuffer(size, misalign)
				got, a := b.GroupByGID(want.GID)
				if enough := size >= need; enough != (a == found) || !enough && a != small || enough && !reflect.DeepEqual(got, want) {
					t.Errorf("group, %d of %d bytes at %d: %+v, %v", size, need, misalign, got, a)
				}
				b.Free()
			}
		}
	}
}

func TestGroupOfFiftyThousand(t *testing.T) {
	w := makeWorld(50_000, 2, 8)
	publishTo(t, w.image(t, options(1)))
	want := w.group(&w.groups[0])
	if len(want.Members) != 50_000 {
		t.Fatalf("the group has %d members", len(want.Members))
	}
	for size := 1024; ; size *= 2 {
		b := NewBuffer(size, 1)
		got, a := b.GroupByName(want.Name)
		b.Free()
		if a == small {
			continue
		}
		if a != found || !reflect.DeepEqual(got, want) {
			t.Fatalf("with %d bytes: %v, %d members, first %.3q", size, a, len(got.Members), got.Members)
		}
		break
	}
}

// The C lowers as Go does, every letter there is.
func TestLowerIsGos(t *testing.T) {
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		name := "A" + string(r) + "Zz"
		if got, want := Key(name), snapshot.Lower(name); got != want {
			t.Fatalf("Key(%q) = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{strings.Repeat("A", snapshot.MaxKey), strings.Repeat("É", snapshot.MaxKey/2), strings.Repeat("\u023a", 341) + "x"} {
		if got, want := Key(name), snapshot.Lower(name); got != want {
			t.Errorf("Key of %d bytes = %d bytes, want %d", len(name), len(got), len(want))
		}
	}
	for _, name := range []string{"", strings.Repeat("A", snapshot.MaxKey+1), strings.Repeat("\u023a", 342)} {
		if got := Key(name); got != "" {
			t.Errorf("Key of %d bytes = %d bytes, want none", len(name), len(got))
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("Ana\xffÉ")
	f.Add("\u0130\u212a")
	f.Fuzz(func(t *testing.T, name string) {
		if strings.Contains(name, "\x00") {
			return
		}
		want := snapshot.Lower(name)
		if !utf8.ValidString(name) || len(name) > snapshot.MaxKey || len(want) > snapshot.MaxKey {
			want = ""
		}
		if got := Key(name); got != want {
			t.Fatalf("Key(%q) = %q, want %q", name, got, want)
		}
	})
}

func TestNoWinbinddIsHeardAtEveryCall(t *testing.T) {
	w := makeWorld(5, 1, 9)
	publishTo(t, w.image(t, options(1)))
	b := buffer(t, 4096)
	all := func() map[string]Answer {
		SetPasswd()
		SetGroup()
		_, a := b.PasswdByName(w.users[1].Name)
		_, c := b.PasswdByUID(uint32(w.users[1].UID))
		_, d := b.GroupByName(w.groups[0].Name)
		_, e := b.GroupByGID(uint32(w.groups[0].GID))
		_, f := Initgroups(w.users[1].Name, 1<<32-1, nil, 1, -1)
		_, g := b.NextPasswd()
		_, h := b.NextGroup()
		return map[string]Answer{"passwd by name": a, "passwd by uid": c, "group by name": d, "group by gid": e, "initgroups": f, "next passwd": g, "next group": h}
	}
	for value, want := range map[string]Answer{"1": absent, "0": found, "": found, "11": found, "yes": found} {
		if err := os.Setenv("_NO_WINBINDD", value); err != nil {
			t.Fatal(err)
		}
		for call, a := range all() {
			if a != want {
				t.Errorf("_NO_WINBINDD=%s: %s = %v, want %v", value, call, a, want)
			}
		}
	}
	if err := os.Unsetenv("_NO_WINBINDD"); err != nil {
		t.Fatal(err)
	}
	for call, a := range all() {
		if a != found {
			t.Errorf("without _NO_WINBINDD: %s = %v", call, a)
		}
	}
}

func BenchmarkPasswdByName(b *testing.B) {
	w := makeWorld(5000, 500, 10)
	publishTo(b, w.image(b, options(1)))
	var names []string
	for i := range w.users {
		if isASCII(w.users[i].Name) {
			names = append(names, w.users[i].Name)
		}
	}
	b.ResetTimer()
	if got := timePasswd(names, b.N); got != b.N {
		b.Fatalf("%d of %d were found", got, b.N)
	}
}

func isASCII(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0 }
