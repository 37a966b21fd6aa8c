// SPDX-License-Identifier: Apache-2.0

// Package mirror keeps the store true to the directory: full passes,
// incremental passes by uSNChanged, sweeps for what was deleted, and one person
// at a time before a sign-in.
//
// It decides which object is which row: by Entra object id first, which is
// believed only where Microsoft's sync alone writes, then by objectGUID, then
// by SID; by name never. It never gives out an id or a name (the store does),
// never writes to the directory, never lets go of more rows at once than the
// breaker allows, and leaves the store as it was when a pass fails.
package mirror

import (
	"context"
	"log/slog"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

var errUnbuilt = fault.New(fault.Internal, "not built yet")

// Directory is where the truth is; [LDAP] makes one of a *directory.Client.
type Directory interface {
	// Session returns a connection to one DC, to be used until it fails.
	Session(ctx context.Context) (Session, error)
	// Watch calls changed at each change the DC tells of, until it breaks.
	Watch(ctx context.Context, ready func(dc string), changed func()) error
}

// Session is one connection to one DC. *directory.Conn has these methods.
type Session interface {
	RootDSE(ctx context.Context) (directory.RootDSE, error)
	ReadAll(ctx context.Context, since directory.USN, fn func(directory.Object) error) (int, error)
	ReadOne(ctx context.Context, key identity.Key) (directory.Object, error)
	ReadIDs(ctx context.Context, fn func(directory.ID) error) (int, error)
	TokenGroups(ctx context.Context, dn string) ([]identity.SID, error)
}

// Config for New. Store and Directory are required; zero times take defaults.
type Config struct {
	Store     *store.Store
	Directory Directory

	Interval      time.Duration // between incremental passes; 0: 30 s
	SweepInterval time.Duration // between sweeps for deletions; 0: 15 min
	FullInterval  time.Duration // between full passes; 0: 24 h
	// MaxDeletions is the share of the users, and of the groups, in per cent,
	// that one pass may let go of without being told to; 0: 10. Up to five of
	// each may always go.
	MaxDeletions int

	Log *slog.Logger     // nil: slog.Default()
	Now func() time.Time // nil: time.Now
}

// Mirror keeps one store true. Safe for concurrent use; passes run one at a
// time.
type Mirror struct{}

// New returns a mirror that does nothing yet.
func New(cfg Config) *Mirror { return &Mirror{} }

// Run keeps the store true until ctx ends, and returns ctx's error. A pass that
// fails is logged, told by Status and tried again.
func (m *Mirror) Run(ctx context.Context) error { return errUnbuilt }

// Request says what Sync should do.
type Request struct {
	Full            bool // read everything, not only what changed
	AcceptDeletions bool // let go of what the breaker holds back
}

// Progress is how far a pass is.
type Progress struct {
	Stage   Stage
	Read    int // objects read so far
	Total   int // objects expected: those of the last full pass; 0: not known
	Applied int // objects compared and written so far
}

// Stage is a part of a pass.
type Stage string

// The stages, in their order.
const (
	StageConnect Stage = "connect"
	StageRead    Stage = "read"
	StageApply   Stage = "apply"
	StageSweep   Stage = "sweep"
)

// Result is what one pass did.
type Result struct {
	Full     bool
	Read     int // objects read
	Added    int
	Changed  int
	Removed  int
	Held     int // rows that are gone from the directory and held back by the breaker
	Duration time.Duration
	DC       string
}

// Sync makes one pass now, after the one that may be running, sweep for
// deletions included when Full or AcceptDeletions. progress, which may be nil,
// is called from one goroutine, at most about every 100 ms. fault.Unreachable:
// no DC; the store is as it was.
func (m *Mirror) Sync(ctx context.Context, r Request, progress func(Progress)) (Result, error) {
	return Result{}, errUnbuilt
}

// RefreshOne reads one user (or group) from the DC, before a sign-in, and
// returns the row as it is then. Someone the mirror has not met yet is added.
// fault.NotFound: the directory has nobody by this key. fault.Unreachable: it
// could not be asked in time; the row in the store stays as good as it was.
func (m *Mirror) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	return store.Entry{}, errUnbuilt
}

// Status is how the mirror is. Times are zero for "never".
type Status struct {
	Complete         bool // a full pass has gone through, now or in an earlier run
	LastSync         time.Time
	LastFull         time.Time
	LastDuration     time.Duration
	LastError        string // of the last pass, empty when it was good
	LastRemedy       string
	UnreachableSince time.Time // no DC answered since; zero: reachable
	DC               string
	Skew             time.Duration // clock of the DC minus ours
	Held             int
	Problems         []Problem
	Running          bool // a pass is running now
}

// Problem is something in the directory that an administrator should know.
type Problem struct {
	ID      string // short and stable: "oid-conflict", "held-deletions", "no-id", "defects"
	Summary string
	Remedy  string
	Since   time.Time
}

// Status returns how the mirror is, without waiting for a pass.
func (m *Mirror) Status() Status { return Status{} }

// LDAP makes a Directory of a client.
func LDAP(c *directory.Client) Directory { return nil }
