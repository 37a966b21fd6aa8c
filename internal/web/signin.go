// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// triedTime is how long a browser is not asked again without a click.
const triedTime = 10 * time.Minute

// What was tried; letters of cookieTried.
const (
	triedTicket = "n"
	triedEntra  = "o"
)

// passwordTime bounds one check, PAM's delay after a failure included.
const passwordTime = 55 * time.Second

// goal is where a visitor wants to go: a path of this host, or an app that asked
// for a sign-in.
type goal struct{ path, request string }

func goalOf(v url.Values) goal {
	g := goal{path: localPath(v.Get("return")), request: v.Get("request")}
	if len(g.request) > 3000 || strings.ContainsFunc(g.request, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		g.request = ""
	}
	if strings.HasPrefix(g.path, "/auth/sign-in") || g.path == "/" {
		g.path = "/auth/account"
	}
	return g
}

func (g goal) query() url.Values {
	v := url.Values{"return": {g.path}}
	if g.request != "" {
		v.Set("request", g.request)
	}
	return v
}

// to returns a path of ours that keeps the goal.
func (g goal) to(path string, more ...string) string {
	v := g.query()
	for i := 0; i+1 < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return path + "?" + v.Encode()
}

// again is the sign-in page with its buttons, which keeps the goal.
func (g goal) again() string {
	if g.request == "" && (g.path == "/" || g.path == "/auth/account") {
		return "/auth/sign-in?stay=1"
	}
	return g.to("/auth/sign-in", "stay", "1")
}

// goalKey is under which a request has a goal that is neither in its form nor in
// its query.
type goalKey struct{}

// goalIn is the goal of a request, for the way back from a page that says what
// went wrong.
func goalIn(r *http.Request) goal {
	if g, ok := r.Context().Value(goalKey{}).(goal); ok {
		return g
	}
	if r.PostForm != nil {
		return goalOf(r.PostForm)
	}
	return goalOf(r.URL.Query())
}

// signInPage is data of the sign-in page.
type signInPage struct {
	Wrong, Notice, Product string
	Neutral                bool   // the notice is no good news
	Entra, Computer        string // where the buttons lead; empty: no button
	Away                   bool
	Return, Request, Name  string
}

// signIn shows the ways to sign in. Before that, each browser is tried once
// without being asked: for a ticket where that is switched on, and at Entra ID
// where it came from there the last time.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	g := goalOf(q)
	if s.c.Sessions == nil {
		s.fail(w, r, http.StatusServiceUnavailable, "away", nil)
		return
	}
	if token := cookie(r, session.Cookie); token != "" {
		if _, err := s.c.Sessions.Check(r.Context(), token, ""); err == nil {
			s.goOn(w, r, token, g, false)
			return
		}
	}
	tried := cookie(r, cookieTried)
	if q.Get("stay") == "" {
		try := func(what, where string) {
			setCookie(w, cookieTried, letters(tried)+what, triedTime, http.SameSiteLaxMode)
			http.Redirect(w, r, where, http.StatusSeeOther)
		}
		switch {
		case s.silently(r) && !strings.Contains(tried, triedTicket):
			try(triedTicket, g.to("/auth/negotiate"))
			return
		case cookie(r, cookieEntra) != "" && !strings.Contains(tried, triedEntra) && s.c.Sessions.Ready() == nil:
			try(triedEntra, g.to("/auth/oidc/start", "silent", "1"))
			return
		}
	}
	p := signInPage{}
	switch c := s.pages.languages.of(r); q.Get("notice") {
	case "out":
		p.Notice = c.text("signin.out")
	case "ended":
		p.Notice = c.text("signin.ended")
	}
	s.showSignIn(w, r, http.StatusOK, g, p)
}

// letters keeps of a cookie what we may have put there.
func letters(tried string) string {
	out := ""
	for _, l := range []string{triedTicket, triedEntra} {
		if strings.Contains(tried, l) {
			out += l
		}
	}
	return out
}

func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request, status int, g goal, p signInPage) {
	p.Product, p.Return, p.Request = s.product(), g.path, g.request
	switch err := s.c.Sessions.Ready(); {
	case err == nil:
		p.Entra = g.to("/auth/oidc/start")
	case !fault.Is(err, fault.NotFound): // set up, and not to be had now
		p.Away = true
	}
	if s.mayNegotiate(r) {
		p.Computer = g.to("/auth/negotiate")
	}
	s.render(w, r, status, "sign-in", "signin.title", p, frame{Narrow: true}, g.to("/auth/sign-in", "stay", "1"))
}

// begin is where an app sends its people: through if they are signed in, to the
// sign-in otherwise.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) {
	g := goalOf(url.Values{"request": {r.URL.Query().Get("request")}})
	http.Redirect(w, r, g.to("/auth/sign-in"), http.StatusSeeOther)
}

// password tries what was typed.
func (s *Server) password(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.fail(w, r, http.StatusBadRequest, "malformed", nil)
		return
	}
	g := goalOf(r.PostForm)
	name, from := strings.TrimSpace(r.PostForm.Get("name")), remote(r)
	password := secret.Own([]byte(r.PostForm.Get("password")))
	defer password.Wipe()
	c := s.pages.languages.of(r)
	again := func(status int, wrong string) {
		s.showSignIn(w, r, status, g, signInPage{Wrong: wrong, Name: name})
	}
	switch {
	case s.c.Sessions == nil || s.c.Passwords == nil:
		s.fail(w, r, http.StatusServiceUnavailable, "away", nil)
		return
	case name == "" || password.Len() == 0:
		again(http.StatusUnauthorized, c.text("signin.empty"))
		return
	case len(name) > 255 || password.Len() > 1024 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		s.throttle.fail(from, name)
		name = "" // not for a page
		again(http.StatusUnauthorized, c.text("signin.wrong"))
		return
	}
	if wait := s.throttle.wait(from, name); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		again(http.StatusTooManyRequests, c.text("signin.throttled", strconv.Itoa(int(math.Ceil(wait.Minutes())))))
		return
	}
	// Counted before it is known to be one: many at the same time are many.
	s.throttle.fail(from, name)
	ctx, cancel := context.WithTimeout(r.Context(), passwordTime)
	defer cancel()
	who, err := s.c.Passwords.Check(ctx, name, password, from.String())
	if err != nil {
		if fault.Is(err, fault.BadCredential) || fault.Is(err, fault.NotFound) {
			again(http.StatusUnauthorized, c.text("signin.wrong"))
			return
		}
		// Who is gone has not been told, and knows all the same: a wrong password
		// takes longer.
		if r.Context().Err() == nil {
			s.throttle.forgive(from, name)
		}
		s.failFor(w, r, err)
		return
	}
	s.throttle.succeed(from, name)
	s.enter(w, r, who, "password", g, true)
}

// enter opens a session: a new token, whatever the browser had before.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, who *Proven, how string, g goal, form bool) {
	done, err := s.c.Sessions.Open(r.Context(), who.Who, how, who.Audit, who.Shown, s.from(r))
	if err != nil {
		s.failFor(w, r, err)
		return
	}
	setSession(w, done.Token)
	setCookie(w, cookieEntra, "", 0, http.SameSiteLaxMode)
	s.goOn(w, r, done.Token, g, form)
}

// goOn sends a signed-in browser to its goal. After a form it may not leave this
// host by a redirect, which form-action forbids; a page with a link and a
// refresh takes it there.
func (s *Server) goOn(w http.ResponseWriter, r *http.Request, token string, g goal, form bool) {
	if g.request == "" {
		http.Redirect(w, r, g.path, http.StatusSeeOther)
		return
	}
	there, err := s.c.Sessions.Pass(r.Context(), token, g.request)
	switch {
	case err != nil:
		s.failFor(w, r, err)
	case form:
		s.leave(w, r, there)
	default:
		http.Redirect(w, r, there, http.StatusSeeOther)
	}
}

// leave is a page that sends the browser to another host.
func (s *Server) leave(w http.ResponseWriter, r *http.Request, there string) {
	s.render(w, r, http.StatusOK, "continue", "continue.title", struct{ Next string }{there}, frame{Narrow: true, Refresh: there}, "/auth/account")
}

func (s *Server) from(r *http.Request) session.From {
	return session.From{RemoteHost: remote(r).String(), Agent: r.UserAgent(), Old: cookie(r, session.Cookie)}
}

// outcomes are the page and status for each reason of package session.
var outcomes = map[session.Reason]struct {
	status int
	text   string
}{
	session.Stale:     {http.StatusBadRequest, "stale"},
	session.Replayed:  {http.StatusBadRequest, "replayed"},
	session.Malformed: {http.StatusBadRequest, "malformed"},
	session.Front:     {http.StatusBadRequest, "front"},
	session.Quiet:     {http.StatusUnauthorized, "quiet"},
	session.Cancelled: {http.StatusUnauthorized, "cancelled"},
	session.Token:     {http.StatusUnauthorized, "token"},
	session.Setup:     {http.StatusServiceUnavailable, "setup"},
	session.Away:      {http.StatusServiceUnavailable, "away"},
	session.Unknown:   {http.StatusForbidden, "unknown"},
	session.Guest:     {http.StatusForbidden, "guest"},
	session.Ambiguous: {http.StatusForbidden, "ambiguous"},
	session.Account:   {http.StatusForbidden, "account"},
	session.Denied:    {http.StatusForbidden, "denied"},
	session.Internal:  {http.StatusInternalServerError, "internal"},
}

// failFor writes the page for a failure of what is behind the door.
func (s *Server) failFor(w http.ResponseWriter, r *http.Request, err error) {
	why := session.ReasonOf(err)
	o, ok := outcomes[why]
	if !ok {
		o = outcomes[session.Internal]
	}
	switch {
	case errors.Is(err, session.ErrNone):
		http.Redirect(w, r, goalIn(r).to("/auth/sign-in", "stay", "1", "notice", "ended"), http.StatusSeeOther)
		return
	case fault.Is(err, fault.MustChange):
		o.text = "must-change"
	case fault.Is(err, fault.Locked):
		o.text = "locked"
	case fault.Is(err, fault.Exhausted):
		o.status, o.text = http.StatusServiceUnavailable, "too-many"
	}
	s.fail(w, r, o.status, o.text, err)
}
