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
	"sync"
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
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) }

// RefreshOne plays the mirror.
func (w *world) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
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
	w.domain = &login.Domain{Realm: realm, FQDN: "nas.aadds.example.test", Keytab: keytab, Refresh: w,
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
		Domain: func() *login.Domain { return w.domain }, Settings: func() login.Settings { return *w.settings.Load() }})
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

func TestEveryFormOfNameIsOneRow(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "alice")
	for _, name := range []string{"alice", "ALICE", `AADDSEX\alice`, "alice@contoso.test", "Alice@AADDS.example.test"} {
		r, err := w.try(name, "wonder land")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.User.Name != "alice" || r.User.UID == 0 || len(r.GIDs) == 0 || r.How != login.ByKerberos || r.Principal != "alice@"+realm {
			t.Errorf("%s: %+v", name, r)
		}
		cache, err := kerberos.ParseCCache(r.CCache.Reveal())
		if err != nil || len(cache.Tickets) != 1 || cache.Tickets[0].Service.Name[0] != "krbtgt" {
			t.Errorf("%s: the cache holds %v, %v, want a TGT", name, cache, err)
		}
		r.Wipe()
	}
	for _, e := range w.events()[1:] {
		if e.Action != audit.SignIn || e.Outcome != audit.Allowed || e.SID != domainSID.WithRID(1105).String() || !e.Sent || e.Rule != "allow sshd alice" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestWrongPasswordIsCountedOnceAndNotSentAgain(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for range 5 {
		_, err := w.try("alice", "wrong")
		wantKind(t, "wrong password", err, fault.BadCredential)
	}
	if n := w.bad(); n != 1 {
		t.Errorf("the domain counted %d, want 1", n)
	}
	w.clock.Store(int64(61 * time.Second)) // after a minute it is asked again
	_, err := w.try("alice", "wrong")
	wantKind(t, "wrong password", err, fault.BadCredential)
	if n := w.bad(); n != 2 {
		t.Errorf("the domain counted %d, want 2", n)
	}
	if r, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("the right password afterwards: %v", err)
	} else {
		r.Wipe()
	}
	sent := 0
	for _, e := range w.events() {
		if e.Sent {
			sent++
		}
	}
	if sent != 3 {
		t.Errorf("%d events say that the password was sent, want 3", sent)
	}
}

func TestBudgetStopsShortOfTheLockoutAndLasts(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for i := range 8 {
		_, err := w.try("alice", "guess"+string(rune('a'+i)))
		want := fault.BadCredential
		if i >= 3 {
			want = fault.Locked
		}
		wantKind(t, "guess", err, want)
		if got := fault.KindOf(login.ForStranger(err)); got != fault.BadCredential {
			t.Errorf("guess %d: a stranger is told %v", i, got)
		}
	}
	w.restart()
	_, err := w.try("alice", "another")
	wantKind(t, "after a restart", err, fault.Locked)
	if n := w.bad(); n != 3 {
		t.Errorf("the domain counted %d, want 3", n)
	}
	w.clock.Store(int64(3 * time.Minute))
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("after the window: %v", err)
	}
}

func TestOwnerGetsThroughWhileOthersGuess(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		_, _ = w.try("alice", "guess"+string(rune('a'+i)))
	}
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("the password that the KDC took last: %v", err)
	}
}

func TestParallelGuessesSpendNoMoreThanTheBudget(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() { _, _ = w.try("alice", "guess"+string(rune('a'+i))) })
	}
	all.Wait()
	if n := w.bad(); n != 3 {
		t.Errorf("the domain counted %d, want 3", n)
	}
	w.clock.Store(int64(3 * time.Minute))
	var in atomic.Int32
	for range 40 {
		all.Go(func() {
			if _, err := w.try("alice", "wonder land"); err == nil {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if in.Load() != 40 {
		t.Errorf("%d of 40 with the right password got in", in.Load())
	}
}

func TestPasswordsThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for name, p := range map[string]string{"empty": "", "long": strings.Repeat("x", 1025), "not UTF-8": "a\xff", "NUL": "wonder land\x00"} {
		_, err := w.try("alice", p)
		wantKind(t, name, err, fault.BadCredential)
	}
	for _, r := range w.kdc.Requests() {
		if r.Kind == "AS" {
			t.Errorf("the KDC was asked: %+v", r)
		}
	}
}

func TestClosedUntilAllowed(t *testing.T) {
	w := newWorld(t)
	_, err := w.try("alice", "wonder land")
	wantKind(t, "no rule", err, fault.Denied)
	if got := fault.KindOf(login.ForStranger(err)); got != fault.Denied {
		t.Errorf("who proved the password is told %v, want denied", got)
	}
	if !strings.Contains(fault.Remedy(err), "latchkey access allow") {
		t.Errorf("remedy %q", fault.Remedy(err))
	}
	w.allow("sshd", "%Domain Users")
	if _, err = w.try("alice", "wonder land"); err != nil {
		t.Errorf("allowed by the primary group: %v", err)
	}
	if _, err := w.login.SetRules(t.Context(), "test", "sshd", access.Deny, domainSID.WithRID(1105).String()); err != nil {
		t.Fatal(err)
	}
	_, err = w.try("alice", "wonder land")
	wantKind(t, "deny beats allow", err, fault.Denied)
	w.restart() // rules last
	_, err = w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"})
	wantKind(t, "account, after a restart", err, fault.Denied)
	if _, err := w.login.SetRules(t.Context(), "test", "sshd", access.Allow, "nobody-at-all"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a rule for nobody: %v", err)
	}
}

func TestRuleStaysWithItsRow(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "alice")
	w.change = func(u *identity.User) { u.Account, u.UPN = "alice.new", "alice.new@contoso.test" }
	if _, err := w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"}); err != nil {
		t.Fatal(err)
	}
	w.change = nil
	w.put("alice", 1200, false)
	if _, err := w.login.Account(t.Context(), login.Request{Name: "alice.new", Service: "sshd"}); err != nil {
		t.Errorf("the renamed one: %v", err)
	}
	_, err := w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"})
	wantKind(t, "somebody new with the old name", err, fault.Denied)
}

func TestDirectorysWordCountsNow(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*identity.User)
		nobody bool
		want   fault.Kind
	}{
		"disabled": {func(u *identity.User) { u.State |= identity.Disabled }, false, fault.Disabled},
		"expired":  {func(u *identity.User) { u.AccountExpires = time.Now().Add(-time.Hour) }, false, fault.Expired},
		"gone":     {nil, true, fault.Disabled},
	} {
		w := newWorld(t)
		w.allow("sshd", "*")
		if _, err := w.try("alice", "wonder land"); err != nil {
			t.Fatal(err)
		}
		w.change = tc.change
		w.nobody.Store(tc.nobody)
		_, err := w.try("alice", "wonder land")
		wantKind(t, name+", by password", err, tc.want)
		_, err = w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"})
		wantKind(t, name+", by key", err, tc.want)
	}
}

func TestRefusalsOfTheKDC(t *testing.T) {
	for name, tc := range map[string]struct {
		code     int32
		status   kerberos.Status
		want     fault.Kind
		stranger fault.Kind
	}{
		"disabled":    {18, kerberos.StatusAccountDisabled, fault.Disabled, fault.BadCredential},
		"locked":      {18, 0, fault.Locked, fault.BadCredential},
		"expired":     {18, kerberos.StatusAccountExpired, fault.Expired, fault.BadCredential},
		"must change": {23, kerberos.StatusMustChange, fault.MustChange, fault.MustChange},
	} {
		w := newWorld(t)
		w.allow("sshd", "*")
		w.kdc.Change(func() { w.alice.Code, w.alice.Status = tc.code, uint32(tc.status) })
		_, err := w.try("alice", "wonder land")
		wantKind(t, name, err, tc.want)
		wantKind(t, name+", to a stranger", login.ForStranger(err), tc.stranger)
	}
}

func TestStrangersLearnNothing(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	_, unknown := w.try("nobody-here", "x")
	wantKind(t, "unknown", unknown, fault.NotFound)
	_, wrong := w.try("alice", "x")
	if a, b := login.ForStranger(unknown), login.ForStranger(wrong); a.Error() != b.Error() || fault.KindOf(a) != fault.KindOf(b) {
		t.Errorf("told apart: %v and %v", a, b)
	}
	ev := w.events()
	if got := ev[len(ev)-2]; got.Reason != "not found" || got.Asked != "nobody-here" {
		t.Errorf("the audit has %+v, want the truth", got)
	}
}

func TestAnotherPrincipalIsNotTheRow(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.kdc.Change(func() { w.alice.PAC.User = domainSID.WithRID(1106) })
	_, err := w.try("alice", "wonder land")
	wantKind(t, "another SID in the PAC", err, fault.Denied)
	w.kdc.Change(func() { w.alice.PAC = nil })
	_, err = w.try("alice", "wonder land")
	wantKind(t, "no PAC", err, fault.Denied)
}

func TestForgedKDCIsRefusedAndSaysNothingOfThePassword(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	forged := krbtest.New(realm) // it knows the password, and not our key
	forged.Add(krbtest.Account{Name: []string{"alice"}, Password: "wonder land", PAC: w.alice.PAC})
	forged.Add(krbtest.Account{Name: []string{"NAS$"}, Password: "guessed", KVNO: 2, Aliases: w.host.Aliases})
	real := w.domain.KDC
	w.domain.KDC = kerberos.NewClient(kerberos.Config{Realm: realm, Servers: kerberos.NewPool(netip.MustParseAddr("192.0.2.1")), Dial: forged.Dial})
	_, err := w.try("alice", "wonder land")
	wantKind(t, "a KDC that says yes to everybody", err, fault.BadCredential)
	w.domain.KDC = real
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Errorf("the real one, afterwards: %v", err)
	}
}

func TestOffline(t *testing.T) {
	w := newWorld(t)
	w.settings.Store(&login.Settings{Offline: true})
	w.allow("sshd", "*")
	if _, err := w.try("alice", "wonder land"); err != nil {
		t.Fatal(err)
	}
	w.restart() // writes what was left for after the answer, forgets the rest
	w.down.Store(true)
	r, err := w.try("alice", "wonder land")
	if err != nil {
		t.Fatal(err)
	}
	if r.How != login.ByOffline || r.CCache.Len() != 0 || len(r.Warnings) == 0 {
		t.Errorf("result %+v, want offline, no tickets, a warning", r)
	}
	_, err = w.try("alice", "wrong")
	wantKind(t, "wrong password", err, fault.BadCredential)
	_, err = w.try("bob", "whatever")
	wantKind(t, "who never signed in", err, fault.Unreachable)

	w.clock.Store(int64(15 * 24 * time.Hour))
	_, err = w.try("alice", "wonder land")
	wantKind(t, "after 15 days", err, fault.Unreachable)
	w.clock.Store(int64(time.Hour))

	w.settings.Store(&login.Settings{})
	_, err = w.try("alice", "wonder land")
	wantKind(t, "switched off", err, fault.Unreachable)
	if n := w.verifiers(); n != 1 {
		t.Fatalf("%d verifiers, want 1", n)
	}
	if err := w.login.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.verifiers(); n != 0 {
		t.Errorf("%d verifiers after it was switched off, want none", n)
	}
}

func (w *world) verifiers() (n int) {
	w.t.Helper()
	if err := w.store.Notes(w.t.Context(), "login.verifier", func(_ string, value []byte) bool {
		n++
		if strings.Contains(string(value), "wonder") {
			w.t.Error("the verifier holds the password")
		}
		return true
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestVerifierGoesWithTheAccount(t *testing.T) {
	for name, change := range map[string]func(*identity.User){
		"disabled":         func(u *identity.User) { u.State |= identity.Disabled },
		"password changed": func(u *identity.User) { u.PasswordLastSet = u.PasswordLastSet.Add(time.Hour) },
	} {
		w := newWorld(t)
		w.settings.Store(&login.Settings{Offline: true})
		w.allow("sshd", "*")
		if _, err := w.try("alice", "wonder land"); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.change = change
		_, _ = w.login.Account(t.Context(), login.Request{Name: "alice", Service: "sshd"}) // reads the row afresh
		w.down.Store(true)
		if _, err := w.try("alice", "wonder land"); err == nil {
			t.Errorf("%s: let in offline", name)
		}
		if err := w.login.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.verifiers(); n != 0 {
			t.Errorf("%s: the verifier is still there", name)
		}
	}
}

func TestConversation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	req := login.Request{Name: "alice", Service: "sshd", Door: "pam"}
	c := w.login.Begin(req)
	s, err := c.Next(ctx, secret.Bytes{})
	if err != nil || s.Ask == nil || s.Ask.Text != "Password: " || s.Ask.Echo {
		t.Fatalf("first step %+v, %v", s, err)
	}
	// The service is closed: that is account's question.
	if s, err = c.Next(ctx, secret.FromString("wonder land")); err != nil || s.Done == nil || s.Done.User.Name != "alice" {
		t.Fatalf("second step %+v, %v", s, err)
	}
	if _, err := c.Next(ctx, secret.FromString("wonder land")); !fault.Is(err, fault.Malformed) {
		t.Errorf("after the end: %v", err)
	}
	c.Close()

	c = w.login.Begin(req) // an empty password is an answer, too
	_, _ = c.Next(ctx, secret.Bytes{})
	_, err = c.Next(ctx, secret.Bytes{})
	wantKind(t, "empty answer", err, fault.BadCredential)
	c.Close()

	c = w.login.Begin(req)
	_, _ = c.Next(ctx, secret.Bytes{})
	c.Close()
	c.Close()

	w.kdc.Change(func() { w.alice.Code, w.alice.Status = 23, uint32(kerberos.StatusMustChange) })
	c = w.login.Begin(req)
	if s, err = c.Next(ctx, secret.FromString("wonder land")); err != nil || s.Ask == nil || s.Ask.Text != "New password: " || len(s.Tell) == 0 {
		t.Fatalf("must change: %+v, %v", s, err)
	}
	_, _ = c.Next(ctx, secret.FromString("new one"))
	if s, err = c.Next(ctx, secret.FromString("another")); !fault.Is(err, fault.MustChange) || len(s.Tell) == 0 {
		t.Errorf("two that differ: %+v, %v", s, err)
	}
	c.Close()

	got := w.events()
	var outcomes []string
	for _, e := range got {
		outcomes = append(outcomes, string(e.Outcome))
	}
	if want := "allowed refused abandoned refused"; strings.Join(outcomes, " ") != want {
		t.Errorf("events %v, want %s", outcomes, want)
	}
}

func TestPasswordOfEntraIsChangedThere(t *testing.T) {
	w := newWorld(t)
	url, here, err := w.login.PasswordPlace(t.Context(), "bob")
	if here || url != "https://password.example.test" || err != nil {
		t.Errorf("bob: %q, %v, %v", url, here, err)
	}
	if _, here, err := w.login.PasswordPlace(t.Context(), "alice"); !here || err != nil {
		t.Errorf("alice: %v, %v", here, err)
	}
	texts, err := w.login.ChangePassword(t.Context(), login.Request{Name: "bob"}, secret.FromString("a"), secret.FromString("b"))
	wantKind(t, "bob", err, fault.Denied)
	if len(texts) == 0 || !strings.Contains(texts[0], "https://password.example.test") {
		t.Errorf("texts %q", texts)
	}
	if n := len(w.kdc.Requests()); n != 0 {
		t.Errorf("the KDC was asked %d times", n)
	}
}

func TestNoPasswordInTheAudit(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	_, _ = w.try("alice", "wonder land")
	_, _ = w.try("alice", "s3cret-guess")
	w.events()
	text, err := os.ReadFile(w.file)
	if err != nil || strings.Contains(string(text), "wonder land") || strings.Contains(string(text), "s3cret-guess") {
		t.Errorf("%v; the audit: %s", err, text)
	}
}
