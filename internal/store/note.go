// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// bucketNotes is made with the first note: a file without one is whole.
var bucketNotes = []byte("notes")

// Note returns what SetNote wrote under a topic and a key; nil for nothing.
func (s *Store) Note(ctx context.Context, topic, key string) (value []byte, err error) {
	err = s.View(ctx, func(v *View) error {
		if b := v.tx.Bucket(bucketNotes); b != nil {
			value = bytes.Clone(b.Get(noteKey(topic, key)))
		}
		return nil
	})
	return value, err
}

// Notes calls fn with every note of a topic, by key, until it says false. value
// is good until fn returns.
func (s *Store) Notes(ctx context.Context, topic string, fn func(key string, value []byte) bool) error {
	return s.View(ctx, func(v *View) error {
		b := v.tx.Bucket(bucketNotes)
		if b == nil {
			return nil
		}
		prefix := noteKey(topic, "")
		c := b.Cursor()
		for k, value := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, value = c.Next() {
			if !fn(string(k[len(prefix):]), value) {
				return nil
			}
		}
		return nil
	})
}

// SetNotes writes notes of a topic in one transaction; an empty value takes the
// note away. Notes are bytes that another package keeps here and alone
// understands: rules, verifiers, counts. A topic must not be empty or hold a
// zero byte, a key must not be empty: fault.Internal.
func (s *Store) SetNotes(ctx context.Context, topic string, notes map[string][]byte) error {
	if topic == "" || bytes.IndexByte([]byte(topic), 0) >= 0 {
		return fault.Errorf(fault.Internal, "notes have no topic %q", topic)
	}
	return s.Update(ctx, func(t *Tx) error {
		b, err := t.tx.CreateBucketIfNotExists(bucketNotes)
		if err != nil {
			return writeFault(err)
		}
		for key, value := range notes {
			if key == "" {
				return fault.New(fault.Internal, "a note has no key")
			}
			k := noteKey(topic, key)
			if len(value) == 0 {
				if b.Get(k) == nil {
					continue
				}
				err = t.del(bucketNotes, k)
			} else {
				err = t.put(bucketNotes, k, value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func noteKey(topic, key string) []byte {
	k := append(make([]byte, 0, len(topic)+1+len(key)), topic...)
	k = append(k, 0)
	return append(k, key...)
}
