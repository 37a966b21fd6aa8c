// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// filled makes a store of users and groups: each group has 20 members, the
// last one everybody.
func filled(b *testing.B, users, groups int) (*Store, []*Row, []*Row) {
	b.Helper()
	s, err := Open(context.Background(), filepath.Join(b.TempDir(), "db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if err := s.SetPolicy(context.Background(), policy(b, contoso.SID)); err != nil {
		b.Fatal(err)
	}
	us, gs := make([]*Row, users), make([]*Row, groups)
	update(b, s, func(tx *Tx) error {
		if err := tx.Put(domainUsers()); err != nil {
			return err
		}
		for i := range gs {
			gs[i] = group(i+1, fmt.Sprintf("group%04d", i))
			gs[i].Group.SID = contoso.SID.WithRID(uint32(500000 + i))
			if err := tx.Put(gs[i]); err != nil {
				return err
			}
		}
		for i := range us {
			us[i] = user(i+1, fmt.Sprintf("user%05d", i))
			if err := tx.Put(us[i]); err != nil {
				return err
			}
		}
		for i, g := range gs {
			var m []Member
			for j := range us {
				if i == groups-1 || (j*7+i)%users < 20 {
					m = append(m, Member{GUID: us[j].User.ObjectGUID})
				}
			}
			if err := tx.SetMembers(row(g), m); err != nil {
				return err
			}
		}
		return nil
	})
	return s, us, gs
}

func BenchmarkLookup(b *testing.B) {
	s, us, gs := filled(b, 5000, 500)
	ctx := context.Background()
	b.Run("user by name", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.User(ctx, byName(us[i%5000].User.Account)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("user by uid", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.User(ctx, identity.Key{Kind: identity.ByUID, ID: uint32(100001002 + i%5000)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("nobody", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.User(ctx, byName("nobody-has-this-name")); err == nil {
				b.Fatal("found")
			}
		}
	})
	b.Run("gids", func(b *testing.B) {
		var buf []identity.GID
		for i := 0; b.Loop(); i++ {
			_ = s.View(ctx, func(v *View) error { buf = v.GIDs(row(us[i%5000]), buf[:0]); return nil })
		}
	})
	b.Run("members of everybody", func(b *testing.B) {
		for b.Loop() {
			_ = s.View(ctx, func(v *View) error {
				if len(v.MembersOf(row(gs[499]))) != 5000 {
					b.Fatal("members")
				}
				return nil
			})
		}
	})
	b.Run("each row with gids", func(b *testing.B) {
		var buf []identity.GID
		for b.Loop() {
			_ = s.View(ctx, func(v *View) error {
				return v.Each(identity.KindUser, func(e Entry) error { buf = v.GIDs(e.User.Row, buf[:0]); return nil })
			})
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := s.Check(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	data := appendRecord(nil, fullUser())
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readRecord(1, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		r := fullUser()
		var buf []byte
		for b.Loop() {
			buf = appendRecord(buf[:0], r)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	s, us, gs := filled(b, 5000, 500)
	b.Run("one user", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			u := us[i%5000]
			u.User.DisplayName = fmt.Sprint("Name ", i)
			put(b, s, u)
		}
	})
	b.Run("one member of everybody", func(b *testing.B) {
		var all []Member
		for _, u := range us {
			all = append(all, Member{GUID: u.User.ObjectGUID})
		}
		for i := 0; b.Loop(); i++ {
			update(b, s, func(tx *Tx) error { return tx.SetMembers(row(gs[499]), all[i%2:]) })
		}
	})
}
