// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
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
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/kerberos/krbtest"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

const realm = "AADDS.EXAMPLE.TEST"

var (
	domainSID = identity.MustParseSID("S-1-5-21-11-22-33")
	tenant    = identity.GUID{0: 7, 15: 7}
	domain    = identity.Domain{NetBIOS: "AADDSEX", DNS: "aadds.example.test", Realm: realm, SID: domainSID}
)

// world is a domain in memory: a KDC, a directory and a machine with a store.
type world struct {
	t     *testing.T
	store *store.Store
	kdc   *krbtest.KDC
	host  *krbtest.Account
	alice *krbtest.Account
	login *login.Login
	file  string // the audit

	down     atomic.Bool                    // no KDC and no directory answers
	change   func(*identity.User)           // what the directory says now; nil: as before
	nobody   atomic.Bool                    // the directory has nobody
	settings atomic.Pointer[login.Settings] //
	rec      *audit.Recorder
	clock    atomic.Int64 // ahead of the real one
	domain   *login.Domain
	lockout  login.Lockout
	pauses   []time.Duration
	reads    atomic.Int64 // of the directory
	ntlm     *dc          // nil: no secure channel
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) }

// RefreshOne plays the mirror.
func (w *world) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	w.reads.Add(1)
	if w.down.Load() {
		return store.Entry{}, fault.New(fault.Unreachable, "no DC")
	}
	if w.nobody.Load() {
		return store.Entry{}, fault.New(fault.NotFound, "nobody")
	}
	if w.change != nil && key.Kind == identity.ByObjectGUID {
		err := w.store.Update(ctx, func(tx *store.Tx) error {
			r, err := tx.FindObject(key.GUID)
			if err != nil || r == nil {
				return err
			}
			r = r.Clone()
			w.change(r.User)
			return tx.Put(r)
		})
		if err != nil {
			return store.Entry{}, err
		}
	}
	u, err := w.store.User(ctx, key)
	return store.Entry{User: u}, err
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	w := &world{t: t, kdc: krbtest.New(realm), file: filepath.Join(dir, "audit.jsonl")}
	quiet := slog.New(slog.DiscardHandler)
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
	w.put("Alice", 1105, false)
	w.put("bob", 1106, true)
	if err := w.store.Update(ctx, func(tx *store.Tx) error {
		g := store.NewGroup()
		g.Group.ObjectGUID, g.Group.SID, g.Group.Account = guid(13), domainSID.WithRID(513), "Domain Users"
		g.Group.Scope, g.Group.Security = identity.ScopeGlobal, true
		if err := tx.Put(g); err != nil {
			return err
		}
		return tx.SetSync(store.Sync{Complete: true})
	}); err != nil {
		t.Fatal(err)
	}
	w.host = w.kdc.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "machine", KVNO: 2, Salt: kerberos.MachineSalt("NAS$", domain.DNS),
		Aliases: [][]string{{"host", "nas.aadds.example.test"}}})
	w.alice = w.kdc.Add(krbtest.Account{Name: []string{"alice"}, UPN: "alice@contoso.test", Password: "wonder land",
		PAC: &krbtest.PAC{User: domainSID.WithRID(1105), Primary: 513, Groups: []uint32{513}, Domain: "AADDSEX", DNSDomain: realm, UPN: "alice@contoso.test"}})
	keytab := filepath.Join(dir, "krb5.keytab")
	if err := w.kdc.Keytab(w.host).WriteFile(keytab); err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if w.down.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
		}
		return w.kdc.Dial(ctx, network, address)
	}
	w.settings.Store(&login.Settings{PasswordURL: "https://password.example.test"})
	w.rec = audit.Open(w.file, quiet)
	t.Cleanup(w.rec.Close)
	w.domain = &login.Domain{Realm: realm, Names: domain, Tenant: tenant, FQDN: "nas.aadds.example.test", Keytab: keytab, Refresh: w,
		KDC: kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(netip.MustParseAddr("192.0.2.1")), Dial: dial})}
	w.restart()
	t.Cleanup(func() { w.login.Close() })
	return w
}

// restart makes a Login that knows nothing but the store.
func (w *world) restart() {
	if w.login != nil {
		w.login.Close()
	}
	w.login = login.New(login.Config{Store: w.store, Audit: w.rec, Log: slog.New(slog.DiscardHandler), Now: w.now,
		NTLM: func() login.NTLMAuthority {
			if w.ntlm == nil {
				return nil
			}
			return w.ntlm
		},
		Lockout: func() login.Lockout { return w.lockout },
		Domain:  func() *login.Domain { return w.domain }, Settings: func() login.Settings { return *w.settings.Load() }})
}

func guid(n byte) (g identity.GUID) { g[0], g[15] = 1, n; return g }

func (w *world) put(account string, rid uint32, synced bool) {
	w.t.Helper()
	r := store.NewUser()
	u := r.User
	u.ObjectGUID, u.SID, u.Account, u.UPN = guid(byte(rid)), domainSID.WithRID(rid), account, strings.ToLower(account)+"@contoso.test"
	u.PrimaryGroup, u.PasswordLastSet = domainSID.WithRID(513), time.Unix(1_700_000_000, 0).UTC()
	if synced {
		u.OID = guid(200 + byte(rid))
	}
	if err := w.store.Update(w.t.Context(), func(tx *store.Tx) error { return tx.Put(r) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) allow(service string, who ...string) {
	w.t.Helper()
	if _, err := w.login.SetRules(w.t.Context(), "test", service, access.Allow, who...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) try(name, password string) (*login.Result, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	return w.login.Authenticate(ctx, login.Request{Name: name, Service: "sshd", Door: "test", RemoteHost: "192.0.2.9"}, secret.FromString(password))
}

// events returns what the audit has, after everything was written.
func (w *world) events() (all []audit.Event) {
	w.t.Helper()
	w.rec.Close()
	text, err := os.ReadFile(w.file)
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func (w *world) bad() (n int) {
	w.kdc.Change(func() { n = w.alice.BadPasswords })
	return n
}

func wantKind(t *testing.T, what string, err error, want fault.Kind) {
	t.Helper()
	if got := fault.KindOf(err); err == nil || got != want {
		t.Errorf("%s: %v (%v), want %v", what, err, got, want)
	}
}

// newWorldThatRemembersAlice is one where sshd is open, sign-ins may be offline,
// and alice has signed in: her verifier is written.
func newWorldThatRemembersAlice(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w
}
