// SPDX-License-Identifier: Apache-2.0

// Package store remembers: the rows of users and groups, who belongs to what,
// the numbers that were given away for good, and what this machine is in the
// domain. It is one bbolt file and the only importer of bbolt.
//
// Every index is written in the transaction of its row. The store names rows
// (one rule, in one place), gives out ids (once, for life, never to another),
// resolves nested memberships and keeps a bounded log of what changed. It never
// asks the network, never decides which object of the directory is which row
// (package mirror does), never decides who may sign in, and never overwrites a
// file that it does not understand.
package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
)

// Options for Open. The zero value is right for the daemon.
type Options struct {
	// LockTimeout is how long to wait for another process to let go of the
	// file; 0 means 2 s.
	LockTimeout time.Duration
	// FullCheck compares every index with the rows even after a clean stop.
	FullCheck bool
	// Log is told of an index that had to be rebuilt; nil: slog.Default().
	Log *slog.Logger
}

// Store is an open file. Safe for concurrent use: any number of readers beside
// one writer.
type Store struct{}

// Open opens the file at path, or makes it (mode 0600) where there is none. The
// directory must exist. fault.Conflict: another process has it. fault.Internal
// with a remedy: truncated, damaged, not ours, or written by a newer version;
// the file is then left as it is.
func Open(ctx context.Context, path string, o Options) (*Store, error) { return nil, errUnbuilt }

// Close waits for the transactions that are running and closes the file.
func (s *Store) Close() error { return errUnbuilt }

var errUnbuilt = fault.New(fault.Internal, "not built yet")

// Policy is what naming and numbering depend on besides the rows.
type Policy struct {
	Domain identity.Domain
	// IDs gives the numbers of new rows. Nil: none are given yet.
	IDs *idmap.Map
	// Local and Reserved are folded names (identity.Fold) that no row may bear
	// bare: those of this machine's accounts, and those that carry privilege.
	Local, Reserved map[string]struct{}
	// LocalIDs are numbers of this machine's accounts; no row is given one.
	LocalIDs map[uint32]struct{}
}

// SetPolicy replaces the policy and names again every row that it touches, in
// one transaction. Ids that were given stay. The policy is not remembered
// across Open; the names it led to are.
func (s *Store) SetPolicy(ctx context.Context, p Policy) error { return errUnbuilt }

// View gives fn one consistent look at everything. The View, and nothing that
// it returned, is invalid after fn returned: entries are copies and stay good.
// Writers are not held up, but the file cannot reuse pages meanwhile: be quick.
func (s *Store) View(ctx context.Context, fn func(*View) error) error { return errUnbuilt }

// User returns the user that key finds: by name in any form, uid, SID (of now
// or of before, never sIDHistory), oid, objectGUID or row. fault.NotFound when
// there is none, fault.Malformed for a key that is none, fault.Conflict for an
// oid that two live objects carry.
func (s *Store) User(ctx context.Context, key identity.Key) (*identity.User, error) {
	return nil, errUnbuilt
}

// Group returns the group that key finds, as User does.
func (s *Store) Group(ctx context.Context, key identity.Key) (*identity.Group, error) {
	return nil, errUnbuilt
}
