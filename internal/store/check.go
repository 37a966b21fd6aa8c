// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// sample is how many rows the fast check looks at.
const sample = 64

// start brings an open file to the current schema, checks its indexes and makes
// them anew where they do not fit.
func (s *Store) start(ctx context.Context, o Options) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer damaged(&err)
	var full bool
	var domain identity.Domain
	var old uint64
	if err := s.db.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		s.epoch = num(meta.Get(metaEpoch))
		s.unclean.Store(meta.Get(metaUnclean) != nil)
		old = num(meta.Get(metaSchema))
		full = o.FullCheck || s.unclean.Load()
		domain = readDomain(meta.Get(metaDomain))
		if o.FullCheck {
			return checkPages(tx)
		}
		return nil
	}); err != nil {
		return err
	}
	if old != schema {
		var did []string
		if err := s.db.Update(func(tx *bolt.Tx) (err error) {
			did, err = migrate(tx, migrations, schema)
			return err
		}); err != nil {
			return err
		}
		for _, what := range did {
			s.log.Info("the store was brought to a newer schema", "step", what)
		}
	}
	s.policy.Store(newRules(Policy{Domain: domain}))
	wrong := s.View(ctx, func(v *View) error {
		s.seq.Store(v.Position().Seq)
		for _, b := range buckets {
			if v.tx.Bucket(b) == nil {
				return fmt.Errorf("bucket %s is not there", b)
			}
		}
		if full {
			return v.checkAll()
		}
		return v.checkSome()
	})
	switch {
	case wrong == nil:
		return nil
	case fault.KindOf(wrong) != fault.Unknown:
		return wrong // a record or a page that cannot be read: nothing to make anew from
	case ctx.Err() != nil:
		return ctx.Err()
	}
	s.log.Warn("an index of the store does not fit its rows; making the indexes anew", "cause", wrong)
	return s.Rebuild(ctx)
}

// checkPages walks every page that holds something: a page that cannot be one
// makes bbolt panic, and keys out of order are told here. bbolt's own check runs
// in a goroutine where a fault would end the process.
func checkPages(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		var last []byte
		for k, v := range keys(b) {
			if last != nil && bytes.Compare(last, k) >= 0 {
				return damagedFault(fmt.Errorf("%s: keys out of order", name))
			}
			last = k
			if len(v) > 0 {
				_ = v[len(v)-1] // reaches the end of a value over many pages
			}
		}
		return nil
	})
}

// markClean says in the file that every index was written to its end.
func (s *Store) markClean() (err error) {
	if s.db == nil || !s.unclean.Load() {
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer damaged(&err)
	err = s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(metaUnclean) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) { // closed twice
		return nil
	}
	return writeFault(err)
}

// Check compares every index and every membership with the rows they follow
// from. nil: all fit.
func (s *Store) Check(ctx context.Context) error {
	return s.View(ctx, func(v *View) error { return v.checkAll() })
}

// Rebuild makes every index and every resolved membership anew, in one
// transaction. Ids stay.
func (s *Store) Rebuild(ctx context.Context) error {
	return s.Update(ctx, func(t *Tx) error { return t.rebuild() })
}

// checkSome looks at rows spread over the file.
func (v *View) checkSome() error {
	c := v.tx.Bucket(bucketRows).Cursor()
	last, _ := c.Last()
	if last == nil {
		return nil
	}
	step := max(1, uint64(rowOf(last))/sample)
	var seen identity.RowID
	for k, data := c.First(); k != nil; k, data = c.Seek(u64(num(k) + step)) {
		// In a damaged file a seek may lead backwards, and that for ever.
		if rowOf(k) <= seen {
			return damagedFault(fmt.Errorf("%s: keys out of order", bucketRows))
		}
		seen = rowOf(k)
		r, err := readRecord(rowOf(k), data)
		if err != nil {
			return damagedFault(fmt.Errorf("row %d: %w", rowOf(k), err))
		}
		if err := v.checkRow(r); err != nil {
			return err
		}
	}
	return nil
}

// checkRow makes sure that a row has its index entries.
func (v *View) checkRow(r *Row) error {
	for _, k := range indexKeys(nil, r) {
		if got := v.tx.Bucket(k.bucket).Get(k.key); got == nil || !bytes.Equal(got, k.value) {
			return fmt.Errorf("row %d is not in %s as it should be", r.Common().Row, k.bucket)
		}
	}
	return nil
}

// checkAll compares indexes and memberships with the records, both ways: every
// record has its entries, and there are no more entries than that.
func (v *View) checkAll() error {
	counts := make(map[string]int)
	look := func(r *Row) error {
		for _, k := range indexKeys(nil, r) {
			counts[string(k.bucket)]++
		}
		return v.checkRow(r)
	}
	if err := v.eachRow(0, look); err != nil {
		return err
	}
	if err := v.eachGrave(look); err != nil {
		return err
	}
	for _, b := range indexes {
		n := 0
		for k, _ := range keys(v.tx.Bucket(b)) {
			_ = k
			n++
		}
		if n != counts[string(b)] {
			return fmt.Errorf("%s has %d entries instead of %d", b, n, counts[string(b)])
		}
	}
	return v.checkMembers()
}

// checkMembers compares parents, primary, allmembers and allgroups with what
// they follow from.
func (v *View) checkMembers() error {
	var listed, all []edge
	primary := make(map[identity.SID]rowSet)
	if err := v.eachRow(identity.KindUser, func(r *Row) error {
		if sid := r.User.PrimaryGroup; !sid.IsZero() {
			primary[sid] = append(primary[sid], r.Common().Row)
		}
		return nil
	}); err != nil {
		return err
	}
	n := 0
	for k, b := range keys(v.tx.Bucket(bucketPrimary)) {
		sid, err := identity.SIDFromBytes(k)
		if err != nil || !slices.Equal(readSet(b), primary[sid]) {
			return fmt.Errorf("%s is wrong for %s", bucketPrimary, sid)
		}
		n++
	}
	if n != len(primary) {
		return fmt.Errorf("%s has %d entries instead of %d", bucketPrimary, n, len(primary))
	}
	w := newWalker(v)
	for k, b := range keys(v.tx.Bucket(bucketMembers)) {
		for _, m := range readSet(b) {
			listed = append(listed, edge{member: m, group: rowOf(k)})
		}
	}
	n = 0
	for g := range w.table {
		now := w.users(g)
		if len(now) > 0 {
			n++
		}
		if !slices.Equal(now, rowSet(v.MembersOf(g))) {
			return fmt.Errorf("%s is wrong for row %d", bucketAllMembers, g)
		}
		for _, m := range now {
			all = append(all, edge{member: m, group: g})
		}
	}
	if have := v.tx.Bucket(bucketAllMembers).Stats().KeyN; have != n {
		return fmt.Errorf("%s has %d entries instead of %d", bucketAllMembers, have, n)
	}
	if err := v.checkReverse(bucketParents, listed); err != nil {
		return err
	}
	return v.checkReverse(bucketAllGroups, all)
}

// checkReverse compares a bucket of member -> groups with the edges it is made
// of.
func (v *View) checkReverse(bucket []byte, edges []edge) error {
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.member, b.member), cmp.Compare(a.group, b.group)) })
	for k, b := range keys(v.tx.Bucket(bucket)) {
		member := rowOf(k)
		for _, g := range readSet(b) {
			if len(edges) == 0 || edges[0].member != member || edges[0].group != g {
				return fmt.Errorf("%s is wrong for row %d", bucket, member)
			}
			edges = edges[1:]
		}
	}
	if len(edges) > 0 {
		return fmt.Errorf("%s lacks row %d", bucket, edges[0].member)
	}
	return nil
}

func (v *View) eachGrave(fn func(*Row) error) error {
	for k, data := range keys(v.tx.Bucket(bucketGraves)) {
		r, err := readRecord(rowOf(k), data)
		if err != nil {
			return damagedFault(fmt.Errorf("row %d, which is gone: %w", rowOf(k), err))
		}
		r.Gone = true
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// keys goes through a bucket.
func keys(b *bolt.Bucket) func(yield func(k, v []byte) bool) {
	return func(yield func(k, v []byte) bool) {
		c := b.Cursor()
		for k, v := c.First(); k != nil && yield(k, v); k, v = c.Next() {
		}
	}
}
