// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
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

func (s *stack) Check(ctx context.Context, name string, password secret.Bytes, _ string) (*Proven, error) {
	s.asked.Add(1)
	right := string(password.Reveal()) == "right"
	switch {
	case name == "pam" && !right: // which makes wrong passwords wait
		<-ctx.Done()
		return nil, fault.Wrap(fault.Unreachable, "ask the stack", ctx.Err())
	case name == "locked" && right:
		return nil, fault.New(fault.Locked, "locked")
	case name == "away":
		return nil, fault.New(fault.Unreachable, "nobody answers")
	case name == "old" && right:
		return nil, &ChangeAt{Err: fault.New(fault.MustChange, "change it"), URL: "https://account.contoso.test/?a=b&c"}
	case name == "old-here" && right:
		return nil, fault.New(fault.MustChange, "change it")
	case name == "old-odd" && right:
		return nil, &ChangeAt{Err: fault.New(fault.MustChange, "change it"), URL: "javascript:alert(1)"}
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
	base     string
	provider session.Provider
	// accept decides about who comes from the provider.
	accept func(oid string) (*login.Result, error)
	log    *strings.Builder
}

// open starts the pages over TLS, with real sessions in a store.
func open(t *testing.T) *site {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "db"), store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &site{t: t, base: "https://nas.contoso.test:8443", stack: &stack{}, log: &strings.Builder{}, settings: &Settings{Negotiate: true, Hostnames: []string{"nas.contoso.test"}, Callbacks: []string{oidc.Callback, oidc.QNAPCallback}}}
	now := func() time.Time { return time.Now().Add(time.Duration(s.clock.Load()) * time.Second) }
	s.sessions, err = session.New(t.Context(), session.Config{Store: db, Log: slog.New(slog.DiscardHandler), Now: now,
		Accept: func(_ context.Context, _ login.Request, _, oid string) (*login.Result, error) {
			if s.accept == nil {
				return nil, errors.New("nobody asks")
			}
			return s.accept(oid)
		},
		Provider: func() session.Provider { return s.provider },
		Policy:   func(context.Context) (access.Policy, error) { return access.New(), nil },
		Settings: func() session.Settings {
			return session.Settings{Base: s.base, Apps: []session.App{{Name: "photos", Redirects: []string{"https://photos.contoso.test/cb"}}}}
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
	host   string // that the request says; empty: the server's own
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
	r.Host = v.host
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
	v.s.hardened(method+" "+path, resp.Header)
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

// hardened checks what every answer carries, whatever it answers.
func (s *site) hardened(what string, h http.Header) {
	s.t.Helper()
	want := map[string]string{"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "same-origin",
		"Strict-Transport-Security": "", "Access-Control-Allow-Origin": ""}
	switch {
	case strings.HasPrefix(h.Get("Content-Type"), "text/css"): // nobody's in particular
		want["Cache-Control"] = "public, max-age=31536000, immutable"
	case strings.HasPrefix(what, "GET /auth/oidc/signed-out"), strings.HasPrefix(what, "HEAD /auth/oidc/signed-out"): // which the tenant shows in a frame
		want["Content-Security-Policy"], want["X-Frame-Options"] = "default-src 'none'", ""
	}
	for name, value := range want {
		if h.Get(name) != value {
			s.t.Errorf("%s: %s is %q, want %q", what, name, h.Get(name), value)
		}
	}
	if to := h.Get("Location"); to != "" && !strings.HasPrefix(to, "/") {
		for _, good := range []string{"https://photos.contoso.test/cb?", "http://127.0.0.1:", s.sessions.Base() + "/auth/oidc/start?"} { // an app's, the provider's, and our own name
			if strings.HasPrefix(to, good) {
				return
			}
		}
		s.t.Errorf("%s leads to %s", what, to)
	}
}

func (v *visitor) get(path string) answer { return v.do(http.MethodGet, path, nil) }

func (v *visitor) signIn(name, password string, more ...string) answer {
	form := url.Values{"name": {name}, "password": {password}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return v.do(http.MethodPost, "/auth/password", form)
}
