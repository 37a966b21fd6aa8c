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
//
// # The file
//
// Row ids and sequence numbers are 8 bytes, ids 4, big-endian. A claim is a key
// that ends in a class byte and a row, so that several rows may want one thing
// and the first of them has it. A set is a list of row ids, ascending, packed.
// Draw every change here, and add a step to migrations.
//
//	meta
//	├─ schema        version of this drawing
//	├─ epoch         names the file in resume tokens
//	├─ unclean       there while the file is open for writing
//	├─ domain        the domain that names were decided for
//	├─ sync          where the mirror is: DC, USN, times
//	└─ seq           last sequence number of log
//	rows             row -> record of a live user or group; its sequence gives row ids
//	graves           row -> the last record of a row that is gone
//	ids              id -> row, live or gone; an entry is never removed
//	oids             oid · class · row               claims
//	objects          objectGUID · class · row        claims
//	sids             SID · class · row               claims; class says now, past, history, gone
//	names            folded name · 0 · class · row   claims; class says account name or UPN
//	order            kind · nameless · folded name · 0 · row, for lists
//	groups           group -> gid and flags, to tell groups from users
//	members          group -> set of its direct members, users and groups
//	parents          row -> set of the groups that list it as member
//	primary          SID -> set of the users whose primary group has it
//	allmembers       group -> set of all users in it, nested and primary
//	allgroups        user -> set of all groups it is in, nested and primary
//	wanted           objectGUID · group: a member that has no row yet
//	fixed            SID that no row has (yet) -> the id that is kept for it, never changed;
//	                 0 · id -> who had it before an import: nobody else gets it
//	reserved         folded name -> why no row may bear it bare
//	log              sequence number -> change
//	machine
//	└─ record        what this machine is in its domain
//	notes            topic · 0 · key -> bytes that other packages keep here; made with the first
//
// rows, graves, members, wanted, log, machine, fixed and notes are what is known; the other
// buckets follow from them and are made anew when they do not fit (see check).
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Options for Open. The zero value is right for the daemon.
type Options struct {
	// LockTimeout is how long to wait for another process to let go of the
	// file; 0 means 2 s.
	LockTimeout time.Duration
	// FullCheck compares every index with the rows, and every page with its
	// tree, even after a clean stop.
	FullCheck bool
	// Log is told of an index that had to be made anew; nil: slog.Default().
	Log *slog.Logger
	// Now replaces time.Now, for tests.
	Now func() time.Time
}

// Store is an open file. Safe for concurrent use: any number of readers beside
// one writer.
type Store struct {
	db   *bolt.DB
	path string
	log  *slog.Logger
	now  func() time.Time

	policy atomic.Pointer[rules]

	epoch   uint64
	seq     atomic.Uint64 // of the last change that was committed
	unclean atomic.Bool   // the mark is in the file

	counts atomic.Pointer[countsAt]

	waking sync.Mutex
	wakers map[chan struct{}]struct{}
}

// Open opens the file at path, or makes it (mode 0600) where there is none. The
// directory must exist. fault.Conflict: another process has it. fault.Internal
// with a remedy: truncated, damaged, not ours, or written by a newer version;
// the file is then left as it is.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s := &Store{path: path, log: o.Log, now: o.Now, wakers: make(map[chan struct{}]struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = 2 * time.Second
	}
	s.policy.Store(newRules(Policy{}))
	if err := openFile(ctx, s, o); err != nil {
		return nil, fault.Wrap(fault.Unknown, fmt.Sprintf("open %s", path), err)
	}
	return s, nil
}

// Close waits for the transactions that are running and closes the file.
func (s *Store) Close() error {
	err := s.markClean()
	if closing := s.db.Close(); err == nil {
		err = writeFault(closing)
	}
	return err
}

// Path returns where the file is.
func (s *Store) Path() string { return s.path }

// Size returns how large the file is, in bytes.
func (s *Store) Size() int64 {
	var n int64
	_ = s.db.View(func(tx *bolt.Tx) error { n = tx.Size(); return nil })
	return n
}

// View gives fn one consistent look at everything. The View is invalid after fn
// returned; entries are copies and stay good. Writers are not held up, but the
// file cannot reuse pages meanwhile: be quick.
func (s *Store) View(ctx context.Context, fn func(*View) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return closedFault(err)
	}
	defer func() { _ = tx.Rollback() }()
	// A disk that fails under the mapping must not take the daemon with it.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer damaged(&err)
	v := View{s: s, tx: tx}
	return fn(&v)
}

// User returns the user that key finds: by name in any form, uid, SID (of now
// or of before, never sIDHistory), oid, objectGUID or row. fault.NotFound when
// there is none, fault.Malformed for a key that is none, fault.Conflict for an
// oid that two live objects carry.
func (s *Store) User(ctx context.Context, key identity.Key) (*identity.User, error) {
	e, err := s.get(ctx, key, identity.KindUser)
	return e.User, err
}

// Group returns the group that key finds, as User does.
func (s *Store) Group(ctx context.Context, key identity.Key) (*identity.Group, error) {
	e, err := s.get(ctx, key, identity.KindGroup)
	return e.Group, err
}

func (s *Store) get(ctx context.Context, key identity.Key, kind identity.Kind) (e Entry, err error) {
	err = s.View(ctx, func(v *View) error {
		e, err = v.Get(key, kind)
		return err
	})
	return e, err
}

// damaged turns a panic of bbolt, which is how it meets a broken page, into an
// error. Other panics are bugs and go on.
func damaged(err *error) {
	if p := recover(); p != nil {
		if !fromBolt(p) {
			panic(p)
		}
		*err = damagedFault(fmt.Errorf("%v", p))
	}
}

// closedFault says what Begin's errors mean.
func closedFault(err error) error {
	return fault.Wrap(fault.Internal, "begin a transaction of the store", err)
}

// writeFault says what an error of a commit means. Nothing was written then.
func writeFault(err error) error {
	switch {
	case err == nil:
		return nil
	case means(err, syscall.ENOSPC), means(err, syscall.EDQUOT), means(err, syscall.EFBIG):
		return fault.WithRemedy(fault.Wrap(fault.Exhausted, "write to the store: no room left", err),
			"make room where the file is; what was in it is safe, and the mirror tries again by itself")
	case means(err, syscall.EROFS):
		return fault.WithRemedy(fault.Wrap(fault.Internal, "write to the store: read-only file system", err),
			"make the file system writable again; lookups go on meanwhile")
	}
	return fault.Wrap(fault.Internal, "write to the store", err)
}

// means reports whether err is no, or says so: bbolt does not wrap the error
// of a file that cannot grow.
func means(err error, no syscall.Errno) bool {
	return errors.Is(err, no) || strings.HasSuffix(err.Error(), ": "+no.Error())
}
