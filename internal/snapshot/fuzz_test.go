// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// patch overwrites bytes: five of patches say where and what. The sums are then
// made right again, so that what lies behind them is what is tested.
func patch(data, patches []byte, rows bool) []byte {
	out := bytes.Clone(data)
	for ; len(patches) >= 5; patches = patches[5:] {
		at := int(binary.LittleEndian.Uint32(patches)) % (headerBytes + len(out) - HeaderSize)
		if at >= headerBytes {
			at += HeaderSize - headerBytes
		}
		if at < headerBytes && rows {
			continue
		}
		out[at] = patches[4]
	}
	return seal(out)
}

func seal(out []byte) []byte {
	var h Header
	if _, err := binary.Decode(out[:HeaderSize], native, &h); err != nil {
		panic(err)
	}
	if end := h.Aliases.Offset + h.Aliases.Length; end >= HeaderSize && end <= uint64(len(out)) && h.Aliases.Length <= uint64(len(out)) {
		h.Digest = h.digest(out)
		copy(out[unsafe.Offsetof(h.Digest):], h.Digest[:])
	}
	native.PutUint32(out[unsafe.Offsetof(h.BodySum):], crc32.Checksum(out[HeaderSize:], castagnoli))
	native.PutUint64(out[unsafe.Offsetof(h.Sum):], headerSum(out))
	return out
}

// rebuild makes a snapshot of what a reader found.
func rebuild(r *Reader) ([]byte, error) {
	o := Options{Generation: r.h.Generation, Complete: r.Complete(), Ranges: r.Ranges()}
	binary.LittleEndian.PutUint64(o.Seed[:], r.h.Seed[0])
	binary.LittleEndian.PutUint64(o.Seed[8:], r.h.Seed[1])
	b, err := NewBuilder(o)
	if err != nil {
		return nil, err
	}
	b.exact = true
	aliases := map[uint64][]string{}
	for at, end := r.h.Aliases.Offset, r.h.Aliases.Offset+r.h.Aliases.Length; at < end; {
		a, key, ok := r.aliasAt(at)
		if !ok {
			return nil, fmt.Errorf("alias at %d", at)
		}
		aliases[uint64(a.Ref)] = append(aliases[uint64(a.Ref)], key)
		at += uint64(aliasLength(len(key)))
	}
	at := r.h.Users.Rows.Offset
	for u := range r.Users() {
		in := User{Name: u.Name, UID: identity.UID(u.ID), GID: u.GID, Gecos: u.Gecos, Dir: u.Dir, Shell: u.Shell, Hidden: u.Hidden, Aliases: aliases[at/8]}
		for _, g := range u.GIDs {
			in.Groups = append(in.Groups, identity.GID(g))
		}
		if err := b.AddUser(in); err != nil {
			return nil, err
		}
		at += uint64(userSize(len(u.Name), len(u.Gecos), len(u.Dir), len(u.Shell), len(u.GIDs)))
	}
	at = r.h.Groups.Rows.Offset
	for g := range r.Groups() {
		if err := b.AddGroup(Group{Name: g.Name, GID: identity.GID(g.ID), Hidden: g.Hidden, Aliases: aliases[at/8]}); err != nil {
			return nil, err
		}
		strings := len(g.Name) + 1 + len(password) + 1
		for _, m := range g.Members {
			strings += len(m) + 1
		}
		at += uint64(groupSize(strings, len(g.Members)))
	}
	im, err := b.Build()
	if err != nil {
		return nil, err
	}
	return im.Bytes(), nil
}

// check asks a reader everything; what passes Validate has to come back as the
// same bytes.
func check(t *testing.T, data []byte) (valid bool) {
	r, err := Open(data)
	if err != nil {
		return false
	}
	for u := range r.Users() {
		r.UserByName(u.Name)
	}
	for g := range r.Groups() {
		r.GroupByName(g.Name)
	}
	r.UserByName("user00001")
	r.UserByUID(base + 1003)
	r.GroupByGID(base + 50000000)
	if err := r.Validate(Rules{Ranges: []Range{{0, 1<<32 - 1}}, Taken: func(n string) bool { return n == "root" }}); err != nil {
		return false
	}
	again, err := rebuild(r)
	if err != nil {
		t.Fatalf("a snapshot passed that cannot be built: %v", err)
	}
	if !bytes.Equal(again, data) {
		for i := range again {
			if i >= len(data) || again[i] != data[i] {
				t.Fatalf("a snapshot passed that is built otherwise: %d bytes, then %d, different at %d", len(data), len(again), i)
			}
		}
		t.Fatalf("a snapshot passed that is built otherwise: %d bytes, then %d", len(data), len(again))
	}
	return true
}

func small(t testing.TB) []byte {
	us, gs := domain(12, 5, rand.New(rand.NewPCG(11, 12)))
	return build(t, testOptions, us, gs)
}

func FuzzReader(f *testing.F) {
	data := small(f)
	f.Add([]byte{})
	f.Add([]byte{20, 0, 0, 0, 0})
	f.Add([]byte{0, 2, 0, 0, 1, 7, 2, 0, 0, 9})
	f.Fuzz(func(t *testing.T, patches []byte) {
		check(t, patch(data, patches, false))
	})
}

func FuzzReaderRaw(f *testing.F) {
	f.Add(small(f))
	f.Add(build(f, testOptions, nil, nil))
	f.Add([]byte(Magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, data)
		if len(data) >= HeaderSize {
			check(t, seal(bytes.Clone(data)))
		}
	})
}

// One byte after the other is changed, to every value that one bit makes of it.
func TestEveryBitIsChecked(t *testing.T) {
	data := small(t)
	if !check(t, seal(bytes.Clone(data))) {
		t.Fatal("the unchanged snapshot does not pass")
	}
	passed := 0
	for at := range data {
		if at >= headerBytes && at < HeaderSize && at%64 != 0 {
			continue
		}
		for bit := range 8 {
			out := bytes.Clone(data)
			out[at] ^= 1 << bit
			r, err := Open(out)
			if err == nil {
				err = r.Validate(Rules{Ranges: testOptions.Ranges})
			}
			if err == nil {
				t.Fatalf("a snapshot with bit %d of byte %d turned over passed", bit, at)
			}
			if check(t, seal(out)) {
				passed++
			}
		}
	}
	if passed == 0 || passed > len(data) {
		t.Errorf("%d of %d changed snapshots passed with their sums made right; want some, for a gecos may change, and few", passed, 8*len(data))
	}
}

func TestTruncatedIsRefused(t *testing.T) {
	data := small(t)
	for n := 0; n < len(data); n += 8 {
		if _, err := Open(data[:n]); err == nil {
			t.Fatalf("%d of %d bytes were opened", n, len(data))
		}
	}
}
