// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"encoding/base64"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/session"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// stack is a PAM stack that knows ada.
type stack struct{ asked atomic.Int64 }

func (s *stack) Check(_ context.Context, name string, password secret.Bytes, _ string) (*Proven, error) {
	s.asked.Add(1)
	right := string(password.Reveal()) == "right"
	switch {
	case name == "locked" && right:
		return nil, fault.New(fault.Locked, "locked")
	case name == "away":
		return nil, fault.New(fault.Unreachable, "nobody answers")
	case name == "old" && right:
		return nil, fault.New(fault.MustChange, "change it")
	case name == "closed" && right:
		return nil, fault.New(fault.Denied, "a rule denies it")
	case (name == "ada" || name == strange) && right:
		return &Proven{Who: session.Who{Local: &session.Local{Name: name, UID: 1000, GIDs: []identity.GID{1000}, Groups: []string{name}}}, Shown: name}, nil
	}
	return nil, fault.New(fault.BadCredential, "wrong")
}

// strange is a name that would break a page or a header that trusts it.
const strange = "a\"><script>alert(1)</script>\u202e"

// counter accepts tickets by what they say.
type counter struct{}

func (counter) Accept(_ context.Context, token []byte, _ string) (*Ticket, error) {
	t := &Ticket{Mechanism: "Kerberos", SPN: "HTTP/nas.contoso.test@CONTOSO.TEST", KVNO: 4, EType: "AES-256 (18)", Skew: 2 * time.Second}
	switch string(token) {
	case "ticket":
		t.Proven = Proven{Who: session.Who{Local: &session.Local{Name: "ada", UID: 1000}}, Shown: "ada"}
		t.Groups, t.UID, t.Reply = []string{"office", "S-1-5-21-1-2-3-1104"}, 1000, []byte("proof")
		return t, nil
	case "ntlm":
		return &Ticket{Mechanism: "NTLM", Why: "ntlm"}, fault.New(fault.BadCredential, "NTLM")
	case "denied":
		t.Why = "denied"
		return t, fault.New(fault.Denied, "a rule denies it")
	}
	t.Why = "replay"
	return t, fault.New(fault.BadCredential, "used before")
}

type site struct {
	*httptest.Server
	t        *testing.T
	server   *Server
	sessions *session.Sessions
	stack    *stack
	settings *Settings
	clock    atomic.Int64 // seconds ahead
	log      *strings.Builder
}

// open starts the pages over TLS, with real sessions in a store.
func open(t *testing.T) *site {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &site{t: t, stack: &stack{}, log: &strings.Builder{}, settings: &Settings{Negotiate: true, Hostnames: []string{"nas.contoso.test"}, Callbacks: []string{oidc.Callback, oidc.QNAPCallback}}}
	now := func() time.Time { return time.Now().Add(time.Duration(s.clock.Load()) * time.Second) }
	s.sessions, err = session.New(t.Context(), session.Config{Store: db, Log: slog.New(slog.DiscardHandler), Now: now,
		Accept: func(context.Context, login.Request, string, string) (*login.Result, error) {
			return nil, errors.New("nobody asks")
		},
		Policy: func(context.Context) (access.Policy, error) { return access.New(), nil },
		Settings: func() session.Settings {
			return session.Settings{Base: "https://nas.contoso.test:8443", Apps: []session.App{{Name: "photos", Redirects: []string{"https://photos.contoso.test/cb"}}}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.server = New(Config{Log: slog.New(slog.NewTextHandler(s.log, nil)), Settings: func() Settings { return *s.settings }, Sessions: s.sessions,
		Passwords: s.stack, Negotiator: counter{}, Folder: t.TempDir(), Now: now})
	s.Server = httptest.NewTLSServer(s.server)
	t.Cleanup(s.Close)
	return s
}

// visitor is one browser, without its habit to follow.
type visitor struct {
	s      *site
	client *http.Client
	jar    map[string]string
	header http.Header
}

func (s *site) visitor() *visitor {
	c := *s.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &visitor{s: s, client: &c, jar: map[string]string{}, header: http.Header{}}
}

type answer struct {
	*http.Response
	text string
}

func (v *visitor) do(method, path string, form url.Values) answer {
	v.s.t.Helper()
	r, err := http.NewRequestWithContext(v.s.t.Context(), method, v.s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.s.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", v.s.URL)
	}
	for name, values := range v.header {
		r.Header[name] = values
	}
	for name, value := range v.jar {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	resp, err := v.client.Do(r)
	if err != nil {
		v.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	buf := make([]byte, 1<<20)
	for {
		n, err := resp.Body.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	for _, c := range resp.Cookies() {
		if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") {
			v.s.t.Errorf("%s %s sets a cookie that is not for this host alone: %s", method, path, c)
		}
		if c.MaxAge < 0 {
			delete(v.jar, c.Name)
		} else {
			v.jar[c.Name] = c.Value
		}
	}
	return answer{resp, text.String()}
}

func (v *visitor) get(path string) answer { return v.do(http.MethodGet, path, nil) }

func (v *visitor) signIn(name, password string, more ...string) answer {
	form := url.Values{"name": {name}, "password": {password}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return v.do(http.MethodPost, "/auth/password", form)
}

func TestPasswordForm(t *testing.T) {
	s := open(t)
	v := s.visitor()
	if a := v.get("/"); a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account" {
		t.Errorf("the first page: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	a := v.get("/auth/account")
	if a.StatusCode != 303 || !strings.HasPrefix(a.Header.Get("Location"), "/auth/sign-in?") {
		t.Fatalf("the account of nobody: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	a = v.get(a.Header.Get("Location"))
	if a.StatusCode != 200 || !strings.Contains(a.text, `action="/auth/password"`) || strings.Contains(a.text, `id="entra"`) {
		t.Errorf("the sign-in: %d\n%s", a.StatusCode, a.text)
	}
	if a := v.signIn("ada", "right", "return", "/auth/account"); a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account" || len(v.jar[session.Cookie]) != 43 {
		t.Fatalf("the right password: %d %v\n%s", a.StatusCode, v.jar, a.text)
	}
	if a := v.get("/auth/account"); a.StatusCode != 200 || !strings.Contains(a.text, `data-fact="uid">1000<`) {
		t.Errorf("the account: %d\n%s", a.StatusCode, a.text)
	}
	if a := v.get("/auth/sign-in?return=/auth/account"); a.StatusCode != 303 {
		t.Errorf("the sign-in of somebody who is in: %d", a.StatusCode)
	}
	if a := v.do(http.MethodPost, "/auth/sign-out", nil); a.StatusCode != 303 || v.jar[session.Cookie] != "" || s.sessions.Count() != 0 {
		t.Errorf("the sign-out: %d, %v, %d sessions are left", a.StatusCode, v.jar, s.sessions.Count())
	}
}

// What cannot be decided, and what a right password alone does not open, is told
// with what to do.
func TestPasswordOutcomes(t *testing.T) {
	s := open(t)
	for name, want := range map[string]struct {
		status int
		text   string
	}{
		"locked": {403, "error.locked"}, "away": {503, "error.away"}, "old": {403, "error.must-change"}, "closed": {403, "error.denied"},
	} {
		a := s.visitor().signIn(name, "right")
		why := s.server.pages.languages.named("en").text(want.text)
		if a.StatusCode != want.status || !strings.Contains(html.UnescapeString(a.text), why) || !strings.Contains(a.text, `id="do"`) {
			t.Errorf("%s: %d\n%s", name, a.StatusCode, a.text)
		}
	}
}

// Who cannot be helped by another password is not slowed down for having tried,
// and whose guesses failed before is not forgiven for it.
func TestOnlyWrongPasswordsAreCounted(t *testing.T) {
	s := open(t)
	v := s.visitor()
	for range 2 * failuresNamed {
		for _, name := range []string{"locked", "away", "old", "closed"} {
			if a := v.signIn(name, "right"); a.StatusCode == 429 {
				t.Fatalf("%s is told to wait", name)
			}
		}
	}
	for range failuresNamed - 1 {
		v.signIn("ada", "guess")
		v.signIn("away", "guess")
	}
	v.signIn("ada", "guess")
	if a := v.signIn("ada", "right"); a.StatusCode != 429 {
		t.Errorf("after %d guesses: %d", failuresNamed, a.StatusCode)
	}
}

// Nobody learns from the form which names there are.
func TestUnknownNameAndWrongPasswordAreTheSame(t *testing.T) {
	s := open(t)
	page := func(name, password string) string {
		a := s.visitor().signIn(name, password)
		if a.StatusCode != 401 || len(a.Cookies()) != 0 {
			t.Errorf("%s: %d, cookies %v", name, a.StatusCode, a.Cookies())
		}
		return strings.ReplaceAll(a.text, `value="`+name+`"`, "")
	}
	want := page("ada", "wrong")
	for _, name := range []string{"nobody", "locked", "old", strings.Repeat("n", 300)} {
		if got := page(name, "wrong"); name != strings.Repeat("n", 300) && got != want {
			t.Errorf("the page for %.20s is another one:\n%s", name, got)
		}
	}
}

func TestBruteForceIsSlowedDown(t *testing.T) {
	s := open(t)
	v := s.visitor()
	last := 0
	for range failuresNamed + 4 {
		last = v.signIn("ada", "guess").StatusCode
	}
	if last != 429 || s.stack.asked.Load() != failuresNamed {
		t.Errorf("after %d guesses: %d, and the stack was asked %d times", failuresNamed+4, last, s.stack.asked.Load())
	}
	a := v.signIn("ada", "right")
	if a.StatusCode != 429 || a.Header.Get("Retry-After") == "" || v.jar[session.Cookie] != "" {
		t.Errorf("the right password among guesses: %d", a.StatusCode)
	}
	// Another name from the same address may still try, but not without end.
	for i := range failuresEach {
		last = v.signIn("user"+string(rune('a'+i)), "guess").StatusCode
	}
	if last != 429 || s.stack.asked.Load() != failuresEach {
		t.Errorf("many names: %d, and the stack was asked %d times", last, s.stack.asked.Load())
	}
	s.clock.Store(int64(window/time.Second) + 1)
	if a := v.signIn("ada", "right"); a.StatusCode != 303 {
		t.Errorf("after the window: %d", a.StatusCode)
	}
}

func TestOpenRedirect(t *testing.T) {
	s := open(t)
	for _, there := range []string{"https://evil.test/", "//evil.test/", "/\\evil.test", "\\\\evil.test", "/%0d%0aLocation:x\r\nx: y", "javascript:alert(1)",
		"https:evil.test", "///evil.test", "/\t/evil.test", " //evil.test", "http://nas.contoso.test@evil.test/"} {
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

func TestHeaders(t *testing.T) {
	s := open(t)
	for path, status := range map[string]int{"/auth/sign-in": 200, "/nowhere": 404, "/auth/account": 303, "/auth/negotiate/test": 401} {
		a := s.visitor().get(path)
		h := a.Header
		if a.StatusCode != status || h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s: %d %v", path, a.StatusCode, h)
		}
		if h.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: HSTS with a certificate of our own", path)
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
	// A request that is not ours leads nowhere.
	if a := s.visitor().signIn("ada", "right", "request", "AAAA"); a.StatusCode != 400 || strings.Contains(a.text, "http-equiv") {
		t.Errorf("a forged request: %d\n%s", a.StatusCode, a.text)
	}
}

func negotiate(token string) http.Header {
	return http.Header{"Authorization": {"Negotiate " + base64.StdEncoding.EncodeToString([]byte(token))}}
}

// A browser is asked once; whatever it answers, it is never asked again by the
// same visit, so that no dialog comes back.
func TestNegotiateAsksOnce(t *testing.T) {
	s := open(t)
	s.settings.NegotiateFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	v := s.visitor()
	a := v.get("/auth/sign-in")
	if a.StatusCode != 303 || !strings.HasPrefix(a.Header.Get("Location"), "/auth/negotiate?") {
		t.Fatalf("the first visit: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	there := a.Header.Get("Location")
	a = v.get(there)
	if a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != "Negotiate" || !strings.Contains(a.text, `action="/auth/password"`) {
		t.Errorf("without a ticket: %d %v\n%s", a.StatusCode, a.Header, a.text)
	}
	if a := v.get("/auth/sign-in"); a.StatusCode != 200 {
		t.Errorf("the second visit: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	for _, token := range []string{"ntlm", "used", "\xff"} {
		v.header = negotiate(token)
		if a := v.get(there); a.StatusCode != 200 || a.Header.Get("WWW-Authenticate") != "" || !strings.Contains(a.text, `action="/auth/password"`) || v.jar[session.Cookie] != "" {
			t.Errorf("token %q: %d %v", token, a.StatusCode, a.Header)
		}
	}
	for _, header := range []string{"Basic YTpi", "Negotiate", "Negotiate %%%", "Negotiate " + strings.Repeat("A", 100)} {
		v.header = http.Header{"Authorization": {header}}
		if a := v.get(there); a.Header.Get("WWW-Authenticate") != "" || v.jar[session.Cookie] != "" {
			t.Errorf("%.20s is asked again", header)
		}
	}
	v.header = negotiate("denied")
	if a := v.get(there); a.StatusCode != 403 || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("somebody who may not: %d", a.StatusCode)
	}
	v.header = negotiate("ticket")
	a = v.get(there)
	if a.StatusCode != 303 || a.Header.Get("Location") != "/auth/account" || a.Header.Get("WWW-Authenticate") != "Negotiate "+base64.StdEncoding.EncodeToString([]byte("proof")) || v.jar[session.Cookie] == "" {
		t.Errorf("with a ticket: %d %v", a.StatusCode, a.Header)
	}
	// Whoever signs out stays out.
	v.header = http.Header{}
	v.do(http.MethodPost, "/auth/sign-out", nil)
	if a := v.get("/auth/sign-in"); a.StatusCode != 200 {
		t.Errorf("after the sign-out: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
}

func TestNegotiateBySubnetAndGroup(t *testing.T) {
	s := open(t)
	for _, test := range []struct {
		from   string
		groups []string
		in     bool
	}{
		{"", nil, true}, {"10.0.0.0/8", nil, false}, {"127.0.0.1/32", nil, true}, {"127.0.0.0/8", []string{"Office"}, true},
		{"127.0.0.0/8", []string{"S-1-5-21-1-2-3-1104"}, true}, {"127.0.0.0/8", []string{"others"}, false},
	} {
		s.settings.NegotiateFrom, s.settings.NegotiateGroups = nil, test.groups
		if test.from != "" {
			s.settings.NegotiateFrom = []netip.Prefix{netip.MustParsePrefix(test.from)}
		}
		v := s.visitor()
		v.header = negotiate("ticket")
		a := v.get("/auth/negotiate")
		if in := v.jar[session.Cookie] != ""; in != test.in {
			t.Errorf("%+v: %d, signed in %v", test, a.StatusCode, in)
		}
		if test.from == "" { // by a click only
			if a := s.visitor().get("/auth/sign-in"); a.StatusCode != 200 || !strings.Contains(a.text, `id="computer"`) {
				t.Errorf("a first visit: %d\n%s", a.StatusCode, a.text)
			}
		}
	}
	s.settings.Negotiate, s.settings.NegotiateGroups = false, nil
	v := s.visitor()
	v.header = negotiate("ticket")
	if a := v.get("/auth/negotiate"); v.jar[session.Cookie] != "" || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("switched off: %d, signed in", a.StatusCode)
	}
	if a := s.visitor().get("/auth/sign-in"); strings.Contains(a.text, `id="computer"`) {
		t.Error("switched off, and offered")
	}
}

func TestNegotiateTestPage(t *testing.T) {
	s := open(t)
	en := s.server.pages.languages.named("en")
	see := func(token string, status int, words ...string) {
		t.Helper()
		v := s.visitor()
		if token != "" {
			v.header = negotiate(token)
		}
		a := v.get("/auth/negotiate/test")
		if a.StatusCode != status {
			t.Errorf("%q: %d", token, a.StatusCode)
		}
		for _, word := range words {
			if !strings.Contains(html.UnescapeString(a.text), word) {
				t.Errorf("%q: the page does not say %q:\n%s", token, word, a.text)
			}
		}
		if v.jar[session.Cookie] != "" {
			t.Errorf("%q: the test page signs in", token)
		}
	}
	s.settings.Negotiate = false
	see("", 200, en.text("test.why.off"))
	s.settings.Negotiate = true
	s.settings.NegotiateFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	host := strings.TrimPrefix(s.URL, "https://")
	see("", 401, en.text("test.why.no-ticket", host))
	see("ntlm", 200, en.text("test.why.ntlm", host), "NTLM")
	see("used", 200, en.text("test.why.replay"), "HTTP/nas.contoso.test@CONTOSO.TEST", "AES-256 (18)", "2.0 seconds", `data-fact="kvno">4<`)
	see("ticket", 200, en.text("test.ok", "ada"), "ada (uid 1000)")
}

func TestLanguages(t *testing.T) {
	s := open(t)
	for header, want := range map[string]string{"": "en", "hu-HU,hu;q=0.9": "hu", "zh-TW": "zh-Hant", "zh-Hant-HK": "zh-Hant", "de,fr": "en", "fr, hu;q=0.5": "hu", strings.Repeat("x", 600): "en"} {
		v := s.visitor()
		v.header.Set("Accept-Language", header)
		if a := v.get("/auth/sign-in"); a.Header.Get("Content-Language") != want || !strings.Contains(a.text, `<html lang="`+want+`">`) {
			t.Errorf("%.30q: %s", header, a.Header.Get("Content-Language"))
		}
	}
	v := s.visitor()
	v.header.Set("Accept-Language", "hu")
	if a := v.get("/auth/language?lang=zh-Hant&return=/auth/sign-in%3Fstay%3D1"); a.StatusCode != 303 || a.Header.Get("Location") != "/auth/sign-in?stay=1" {
		t.Errorf("the choice: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := v.get("/auth/sign-in"); a.Header.Get("Content-Language") != "zh-Hant" {
		t.Errorf("the choice does not last: %s", a.Header.Get("Content-Language"))
	}
	v.jar[cookieLanguage] = "../en"
	if a := v.get("/auth/sign-in"); a.Header.Get("Content-Language") != "hu" {
		t.Errorf("a choice that is none: %s", a.Header.Get("Content-Language"))
	}
}

// Every language has every text, with the same gaps, none is empty, and every
// text is used; every reason has its page.
func TestLanguagesAreComplete(t *testing.T) {
	l := loadLanguages()
	if len(l.all) < 3 || l.all[0].Code != "en" {
		t.Fatalf("the languages are %v", l.all)
	}
	en := l.all[0]
	for _, c := range l.all[1:] {
		for key, text := range en.texts {
			got, ok := c.texts[key]
			if !ok || strings.TrimSpace(got) == "" {
				t.Errorf("%s lacks %s", c.Code, key)
			}
			if strings.Count(got, "%s") != strings.Count(text, "%s") || strings.Count(got, "%") != strings.Count(got, "%s") {
				t.Errorf("%s: %s has other gaps than in English: %q", c.Code, key, got)
			}
			if got == text && len(text) > 30 {
				t.Errorf("%s: %s is not translated", c.Code, key)
			}
		}
		for key := range c.texts {
			if _, ok := en.texts[key]; !ok {
				t.Errorf("%s has %s, which English has not", c.Code, key)
			}
		}
	}
	for _, why := range session.Reasons() {
		if o, ok := outcomes[why]; !ok || en.texts["error."+o.text] == "" || en.texts["error."+o.text+".do"] == "" || o.status < 400 {
			t.Errorf("the reason %s has no page", why)
		}
	}
	var source strings.Builder
	names, _ := filepath.Glob("*.go")
	pages, _ := filepath.Glob("page/*.html")
	for _, name := range slices.Concat(names, pages) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	computed := []string{"error.", "test.why.", "account.session.", "how.", "account.", "test."}
	for key := range en.texts {
		if !strings.Contains(source.String(), `"`+key+`"`) && !slices.ContainsFunc(computed, func(p string) bool {
			return strings.HasPrefix(key, p) && strings.Contains(source.String(), `"`+p+`"`)
		}) {
			t.Errorf("nothing uses %s", key)
		}
	}
	for _, match := range regexp.MustCompile(`(?:\{\{t |c\.text\()"([a-z.\-]+[a-z])"`).FindAllStringSubmatch(source.String(), -1) {
		if _, ok := en.texts[match[1]]; !ok {
			t.Errorf("the text %s is used and is nowhere", match[1])
		}
	}
}
