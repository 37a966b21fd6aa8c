// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// indexKey is one entry of an index.
type indexKey struct{ bucket, key, value []byte }

// Where a row stands in the bucket order.
const (
	orderNamed    = 0
	orderNameless = 1
)

// indexKeys returns every entry that a row has in the indexes. It is the one
// place that knows: writing, checking and making anew all ask it.
func indexKeys(keys []indexKey, r *Row) []indexKey {
	c := r.Common()
	row := rowKey(c.Row)
	add := func(bucket, key, value []byte) { keys = append(keys, indexKey{bucket, key, value}) }
	class := byte(classLive)
	if r.Gone {
		class = classGone
	}
	if r.ID != 0 {
		add(bucketIDs, u32(r.ID), row)
	}
	if !c.OID.IsZero() {
		add(bucketOIDs, claimKey(c.OID[:], class, c.Row), nil)
	}
	if !c.ObjectGUID.IsZero() {
		add(bucketObjects, claimKey(c.ObjectGUID[:], class, c.Row), nil)
	}
	if !c.SID.IsZero() {
		add(bucketSIDs, claimKey(c.SID.Bytes(), class, c.Row), nil)
	}
	if r.Gone {
		for _, s := range c.PastSIDs {
			if s != c.SID {
				add(bucketSIDs, claimKey(s.Bytes(), classGone, c.Row), nil)
			}
		}
		return keys
	}
	for _, s := range c.PastSIDs {
		add(bucketSIDs, claimKey(s.Bytes(), classPast, c.Row), nil)
	}
	for _, s := range c.HistorySIDs {
		add(bucketSIDs, claimKey(s.Bytes(), classHistory, c.Row), nil)
	}
	account := identity.Fold(c.Account)
	if account != "" {
		add(bucketNames, claimKey(namePrefix(account), classAccount, c.Row), nil)
	}
	if r.User != nil && r.User.UPN != "" {
		add(bucketNames, claimKey(namePrefix(identity.Fold(r.User.UPN)), classUPN, c.Row), nil)
	}
	if r.Group != nil {
		add(bucketGroups, row, packGroupInfo(groupInfo{gid: uint32(r.Group.GID), security: r.Group.Security}))
	}
	named, name := byte(orderNamed), identity.Fold(c.Name)
	if c.Name == "" {
		named, name = orderNameless, account
	}
	order := append([]byte{byte(r.Kind()), named}, name...)
	add(bucketOrder, append(append(order, 0), row...), nil)
	return keys
}

// reindex replaces the index entries of a row. old is nil for a new one.
func (t *Tx) reindex(old, r *Row) error {
	var was, now []indexKey
	if old != nil {
		was = indexKeys(make([]indexKey, 0, 12), old)
	}
	now = indexKeys(make([]indexKey, 0, 12), r)
	for _, k := range was {
		if !holds(now, k, false) {
			if err := t.del(k.bucket, k.key); err != nil {
				return err
			}
		}
	}
	for _, k := range now {
		if !holds(was, k, true) {
			if err := t.put(k.bucket, k.key, k.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds reports whether keys has an entry with this key, and with this value if
// values count.
func holds(keys []indexKey, k indexKey, values bool) bool {
	for _, o := range keys {
		if bytes.Equal(o.bucket, k.bucket) && bytes.Equal(o.key, k.key) {
			return !values || bytes.Equal(o.value, k.value)
		}
	}
	return false
}
