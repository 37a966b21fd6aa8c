// SPDX-License-Identifier: Apache-2.0

package web

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
)

func TestSessionsAreEndedByTheirOwner(t *testing.T) {
	s := open(t)
	one, two, other := s.visitor(), s.visitor(), s.visitor()
	one.signIn("ada", "right")
	two.signIn("ada", "right")
	other.signIn(strange, "right")
	a := one.get("/auth/account")
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindAllStringSubmatch(a.text, -1)
	if len(id) != 1 {
		t.Fatalf("the account lists %d sessions to end:\n%s", len(id), a.text)
	}
	// Somebody else cannot end it.
	if a := other.do(http.MethodPost, "/auth/sessions/end", url.Values{"id": {id[0][1]}}); a.StatusCode != 404 || two.get("/auth/account").StatusCode != 200 {
		t.Errorf("another person ends it: %d", a.StatusCode)
	}
	if a := one.do(http.MethodPost, "/auth/sessions/end", url.Values{"id": {id[0][1]}}); a.StatusCode != 303 || two.get("/auth/account").StatusCode != 303 {
		t.Errorf("its owner ends it: %d", a.StatusCode)
	}
	two.signIn("ada", "right")
	if a := one.do(http.MethodPost, "/auth/sessions/end", url.Values{"others": {"1"}}); a.StatusCode != 303 || two.get("/auth/account").StatusCode != 303 ||
		one.get("/auth/account").StatusCode != 200 || other.get("/auth/account").StatusCode != 200 {
		t.Errorf("its owner ends the others: %d", a.StatusCode)
	}
}

// An app's person is sent back to it with a code: by a page after the form, which
// may not lead elsewhere, by a redirect otherwise.
func TestSignInForAnApp(t *testing.T) {
	s := open(t)
	begin, err := s.sessions.Request(session.Caller{}, "photos", "https://photos.contoso.test/cb", "xyz")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(begin)
	if err != nil {
		t.Fatal(err)
	}
	v := s.visitor()
	a := v.get(u.RequestURI())
	a = v.get(a.Header.Get("Location"))
	sealed := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(a.text)
	if sealed == nil {
		t.Fatalf("the form has no request:\n%s", a.text)
	}
	a = v.signIn("ada", "right", "request", sealed[1])
	if a.StatusCode != 200 || !strings.Contains(a.text, `http-equiv="refresh" content="0; url=https://photos.contoso.test/cb?code=`) || !strings.Contains(a.text, `id="continue"`) {
		t.Errorf("after the form: %d\n%s", a.StatusCode, a.text)
	}
	a = v.get(u.RequestURI())
	a = v.get(a.Header.Get("Location"))
	if where := a.Header.Get("Location"); a.StatusCode != 303 || !strings.HasPrefix(where, "https://photos.contoso.test/cb?code=") || !strings.Contains(where, "state=xyz") {
		t.Errorf("somebody who is in: %d %s", a.StatusCode, where)
	}
	// Whoever meets a page that says no finds the way back to the app's sign-in.
	i, _ := s.withTenant(true)
	way := func(what string, a answer, status int) {
		t.Helper()
		back := regexp.MustCompile(`href="(/auth/sign-in\?[^"]+)">`).FindStringSubmatch(a.text)
		if a.StatusCode != status || back == nil {
			t.Errorf("%s: %d\n%s", what, a.StatusCode, a.text)
			return
		}
		u, err := url.Parse(html.UnescapeString(back[1]))
		if err != nil || u.Query().Get("request") != sealed[1] || u.Query().Get("stay") != "1" {
			t.Errorf("%s: the way back is %s", what, back[1])
		}
	}
	way("a locked account", s.visitor().signIn("locked", "right", "request", sealed[1]), 403)
	other := s.visitor()
	answer := other.toTenant(i, "/auth/oidc/start?request="+sealed[1], oidctest.Person)
	way("somebody who changed their mind", other.fromTenant(oidc.Callback, url.Values{"state": answer["state"], "error": {"access_denied"}}), 401)
	other = s.visitor()
	answer = other.toTenant(i, "/auth/oidc/start?silent=1&request="+sealed[1], oidctest.Person)
	if a := other.fromTenant(oidc.Callback, url.Values{"state": answer["state"], "error": {"login_required"}}); a.StatusCode != 303 || !strings.Contains(a.Header.Get("Location"), "request="+sealed[1]) {
		t.Errorf("somebody whom the tenant wants to ask: %d to %s", a.StatusCode, a.Header.Get("Location"))
	}
	// A request that is not ours leads nowhere.
	if a := s.visitor().signIn("ada", "right", "request", "AAAA"); a.StatusCode != 400 || strings.Contains(a.text, "http-equiv") {
		t.Errorf("a forged request: %d\n%s", a.StatusCode, a.text)
	}
}
