// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// A session that somebody planted in the browser before the sign-in ends with it;
// the new one is another.
func TestSessionFixation(t *testing.T) {
	w := newWorld(t)
	planted := w.open(w.bob)
	from := browser
	from.Old = planted.Token
	b := w.begin(session.Ask{})
	done, err := w.sessions.Finish(t.Context(), w.answer(b, oidctest.Person), b.Cookie, from)
	if err != nil {
		t.Fatal(err)
	}
	if done.Token == planted.Token || done.Session.ID == planted.Session.ID {
		t.Error("the session kept its id over a sign-in")
	}
	w.has("the planted session", planted.Token, false)
	w.has("the new one", done.Token, true)
	from.Old = strings.Repeat("A", 43) // nobody's
	if chosen, err := w.sessions.Open(t.Context(), session.Who{Row: w.alice}, "password", "", "alice", from); err != nil || chosen.Token == from.Old {
		t.Errorf("an id that the browser chose: %v", err)
	}
	w.has("the chosen id", from.Old, false)
}

func TestIdleAndAbsoluteLimits(t *testing.T) {
	w := newWorld(t)
	w.settings.Idle, w.settings.Absolute = time.Hour, 3*time.Hour
	idle, busy := w.open(w.alice), w.open(w.alice)
	for range 5 {
		w.pass(35 * time.Minute)
		w.has("the one in use", busy.Token, true)
	}
	w.has("the idle one", idle.Token, false)
	w.pass(10 * time.Minute)
	w.has("the one in use after three hours", busy.Token, false)
	w.sessions.Sweep(t.Context())
	if n := w.sessions.Count(); n != 0 {
		t.Errorf("%d sessions are kept", n)
	}
	w.restart()
	if n := w.sessions.Count(); n != 0 {
		t.Errorf("%d sessions come back", n)
	}
}

func TestTheStoreHasHashesOnly(t *testing.T) {
	w := newWorld(t)
	done := w.signIn(oidctest.Person)
	address, err := w.sessions.Request(www, "photos", photos.Redirects[0], "")
	if err != nil {
		t.Fatal(err)
	}
	to, err := w.sessions.Pass(t.Context(), done.Token, query(t, address).Get("request"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(w.store.Path())
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string]string{"session": done.Token, "code": query(t, to).Get("code")} {
		if len(secret) != 43 || bytes.Contains(file, []byte(secret)) {
			t.Errorf("the %s %q is in the file", what, secret)
		}
	}
	if !bytes.Contains(file, []byte(done.Session.ID)) {
		t.Error("the session is not in the file at all")
	}
}

func TestListAndRevoke(t *testing.T) {
	w := newWorld(t)
	first, second, bobs := w.open(w.alice), w.open(w.alice), w.open(w.bob)
	w.pass(time.Minute)
	w.has("first", first.Token, true)
	all := w.sessions.List(session.Filter{Row: w.alice})
	if len(all) != 2 || all[0].ID != first.Session.ID || len(w.sessions.List(session.Filter{})) != 3 {
		t.Errorf("list: %+v", all)
	}
	// A user ends their own only.
	if err := w.sessions.Revoke(t.Context(), bobs.Session.ID, session.Filter{Row: w.alice}); !fault.Is(err, fault.NotFound) {
		t.Errorf("alice ends bob's: %v", err)
	}
	w.has("bob's", bobs.Token, true)
	if err := w.sessions.Revoke(t.Context(), second.Session.ID, session.Filter{Row: w.alice}); err != nil {
		t.Fatal(err)
	}
	w.has("the revoked one", second.Token, false)
	if err := w.sessions.Revoke(t.Context(), second.Session.ID, session.Filter{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("again: %v", err)
	}
	w.restart()
	w.has("the revoked one after a restart", second.Token, false)
	if n, err := w.sessions.RevokeAll(t.Context(), session.Filter{Row: w.bob}); n != 1 || err != nil {
		t.Errorf("all of bob's: %d, %v", n, err)
	}
	w.has("bob's", bobs.Token, false)
	w.has("alice's", first.Token, true)
}

// Use is written down now and then, and an ended session is not written after its
// end.
func TestTimesOfUseSurviveARestart(t *testing.T) {
	w := newWorld(t)
	w.settings.Idle = time.Hour
	used, ended := w.open(w.alice), w.open(w.alice)
	w.pass(50 * time.Minute)
	w.has("used", used.Token, true)
	w.has("to be ended", ended.Token, true)
	if err := w.sessions.Revoke(t.Context(), ended.Session.ID, session.Filter{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.sessions.Run(ctx) // writes on its way out
	w.pass(50 * time.Minute)
	w.restart()
	w.has("used", used.Token, true)
	w.has("ended", ended.Token, false)
}

func TestFrontChannelSignOut(t *testing.T) {
	w := newWorld(t)
	mine, again, bobs := w.signIn(oidctest.Person), w.signIn(oidctest.Person), w.signIn(bobsOID)
	// A provider need not name its sessions: nobody ends those by naming none.
	w.issuer.Claims(func(c map[string]any) { delete(c, "sid") })
	nameless := w.signIn(bobsOID)
	w.issuer.Claims(nil)
	sid := "session-of-" + oidctest.Person.String()
	for _, tc := range [][2]string{{"https://evil.test/v2.0", sid}, {w.issuer.Issuer(), "another"}, {w.issuer.Issuer(), ""}, {"", ""}, {"", "another"}} {
		if n, err := w.sessions.SignedOut(t.Context(), tc[0], tc[1]); n != 0 || err != nil {
			t.Errorf("%q: %d, %v", tc, n, err)
		}
	}
	if n, err := w.sessions.SignedOut(t.Context(), w.issuer.Issuer(), sid); n != 2 || err != nil {
		t.Errorf("signed out: %d, %v", n, err)
	}
	w.has("mine", mine.Token, false)
	w.has("the other tab", again.Token, false)
	w.has("bob's", bobs.Token, true)
	w.has("bob's without a name", nameless.Token, true)
	tenant, err := w.sessions.SignOut(t.Context(), bobs.Token)
	if err != nil || !strings.Contains(tenant, "/logout") {
		t.Errorf("sign-out: %q, %v", tenant, err)
	}
	w.has("bob's", bobs.Token, false)
	if tenant, err := w.sessions.SignOut(t.Context(), bobs.Token); tenant != "" || err != nil {
		t.Errorf("again: %q, %v", tenant, err)
	}
}

func TestOnePersonHasAHundredSessionsAtMost(t *testing.T) {
	w := newWorld(t)
	oldest := w.open(w.alice)
	w.pass(time.Second)
	var last *session.Finished
	for range 100 {
		last = w.open(w.alice)
	}
	if n := w.sessions.Count(); n != 100 {
		t.Errorf("%d sessions", n)
	}
	w.has("the one that was used longest ago", oldest.Token, false)
	w.has("the last one", last.Token, true)
}

// 10,000 sessions of as many people: found, listed, kept over a restart, and
// ended one by one when their owners are disabled.
func TestTenThousandSessions(t *testing.T) {
	w := newWorld(t)
	const people, each = 200, 50
	w.update(func(tx *store.Tx) error {
		for n := range people {
			r := store.NewUser()
			r.User.ObjectGUID, r.User.SID, r.User.Account = identity.GUID{0: 7, 14: byte(n >> 8), 15: byte(n)}, domainSID.WithRID(uint32(5000+n)), fmt.Sprintf("user%d", n)
			r.User.PrimaryGroup = domainSID.WithRID(513)
			if err := tx.Put(r); err != nil {
				return err
			}
		}
		return nil
	})
	tokens := map[string]string{}
	var rows []identity.RowID
	for n := range people {
		name := fmt.Sprintf("user%d", n)
		u, err := w.store.User(t.Context(), identity.Key{Kind: identity.ByName, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, u.Row)
		filled, err := session.Fill(t.Context(), w.store, u.Row, each-1, w.now())
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range append(filled, w.open(u.Row).Token) {
			tokens[token] = name
		}
	}
	w.restart()
	if len(tokens) != people*each || w.sessions.Count() != people*each {
		t.Fatalf("%d tokens, %d sessions", len(tokens), w.sessions.Count())
	}
	for token, name := range tokens {
		if p, err := w.sessions.Check(t.Context(), token, ""); err != nil || p.Name() != name {
			t.Fatalf("%s: %v, %v", name, p, err)
		}
	}
	w.change(rows[0], func(u *identity.User) { u.State |= identity.Disabled })
	ended := 0
	for token, name := range tokens {
		_, err := w.sessions.Check(t.Context(), token, "")
		if (err == nil) == (name == "user0") {
			t.Fatalf("%s: %v", name, err)
		}
		if err != nil {
			ended++
		}
	}
	if ended != each || w.sessions.Count() != (people-1)*each {
		t.Errorf("%d ended, %d are left", ended, w.sessions.Count())
	}
}

func TestTokensThatAreNone(t *testing.T) {
	w := newWorld(t)
	good := w.open(w.alice).Token
	flipped := []byte(good)
	flipped[7] ^= 1
	for _, token := range []string{"", "x", good + "=", good[:42], " " + good, strings.ToUpper(good), string(flipped), strings.Repeat("A", 43), strings.Repeat("_", 43), good + good} {
		if token == good {
			continue
		}
		w.has(fmt.Sprintf("%.50q", token), token, false)
	}
	w.has("the right one", good, true)
}

func TestWhatIsSealedIsGoodForOnePurposeAndItsTime(t *testing.T) {
	w := newWorld(t)
	text := w.sessions.Seal("form", []byte("plain"), time.Minute)
	if got, err := w.sessions.Unseal("form", text); err != nil || string(got) != "plain" || strings.Contains(text, "plain") {
		t.Errorf("got %q, %v", got, err)
	}
	again := w.sessions.Seal("form", []byte("plain"), time.Minute)
	if again == text {
		t.Error("the same text twice")
	}
	w.restart()
	if _, err := w.sessions.Unseal("form", text); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	for what, bad := range map[string]string{"cut": text[:len(text)-1], "empty": "", "longer": text + "A", "another character": "B" + text[1:], "padding": text + "="} {
		if bad == text {
			continue
		}
		if _, err := w.sessions.Unseal("form", bad); !fault.Is(err, fault.BadCredential) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.sessions.Unseal("another", text); !fault.Is(err, fault.BadCredential) {
		t.Errorf("for another purpose: %v", err)
	}
	w.pass(61 * time.Second)
	if _, err := w.sessions.Unseal("form", text); !fault.Is(err, fault.BadCredential) {
		t.Errorf("too late: %v", err)
	}
}
