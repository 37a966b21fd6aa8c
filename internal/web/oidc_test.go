// SPDX-License-Identifier: Apache-2.0

package web

import (
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// withTenant gives the site a tenant that lets Person in; asked says whether it
// was asked for its discovery document already, as the daemon does by itself.
func (s *site) withTenant(asked bool) (*oidctest.Issuer, *oidc.Client) {
	s.t.Helper()
	i := oidctest.New(s.t, nil)
	c, err := oidc.New(oidc.Config{Authority: i.Authority(), Tenant: oidctest.Tenant, Client: oidctest.Client, RedirectURI: "https://nas.contoso.test:8443" + oidc.Callback, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	if asked {
		if err := c.Check(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	s.provider = c
	s.accept = func(oid string) (*login.Result, error) {
		if oid != oidctest.Person.String() {
			return nil, fault.New(fault.NotFound, "nobody has this object id")
		}
		return &login.Result{User: &identity.User{Common: identity.Common{Row: 7, Name: "ada"}}, How: login.ByFederated}, nil
	}
	return i, c
}

// toTenant begins at the button, and returns the answer of the tenant.
func (v *visitor) toTenant(i *oidctest.Issuer, start string, who identity.GUID) url.Values {
	v.s.t.Helper()
	v.host = strings.TrimPrefix(v.s.sessions.Base(), "https://")
	defer func() { v.host = "" }()
	a := v.get(start)
	if a.StatusCode != 303 {
		v.s.t.Fatalf("%s: %d\n%s", start, a.StatusCode, a.text)
	}
	back, err := i.Answer(a.Header.Get("Location"), who)
	if err != nil {
		v.s.t.Fatal(err)
	}
	return back
}

// fromTenant brings the answer, as the tenant's page has the browser send it.
func (v *visitor) fromTenant(path string, form url.Values) answer {
	v.header.Set("Origin", "https://login.microsoftonline.com")
	v.header.Set("Sec-Fetch-Site", "cross-site")
	defer func() { v.header = http.Header{} }()
	return v.do(http.MethodPost, path, form)
}

func (s *site) en(key string) string { return s.server.pages.languages.named("en").text(key) }

func TestSignInWithEntra(t *testing.T) {
	s := open(t)
	i, _ := s.withTenant(true)
	v := s.visitor()
	if a := v.get("/auth/sign-in?return=/auth/account%3Fnotice%3Dx"); !strings.Contains(a.text, `id="entra"`) || !strings.Contains(a.text, `href="/auth/oidc/start?return=%2Fauth%2Faccount%3Fnotice%3Dx"`) {
		t.Errorf("the sign-in page:\n%s", a.text)
	}
	const start = "/auth/oidc/start?return=%2Fauth%2Faccount%3Fnotice%3Dx"
	back := v.toTenant(i, start, oidctest.Person)
	if a := v.get("/auth/account"); a.StatusCode != 303 {
		t.Errorf("on the way: %d", a.StatusCode)
	}
	a := v.fromTenant(oidc.Callback, back)
	if a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account?notice=x" || len(v.jar[session.Cookie]) != 43 {
		t.Errorf("the answer as a form: %d %s %v\n%s", a.StatusCode, a.Header.Get("Location"), v.jar, a.text)
	}
	// What came along to the tenant and back is gone, but for what a silent try
	// next time needs.
	for name := range v.jar {
		if name != session.Cookie && name != cookieEntra {
			t.Errorf("the browser keeps %s", name)
		}
	}
	for _, path := range []string{oidc.Callback, oidc.QNAPCallback} { // by the query
		v := s.visitor()
		back := v.toTenant(i, start, oidctest.Person)
		if a := v.get(path + "?" + back.Encode()); a.StatusCode != 303 || v.jar[session.Cookie] == "" {
			t.Errorf("%s by the query: %d\n%s", path, a.StatusCode, a.text)
		}
	}
	// The cookie of the way is the only one that another site's form brings along.
	v = s.visitor()
	v.host = "nas.contoso.test:8443"
	a = v.get(start)
	if len(a.Cookies()) == 0 {
		t.Error("the way to the tenant sets no cookie")
	}
	for _, c := range a.Cookies() {
		if in := strings.HasPrefix(c.Name, session.Cookie+"-in-"); in != (c.SameSite == http.SameSiteNoneMode) || !in {
			t.Errorf("the way to the tenant sets %v", c)
		}
	}
}

// Every way in which an answer of the tenant opens nothing, and what is read then.
func TestAnswersOfEntraThatOpenNothing(t *testing.T) {
	s := open(t)
	i, _ := s.withTenant(true)
	const start = "/auth/oidc/start"
	see := func(what string, v *visitor, a answer, status int, text string) {
		t.Helper()
		if a.StatusCode != status || !strings.Contains(html.UnescapeString(a.text), s.en(text)) || !strings.Contains(html.UnescapeString(a.text), s.en(text+".do")) || v.jar[session.Cookie] != "" {
			t.Errorf("%s: %d, want %d and %q:\n%s", what, a.StatusCode, status, s.en(text), a.text)
		}
	}
	v := s.visitor()
	used := v.toTenant(i, start, oidctest.Person)
	flight := v.jar[session.CookieFor(used.Get("state"))]
	v.fromTenant(oidc.Callback, used)
	delete(v.jar, session.Cookie)
	see("an answer that was used, without its cookie", v, v.fromTenant(oidc.Callback, used), 400, "error.stale")
	v.jar[session.CookieFor(used.Get("state"))] = flight
	see("an answer that was used", v, v.fromTenant(oidc.Callback, used), 400, "error.replayed")

	v, other := s.visitor(), s.visitor()
	back := v.toTenant(i, start, oidctest.Person)
	see("another browser's answer", other, other.fromTenant(oidc.Callback, back), 400, "error.stale")
	mine := other.toTenant(i, start, oidctest.Person)
	see("another browser's code under one's own state", other, other.fromTenant(oidc.Callback, url.Values{"code": back["code"], "state": mine["state"]}), 401, "error.token")

	for name, change := range map[string]func(url.Values){
		"an id_token in the form":      func(f url.Values) { f.Set("id_token", i.Token("x", oidctest.Person)) },
		"an access_token and no code":  func(f url.Values) { f.Del("code"); f.Set("access_token", "x") },
		"an id_token and nothing else": func(f url.Values) { f.Del("code"); f.Del("state"); f.Set("id_token", "x") },
	} {
		v := s.visitor()
		form := v.toTenant(i, start, oidctest.Person)
		change(form)
		see(name, v, v.fromTenant(oidc.Callback, form), 400, "error.front")
	}
	v = s.visitor()
	back = v.toTenant(i, start, oidctest.Client)
	see("somebody whom the domain does not know", v, v.fromTenant(oidc.Callback, back), 403, "error.unknown")
	v = s.visitor()
	back = v.toTenant(i, start, oidctest.Person)
	see("somebody who changed their mind", v, v.fromTenant(oidc.Callback, url.Values{"state": back["state"], "error": {"access_denied"}, "error_description": {"<script>"}}), 401, "error.cancelled")
	v = s.visitor()
	back = v.toTenant(i, start, oidctest.Person)
	s.clock.Add(11 * 60)
	see("a quarter of an hour later", v, v.fromTenant(oidc.Callback, back), 400, "error.stale")
	see("a form of 100 kB", v, v.fromTenant(oidc.Callback, url.Values{"code": {strings.Repeat("x", 100<<10)}}), 400, "error.malformed")

	i.Claims(func(c map[string]any) { c["nonce"] = "another" })
	v = s.visitor()
	back = v.toTenant(i, start, oidctest.Person)
	see("a token of another sign-in", v, v.fromTenant(oidc.Callback, back), 401, "error.token")
	i.Claims(nil)
	i.Confidential()
	v = s.visitor()
	back = v.toTenant(i, start, oidctest.Person)
	see("a secret that is wrong", v, v.fromTenant(oidc.Callback, back), 503, "error.setup")
	v = s.visitor()
	back = v.toTenant(i, start, oidctest.Person)
	i.Close()
	see("a tenant that went away meanwhile", v, v.fromTenant(oidc.Callback, back), 503, "error.away")
	if n := s.sessions.Count(); n != 1 {
		t.Errorf("there are %d sessions, want the first one", n)
	}
}

// A page that another site has loaded in the background starts no sign-in; a link
// on another site does.
func TestOnlyPeopleStartASignIn(t *testing.T) {
	s := open(t)
	s.withTenant(true)
	for dest, want := range map[string]int{"document": 303, "image": 403, "iframe": 403, "": 403} {
		v := s.visitor()
		v.host = "nas.contoso.test:8443"
		v.header.Set("Sec-Fetch-Site", "cross-site")
		v.header.Set("Sec-Fetch-Dest", dest)
		if a := v.get("/auth/oidc/start"); a.StatusCode != want {
			t.Errorf("for a %s: %d, want %d", dest, a.StatusCode, want)
		}
	}
}

// Whoever came by an address, or by another name, is moved to the name that the
// tenant knows before anything is remembered: the answer comes there.
func TestSignInWithEntraByAnotherName(t *testing.T) {
	s := open(t)
	s.withTenant(true)
	for _, host := range []string{"127.0.0.1:8443", "nas:8443", "nas.contoso.test", "evil.test"} {
		v := s.visitor()
		v.host = host
		a := v.get("/auth/oidc/start?return=%2Fauth%2Faccount")
		if to := a.Header.Get("Location"); a.StatusCode != 303 || to != "https://nas.contoso.test:8443/auth/oidc/start?moved=1&return=%2Fauth%2Faccount" || len(a.Cookies()) != 0 {
			t.Errorf("by %s: %d to %s, cookies %v", host, a.StatusCode, to, a.Cookies())
		}
		// Behind a proxy that says another name: once is enough.
		if a := v.get("/auth/oidc/start?moved=1&return=%2Fauth%2Faccount"); !strings.HasPrefix(a.Header.Get("Location"), "http://127.0.0.1:") {
			t.Errorf("by %s for the second time: to %s", host, a.Header.Get("Location"))
		}
	}
	for host, base := range map[string]string{"nas.contoso.test:8443": s.base, "NAS.Contoso.test:8443": s.base, "192.0.2.7": "https://192.0.2.7:443", "192.0.2.7:443": "https://192.0.2.7"} {
		v := s.visitor()
		v.host, s.base = host, base
		if a := v.get("/auth/oidc/start"); !strings.HasPrefix(a.Header.Get("Location"), "http://127.0.0.1:") {
			t.Errorf("by %s: to %s", host, a.Header.Get("Location"))
		}
	}
}

// The sign-in page asks nobody: a tenant that does not answer keeps nobody from
// the form, and is offered when it was heard of again.
func TestTheSignInPageDoesNotWaitForTheTenant(t *testing.T) {
	s := open(t)
	i, c := s.withTenant(false)
	hang := make(chan struct{})
	i.Handle(func(string, http.ResponseWriter, *http.Request) bool {
		<-hang
		return false
	})
	asking := make(chan error, 1)
	go func() { asking <- c.Check(t.Context()) }() // as the daemon does in the background
	for i.Reads("discovery") == 0 {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	page := func(entra, away bool) {
		t.Helper()
		a := s.visitor().get("/auth/sign-in")
		if a.StatusCode != 200 || strings.Contains(a.text, `id="entra"`) != entra || strings.Contains(a.text, `id="away"`) != away || !strings.Contains(a.text, `action="/auth/password"`) {
			t.Errorf("%d, want the button %v:\n%s", a.StatusCode, entra, a.text)
		}
	}
	page(false, true)
	if a := s.visitor().signIn("ada", "right"); a.StatusCode != 303 {
		t.Errorf("by password: %d", a.StatusCode)
	}
	close(hang)
	if err := <-asking; err != nil {
		t.Fatal(err)
	}
	page(true, false)
	s.provider = nil
	page(false, false) // nothing is set up, and nothing is said of it
}

// The tenant tells of a sign-out by a frame on its own page, without a cookie.
func TestSignedOutAtEntra(t *testing.T) {
	s := open(t)
	i, c := s.withTenant(true)
	v := s.visitor()
	v.fromTenant(oidc.Callback, v.toTenant(i, "/auth/oidc/start", oidctest.Person))
	if s.sessions.Count() != 1 {
		t.Fatal("nobody is in")
	}
	sid := "session-of-" + oidctest.Person.String()
	for _, q := range []url.Values{{"iss": {c.Issuer()}}, {"iss": {"https://evil.test/"}, "sid": {sid}}, {"iss": {c.Issuer()}, "sid": {"x"}}, {"iss": {c.Issuer()}, "sid": {strings.Repeat("x", 300)}}} {
		if a := s.visitor().get("/auth/oidc/signed-out?" + q.Encode()); a.StatusCode != 200 || s.sessions.Count() != 1 {
			t.Errorf("%v: %d, %d sessions", q, a.StatusCode, s.sessions.Count())
		}
	}
	for _, q := range []url.Values{{"iss": {c.Issuer()}, "sid": {sid}}, {"sid": {sid}}} { // Entra ID leaves iss away
		frame := s.visitor()
		frame.header.Set("Sec-Fetch-Site", "cross-site")
		frame.header.Set("Sec-Fetch-Dest", "iframe")
		if a := frame.get("/auth/oidc/signed-out?" + q.Encode()); a.StatusCode != 200 || s.sessions.Count() != 0 {
			t.Errorf("the tenant's word, %v: %d, %d sessions", q, a.StatusCode, s.sessions.Count())
		}
		v.fromTenant(oidc.Callback, v.toTenant(i, "/auth/oidc/start", oidctest.Person))
	}
}
