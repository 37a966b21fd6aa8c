// SPDX-License-Identifier: Apache-2.0

// Package mirror keeps the store true to the directory: full passes,
// incremental passes by uSNChanged, sweeps for what was deleted and for what no
// change told of, and one person at a time before a sign-in.
//
// It decides which object is which row: by Entra object id first, which is
// believed only where Microsoft's sync alone writes, then by objectGUID, then,
// for the groups and accounts that every domain has, by SID; by name never. It
// never gives out an id or a name (the store does), never writes to the
// directory, never lets go of more rows at once than the breaker allows, and
// leaves the store as it was when a pass fails: a pass reads first and then
// writes in one transaction or, where it is large, in several, of which each
// leaves the store consistent and only the last says where the mirror is.
package mirror

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/latency"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Directory is where the truth is; [LDAP] makes one of a *directory.Client.
type Directory interface {
	// Session returns a connection to one DC, to be used until it fails.
	Session(ctx context.Context) (Session, error)
	// Another returns a connection beside that one, to another DC where one
	// answers.
	Another(ctx context.Context, than Session) (Session, error)
	// Doubted says whether the DC of a session failed somebody else lately.
	Doubted(Session) bool
	// Watch calls changed at each change the DC tells of, until it breaks; ready
	// is called once when it stands.
	Watch(ctx context.Context, ready, changed func()) error
}

// Session is one connection to one DC. *directory.Conn has these methods.
type Session interface {
	RootDSE(ctx context.Context) (directory.RootDSE, error)
	ReadAll(ctx context.Context, since directory.USN, fn func(directory.Object) error) (int, error)
	ReadOne(ctx context.Context, key identity.Key) (directory.Object, error)
	ReadIDs(ctx context.Context, fn func(directory.ID) error) (int, error)
	TokenGroups(ctx context.Context, dn string) ([]identity.SID, error)
}

// LDAP makes a Directory of a client.
func LDAP(c *directory.Client) Directory { return ldap{c} }

type ldap struct{ client *directory.Client }

func (l ldap) Session(ctx context.Context) (Session, error) {
	c, err := l.client.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (l ldap) Another(ctx context.Context, than Session) (Session, error) {
	conn, _ := than.(*directory.Conn)
	c, err := l.client.Another(ctx, conn)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (l ldap) Doubted(s Session) bool {
	conn, ok := s.(*directory.Conn)
	return ok && l.client.Doubted(conn)
}

func (l ldap) Watch(ctx context.Context, ready, changed func()) error {
	return l.client.Watch(ctx, func(directory.DC) { ready() }, func(directory.Changed) { changed() })
}

// Config for New. Store and Directory are required; zero times take defaults.
type Config struct {
	Store     *store.Store
	Directory Directory

	Interval      time.Duration // between incremental passes; 0: 30 s
	SweepInterval time.Duration // between sweeps for deletions; 0: 15 min
	FullInterval  time.Duration // between full passes; 0: 24 h
	RetryInterval time.Duration // after a pass that failed; 0: 2 s
	// AnswerTimeout is how long a DC may say nothing in the middle of a pass;
	// 0: 15 s.
	AnswerTimeout time.Duration
	// MaxDeletions is the share of the users, and of the groups, in per cent,
	// that may go between two sweeps by the clock without being told to; 0: 10.
	// A handful (five of each) may always go, or a small domain could never lose
	// anybody.
	MaxDeletions int

	// Latency is how long passes took, by "full" or "incremental" and by "ok" or
	// "failed"; nil: nobody counts.
	Latency *latency.Set

	Log *slog.Logger     // nil: slog.Default()
	Now func() time.Time // nil: time.Now
}

// Mirror keeps one store true. Safe for concurrent use; passes run one at a
// time.
type Mirror struct {
	cfg  Config
	pass chan struct{} // holds a token while no pass runs

	lock   sync.Mutex
	status Status
	at     store.Sync // where the mirror is, as the last pass left it
	swept  time.Time
	hints  hints
	letGo  letGo // since the last sweep by the clock, that one included
	loaded bool
	fresh  *fresh  // what was refreshed while a pass runs; nil: none runs
	silent Session // another one answered in its place, and it has not answered since
	// elsewhere are objects that another DC told of first: that the one of the
	// passes does not know them says nothing yet.
	elsewhere map[identity.GUID]struct{}

	trouble []string             // objects that the last pass left out
	defects int                  // objects with attributes that the last full pass could not read
	since   map[string]time.Time // when a problem was first told of
}

// fresh names what RefreshOne has written since a pass began to read: the pass
// knows less about it.
type fresh struct {
	objects, oids map[identity.GUID]struct{}
	rows          map[identity.RowID]struct{}
}

// New returns a mirror that does nothing yet.
func New(cfg Config) *Mirror {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&cfg.Interval, 30 * time.Second}, {&cfg.SweepInterval, 15 * time.Minute}, {&cfg.FullInterval, 24 * time.Hour},
		{&cfg.RetryInterval, 2 * time.Second}, {&cfg.AnswerTimeout, 15 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if cfg.MaxDeletions == 0 {
		cfg.MaxDeletions = 10
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Mirror{cfg: cfg, pass: make(chan struct{}, 1), elsewhere: make(map[identity.GUID]struct{})}
	m.pass <- struct{}{}
	return m
}

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
	StageSweep   Stage = "sweep"
	StageApply   Stage = "apply"
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
