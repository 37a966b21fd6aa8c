// SPDX-License-Identifier: Apache-2.0

package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/session"
	"github.com/latchkey-nas/latchkey/internal/store"
	"github.com/latchkey-nas/latchkey/internal/web"
)

// gateway is the forward-auth door on a real socket, over real sessions of an
// account of the machine, and a web proxy that asks it.
type gateway struct {
	t        testing.TB
	sessions *session.Sessions
	client   *http.Client
	uid      atomic.Uint32 // whom the proxy runs as
	fail     atomic.Pointer[error]
}

const photosCallback = "https://photos.contoso.test/.latchkey/callback"

// failing lets a test make the sessions fail.
type failing struct {
	*session.Sessions
	g *gateway
}

func (f failing) Check(ctx context.Context, token, app string) (*session.Person, error) {
	if err := f.g.fail.Load(); err != nil {
		return nil, *err
	}
	return f.Sessions.Check(ctx, token, app)
}

func (f failing) Seen(token, app string) (*session.Person, bool) {
	if f.g.fail.Load() != nil {
		return nil, false
	}
	return f.Sessions.Seen(token, app)
}

func newGateway(t testing.TB) *gateway {
	t.Helper()
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), filepath.Join(dir, "db"), store.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	g := &gateway{t: t}
	g.uid.Store(33)
	g.sessions, err = session.New(t.Context(), session.Config{Store: db, Log: quiet, Policy: func(context.Context) (access.Policy, error) { return access.New(), nil },
		Accept: func(context.Context, login.Request, string, string) (*login.Result, error) {
			return nil, errors.New("nobody signs in with Entra ID here")
		},
		Settings: func() session.Settings {
			return session.Settings{Base: "https://nas.contoso.test:8443", Apps: []session.App{{Name: "photos", UIDs: []identity.UID{33}, Redirects: []string{photosCallback}},
				{Name: "notes", UIDs: []identity.UID{34}, Redirects: []string{"https://notes.contoso.test/.latchkey/callback"}}}}
		}})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "auth.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	door := web.NewForward(web.ForwardConfig{Log: quiet, Sessions: failing{g.sessions, g}, Limits: peer.Limits{ConnectionsPerUID: 1000},
		Identify: func(*net.UnixConn) (peer.Caller, error) {
			return peer.Caller{UID: identity.UID(g.uid.Load()), GID: identity.GID(g.uid.Load())}, nil
		}})
	served := make(chan error, 1)
	go func() { served <- door.Serve(ln) }()
	t.Cleanup(func() {
		door.Stop(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	g.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: false, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// as has the proxy run as another user from now on.
func (g *gateway) as(uid uint32) { g.client.CloseIdleConnections(); g.uid.Store(uid) }

func (g *gateway) signIn(groups ...string) string {
	g.t.Helper()
	done, err := g.sessions.Open(g.t.Context(), session.Who{Local: &session.Local{Name: "zoë b", UID: 1000, Groups: groups}}, "password", "", "zoë b", session.From{})
	if err != nil {
		g.t.Fatal(err)
	}
	return done.Token
}

func (g *gateway) ask(method, path string, header http.Header, cookies ...string) *http.Response {
	g.t.Helper()
	r, err := http.NewRequest(method, "http://auth"+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	for i := 0; i+1 < len(cookies); i += 2 {
		r.AddCookie(&http.Cookie{Name: cookies[i], Value: cookies[i+1]})
	}
	resp, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

func at(host, uri string) http.Header {
	return http.Header{"X-Forwarded-Host": {host}, "X-Forwarded-Uri": {uri}}
}

func (g *gateway) check(what string, header http.Header, want int, cookies ...string) *http.Response {
	g.t.Helper()
	resp := g.ask(http.MethodGet, web.CheckPath, header, cookies...)
	if resp.StatusCode != want {
		g.t.Errorf("%s: %s, want %d", what, resp.Status, want)
	}
	if want != http.StatusOK {
		for _, h := range []string{web.HeaderUser, web.HeaderUID, web.HeaderGroups} {
			if resp.Header.Get(h) != "" {
				g.t.Errorf("%s: %s says %s", what, h, resp.Header.Get(h))
			}
		}
	}
	return resp
}

func cookieOf(t testing.TB, resp *http.Response, name string) *http.Cookie {
	t.Helper()
	for _, c := range resp.Cookies() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s sets no cookie %s", resp.Status, name)
	return nil
}

func TestForwardAuthSaysWhoItIs(t *testing.T) {
	g := newGateway(t)
	token := g.signIn("staff", "a,b c", "größe", "x\r\nX-Latchkey-User: root")
	resp := g.check("signed in", at("nas.contoso.test:8443", "/files"), http.StatusOK, session.Cookie, token)
	if resp.Header.Get(web.HeaderUser) != "zo%C3%AB%20b" || resp.Header.Get(web.HeaderUID) != "1000" ||
		resp.Header.Get(web.HeaderGroups) != "staff,a%2Cb%20c,gr%C3%B6%C3%9Fe,x%0D%0AX-Latchkey-User%3A%20root" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", resp.Header)
	}
	var back []string
	for _, name := range strings.Split(resp.Header.Get(web.HeaderGroups), ",") {
		plain, err := url.PathUnescape(name)
		if err != nil {
			t.Fatal(err)
		}
		back = append(back, plain)
	}
	if back[1] != "a,b c" || back[3] != "x\r\nX-Latchkey-User: root" {
		t.Errorf("an app reads %q", back)
	}
	// What a client says of itself counts for nothing.
	spoofed := at("nas.contoso.test:8443", "/")
	spoofed[web.HeaderUser], spoofed[web.HeaderUID] = []string{"root"}, []string{"0"}
	if got := g.check("spoofed", spoofed, http.StatusOK, session.Cookie, token).Header[web.HeaderUser]; len(got) != 1 || got[0] != "zo%C3%AB%20b" {
		t.Errorf("a spoofed header: %q", got)
	}
	g.check("spoofed without a session", spoofed, http.StatusUnauthorized)
}

func TestForwardAuthSendsToTheSignIn(t *testing.T) {
	g := newGateway(t)
	token := g.signIn()
	for name, tc := range map[string]struct {
		header  http.Header
		cookies []string
		want    string
	}{
		"no cookie":                 {at("nas.contoso.test:8443", "/a?b=c"), nil, "https://nas.contoso.test:8443/auth/sign-in?return=%2Fa%3Fb%3Dc"},
		"nginx's header":            {http.Header{"X-Forwarded-Host": {"nas.contoso.test:8443"}, "X-Original-Uri": {"/a"}}, nil, "https://nas.contoso.test:8443/auth/sign-in?return=%2Fa"},
		"a wrong cookie":            {at("nas.contoso.test:8443", "/"), []string{session.Cookie, strings.Repeat("A", 43)}, "https://nas.contoso.test:8443/auth/sign-in?return=%2F"},
		"two cookies":               {at("nas.contoso.test:8443", "/"), []string{session.Cookie, token, session.Cookie, token}, "https://nas.contoso.test:8443/auth/sign-in?return=%2F"},
		"an open redirect":          {at("nas.contoso.test:8443", "//evil.test"), nil, "https://nas.contoso.test:8443/auth/sign-in?return=%2F"},
		"another port":              {at("nas.contoso.test", "/a"), nil, "https://nas.contoso.test:8443/auth/sign-in"},
		"an app's host":             {at("photos.contoso.test", "/a"), nil, "https://photos.contoso.test/.latchkey/start?return=%2Fa"},
		"an app's host, our cookie": {at("photos.contoso.test", "/a"), []string{session.Cookie, token}, "https://photos.contoso.test/.latchkey/start?return=%2Fa"},
	} {
		if got := g.check(name, tc.header, http.StatusUnauthorized, tc.cookies...).Header.Get(web.HeaderSignIn); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	for name, header := range map[string]http.Header{
		"an unknown host":   at("evil.test", "/"),
		"another's app":     at("notes.contoso.test", "/"),
		"two hosts":         {"X-Forwarded-Host": {"nas.contoso.test:8443", "evil.test"}},
		"a list of hosts":   at("nas.contoso.test:8443, evil.test", "/"),
		"a host with a way": at("photos.contoso.test/.latchkey", "/"),
		"a user and host":   at("x@photos.contoso.test", "/"),
		"a long host":       at(strings.Repeat("x", 400), "/"),
	} {
		g.check(name, header, http.StatusForbidden, session.Cookie, token)
	}
	for kind, want := range map[fault.Kind]int{fault.Denied: 403, fault.Unreachable: 503, fault.Internal: 500, fault.BadCredential: 401} {
		err := fault.New(kind, "so")
		g.fail.Store(&err)
		g.check(kind.String(), at("nas.contoso.test:8443", "/"), want, session.Cookie, token)
	}
}

// An app on a host of its own: the way there and back, with a cookie that opens
// nothing else.
func TestAppsOnOtherHostsGetTheirOwnCookie(t *testing.T) {
	g := newGateway(t)
	token := g.signIn("staff")
	begin := func() (to string, mine *http.Cookie) {
		resp := g.ask(http.MethodGet, web.AppStartPath+"?return=%2Falbum%3Fid%3D7", at("photos.contoso.test", ""))
		if resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("start: %s", resp.Status)
		}
		return resp.Header.Get("Location"), cookieOf(t, resp, session.Cookie+"-at")
	}
	pass := func(to string) url.Values {
		u, err := url.Parse(to)
		if err != nil || !strings.HasPrefix(to, "https://nas.contoso.test:8443"+session.BeginPath+"?") {
			t.Fatalf("the browser is sent to %s", to)
		}
		back, err := g.sessions.Pass(t.Context(), token, u.Query().Get("request"))
		if err != nil || !strings.HasPrefix(back, photosCallback+"?") {
			t.Fatalf("the browser comes back to %s, %v", back, err)
		}
		u, _ = url.Parse(back)
		return u.Query()
	}
	callback := func(q url.Values, cookies ...string) *http.Response {
		return g.ask(http.MethodGet, web.AppCallbackPath+"?"+q.Encode(), at("photos.contoso.test", ""), cookies...)
	}
	to, mine := begin()
	if !mine.Secure || !mine.HttpOnly || mine.Path != "/" || mine.SameSite != http.SameSiteLaxMode || mine.Domain != "" {
		t.Errorf("the cookie is %+v", mine)
	}
	q := pass(to)
	// Another browser, or none, is not let in with it, and the code is still good.
	_, others := begin()
	for name, cookies := range map[string][]string{"no cookie": nil, "another browser's": {mine.Name, others.Value}, "garbage": {mine.Name, "x"}} {
		resp := callback(q, cookies...)
		for _, c := range resp.Cookies() {
			if c.Name == session.Cookie && c.Value != "" {
				t.Errorf("%s: gets a session", name)
			}
		}
	}
	resp := callback(q, mine.Name, mine.Value)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/album?id=7" {
		t.Fatalf("callback: %s to %s", resp.Status, resp.Header.Get("Location"))
	}
	app := cookieOf(t, resp, session.Cookie)
	if !app.Secure || !app.HttpOnly || app.Path != "/" || app.Domain != "" || app.Value == token {
		t.Errorf("the session's cookie is %+v", app)
	}
	g.check("with the app's cookie", at("photos.contoso.test", "/"), http.StatusOK, session.Cookie, app.Value)
	g.check("the app's cookie at the sign-in's host", at("nas.contoso.test:8443", "/"), http.StatusUnauthorized, session.Cookie, app.Value)
	if resp := callback(q, mine.Name, mine.Value); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a code for the second time: %s", resp.Status)
	}
	g.as(34)
	g.check("another app with this one's cookie", at("notes.contoso.test", "/"), http.StatusUnauthorized, session.Cookie, app.Value)
	g.check("another app at this one's host", at("photos.contoso.test", "/"), http.StatusForbidden, session.Cookie, app.Value)
	g.as(33)
	for name, header := range map[string]http.Header{"another site": {"X-Forwarded-Host": {"photos.contoso.test"}, "Origin": {"https://evil.test"}},
		"a frame of another site": {"X-Forwarded-Host": {"photos.contoso.test"}, "Sec-Fetch-Site": {"cross-site"}}} {
		if resp := g.ask(http.MethodPost, web.AppSignOutPath, header, session.Cookie, app.Value); resp.StatusCode != http.StatusForbidden {
			t.Errorf("sign-out by %s: %s", name, resp.Status)
		}
	}
	if resp := g.ask(http.MethodGet, web.AppSignOutPath, at("photos.contoso.test", ""), session.Cookie, app.Value); resp.StatusCode != http.StatusForbidden {
		t.Errorf("sign-out by a link: %s", resp.Status)
	}
	g.check("still signed in", at("photos.contoso.test", "/"), http.StatusOK, session.Cookie, app.Value)
	if resp := g.ask(http.MethodPost, web.AppSignOutPath, at("photos.contoso.test", ""), session.Cookie, app.Value); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-out: %s", resp.Status)
	}
	g.check("signed out", at("photos.contoso.test", "/"), http.StatusUnauthorized, session.Cookie, app.Value)
}

func TestForwardAuthRefusesOtherPathsAndGarbage(t *testing.T) {
	g := newGateway(t)
	for _, path := range []string{"/", "/auth/check/", "/auth/checkx", "/metrics", "/.latchkey/", "/auth/sign-in"} {
		if resp := g.ask(http.MethodGet, path, at("nas.contoso.test:8443", "/")); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	for _, path := range []string{web.AppStartPath, web.AppCallbackPath} {
		if resp := g.ask(http.MethodGet, path, at("nas.contoso.test:8443", "/")); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s at the sign-in's host: %s", path, resp.Status)
		}
	}
	if resp := g.ask(http.MethodGet, web.AppStartPath+"?return=//evil.test", at("photos.contoso.test", "")); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("start: %s", resp.Status)
	}
	conn, err := g.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: nas.contoso.test:8443\r\nX-Forwarded-Host: photos.contoso.test\r\n\r\n", web.CheckPath)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("two hosts on the wire: %v, %v", resp, err)
	}
	shut := web.NewForward(web.ForwardConfig{Log: slog.New(slog.DiscardHandler)})
	w := &recorder{header: http.Header{}}
	r, _ := http.NewRequest(http.MethodGet, web.CheckPath, nil)
	if shut.ServeHTTP(w, r); w.status != http.StatusServiceUnavailable {
		t.Errorf("without sessions: %d", w.status)
	}
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(status int)      { r.status = status }

// Headers of a proxy are bytes from outside: no panic, and a host that is taken
// leads to the sign-in of that host or of ours, never elsewhere.
func FuzzForwardedHeaders(f *testing.F) {
	for _, s := range [][2]string{{"nas.contoso.test:8443", "/"}, {"photos.contoso.test", "//evil.test"}, {"photos.contoso.test\r\nX: y", "/\\evil"}, {"", ""}, {"[::1]:443", "%zz"}, {"PHOTOS.CONTOSO.TEST:443", "/a"}} {
		f.Add(s[0], s[1])
	}
	g := newGateway(f)
	door := web.NewForward(web.ForwardConfig{Log: slog.New(slog.DiscardHandler), Sessions: rootCaller{g.sessions}})
	f.Fuzz(func(t *testing.T, host, uri string) {
		r, err := http.NewRequest(http.MethodGet, web.CheckPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Uri"] = []string{host}, []string{uri}
		w := &recorder{header: http.Header{}}
		door.ServeHTTP(w, r)
		to := w.header.Get(web.HeaderSignIn)
		switch w.status {
		case http.StatusForbidden:
		case http.StatusUnauthorized:
			u, err := url.Parse(to)
			if err != nil || u.Scheme != "https" || u.Host != "nas.contoso.test:8443" && u.Host != "photos.contoso.test" && u.Host != "notes.contoso.test" || strings.ContainsAny(to, "\r\n") {
				t.Errorf("host %q, uri %q: %s", host, uri, to)
			}
			if back := u.Query().Get("return"); back != "" {
				if _, err := session.LocalPath(back); err != nil {
					t.Errorf("uri %q: comes back to %q", uri, back)
				}
			}
		default:
			t.Errorf("host %q, uri %q: %d", host, uri, w.status)
		}
	})
}

// rootCaller asks as root would, who may act as every app.
type rootCaller struct{ *session.Sessions }

func (r rootCaller) AppAt(host, path string, _ session.Caller) (string, string, bool) {
	return r.Sessions.AppAt(host, path, session.Caller{})
}

// One connection: plain questions, in pieces and two at a time, and then one that
// net/http has to answer, and more of both.
func TestPlainQuestionsAndOthersOnOneConnection(t *testing.T) {
	g := newGateway(t)
	plain := "GET /auth/check HTTP/1.1\r\nHost: latchkey\r\nX-Forwarded-Host: nas.contoso.test:8443\r\nX-Forwarded-Uri: /file\r\nCookie: " + session.Cookie + "=" + g.signIn("staff") + "\r\n\r\n"
	other := strings.Replace(plain, "Host: latchkey", "Host: latchkey\r\nConnection: keep-alive", 1)
	nobody := strings.Replace(plain, "Cookie: ", "X-Cookie: ", 1)
	conn, err := g.client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for n, step := range []struct {
		pieces []string
		want   []int
	}{
		{[]string{plain}, []int{200}}, {[]string{plain[:3], plain[3:40], plain[40:]}, []int{200}}, {[]string{plain + nobody + plain[:9], plain[9:]}, []int{200, 401, 200}},
		{[]string{plain + other + nobody}, []int{200, 200, 401}}, {[]string{plain}, []int{200}}, {[]string{other[:60], other[60:]}, []int{200}},
	} {
		for _, piece := range step.pieces {
			if _, err := io.WriteString(conn, piece); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range step.want {
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("step %d: %v", n, err)
			}
			if resp.StatusCode != want || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Date") == "" || (resp.Header.Get(web.HeaderUser) != "") != (want == 200) ||
				(resp.Header.Get(web.HeaderSignIn) != "") != (want == 401) || resp.ContentLength != 0 {
				t.Errorf("step %d: %s, %v", n, resp.Status, resp.Header)
			}
		}
	}
}

// BenchmarkForwardAuth is one check on a kept connection, client included.
func BenchmarkForwardAuth(b *testing.B) {
	g := newGateway(b)
	request := []byte("GET /auth/check HTTP/1.1\r\nHost: latchkey\r\nX-Forwarded-Host: nas.contoso.test:8443\r\nX-Forwarded-Uri: /file\r\nCookie: " + session.Cookie + "=" + g.signIn("staff") + "\r\n\r\n")
	conn, err := g.client.Transport.(*http.Transport).DialContext(b.Context(), "", "")
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200") {
			b.Fatalf("%q, %v", buf[:n], err)
		}
	}
}
