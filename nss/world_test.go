// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

const base = 100000001

var ranges = []snapshot.Range{{Low: base, High: base + 99999999}}

// forever is a period after which the module never looks at the path again by
// itself, so that only the mark can tell it.
const forever = 1000 * time.Hour

// world is a domain as the module should tell it.
type world struct {
	users  []snapshot.User
	groups []snapshot.Group
}

// makeWorld invents a domain with every kind of name, lists of every length and
// people that are left out of enumeration.
func makeWorld(users, groups int, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	letters := []string{"ana.núñez%d", "žofie%d", "ærø ø%d", "a\u030angström%d", "李%d", "o'neil%d", "two words %d", "ĳssel%d", "σίσυφ%d"}
	w := &world{}
	for i := range groups {
		g := snapshot.Group{Name: fmt.Sprintf("group%04d", i), GID: identity.GID(base + 50000000 + i*7), Hidden: i%17 == 3,
			Aliases: []string{fmt.Sprintf(`aaddscontoso\group%04d`, i), fmt.Sprintf("group%04d@aadds.contoso.test", i)}}
		if i%13 == 5 {
			g.Name = fmt.Sprintf(`AADDSCONTOSO\Ädmins %d`, i)
		}
		w.groups = append(w.groups, g)
	}
	for i := range users {
		name := fmt.Sprintf("user%05d", i)
		if i%5 == 0 {
			name = identity.Fold(fmt.Sprintf(letters[i/5%len(letters)], i))
		}
		u := snapshot.User{
			Name: name, UID: identity.UID(base + 1000 + i*3), GID: base + 50000000,
			Gecos: strings.Repeat("Gecos ", rng.IntN(20)), Dir: "/home/AADDSCONTOSO/" + name, Shell: "/bin/bash",
			Aliases: []string{`aaddscontoso\` + name, name + "@aadds.contoso.test", fmt.Sprintf("First.Last%d@contoso.test", i)},
			Hidden:  i%11 == 2,
		}
		if i%23 == 7 {
			u.Name, u.Aliases = `AADDSCONTOSO\`+name, u.Aliases[1:]
		}
		if i%29 == 1 {
			u.Gecos, u.Shell = "", ""
		}
		for range rng.IntN(12) {
			if groups > 0 {
				u.Groups = append(u.Groups, w.groups[rng.IntN(groups)].GID)
			}
		}
		u.Groups = append(u.Groups, identity.GID(base+90000000+rng.IntN(50))) // groups without names
		w.users = append(w.users, u)
	}
	return w
}

func (w *world) passwd(u *snapshot.User) Passwd {
	return Passwd{u.Name, "*", uint32(u.UID), uint32(u.GID), u.Gecos, u.Dir, u.Shell}
}

// gids is a user's list: the primary gid first, then the rest, ascending.
func (w *world) gids(u *snapshot.User) []uint32 {
	var rest []uint32
	for _, g := range u.Groups {
		if g != u.GID {
			rest = append(rest, uint32(g))
		}
	}
	slices.Sort(rest)
	return append([]uint32{uint32(u.GID)}, slices.Compact(rest)...)
}

// group is a group with its members by uid.
func (w *world) group(g *snapshot.Group) Group {
	out := Group{Name: g.Name, Password: "*", GID: uint32(g.GID)}
	for i := range w.users {
		if u := &w.users[i]; u.GID == g.GID || slices.Contains(u.Groups, g.GID) {
			out.Members = append(out.Members, u.Name)
		}
	}
	return out
}

func (w *world) image(t testing.TB, o snapshot.Options) []byte {
	t.Helper()
	b, err := snapshot.NewBuilder(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range w.users {
		if err := b.AddUser(u); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range w.groups {
		if err := b.AddGroup(g); err != nil {
			t.Fatal(err)
		}
	}
	im, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return im.Bytes()
}

func options(generation uint64) snapshot.Options {
	return snapshot.Options{Generation: generation, Complete: true, Ranges: ranges, Seed: [16]byte{byte(generation), 7, 3}}
}

// publishTo writes data where the module of this process reads it, as a new file,
// and has the module look.
func publishTo(t testing.TB, data []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "identities")
	write(t, path, data)
	look(t, path)
	return path
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// look has the module look at a path now, and then never again by itself.
func look(t testing.TB, path string) {
	t.Helper()
	Use(path, os.Getuid(), forever)
}

func buffer(t testing.TB, size int) *Buffer {
	b := NewBuffer(size, 0)
	t.Cleanup(b.Free)
	return b
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
