// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/session"
)

func TestOpenRedirect(t *testing.T) {
	s := open(t)
	for _, there := range []string{"https://evil.test/", "//evil.test/", "/\\evil.test", "\\\\evil.test", "/%0d%0aLocation:x\r\nx: y", "javascript:alert(1)",
		"https:evil.test", "///evil.test", "/\t/evil.test", " //evil.test", "http://nas.contoso.test@evil.test/", "/%2fevil.test", "/%5cevil.test", "/%2F%2Fevil.test", "@evil.test", "%2f%2fevil.test", "/\u2028/evil.test/\x7f",
		"HTTPS://evil.test", "/%09/evil.test", "//evil.test%2f@nas.contoso.test", "data:text/html,x", "/" + strings.Repeat("x", 3000)} {
		a := s.visitor().signIn("ada", "right", "return", there)
		if got := a.Header.Get("Location"); a.StatusCode != 303 || got != "/auth/account" {
			t.Errorf("return %q leads to %q (%d)", there, got, a.StatusCode)
		}
		a = s.visitor().get("/auth/language?" + url.Values{"lang": {"hu"}, "return": {there}}.Encode())
		if got := a.Header.Get("Location"); a.StatusCode != 303 || got != "/" {
			t.Errorf("the language's return %q leads to %q (%d)", there, got, a.StatusCode)
		}
	}
	if a := s.visitor().signIn("ada", "right", "return", "/auth/account?notice=x"); a.Header.Get("Location") != "/auth/account?notice=x" {
		t.Errorf("a path of this host is not kept: %s", a.Header.Get("Location"))
	}
}

// Nothing that another site sends changes anything.
func TestCSRF(t *testing.T) {
	s := open(t)
	v := s.visitor()
	v.signIn("ada", "right")
	for name, header := range map[string]http.Header{
		"another origin":     {"Origin": {"https://evil.test"}},
		"no origin":          {"Origin": {""}},
		"null":               {"Origin": {"null"}},
		"cross-site":         {"Origin": {s.URL}, "Sec-Fetch-Site": {"cross-site"}},
		"same-site":          {"Sec-Fetch-Site": {"same-site"}},
		"another port":       {"Origin": {"https://127.0.0.1:1"}},
		"plain http":         {"Origin": {strings.Replace(s.URL, "https", "http", 1) + "0"}},
		"origin and nothing": {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {""}},
	} {
		v.header = header
		for _, path := range []string{"/auth/sign-out", "/auth/sessions/end", "/auth/password"} {
			if a := v.do(http.MethodPost, path, url.Values{"name": {"ada"}, "password": {"right"}, "others": {"1"}}); a.StatusCode != 403 {
				t.Errorf("%s, POST %s: %d", name, path, a.StatusCode)
			}
		}
	}
	v.header = http.Header{}
	if a := v.get("/auth/account"); a.StatusCode != 200 || s.sessions.Count() != 1 || s.stack.asked.Load() != 1 {
		t.Errorf("after all of them: %d, %d sessions, %d passwords tried", a.StatusCode, s.sessions.Count(), s.stack.asked.Load())
	}
	for _, path := range []string{"/auth/sign-out", "/auth/sessions/end", "/auth/password"} {
		if a := v.get(path + "?others=1"); a.StatusCode != 404 {
			t.Errorf("GET %s: %d", path, a.StatusCode)
		}
	}
}

// A session that somebody slipped into the browser is not the one that a sign-in
// opens, and does not live on.
func TestSessionFixation(t *testing.T) {
	s := open(t)
	attacker, victim := s.visitor(), s.visitor()
	attacker.signIn("ada", "right")
	victim.jar[session.Cookie] = attacker.jar[session.Cookie]
	victim.signIn("ada", "right")
	if victim.jar[session.Cookie] == attacker.jar[session.Cookie] || len(victim.jar[session.Cookie]) != 43 {
		t.Error("the sign-in kept the token that was there before")
	}
	if a := attacker.get("/auth/account"); a.StatusCode != 303 {
		t.Errorf("the token that was there before still opens: %d", a.StatusCode)
	}
	for _, fixed := range []string{"x", strings.Repeat("A", 43), "../../etc"} {
		v := s.visitor()
		v.jar[session.Cookie] = fixed
		if v.signIn("ada", "right"); v.jar[session.Cookie] == fixed {
			t.Errorf("the token %q was taken over", fixed)
		}
	}
	// Two cookies of one name: neither counts.
	v := s.visitor()
	v.signIn("ada", "right")
	v.header.Set("Cookie", session.Cookie+"=x")
	if a := v.get("/auth/account"); a.StatusCode != 303 {
		t.Errorf("two session cookies: %d", a.StatusCode)
	}
}

// Names reach a page as text, and a header never.
func TestNamesAreTextOnly(t *testing.T) {
	s := open(t)
	v := s.visitor()
	v.header.Set("User-Agent", "<b>agent</b>")
	v.header.Set("Accept-Language", "\"><script>")
	v.signIn(strange, "right")
	a := v.get("/auth/account")
	if a.StatusCode != 200 || strings.Contains(a.text, "<script>") || strings.Contains(a.text, "<b>agent") || !strings.Contains(a.text, "&lt;script&gt;") {
		t.Errorf("the account of a strange name: %d\n%s", a.StatusCode, a.text)
	}
	for name, values := range a.Header {
		if strings.Contains(strings.Join(values, ""), "alert") {
			t.Errorf("the name is in the header %s", name)
		}
	}
	for _, path := range []string{"/auth/<script>alert(1)</script>", "/auth/sign-in?stay=1&return=/%22%3E%3Cscript%3Ealert(1)&notice=<script>", "/auth/sign-in?stay=1&request=%22%3E%3Cscript%3E%0d%0ax:y"} {
		if a := s.visitor().get(path); strings.Contains(a.text, "<script>") || a.Header.Get("X") != "" {
			t.Errorf("%s comes back as it was:\n%s", path, a.text)
		}
	}
}

// Headers that only a proxy may set, and a host that is another's, change
// nothing: no address is made of them, and the throttle looks at the connection.
func TestHeadersOfAProxyAreNotBelieved(t *testing.T) {
	s := open(t)
	lie := http.Header{"X-Forwarded-Host": {"evil.test"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-For": {"192.0.2.1"}, "X-Real-Ip": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1;host=evil.test"},
		"X-Forwarded-Uri": {"/evil"}, "X-Original-Url": {"/auth/account"}, "X-Http-Method-Override": {"POST"}}
	v := s.visitor()
	v.header, v.host = lie, "evil.test:8443"
	for _, path := range []string{"/", "/auth/sign-in", "/auth/account", "/auth/begin?request=x", "/auth/oidc/start", "/nowhere"} {
		if a := v.get(path); strings.Contains(a.text, "evil") || strings.Contains(a.Header.Get("Location"), "evil") {
			t.Errorf("%s: %s\n%s", path, a.Header.Get("Location"), a.text)
		}
	}
	v.host = ""
	for i := range failuresNamed + 1 {
		v.header.Set("X-Forwarded-For", "192.0.2."+strconv.Itoa(i))
		v.signIn("ada", "guess")
	}
	if a := v.signIn("ada", "right"); a.StatusCode != 429 {
		t.Errorf("who says to be somebody else with each guess is not slowed down: %d", a.StatusCode)
	}
	if list := s.sessions.List(session.Filter{}); len(list) != 0 {
		t.Errorf("there are sessions: %+v", list)
	}
	v.signIn(strange, "right")
	if list := s.sessions.List(session.Filter{}); len(list) != 1 || list[0].RemoteHost != "127.0.0.1" {
		t.Errorf("the session is from %+v", list)
	}
}

// What every answer carries is checked with each one that a visitor gets
// (site.hardened); this visits all there is.
func TestHeaders(t *testing.T) {
	s := open(t)
	for path, status := range map[string]int{"/": 303, "/auth/": 303, "/auth/sign-in": 200, "/nowhere": 404, "/auth/account": 303, "/auth/negotiate": 401, "/auth/negotiate/test": 401, "/auth/oidc/start": 503,
		"/auth/oidc/callback": 400, "/auth/oidc/signed-out?iss=x&sid=y": 200, "/auth/begin": 303, "/auth/language?lang=hu": 303, "/cgi-bin/loginTheme/sso/azure/main.html": 400} {
		if a := s.visitor().get(path); a.StatusCode != status {
			t.Errorf("GET %s: %d, want %d", path, a.StatusCode, status)
		}
		if a := s.visitor().do(http.MethodHead, path, nil); a.StatusCode >= 500 && status < 500 || len(a.text) != 0 {
			t.Errorf("HEAD %s: %d, %d bytes", path, a.StatusCode, len(a.text))
		}
		for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "TRACE"} {
			if a := s.visitor().do(method, path, nil); a.StatusCode < 400 || a.StatusCode >= 500 {
				t.Errorf("%s %s: %d", method, path, a.StatusCode)
			}
		}
	}
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy lacks %s", part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "script") {
		t.Errorf("the policy opens something: %s", policy)
	}
	a := s.visitor().get("/auth/sign-in")
	style := regexp.MustCompile(`href="(/auth/asset/[^"]+)"`).FindStringSubmatch(a.text)
	if style == nil {
		t.Fatalf("the page has no style:\n%s", a.text)
	}
	if a := s.visitor().get(style[1]); a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("the style: %d %v", a.StatusCode, a.Header)
	}
	if a := s.visitor().get("/auth/asset/style.css"); a.StatusCode != 404 {
		t.Errorf("another asset: %d", a.StatusCode)
	}
}

// No page names anything of another place.
func TestNothingFromElsewhere(t *testing.T) {
	for _, pattern := range []string{"page/*.html", "asset/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, bad := range []string{"http:", "https:", "<script", "style=", "onclick", "onload", "@import", "url("} {
				if strings.Contains(strings.ToLower(string(text)), bad) {
					t.Errorf("%s has %s", name, bad)
				}
			}
		}
	}
}
