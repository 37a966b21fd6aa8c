// SPDX-License-Identifier: Apache-2.0

package nss

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/snapshot/forge"
)

// FuzzModule changes bytes of a snapshot, makes the sums right again, and has
// both readers look. What the Go reader finds right, the module tells the same
// of; whatever it finds, the module returns no forbidden id, no string outside
// the buffer, and returns.
func FuzzModule(f *testing.F) {
	w := makeWorld(12, 5, 40)
	good := w.image(f, options(1))
	path := filepath.Join(workplace(f), "identities")
	f.Add([]byte{})
	f.Add([]byte{20, 0, 0, 0, 0})
	f.Add([]byte{0, 2, 0, 0, 1, 7, 2, 0, 0, 9})
	f.Fuzz(func(t *testing.T, patches []byte) {
		data := bytes.Clone(good)
		const header = int(unsafe.Sizeof(snapshot.Header{}))
		for ; len(patches) >= 5; patches = patches[5:] {
			at := int(binary.LittleEndian.Uint32(patches)) % (header + len(data) - snapshot.HeaderSize)
			if at >= header {
				at += snapshot.HeaderSize - header
			}
			data[at] = patches[4]
		}
		forge.Seal(data)
		write(t, path, data)
		look(t, path)
		r, err := snapshot.Open(data)
		right := err == nil && r.Complete() && r.Validate(snapshot.Rules{Ranges: []snapshot.Range{{Low: 0, High: 1<<32 - 1}}}) == nil
		compare(t, w, r, right)
	})
}

// compare asks for what was in the world, which may be there no more.
func compare(t *testing.T, w *world, r *snapshot.Reader, right bool) {
	b := NewBuffer(1<<16, 3)
	defer b.Free()
	for i := range w.users {
		u := &w.users[i]
		for _, name := range append([]string{u.Name}, u.Aliases...) {
			got, a := b.PasswdByName(name)
			list, la := Initgroups(name, 1<<32-1, nil, 1, -1)
			checkIDs(t, append(list, got.UID, got.GID), a)
			if !right {
				continue
			}
			want, ok := r.UserByName(name)
			if ok != (a == found) || ok && !sameUser(got, want) || ok != (la == found) || ok && !slices.Equal(list, want.GIDs) {
				t.Fatalf("%q: C says %+v, %v, %v, %v; Go says %+v, %v", name, got, a, list, la, want, ok)
			}
		}
		got, a := b.PasswdByUID(uint32(u.UID))
		checkIDs(t, []uint32{got.UID, got.GID}, a)
		if want, ok := lookUID(r, right, u.UID); right && (ok != (a == found) || ok && !sameUser(got, want)) {
			t.Fatalf("uid %d: C says %+v, %v; Go says %+v, %v", u.UID, got, a, want, ok)
		}
	}
	for i := range w.groups {
		g := &w.groups[i]
		got, a := b.GroupByName(g.Name)
		checkIDs(t, []uint32{got.GID}, a)
		if !right {
			continue
		}
		want, ok := r.GroupByName(g.Name)
		if ok != (a == found) || ok && (got.Name != want.Name || got.GID != want.ID || !slices.Equal(got.Members, want.Members)) {
			t.Fatalf("%q: C says %+v, %v; Go says %+v, %v", g.Name, got, a, want, ok)
		}
	}
	SetPasswd()
	var listed []string
	for n := 0; ; n++ {
		p, a := b.NextPasswd()
		if a != found {
			break
		}
		checkIDs(t, []uint32{p.UID, p.GID}, a)
		if listed = append(listed, p.Name); n > 1<<16 {
			t.Fatal("enumeration does not end")
		}
	}
	if right {
		var want []string
		for u := range r.Users() {
			if !u.Hidden {
				want = append(want, u.Name)
			}
		}
		if !reflect.DeepEqual(listed, want) {
			t.Fatalf("C lists %q, Go %q", listed, want)
		}
	}
}

func lookUID(r *snapshot.Reader, right bool, uid identity.UID) (snapshot.UserEntry, bool) {
	if !right {
		return snapshot.UserEntry{}, false
	}
	return r.UserByUID(uid)
}

func sameUser(got Passwd, want snapshot.UserEntry) bool {
	return got == Passwd{want.Name, "*", want.ID, uint32(want.GID), want.Gecos, want.Dir, want.Shell}
}

func checkIDs(t *testing.T, ids []uint32, a Answer) {
	t.Helper()
	if a != found {
		return
	}
	for _, id := range ids {
		if snapshot.Refused(id) {
			t.Fatalf("id %d was returned", id)
		}
	}
}
