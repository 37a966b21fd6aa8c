// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// old makes a bbolt file of an older schema.
func old(t *testing.T, version uint64) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "old.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		if err := meta.Put([]byte("word"), []byte("old")); err != nil {
			return err
		}
		return meta.Put(metaSchema, u64(version))
	}); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestMigrationsRunInOrderAndOnce(t *testing.T) {
	var ran []uint64
	step := func(to uint64) migration {
		return migration{to, "step", func(tx *bolt.Tx) error {
			ran = append(ran, to)
			return tx.Bucket(bucketMeta).Put([]byte("word"), u64(to))
		}}
	}
	steps := []migration{step(2), step(3), step(4)}
	db := old(t, 2)
	run := func() (did []string, err error) {
		err = db.Update(func(tx *bolt.Tx) error { did, err = migrate(tx, steps, 4); return err })
		return did, err
	}
	if did, err := run(); err != nil || len(did) != 2 || !slices.Equal(ran, []uint64{3, 4}) {
		t.Errorf("ran %v, told %v, %v", ran, did, err)
	}
	if did, err := run(); err != nil || len(did) != 0 || len(ran) != 2 {
		t.Errorf("a second time: ran %v, told %v, %v", ran, did, err)
	}
}

func TestMigrationThatFailsChangesNothing(t *testing.T) {
	boom := errors.New("boom")
	steps := []migration{
		{2, "works", func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put([]byte("word"), []byte("new")) }},
		{3, "fails", func(*bolt.Tx) error { return boom }},
	}
	db := old(t, 1)
	if err := db.Update(func(tx *bolt.Tx) error { _, err := migrate(tx, steps, 3); return err }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	_ = db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if string(meta.Get([]byte("word"))) != "old" || num(meta.Get(metaSchema)) != 1 {
			t.Error("half of it is there")
		}
		return nil
	})
}

func TestMigrationWithAGapIsRefused(t *testing.T) {
	noop := func(*bolt.Tx) error { return nil }
	for _, steps := range [][]migration{{{3, "gap", noop}}, {{2, "short", noop}}, {}} {
		db := old(t, 1)
		if err := db.Update(func(tx *bolt.Tx) error { _, err := migrate(tx, steps, 3); return err }); err == nil {
			t.Errorf("%v leads from 1 to 3", steps)
		}
	}
}

// TestMigrationsAreComplete: the shipped steps lead to today's schema.
func TestMigrationsAreComplete(t *testing.T) {
	for i, m := range migrations {
		if m.to != uint64(i+2) || m.what == "" || m.do == nil {
			t.Errorf("step %d leads to schema %d", i, m.to)
		}
	}
	if len(migrations)+1 != schema {
		t.Errorf("%d steps for schema %d", len(migrations), schema)
	}
	s := open(t, written(t))
	_ = s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			if !slices.ContainsFunc(buckets, func(b []byte) bool { return string(b) == string(name) }) {
				t.Errorf("bucket %s is not in the drawing", name)
			}
			return nil
		})
	})
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
}
