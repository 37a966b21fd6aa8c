// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
	"github.com/latchkey-nas/latchkey/internal/store"
)

const base = "https://nas.contoso.test:8443"

var (
	domainSID = identity.MustParseSID("S-1-5-21-11-22-33")
	domain    = identity.Domain{NetBIOS: "AADDSEX", DNS: "aadds.example.test", Realm: "AADDS.EXAMPLE.TEST", SID: domainSID}
	bobsOID   = identity.GUID{0: 2, 6: 0x40, 8: 0x80, 15: 2}
	photos    = session.App{Name: "photos", UIDs: []identity.UID{33}, Redirects: []string{"https://photos.contoso.test/.latchkey/callback", "https://photos.contoso.test/cb?keep=1"}}
	notes     = session.App{Name: "notes", GIDs: []identity.GID{44}, Redirects: []string{"https://notes.contoso.test/cb"}}
	www       = session.Caller{UID: 33, GIDs: []identity.GID{33}}
	nobody    = session.Caller{UID: 1001, GIDs: []identity.GID{1001}}
	browser   = session.From{RemoteHost: "192.0.2.7", Agent: "Browser/1.0"}
)

// world is a tenant, a mirror with alice, bob and a group, and the sessions of a
// machine, all real but the tenant.
type world struct {
	t        testing.TB
	issuer   *oidctest.Issuer
	store    *store.Store
	login    *login.Login
	rec      *audit.Recorder
	client   *oidc.Client
	sessions *session.Sessions
	file     string
	ahead    atomic.Int64
	settings session.Settings
	gone     atomic.Bool // the account of this machine
	alice    identity.RowID
	bob      identity.RowID
}

func (w *world) now() time.Time       { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *world) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// RefreshOne plays the mirror.
func (w *world) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	u, err := w.store.User(ctx, key)
	return store.Entry{User: u}, err
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	w := &world{t: t, file: filepath.Join(dir, "audit.jsonl"), settings: session.Settings{Base: base, Apps: []session.App{photos, notes}}}
	w.issuer = oidctest.New(t, w.now)
	var err error
	if w.store, err = store.Open(ctx, filepath.Join(dir, "db"), store.Options{Log: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	ids, err := idmap.New(idmap.Config{}, domainSID)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.SetPolicy(ctx, store.Policy{Domain: domain, IDs: ids, Reserved: idmap.Privileged()}); err != nil {
		t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		for n, account := range []string{"Alice", "bob"} {
			r := store.NewUser()
			u := r.User
			u.ObjectGUID, u.SID, u.Account = identity.GUID{0: 1, 15: byte(n + 1)}, domainSID.WithRID(uint32(1105+n)), account
			u.PrimaryGroup, u.OID = domainSID.WithRID(513), []identity.GUID{oidctest.Person, bobsOID}[n]
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		for n, account := range []string{"Domain Users", "Größe 10%"} {
			g := store.NewGroup()
			g.Group.ObjectGUID, g.Group.SID, g.Group.Account = identity.GUID{0: 3, 15: byte(n)}, domainSID.WithRID(uint32(513+n)), account
			g.Group.Scope, g.Group.Security = identity.ScopeGlobal, true
			if err := tx.Put(g); err != nil {
				return err
			}
			if n == 1 {
				if err := tx.SetMembers(g.Group.Row, []store.Member{{GUID: identity.GUID{0: 1, 15: 1}}}); err != nil {
					return err
				}
			}
		}
		return tx.SetSync(store.Sync{Complete: true})
	})
	for name, row := range map[string]*identity.RowID{"alice": &w.alice, "bob": &w.bob} {
		u, err := w.store.User(ctx, identity.Key{Kind: identity.ByName, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		*row = u.Row
	}
	w.rec = audit.Open(w.file, quiet)
	t.Cleanup(w.rec.Close)
	w.login = login.New(login.Config{Store: w.store, Audit: w.rec, Log: quiet, Now: w.now, Settings: func() login.Settings { return login.Settings{} },
		Domain: func() *login.Domain {
			return &login.Domain{Realm: domain.Realm, Names: domain, Tenant: oidctest.Tenant, FQDN: "nas.aadds.example.test", Refresh: w}
		}})
	t.Cleanup(w.login.Close)
	if w.client, err = oidc.New(oidc.Config{Authority: w.issuer.Authority(), Tenant: oidctest.Tenant, Client: oidctest.Client,
		RedirectURI: base + oidc.Callback, Now: w.now, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w
}

// restart makes Sessions that know nothing but the store.
func (w *world) restart() {
	w.t.Helper()
	var err error
	w.sessions, err = session.New(w.t.Context(), session.Config{Store: w.store, Log: slog.New(slog.DiscardHandler), Audit: w.rec, Now: w.now,
		Provider: func() session.Provider { return w.client }, Accept: w.login.AcceptFederated, Policy: w.login.Policy,
		Settings: func() session.Settings { return w.settings }, Local: func(string, identity.UID) bool { return !w.gone.Load() }})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// change changes a person as the mirror would.
func (w *world) change(row identity.RowID, fn func(*identity.User)) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		r, err := tx.Load(row)
		if err != nil {
			return err
		}
		r = r.Clone()
		fn(r.User)
		return tx.Put(r)
	})
}

func (w *world) begin(a session.Ask) *session.Begun {
	w.t.Helper()
	b, err := w.sessions.Begin(w.t.Context(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// answer is what the browser brings back of a sign-in.
func (w *world) answer(b *session.Begun, who identity.GUID) session.Answer {
	w.t.Helper()
	v, err := w.issuer.Answer(b.URL, who)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := session.ParseAnswer(v)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) try(who identity.GUID) (*session.Finished, error) {
	w.t.Helper()
	b := w.begin(session.Ask{})
	return w.sessions.Finish(w.t.Context(), w.answer(b, who), b.Cookie, browser)
}

func (w *world) signIn(who identity.GUID) *session.Finished {
	w.t.Helper()
	done, err := w.try(who)
	if err != nil {
		w.t.Fatal(err)
	}
	return done
}

// open makes a session without a tenant.
func (w *world) open(row identity.RowID) *session.Finished {
	w.t.Helper()
	done, err := w.sessions.Open(w.t.Context(), session.Who{Row: row}, "password", "0123", "somebody", browser)
	if err != nil {
		w.t.Fatal(err)
	}
	return done
}

func (w *world) has(what, token string, want bool) {
	w.t.Helper()
	_, _, err := w.sessions.Get(w.t.Context(), token, "")
	if (err == nil) != want || err != nil && !fault.Is(err, fault.BadCredential) {
		w.t.Errorf("%s: %v, want a session = %v", what, err, want)
	}
}

func (w *world) deny(who ...string) {
	w.t.Helper()
	if _, err := w.login.SetRules(w.t.Context(), "test", access.Web, access.Deny, who...); err != nil {
		w.t.Fatal(err)
	}
}

// events returns what the audit has of sign-ins, after everything was written.
func (w *world) events() (all []audit.Event) {
	w.t.Helper()
	w.rec.Close()
	text, err := os.ReadFile(w.file)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
		}
		if e.Action == audit.SignIn {
			all = append(all, e)
		}
	}
	return all
}

func wantReason(t testing.TB, what string, err error, want session.Reason) {
	t.Helper()
	if got := session.ReasonOf(err); got != want {
		t.Errorf("%s: %v (reason %q), want %q", what, err, got, want)
	}
}

func query(t testing.TB, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}
