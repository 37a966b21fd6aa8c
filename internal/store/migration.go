// SPDX-License-Identifier: Apache-2.0

package store

import (
	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// schema is the version of the drawing in the package comment. Fields may be
// added to a record without a new version: an older latchkey carries them along.
// Whatever an older one would break by writing needs one.
const schema = 2

// migration turns a file of the version before into one of version to.
type migration struct {
	to   uint64
	what string // for the log, as "move SIDs into a bucket of their own"
	do   func(*bolt.Tx) error
}

// migrations in their order. Each needs a test of its own, with a file of the
// version before.
var migrations = []migration{
	{2, "make room for the gids of well-known SIDs and for a machine password on its way", makeWellKnown},
}

// migrate runs what the file has not seen, all in the given transaction. from is
// the version the file had, and did says what was done.
func migrate(tx *bolt.Tx, steps []migration, target uint64) (did []string, err error) {
	meta := tx.Bucket(bucketMeta)
	at := num(meta.Get(metaSchema))
	for _, m := range steps {
		if m.to <= at {
			continue
		}
		if m.to != at+1 {
			return nil, fault.Errorf(fault.Internal, "no way from schema %d to %d", at, m.to)
		}
		if err := m.do(tx); err != nil {
			return nil, fault.Wrap(fault.Unknown, "bring the store to a newer schema: "+m.what, err)
		}
		at = m.to
		did = append(did, m.what)
	}
	if at != target {
		return nil, fault.Errorf(fault.Internal, "no way from schema %d to %d", at, target)
	}
	if len(did) == 0 {
		return nil, nil
	}
	return did, meta.Put(metaSchema, u64(at))
}
