// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// rebuild empties the buckets that follow from others and makes them anew.
func (t *Tx) rebuild() error {
	t.wrote = true
	for _, b := range slices.Concat(indexes, memberships, buckets) {
		derived := slices.ContainsFunc(slices.Concat(indexes, memberships), func(d []byte) bool { return string(d) == string(b) })
		if t.tx.Bucket(b) != nil && derived {
			if err := t.tx.DeleteBucket(b); err != nil {
				return fault.Wrap(fault.Internal, "empty an index", err)
			}
		}
		if _, err := t.tx.CreateBucketIfNotExists(b); err != nil {
			return fault.Wrap(fault.Internal, "make an index anew", err)
		}
	}
	enter := func(r *Row) error {
		for _, k := range indexKeys(nil, r) {
			if err := t.put(k.bucket, k.key, k.value); err != nil {
				return err
			}
		}
		return nil
	}
	if err := t.eachGrave(enter); err != nil {
		return err
	}
	live := make(map[identity.RowID]struct{})
	if err := t.eachRow(0, func(r *Row) error {
		c := r.Common()
		live[c.Row] = struct{}{}
		t.rename(c.Row)
		if r.User != nil {
			t.changePrimary(r.User.PrimaryGroup, c.Row, true)
		} else {
			t.regroup[c.Row] = struct{}{}
		}
		return enter(r)
	}); err != nil {
		return err
	}
	// Members that are rows no more are nobody's.
	type listing struct {
		group identity.RowID
		was   rowSet
	}
	var all []listing
	for k, b := range keys(t.tx.Bucket(bucketMembers)) {
		all = append(all, listing{rowOf(k), readSet(b)})
	}
	for _, l := range all {
		now := slices.DeleteFunc(slices.Clone(l.was), func(m identity.RowID) bool { _, ok := live[m]; return !ok })
		if _, ok := live[l.group]; !ok {
			now = nil
		}
		if len(now) != len(l.was) {
			if err := t.putSet(bucketMembers, rowKey(l.group), now); err != nil {
				return err
			}
		}
		for _, m := range now {
			t.edges = append(t.edges, edge{m, l.group, true})
		}
	}
	return nil
}
