// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// Forwarded is what the forward-auth door asks; *session.Sessions answers.
type Forwarded interface {
	Check(ctx context.Context, token, app string) (*session.Person, error)
	Seen(token, app string) (p *session.Person, sure bool)
	AppAt(host, path string, c session.Caller) (name, redirect string, ok bool)
	Request(c session.Caller, app, redirect, state string) (string, error)
	Exchange(ctx context.Context, c session.Caller, app, redirect, code string) (*session.Finished, *session.Person, error)
	End(ctx context.Context, token, app string) (int, error)
	Base() string
	Seal(purpose string, plain []byte, good time.Duration) string
	Unseal(purpose, text string) ([]byte, error)
}

// The paths of the door. A proxy asks CheckPath before each request; the others
// it hands through, on hosts other than that of the sign-in pages.
const (
	CheckPath       = "/auth/check"
	AppStartPath    = "/.latchkey/start"
	AppCallbackPath = "/.latchkey/callback"
	AppSignOutPath  = "/.latchkey/sign-out"
)

// The headers by which an app learns who it is; see session.Person.Header.
const (
	HeaderUser   = "X-Latchkey-User"
	HeaderUID    = "X-Latchkey-Uid"
	HeaderGroups = "X-Latchkey-Groups"
	// HeaderSignIn comes with a 401: where to send the browser.
	HeaderSignIn = "X-Latchkey-Sign-In"
)

// cookieApp holds where a browser wanted to go on an app's host, sealed.
const cookieApp = session.Cookie + "-at"

const purposeApp = "app sign-in"

// ForwardConfig is what the forward-auth door works with. Log is required;
// Sessions are nil where nobody can be signed in.
type ForwardConfig struct {
	Log      *slog.Logger
	Sessions Forwarded
	Limits   peer.Limits
	Identify func(*net.UnixConn) (peer.Caller, error) // nil: peer.CallerOf
}

// Forward answers a web proxy of this machine (nginx's auth_request, Caddy's
// forward_auth): may this request through, and whose is it. The proxy says for
// which host and place a request is by X-Forwarded-Host and X-Forwarded-Uri; it
// must set both itself, and clear the X-Latchkey headers and this machine's
// cookies that a client sent.
type Forward struct {
	c    ForwardConfig
	gate *peer.Gate
	http *http.Server // for all but the plain question; see check.go
	slow *handover

	mu        sync.Mutex
	listeners []net.Listener
	loop      *loop // nil until Serve
	stopped   bool
}

type callerKey struct{}

// NewForward returns a door that serves nothing yet.
func NewForward(c ForwardConfig) *Forward {
	if c.Identify == nil {
		c.Identify = peer.CallerOf
	}
	f := &Forward{c: c, gate: peer.NewGate(peer.Auth, c.Limits, c.Log, c.Identify), slow: newHandover()}
	f.http = &http.Server{Handler: f, ReadHeaderTimeout: headersTime, ReadTimeout: 2 * headersTime, WriteTimeout: 2 * headersTime,
		IdleTimeout: keptTime, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			who := session.Caller{UID: ^identity.UID(0)}
			if h, ok := conn.(*handed); ok {
				who = callerOf(h.Conn)
			}
			return context.WithValue(ctx, callerKey{}, who)
		}}
	return f
}

// callerOf is the process at the other end, as package session has it.
func callerOf(c *peer.Conn) session.Caller {
	p := c.Caller()
	return session.Caller{UID: p.UID, GIDs: append([]identity.GID{p.GID}, p.Groups...)}
}

// ServeHTTP answers one request.
func (f *Forward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Cache-Control"] = noStore
	if f.c.Sessions == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case CheckPath:
		f.check(w, r)
	case AppStartPath:
		f.start(w, r)
	case AppCallbackPath:
		f.callback(w, r)
	case AppSignOutPath:
		f.signOut(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

var noStore = []string{"no-store"}

// place is where a browser asked for something, as the proxy says.
type place struct {
	host, path string
	caller     session.Caller
	own        bool // the host of the sign-in pages
	app        string
	redirect   string
}

// placeOf reads the headers of the proxy. False: a header is missing, came twice,
// or cannot be one of a browser's request.
func (f *Forward) placeOf(r *http.Request) (place, bool) {
	p := place{host: r.Host, path: "/"}
	p.caller, _ = r.Context().Value(callerKey{}).(session.Caller)
	for _, from := range []struct {
		name  string
		field *string
	}{{"X-Forwarded-Host", &p.host}, {"X-Original-Uri", &p.path}, {"X-Forwarded-Uri", &p.path}} {
		switch values := r.Header[from.name]; {
		case len(values) > 1:
			return p, false
		case len(values) == 1:
			*from.field = values[0]
		}
	}
	return f.placeAt(p)
}

// placeAt finds the app of a place.
func (f *Forward) placeAt(p place) (place, bool) {
	if p.host == "" || len(p.host) > 300 || strings.ContainsFunc(p.host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/\\@?#,;\"", r) }) {
		return p, false
	}
	host, _ := strings.CutSuffix(p.host, ":443")
	base := strings.TrimPrefix(f.c.Sessions.Base(), "https://")
	if p.own = base != "" && strings.EqualFold(hostOnly(host), hostOnly(base)); p.own {
		return p, true
	}
	var ok bool
	p.app, p.redirect, ok = f.c.Sessions.AppAt(host, AppCallbackPath, p.caller)
	return p, ok
}

// hostOnly is a host without its port.
func hostOnly(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}

func (f *Forward) check(w http.ResponseWriter, r *http.Request) {
	p, ok := f.placeOf(r)
	a := verdict{status: http.StatusForbidden}
	if ok {
		a = f.decide(r.Context(), p, cookie(r, session.Cookie))
	} else {
		f.notOurs(p)
	}
	h := w.Header()
	switch a.status {
	case http.StatusOK:
		h[HeaderUser], h[HeaderUID], h[HeaderGroups] = []string{a.user}, []string{a.uid}, []string{a.groups}
	case http.StatusUnauthorized:
		h[HeaderSignIn] = []string{a.signIn}
	}
	w.WriteHeader(a.status)
}

func (f *Forward) notOurs(p place) {
	f.c.Log.Debug("forward-auth was asked for a host of no app of the caller", "host", clipped(p.host), "uid", p.caller.UID)
}

// verdict is the answer to one question.
type verdict struct {
	status            int
	user, uid, groups string // with 200
	signIn            string // with 401
}

// decide says whether a request with this session's token may come through.
func (f *Forward) decide(ctx context.Context, p place, token string) verdict {
	person, err := f.c.Sessions.Check(ctx, token, p.app)
	switch fault.KindOf(err) {
	case fault.Unknown:
		if err != nil {
			return verdict{status: http.StatusInternalServerError}
		}
		return letIn(person)
	case fault.BadCredential, fault.NotFound:
		return verdict{status: http.StatusUnauthorized, signIn: f.signIn(p)}
	case fault.Denied:
		return verdict{status: http.StatusForbidden}
	case fault.Unreachable, fault.Exhausted:
		return verdict{status: http.StatusServiceUnavailable}
	}
	f.c.Log.Error("forward-auth failed", "error", err)
	return verdict{status: http.StatusInternalServerError}
}

// decideNow is decide where nothing has to be waited for; false: it has.
func (f *Forward) decideNow(p place, token string) (verdict, bool) {
	switch person, sure := f.c.Sessions.Seen(token, p.app); {
	case !sure:
		return verdict{}, false
	case person == nil:
		return verdict{status: http.StatusUnauthorized, signIn: f.signIn(p)}, true
	default:
		return letIn(person), true
	}
}

func letIn(p *session.Person) verdict {
	v := verdict{status: http.StatusOK}
	v.user, v.uid, v.groups = p.Header()
	return v
}

// signIn is where a browser signs in that has no session.
func (f *Forward) signIn(p place) string {
	back, err := session.LocalPath(p.path)
	if err != nil || strings.HasPrefix(back, "/.latchkey/") {
		back = "/"
	}
	q := "?" + url.Values{"return": {back}}.Encode()
	switch base := f.c.Sessions.Base(); {
	case !p.own:
		return "https://" + strings.TrimSuffix(p.redirect, AppCallbackPath)[len("https://"):] + AppStartPath + q
	case strings.EqualFold("https://"+p.host, base):
		return base + "/auth/sign-in" + q
	default: // another port: the way back would be another origin
		return base + "/auth/sign-in"
	}
}

// wanted is what cookieApp holds.
type wanted struct {
	State  string `json:"s"`
	Return string `json:"r"`
}

// start sends a browser on an app's host to the sign-in pages.
func (f *Forward) start(w http.ResponseWriter, r *http.Request) {
	p, ok := f.placeOf(r)
	if r.Method != http.MethodGet || !ok || p.own {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	back, err := session.LocalPath(r.URL.Query().Get("return"))
	if err != nil || strings.HasPrefix(back, "/.latchkey/") {
		back = "/"
	}
	want := wanted{State: session.NewState(), Return: back}
	to, err := f.c.Sessions.Request(p.caller, p.app, p.redirect, want.State)
	if err != nil {
		f.c.Log.Warn("a browser cannot be sent to the sign-in pages", "app", p.app, "error", err, "remedy", fault.Remedy(err))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	plain, err := json.Marshal(want)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	setCookie(w, cookieApp, f.c.Sessions.Seal(purposeApp, plain, 15*time.Minute), 15*time.Minute, http.SameSiteLaxMode)
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// callback takes the one-time code and gives the browser a cookie of the app's
// host.
func (f *Forward) callback(w http.ResponseWriter, r *http.Request) {
	p, ok := f.placeOf(r)
	if r.Method != http.MethodGet || !ok || p.own {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	q := r.URL.Query()
	var want wanted
	plain, err := f.c.Sessions.Unseal(purposeApp, cookie(r, cookieApp))
	if err == nil {
		err = json.Unmarshal(plain, &want)
	}
	setCookie(w, cookieApp, "", 0, http.SameSiteLaxMode)
	if err != nil || len(q["state"]) != 1 || len(q["code"]) != 1 || !session.SameState(want.State, q.Get("state")) {
		// Another browser's, or too late: the way in begins anew.
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	done, _, err := f.c.Sessions.Exchange(r.Context(), p.caller, p.app, p.redirect, q.Get("code"))
	switch fault.KindOf(err) {
	case fault.Unknown:
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	case fault.Denied, fault.BadCredential, fault.NotFound:
		w.WriteHeader(http.StatusForbidden)
		return
	default:
		f.c.Log.Warn("a one-time code could not be changed for a session", "app", p.app, "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	setSession(w, done.Token)
	http.Redirect(w, r, want.Return, http.StatusSeeOther)
}

// signOut ends the session of an app's host.
func (f *Forward) signOut(w http.ResponseWriter, r *http.Request) {
	p, ok := f.placeOf(r)
	site := r.Header.Get("Sec-Fetch-Site")
	if r.Method != http.MethodPost || !ok || p.own || site != "" && site != "same-origin" || r.Header.Get("Origin") != "" && !strings.EqualFold(r.Header.Get("Origin"), "https://"+p.host) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if _, err := f.c.Sessions.End(r.Context(), cookie(r, session.Cookie), p.app); err != nil {
		f.c.Log.Error("a session that was signed out cannot be removed from the store", "error", err)
	}
	setSession(w, "")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func clipped(s string) string { return s[:min(len(s), 100)] }
