// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"log/slog"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// spoil changes a closed store behind its back.
func spoil(t *testing.T, path string, fn func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

// snapshotOf returns every key and value of the buckets that follow from others.
func snapshotOf(t *testing.T, s *Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	_ = s.db.View(func(tx *bolt.Tx) error {
		for _, b := range append(indexes, memberships...) {
			for k, v := range keys(tx.Bucket(b)) {
				all[string(b)+"/"+string(k)] = string(v)
			}
		}
		return nil
	})
	return all
}

// TestSpoiltIndexesAreMadeAnew damages each derived bucket in turn, as an
// unclean stop never should, and expects Open to notice and mend it.
func TestSpoiltIndexesAreMadeAnew(t *testing.T) {
	for _, bucket := range append(indexes, memberships...) {
		for how, fn := range map[string]func(b *bolt.Bucket) error{
			"an entry is missing": func(b *bolt.Bucket) error {
				k, _ := b.Cursor().First()
				return b.Delete(k)
			},
			"an entry too many": func(b *bolt.Bucket) error {
				return b.Put(append([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), rowKey(5)...), packSet(rowSet{5}))
			},
			"an entry is wrong": func(b *bolt.Bucket) error {
				k, v := b.Cursor().Last()
				if len(v) == 0 { // the key says it all
					return b.Delete(k)
				}
				return b.Put(append([]byte{}, k...), append(append([]byte{}, v...), 1)[1:])
			},
		} {
			path := written(t)
			s, err := Open(context.Background(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			want := snapshotOf(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			spoil(t, path, func(tx *bolt.Tx) error {
				if err := fn(tx.Bucket(bucket)); err != nil {
					return err
				}
				return tx.Bucket(bucketMeta).Put(metaUnclean, []byte{1})
			})
			s = open(t, path)
			got := snapshotOf(t, s)
			if len(got) != len(want) {
				t.Errorf("%s, %s: %d entries, want %d", bucket, how, len(got), len(want))
			}
			for k, v := range want {
				if got[k] != v {
					t.Errorf("%s, %s: %q is %x, want %x", bucket, how, k, got[k], v)
				}
			}
		}
	}
}

func TestFastCheckSeesALostBucket(t *testing.T) {
	for _, bucket := range append(indexes, memberships...) {
		path := written(t)
		spoil(t, path, func(tx *bolt.Tx) error { return tx.DeleteBucket(bucket) })
		s := open(t, path)
		if u := getUser(t, s, byName("usera"+"a")); u.UID == 0 {
			t.Errorf("%s: %+v", bucket, u)
		}
	}
	path := written(t)
	spoil(t, path, func(tx *bolt.Tx) error { // an index emptied without a mark
		if err := tx.DeleteBucket(bucketNames); err != nil {
			return err
		}
		_, err := tx.CreateBucket(bucketNames)
		return err
	})
	s := open(t, path)
	getUser(t, s, byName("useraa"))
}

func TestUncleanStopIsMarked(t *testing.T) {
	path := written(t)
	marked := func() (yes bool) {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		_ = db.View(func(tx *bolt.Tx) error { yes = tx.Bucket(bucketMeta).Get(metaUnclean) != nil; return nil })
		return yes
	}
	if marked() {
		t.Error("marked after a clean stop")
	}
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.User(context.Background(), identity.Key{Kind: identity.ByRow, Row: 1})
	_ = s.db.Close() // killed, having written nothing
	if marked() {
		t.Error("marked though nothing was written")
	}
	s, err = Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, user(700, "new"))
	_ = s.db.Close() // killed
	if !marked() {
		t.Error("not marked after a kill")
	}
	s, err = Open(context.Background(), path, Options{FullCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || marked() {
		t.Errorf("still marked, %v", err)
	}
}

// TestFastCheckEndsWhateverTheKeysAre: the check walks by seeking, and keys that
// are none must not lead it in a circle.
func TestFastCheckEndsWhateverTheKeysAre(t *testing.T) {
	for _, key := range [][]byte{{0}, {0xff}, []byte("longer than a row id"), rowKey(0)} {
		path := written(t)
		spoil(t, path, func(tx *bolt.Tx) error {
			return tx.Bucket(bucketRows).Put(key, appendRecord(nil, user(900, "x")))
		})
		for _, full := range []bool{false, true} {
			s, err := Open(context.Background(), path, Options{FullCheck: full, Log: slog.New(slog.DiscardHandler)})
			if err == nil {
				_ = s.Close()
				t.Errorf("full %v: a file with the row key %x was opened", full, key)
				continue
			}
			if !fault.Is(err, fault.Internal) || fault.Remedy(err) == "" {
				t.Errorf("full %v: row key %x: %v", full, key, err)
			}
		}
	}
}
