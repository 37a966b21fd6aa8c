// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
)

func TestSignInFromTheClickToTheCookie(t *testing.T) {
	w := newWorld(t)
	b := w.begin(session.Ask{Return: "/photos?album=1"})
	if !strings.HasPrefix(b.CookieName, "__Host-") || strings.Contains(b.Cookie, query(t, b.URL).Get("state")) || b.Age != 10*time.Minute {
		t.Errorf("begun: %+v", b)
	}
	a := w.answer(b, oidctest.Person)
	if a.CookieName() != b.CookieName {
		t.Errorf("the callback reads the cookie %s, set was %s", a.CookieName(), b.CookieName)
	}
	done, err := w.sessions.Finish(t.Context(), a, b.Cookie, browser)
	if err != nil {
		t.Fatal(err)
	}
	if done.Location != "/photos?album=1" || len(done.Token) != 43 || done.Session.How != "oidc" || done.Session.RemoteHost != "192.0.2.7" || done.Session.ID == "" || strings.Contains(done.Token, done.Session.ID) {
		t.Errorf("finished: %+v", done)
	}
	in, p, err := w.sessions.Get(t.Context(), done.Token, "")
	if err != nil {
		t.Fatal(err)
	}
	if in.ID != done.Session.ID || p.Name() != "alice" || p.UID() == 0 || p.User.OID != oidctest.Person || len(p.GIDs()) != 2 {
		t.Errorf("got %+v, %+v", in, p)
	}
	user, uid, groups := p.Header()
	if user != "alice" || uid == "" || groups != "domain%20users,gr%C3%B6%C3%9Fe%2010%25" {
		t.Errorf("headers %q %q %q", user, uid, groups)
	}
	if all := w.events(); len(all) != 1 || all[0].Outcome != audit.Allowed || all[0].How != "oidc" || all[0].ID != in.Audit {
		t.Errorf("events: %+v", all)
	}
}

// Nothing of a token but tid and oid counts: here it says in every other way that
// it is bob.
func TestNobodyIsFoundByNameOrMail(t *testing.T) {
	w := newWorld(t)
	w.issuer.Claims(func(c map[string]any) {
		c["preferred_username"], c["email"], c["upn"], c["name"], c["sub"] = "bob@aadds.example.test", "bob@contoso.test", "bob@contoso.test", "bob", bobsOID.String()
		c["groups"] = []string{"Domain Admins"}
	})
	_, p, err := w.sessions.Get(t.Context(), w.signIn(oidctest.Person).Token, "")
	if err != nil || p.Name() != "alice" || len(p.GroupNames()) != 2 {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestAnAnswerIsTakenOnceAndFromItsOwnBrowser(t *testing.T) {
	w := newWorld(t)
	b, other := w.begin(session.Ask{}), w.begin(session.Ask{})
	a := w.answer(b, oidctest.Person)
	for what, cookie := range map[string]string{"no cookie": "", "another browser's cookie": other.Cookie, "garbage": "x", "half a cookie": b.Cookie[:len(b.Cookie)/2], "a session's token": w.open(w.bob).Token} {
		_, err := w.sessions.Finish(t.Context(), a, cookie, browser)
		wantReason(t, what, err, session.Stale)
	}
	forged := a
	forged.State = w.answer(other, oidctest.Person).State
	_, err := w.sessions.Finish(t.Context(), forged, b.Cookie, browser)
	wantReason(t, "another's state", err, session.Stale)
	if _, err := w.sessions.Finish(t.Context(), a, b.Cookie, browser); err != nil {
		t.Fatalf("the right one after all that: %v", err)
	}
	_, err = w.sessions.Finish(t.Context(), a, b.Cookie, browser)
	wantReason(t, "the same answer again", err, session.Replayed)
	w.restart()
	_, err = w.sessions.Finish(t.Context(), a, b.Cookie, browser)
	wantReason(t, "the same answer after a restart", err, session.Replayed)
	late := w.begin(session.Ask{})
	a = w.answer(late, oidctest.Person)
	w.pass(11 * time.Minute)
	_, err = w.sessions.Finish(t.Context(), a, late.Cookie, browser)
	wantReason(t, "eleven minutes later", err, session.Stale)
}

func TestASignInSurvivesARestart(t *testing.T) {
	w := newWorld(t)
	b := w.begin(session.Ask{Return: "/x"})
	a := w.answer(b, oidctest.Person)
	w.restart()
	done, err := w.sessions.Finish(t.Context(), a, b.Cookie, browser)
	if err != nil || done.Location != "/x" {
		t.Fatalf("got %v, %v", done, err)
	}
	w.restart()
	w.has("the session after another restart", done.Token, true)
}

func TestWhyASignInIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(*world)
		who  identity.GUID
		want session.Reason
	}{
		"unknown oid": {nil, identity.GUID{0: 9, 15: 9}, session.Unknown},
		"guest": {func(w *world) {
			w.issuer.Claims(func(c map[string]any) { c["preferred_username"] = "eve_home.test#EXT#@contoso.onmicrosoft.com" })
		}, identity.GUID{0: 9, 15: 9}, session.Guest},
		"two rows with one oid": {func(w *world) { w.change(w.alice, func(u *identity.User) { u.State |= identity.Conflicted }) }, oidctest.Person, session.Ambiguous},
		"disabled row":          {func(w *world) { w.change(w.alice, func(u *identity.User) { u.State |= identity.Disabled }) }, oidctest.Person, session.Account},
		"expired row": {func(w *world) {
			w.change(w.alice, func(u *identity.User) { u.AccountExpires = time.Now().Add(-time.Hour) })
		}, oidctest.Person, session.Account},
		"access rule":  {func(w *world) { w.deny("alice") }, oidctest.Person, session.Denied},
		"wrong tenant": {func(w *world) { w.issuer.Claims(func(c map[string]any) { c["tid"] = bobsOID.String() }) }, oidctest.Person, session.Token},
		"wrong nonce":  {func(w *world) { w.issuer.Claims(func(c map[string]any) { c["nonce"] = "x" }) }, oidctest.Person, session.Token},
		"secret ended": {func(w *world) { w.issuer.Confidential() }, oidctest.Person, session.Setup},
		"provider away": {func(w *world) {
			w.issuer.Handle(func(path string, rw http.ResponseWriter, _ *http.Request) bool {
				if path == "token" {
					rw.WriteHeader(http.StatusServiceUnavailable)
				}
				return path == "token"
			})
		}, oidctest.Person, session.Away},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.set != nil {
				tc.set(w)
			}
			done, err := w.try(tc.who)
			wantReason(t, name, err, tc.want)
			if done != nil || w.sessions.Count() != 0 {
				t.Error("there is a session")
			}
			if all := w.events(); len(all) != 1 || all[0].Outcome == audit.Allowed || all[0].How != "oidc" {
				t.Errorf("events: %+v, want one", all)
			}
		})
	}
}

func TestWhatTheTenantSaysInsteadOfACode(t *testing.T) {
	for _, tc := range []struct {
		code   string
		silent bool
		want   session.Reason
	}{
		{"login_required", true, session.Quiet}, {"interaction_required", true, session.Quiet}, {"consent_required", true, session.Quiet},
		{"login_required", false, session.Cancelled}, {"access_denied", false, session.Cancelled}, {"access_denied", true, session.Cancelled},
		{"temporarily_unavailable", false, session.Away}, {"server_error", true, session.Away},
		{"invalid_request", false, session.Setup}, {"unauthorized_client", true, session.Setup}, {"what\x00ever", false, session.Cancelled},
	} {
		w := newWorld(t)
		b := w.begin(session.Ask{Silent: tc.silent})
		a, err := session.ParseAnswer(url.Values{"state": {query(t, b.URL).Get("state")}, "error": {tc.code}, "error_description": {"AADSTS\r\nSet-Cookie: x=1" + strings.Repeat("y", 1000)}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.sessions.Finish(t.Context(), a, b.Cookie, browser)
		wantReason(t, tc.code, err, tc.want)
		if text := err.Error(); strings.ContainsAny(text, "\r\n\x00") || len(text) > 500 {
			t.Errorf("%s: the text is %q", tc.code, text)
		}
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	state := strings.Repeat("A", 43)
	for name, tc := range map[string]struct {
		v    url.Values
		want session.Reason
	}{
		"an id_token":        {url.Values{"state": {state}, "code": {"c"}, "id_token": {"x.y.z"}}, session.Front},
		"an access token":    {url.Values{"state": {state}, "access_token": {"x"}}, session.Front},
		"nothing":            {url.Values{}, session.Malformed},
		"no state":           {url.Values{"code": {"c"}}, session.Malformed},
		"two states":         {url.Values{"state": {state, state}, "code": {"c"}}, session.Malformed},
		"two codes":          {url.Values{"state": {state}, "code": {"c", "d"}}, session.Malformed},
		"neither":            {url.Values{"state": {state}}, session.Malformed},
		"both":               {url.Values{"state": {state}, "code": {"c"}, "error": {"e"}}, session.Malformed},
		"a long code":        {url.Values{"state": {state}, "code": {strings.Repeat("c", 9000)}}, session.Malformed},
		"a state of another": {url.Values{"state": {strings.Repeat("!", 43)}, "code": {"c"}}, session.Malformed},
	} {
		_, err := session.ParseAnswer(tc.v)
		wantReason(t, name, err, tc.want)
	}
}

func TestOpenRedirectsAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{"//evil.test", "/\\evil.test", "\\\\evil.test", "https://evil.test/", "http:evil.test", "javascript:alert(1)", "evil", "/a\r\nSet-Cookie: x=1", "/\tx", "/%5cevil.test\\",
		"/%2f/../..//evil.test\\", "//%65vil.test", "/a b", "?x", "#x", "/%0d%0aX:y", "/%09/x", strings.Repeat("/a", 2000), "/\xff", "/%2f%2fevil.test", "/%5c%5cevil.test"} {
		if got, err := session.LocalPath(to); err == nil {
			t.Errorf("LocalPath(%q) = %q", to, got)
		}
		if _, err := w.sessions.Begin(t.Context(), session.Ask{Return: to}); !fault.Is(err, fault.Malformed) {
			t.Errorf("begin with %q: %v", to, err)
		}
	}
	for _, to := range []string{"/", "/auth/account", "/a/b?c=d&e=%20#f", "/%E2%82%AC"} {
		if got, err := session.LocalPath(to); err != nil || got != to {
			t.Errorf("LocalPath(%q) = %q, %v", to, got, err)
		}
	}
}

func TestWhereNothingIsSetUpOrNobodyAnswers(t *testing.T) {
	w := newWorld(t)
	if err := w.sessions.Ready(); err == nil {
		t.Error("ready before anybody was asked")
	}
	if err := w.client.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.sessions.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	w.issuer.Close()
	_ = w.client.Check(t.Context())
	if err := w.sessions.Ready(); !fault.Is(err, fault.Unreachable) {
		t.Errorf("the button is shown: %v", err)
	}
	w.client = nil
	none, err := session.New(t.Context(), session.Config{Store: w.store, Accept: w.login.AcceptFederated, Policy: w.login.Policy, Settings: func() session.Settings { return w.settings }})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Ready(); !fault.Is(err, fault.NotFound) {
		t.Errorf("nothing is set up: %v", err)
	}
	_, err = none.Begin(t.Context(), session.Ask{})
	wantReason(t, "begin", err, session.Setup)
}

func TestEveryReasonIsListedOnce(t *testing.T) {
	seen := map[session.Reason]bool{}
	for _, r := range session.Reasons() {
		if r == session.None || seen[r] {
			t.Errorf("%q", r)
		}
		seen[r] = true
	}
	for _, k := range fault.Kinds() {
		if r := session.ReasonOf(fault.New(k, "x")); !seen[r] {
			t.Errorf("%v has the reason %q", k, r)
		}
	}
}
