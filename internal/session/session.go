// SPDX-License-Identifier: Apache-2.0

// Package session keeps who is signed in by a browser: the sign-ins on their way
// to Entra ID and back, the sessions that came of them, and the one-time codes by
// which NAS apps learn of them.
//
// A session is 256 random bits in a cookie; only their hash is kept, in the store
// and in memory. A session is somebody's row, looked at afresh whenever the
// mirror has changed: one that is disabled or gone ends its sessions at once. The
// package never decides who may in (package login does, before a session is
// made), never sees a password, sets no cookie and writes no page: doors do.
package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Cookie is the name of the cookie that carries a session: for this host only,
// https only, path / (RFC 6265bis 4.1.3.2). The door sets it with Path=/;
// Secure; HttpOnly; SameSite=Lax and no Domain.
const Cookie = "__Host-latchkey"

// The service that the access rules know web sign-ins by.
const Service = "web"

// The limits.
const (
	signInTime  = 10 * time.Minute // from the click to the callback
	codeTime    = time.Minute      // of a one-time code
	maxSessions = 100_000
	maxPerRow   = 100 // the one that was used longest ago gives way
	trustFor    = 5 * time.Second
	flushEvery  = time.Minute // the times of last use are written this often
)

// Provider is where people sign in; *oidc.Client is one.
type Provider interface {
	Begin(ctx context.Context, silent bool) (string, oidc.Flight, error)
	Redeem(ctx context.Context, f oidc.Flight, code string) (*oidc.Claims, error)
	Issuer() string
	Health() error
	ResponseMode() string
	SignOutURL(after string) string
}

// Settings are what the configuration says.
type Settings struct {
	Idle     time.Duration // 0: 12 h
	Absolute time.Duration // 0: 7 days
	// Base is where browsers reach this machine's web sign-in: scheme, host and
	// port, as "https://nas.contoso.test:8443".
	Base string
	Apps []App
}

// Config is what Sessions work with. Store, Log, Accept, Policy and Settings are
// required.
type Config struct {
	Store *store.Store
	Log   *slog.Logger
	// Audit takes the sign-ins that fail before Accept is asked; nil: nobody does.
	Audit *audit.Recorder
	// Provider returns where people sign in; nil while nothing is set up.
	Provider func() Provider
	// Accept finds the row of an oid and decides; login.AcceptFederated.
	Accept func(ctx context.Context, req login.Request, tenant, oid string) (*login.Result, error)
	// Policy returns the access rules; login.Policy.
	Policy   func(context.Context) (access.Policy, error)
	Settings func() Settings
	// Present fills in gecos, home and shell; may be nil.
	Present func(*identity.User)
	// Local says whether a local account still exists under this name and uid;
	// nil: it does.
	Local func(name string, uid identity.UID) bool
	Now   func() time.Time
}

// Who is whose session it is: a row of the mirror, or an account of this machine.
type Who struct {
	Row   identity.RowID `json:"row,omitempty"`
	Local *Local         `json:"local,omitempty"`
}

// Local is an account of this machine, as it was at the sign-in.
type Local struct {
	Name   string         `json:"name"`
	UID    identity.UID   `json:"uid"`
	GIDs   []identity.GID `json:"gids,omitempty"`
	Groups []string       `json:"groups,omitempty"`
	Admin  bool           `json:"admin,omitempty"`
}

// Session is one session, without what the browser holds of it.
type Session struct {
	ID         string // names it in lists and for Revoke; opens nothing
	Who        Who
	App        string // of the app that has it; empty: this machine's own pages
	How        string // "oidc", "negotiate", "password", ... as the audit has it
	Created    time.Time
	Used       time.Time
	Ends       time.Time // whatever happens
	IdleEnds   time.Time // unless it is used before
	RemoteHost string
	Agent      string
	Audit      string // id of the audit event
	Shown      string // the person's name as it was at the sign-in, for lists
}

// Sessions are all of them. Safe for concurrent use.
type Sessions struct {
	c      Config
	sealer *sealer

	mu    sync.RWMutex
	byKey map[hash]*live
	byRow map[whoKey]map[*live]struct{}
	byID  map[string]*live

	codes codes
	spent spent
	// writing is held while sessions are written to the store, so that one that
	// has ended is not written after its end.
	writing sync.Mutex
}

// New reads what the store has kept. fault.Internal: it cannot be read.
func New(ctx context.Context, c Config) (*Sessions, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Sessions{c: c, byKey: map[hash]*live{}, byRow: map[whoKey]map[*live]struct{}{}, byID: map[string]*live{}}
	s.codes.init()
	s.spent.init()
	if err := s.restore(ctx); err != nil {
		return nil, fault.Wrap(fault.Internal, "read the sessions", err)
	}
	return s, nil
}

func (s *Sessions) settings() Settings {
	set := s.c.Settings()
	if set.Idle <= 0 {
		set.Idle = 12 * time.Hour
	}
	if set.Absolute <= 0 {
		set.Absolute = 7 * 24 * time.Hour
	}
	return set
}

// Base is where browsers reach this machine's web sign-in, or empty.
func (s *Sessions) Base() string { return s.c.Settings().Base }

// Ready says why nobody can be sent to Entra ID now: nil where the button may be
// shown. fault.NotFound: it is not set up.
func (s *Sessions) Ready() error {
	p := s.provider()
	if p == nil {
		return errNoProvider
	}
	return p.Health()
}

func (s *Sessions) provider() Provider {
	if s.c.Provider == nil {
		return nil
	}
	return s.c.Provider()
}

var errNoProvider = fault.WithRemedy(fault.New(fault.NotFound, "sign-in with Entra ID is not set up"), "`latchkey sso set --tenant ID --client ID`")

var b64 = base64.RawURLEncoding.Strict()

// random returns n random bytes as text for a URL.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b64.EncodeToString(b)
}

// newID returns the name of a session: digits and letters, for command lines.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// decode reads what random wrote, in the one form that it has: encoding/base64
// alone would pass over line ends.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return b64.DecodeString(text)
}
