// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

var builtinUsers, everyone = identity.MustParseSID("S-1-5-32-545"), identity.MustParseSID("S-1-1-0")

func wellKnownIDs(t *testing.T, s *Store) map[identity.SID]identity.GID {
	t.Helper()
	all := map[identity.SID]identity.GID{}
	if err := s.View(context.Background(), func(v *View) error {
		v.WellKnown(func(sid identity.SID, gid identity.GID) { all[sid] = gid })
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWellKnownSIDsHaveGidsForLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := wellKnownIDs(t, s); len(got) != 0 {
		t.Fatalf("before there is a range: %v", got)
	}
	p := policy(t, contoso.SID)
	full := p.IDs.Config()
	last := full.Base + full.Size - 1
	// A local account sits where BUILTIN\Users would be.
	p.LocalIDs = map[uint32]struct{}{last - 1: {}}
	ctx := context.Background()
	if err := s.SetPolicy(ctx, p); err != nil {
		t.Fatal(err)
	}
	first := wellKnownIDs(t, s)
	if len(first) != len(idmap.WellKnowns()) {
		t.Fatalf("%d of %d have a gid", len(first), len(idmap.WellKnowns()))
	}
	seen := map[identity.GID]identity.SID{}
	for sid, gid := range first {
		if other, ok := seen[gid]; ok {
			t.Errorf("%s and %s share %d", sid, other, gid)
		}
		if seen[gid] = sid; !p.IDs.Contains(uint32(gid)) || gid == identity.GID(last-1) {
			t.Errorf("%s has %d", sid, gid)
		}
	}
	if got := first[identity.MustParseSID("S-1-5-32-544")]; got != identity.GID(last) {
		t.Errorf("BUILTIN\\Administrators has %d, want the end of the range, %d", got, last)
	}
	// Another range, no local account in the way, a restart: nothing moves.
	p.LocalIDs = nil
	ids, err := idmap.New(idmap.Config{Base: 5_000_000, Size: 1_000_000}, contoso.SID)
	if err != nil {
		t.Fatal(err)
	}
	p.IDs = ids
	if err := s.SetPolicy(ctx, p); err != nil {
		t.Fatal(err)
	}
	if err := s.Rebuild(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	for sid, gid := range wellKnownIDs(t, s) {
		if first[sid] != gid {
			t.Errorf("%s moved from %d to %d", sid, first[sid], gid)
		}
	}
	if err := s.View(ctx, func(v *View) error {
		if id, kind, ok := v.IDOfSID(everyone); !ok || kind != identity.KindGroup || id != uint32(first[everyone]) {
			t.Errorf("Everyone is %d, %v, %v", id, kind, ok)
		}
		if sid, ok := v.SIDOfID(uint32(first[builtinUsers]), identity.KindGroup); !ok || sid != builtinUsers {
			t.Errorf("its gid is %v, %v", sid, ok)
		}
		if sid, ok := v.SIDOfID(uint32(first[builtinUsers]), identity.KindUser); ok {
			t.Errorf("as a uid it is %v", sid)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestNoRowGetsAWellKnownGid: whose RID leads there goes on to the next slice.
func TestNoRowGetsAWellKnownGid(t *testing.T) {
	s := newStore(t)
	last := s.policy.Load().IDs.Config()
	ana := user(1, "ana")
	ana.User.SID = contoso.SID.WithRID(last.Size - 1)
	put(t, s, domainUsers(), ana)
	got := load(t, s, ana.User.Row)
	if got.ID == last.Base+last.Size-1 || got.ID == 0 || !got.Moved {
		t.Errorf("id %d, moved %v", got.ID, got.Moved)
	}
	if err := s.View(context.Background(), func(v *View) error {
		if sid, ok := v.SIDOfID(got.ID, identity.KindUser); !ok || sid != ana.User.SID {
			t.Errorf("its SID is %v, %v", sid, ok)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestFileOfSchema1 is a file as the first version wrote it.
func TestFileOfSchema1(t *testing.T) {
	path := written(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		if err := tx.DeleteBucket(bucketFixed); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(metaSchema, u64(1))
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	ctx := context.Background()
	if err := s.SetPolicy(ctx, policy(t, contoso.SID)); err != nil {
		t.Fatal(err)
	}
	if got := wellKnownIDs(t, s); len(got) != len(idmap.WellKnowns()) {
		t.Errorf("%d gids", len(got))
	}
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
}
