// SPDX-License-Identifier: Apache-2.0

// Package login decides who may in: one attempt, one decision, one audit event.
//
// A password goes to the domain's KDC and nowhere else, at most once for each
// attempt; the KDC has to prove itself by a ticket for our own host key; the
// principal that proved itself must be the row that was asked for; the row is
// read afresh from the directory before anybody is let in. Where no KDC answers,
// a verifier of the last good password stands in for it.
//
// The package never writes a password down, never sends one that was refused a
// moment ago, and never lets somebody in because it could not decide. It knows
// no protocol: doors turn its outcomes into their own, with ForStranger where a
// stranger listens.
package login

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Request is one attempt, as the door has it.
type Request struct {
	Name       string // in any form, as typed
	Service    string // of PAM, or samba, web
	RemoteHost string
	TTY        string
	Door       string // "pam", "grpc", "cli"
	Caller     string // the local process that asks, for the audit
}

// source names where the attempts of a request come from, for the budget.
func (r *Request) source() string {
	if r.RemoteHost != "" {
		return r.RemoteHost
	}
	return r.Door
}

// How says what the decision rests on.
type How string

// The ways.
const (
	ByKerberos How = "kerberos"
	ByOffline  How = "offline" // a verifier on this machine: no KDC answered
	ByAccount  How = "account" // no password was asked for

	ByNTLM      How = "ntlm"      // an answered challenge, checked by a domain controller
	ByTicket    How = "ticket"    // a ticket that a program of this machine accepted
	ByNegotiate How = "negotiate" // a ticket that was accepted here
	ByFederated How = "oidc"      // a token of Entra ID
)

// Services that a request may leave out.
const (
	serviceSamba = access.SMB
	serviceWeb   = access.Web
)

// serviceSSH is the PAM service of OpenSSH, which asks Account after every sign-in.
const serviceSSH = "sshd"

// Result is somebody who is let in. Wipe it.
type Result struct {
	User   *identity.User    // the row as it is now, with home, shell and gecos
	Groups []*identity.Group // effective, nested and primary included
	GIDs   []identity.GID    // ascending, primary included
	How    How
	// CCache is a FILE credential cache, version 4, with the TGT; empty when no
	// KDC took part.
	CCache    secret.Bytes
	Principal string // of the cache
	// PasswordExpires is zero for never or not known.
	PasswordExpires time.Time
	Warnings        []string // to be shown to the user
	Session         string   // id of the audit event
}

// Wipe overwrites the tickets. Safe on nil.
func (r *Result) Wipe() {
	if r != nil {
		r.CCache.Wipe()
	}
}

// Domain is how to ask the domain: what the machine's membership gives.
type Domain struct {
	Realm   string
	Names   identity.Domain
	Tenant  identity.GUID // of Entra; zero: not known
	FQDN    string        // of this machine; host/FQDN is the name of our key
	Keytab  string        // path; read at every attempt, for a rotation may come between two
	KDC     *kerberos.Client
	Refresh Refresher
}

// Refresher reads one row afresh from the directory; *mirror.Mirror does.
type Refresher interface {
	RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error)
}

// Settings are what the configuration says. The zero value: no offline sign-in.
type Settings struct {
	Offline     bool
	OfflineAge  time.Duration // of a verifier; 0: 14 days
	PasswordURL string        // where people of Entra ID change their password
	AlternateID bool          // people may sign in by their mail address
	Hybrid      bool          // the tenant has people of an on-premises directory
}

// Config is what a Login works with. All but Present and Now are required.
type Config struct {
	Store *store.Store
	Audit *audit.Recorder
	Log   *slog.Logger
	// Domain returns the membership; nil when there is none.
	Domain func() *Domain
	// NTLM returns who is asked about answered challenges; nil, or a func that
	// returns nil: nobody.
	NTLM func() NTLMAuthority
	// Lockout returns when the domain locks an account; nil, or zero: not known.
	Lockout func() Lockout
	// Settings returns the configuration in use.
	Settings func() Settings
	// Shown waits until the machine's names say what the store says now; nil: it
	// is not waited for.
	Shown func(context.Context) error
	// Present fills in gecos, home and shell.
	Present func(*identity.User)
	Now     func() time.Time
}

// Login decides. Safe for concurrent use.
type Login struct {
	c        Config
	refused  refusals
	budget   *budget
	evidence *evidence
	aliases  aliases
	pace     pace
	ntlmPace pace
	slots    chan struct{} // for Argon2: memory
	talks    chan struct{} // with a KDC at one time
	later    sync.WaitGroup
	silence  silence
	pause    func(context.Context, time.Duration) // pause, but for tests
	tickets  tickets
	lately   lately
	keeper   keeper

	mu         sync.Mutex
	unreadable time.Time // until when the directory is not asked again
	rules      access.Policy
	rulesRead  bool
	owing      map[identity.RowID]time.Time // until when a change that was put off is insisted on
}

// authority is who is asked about answered challenges, or nil.
func (c *Config) authority() NTLMAuthority {
	if c.NTLM == nil {
		return nil
	}
	return c.NTLM()
}

// New returns a Login that remembers in cfg.Store what has to last.
func New(cfg Config) *Login {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Login{c: cfg, pause: pause, slots: make(chan struct{}, 2), talks: make(chan struct{}, maxTalks), tickets: tickets{begun: cfg.Now()}, owing: map[identity.RowID]time.Time{}}
	l.refused.init()
	l.budget = newBudget(cfg.Store, cfg.Log, cfg.Now, cfg.Lockout)
	l.evidence = newEvidence(cfg.Store, cfg.Log, cfg.Now)
	return l
}

// Close waits for what is written after an answer.
func (l *Login) Close() {
	l.keeper.hurry()
	l.evidence.hurry()
	l.later.Wait()
}

// maxTalks is how many passwords are with a KDC at one time. Samba's queue of
// connections holds ten: one more is lost, and tried again by TCP a second later.
const maxTalks = 8

// The times that an attempt gives others.
const (
	kdcTime     = 2 * time.Second // until it counts as silent, and the verifier decides
	patientTime = 5 * time.Second // the same, where there is no verifier and no silence before
	refreshTime = 2 * time.Second
	shownTime   = time.Second     // for the names of the machine to follow a changed row
	skipRefresh = 4 * time.Second // after the directory was silent
)

// attempt is one attempt under way. It ends with exactly one event.
type attempt struct {
	l     *Login
	req   Request
	event audit.Event
	begun time.Time
	ended bool
	// proved: the password is known to be right, so that the state of the
	// account is no secret to whoever typed it.
	proved bool
}

func (l *Login) begin(req Request, action audit.Action) *attempt {
	now := l.c.Now()
	return &attempt{l: l, req: req, begun: now, event: audit.Event{ID: audit.NewID(), Time: now, Action: action, Door: req.Door,
		Service: req.Service, Asked: req.Name, RemoteHost: req.RemoteHost, TTY: req.TTY, Caller: req.Caller}}
}

// found notes the row that the attempt is about.
func (a *attempt) found(u *identity.User) {
	e := &a.event
	e.Row, e.Name, e.Account, e.UID, e.SID, e.OID = u.Row, u.Name, u.Account, u.UID, u.SID.String(), u.OID.String()
}

// end records the one event, and returns err as the caller hands it on.
func (a *attempt) end(err error) error {
	if a.ended {
		return err
	}
	a.ended = true
	e := &a.event
	e.Milliseconds = float64(a.l.c.Now().Sub(a.begun).Microseconds()) / 1000
	if e.Outcome, e.Reason = audit.Of(err); err != nil {
		e.Detail = err.Error()
	}
	a.l.c.Audit.Record(*e)
	if err != nil && a.proved {
		return &proved{err}
	}
	return err
}

// abandon records an attempt that nobody finished.
func (a *attempt) abandon() {
	if !a.ended {
		a.ended = true
		a.event.Outcome = audit.Abandoned
		a.l.c.Audit.Record(a.event)
	}
}

// proved is an error after the password was known to be right.
type proved struct{ error }

func (p *proved) Unwrap() error { return p.error }
