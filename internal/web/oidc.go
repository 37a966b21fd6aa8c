// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// oidcStart sends the browser to Entra ID.
func (s *Server) oidcStart(w http.ResponseWriter, r *http.Request) {
	if s.c.Sessions == nil {
		s.fail(w, r, http.StatusServiceUnavailable, "away", nil)
		return
	}
	// A page of another site may not start a sign-in that the visitor did not
	// ask for. Where a browser does not say who asks, it may.
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" && r.Header.Get("Sec-Fetch-Dest") != "document" {
		s.fail(w, r, http.StatusForbidden, "cross-site", nil)
		return
	}
	q := r.URL.Query()
	g := goalOf(q)
	if there, ok := s.elsewhere(r); ok {
		http.Redirect(w, r, there, http.StatusSeeOther)
		return
	}
	begun, err := s.c.Sessions.Begin(r.Context(), session.Ask{Return: g.path, Request: g.request, Silent: q.Get("silent") != ""})
	if err != nil {
		s.failFor(w, r, err)
		return
	}
	// The answer comes as a POST of another site, which brings no Lax cookie.
	setCookie(w, begun.CookieName, begun.Cookie, begun.Age, http.SameSiteNoneMode)
	http.Redirect(w, r, begun.URL, http.StatusSeeOther)
}

// elsewhere is this page under the name to which the tenant sends people back. A
// browser that came by another one, or by an address, would have no cookie there
// of what it began here. It is moved once: a proxy may change the name.
func (s *Server) elsewhere(r *http.Request) (string, bool) {
	base, q := s.c.Sessions.Base(), r.URL.Query()
	if base == "" || fault.Is(s.c.Sessions.Ready(), fault.NotFound) || strings.EqualFold(strings.TrimSuffix(base, ":443"), "https://"+strings.TrimSuffix(r.Host, ":443")) || q.Has("moved") {
		return "", false
	}
	q.Set("moved", "1")
	return base + r.URL.Path + "?" + q.Encode(), true
}

// entraTime is how long a browser is remembered to have come from Entra ID.
const entraTime = 30 * 24 * time.Hour

// oidcCallback takes the answer of Entra ID, as a form or a query.
func (s *Server) oidcCallback(w http.ResponseWriter, r *http.Request) {
	if s.c.Sessions == nil {
		s.fail(w, r, http.StatusServiceUnavailable, "away", nil)
		return
	}
	values := r.URL.Query()
	switch r.Method {
	case http.MethodPost:
		if err := r.ParseForm(); err != nil {
			s.fail(w, r, http.StatusBadRequest, "malformed", nil)
			return
		}
		values = r.PostForm
	case http.MethodGet:
	default:
		s.fail(w, r, http.StatusNotFound, "not-found", nil)
		return
	}
	answer, err := session.ParseAnswer(values)
	if err != nil {
		s.failFor(w, r, err)
		return
	}
	// The session's own cookie is Lax and stays away from a POST of another site:
	// the old session is ended by its limits then.
	flight := cookie(r, answer.CookieName())
	setCookie(w, answer.CookieName(), "", 0, http.SameSiteNoneMode)
	done, err := s.c.Sessions.Finish(r.Context(), answer, flight, s.from(r))
	if err != nil {
		back, request := s.c.Sessions.Wanted(answer, flight)
		g := goalOf(url.Values{"return": {back}, "request": {request}})
		if session.ReasonOf(err) == session.Quiet {
			http.Redirect(w, r, g.again(), http.StatusSeeOther)
			return
		}
		s.failFor(w, r.WithContext(context.WithValue(r.Context(), goalKey{}, g)), err)
		return
	}
	setSession(w, done.Token)
	setCookie(w, cookieEntra, "1", entraTime, http.SameSiteLaxMode)
	setCookie(w, cookieTried, "", 0, http.SameSiteLaxMode)
	http.Redirect(w, r, done.Location, http.StatusSeeOther)
}

// oidcSignedOut is what Entra ID has the browser ask, in a frame of its own,
// when somebody signs out there (OpenID Connect Front-Channel Logout 1.0). Entra
// ID sends sid alone, others iss as well; nobody can guess a sid.
func (s *Server) oidcSignedOut(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Del("X-Frame-Options")
	h.Set("Content-Security-Policy", "default-src 'none'")
	q := r.URL.Query()
	if s.c.Sessions != nil && len(q.Get("sid")) <= 256 {
		if _, err := s.c.Sessions.SignedOut(r.Context(), q.Get("iss"), q.Get("sid")); err != nil {
			s.c.Log.Warn("sessions that Entra ID signed out cannot be ended", "error", err)
		}
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
}
