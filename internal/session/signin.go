// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/oidc"
)

// Ask is the begin of one sign-in of one browser.
type Ask struct {
	// Return is a path of this host where the browser goes afterwards; empty: "/".
	Return string
	// Request is an app's, from Request; empty: nobody's but ours.
	Request string
	// Silent asks without a page: the answer may be the reason Quiet.
	Silent bool
}

// Begun is a sign-in on its way.
type Begun struct {
	URL string // where to send the browser
	// Cookie binds the sign-in to this browser. The door sets it with Path=/;
	// Secure; HttpOnly; SameSite=None (a form_post comes from the tenant's site).
	CookieName, Cookie string
	Age                time.Duration // of the cookie
}

// flight is what the cookie holds, sealed.
type flight struct {
	oidc.Flight
	Issuer  string `json:"i"`
	Return  string `json:"r,omitempty"`
	Request string `json:"a,omitempty"`
}

const purposeFlight = "sign-in"

// CookieFor returns the name of the cookie of a sign-in: each has its own, so
// that two tabs do not end each other's.
func CookieFor(state string) string {
	return Cookie + "-in-" + state[:min(len(state), 8)]
}

// Begin sends a browser to Entra ID. fault.NotFound: not set up;
// fault.Unreachable: the tenant does not answer; fault.Malformed: Return or
// Request are not what they should be.
func (s *Sessions) Begin(ctx context.Context, a Ask) (*Begun, error) {
	p := s.provider()
	if p == nil {
		return nil, reason(Setup, errNoProvider)
	}
	back, err := LocalPath(a.Return)
	if err != nil {
		return nil, reason(Malformed, err)
	}
	if a.Request != "" {
		if _, err := s.openRequest(a.Request); err != nil {
			return nil, err
		}
	}
	address, f, err := p.Begin(ctx, a.Silent)
	if err != nil {
		return nil, reason(ReasonOf(err), err)
	}
	plain, err := json.Marshal(flight{Flight: f, Issuer: p.Issuer(), Return: back, Request: a.Request})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "seal a sign-in", err)
	}
	b := &Begun{URL: address, CookieName: CookieFor(f.State), Age: signInTime,
		Cookie: s.sealer.seal(purposeFlight, plain, s.c.Now().Add(signInTime))}
	if len(b.CookieName)+len(b.Cookie) > 4000 {
		return nil, reason(Malformed, fault.New(fault.Malformed, "the place to return to is too long"))
	}
	return b, nil
}

// LocalPath returns a place of this host that a browser may be sent to: a path
// with an optional query, "/" for nothing. fault.Malformed for everything that a
// browser would take for another host, or that would break a header.
func LocalPath(text string) (string, error) {
	if text == "" {
		return "/", nil
	}
	u, err := url.Parse(text)
	switch {
	case len(text) > 2048, !utf8.ValidString(text), err != nil, u.Scheme != "", u.Host != "", u.User != nil, u.Opaque != "",
		text[0] != '/', strings.HasPrefix(text, "//"), strings.ContainsAny(text, "\\"),
		strings.ContainsFunc(text, func(r rune) bool { return r <= 0x20 || r == 0x7f }):
		return "", fault.New(fault.Malformed, "the place to return to is no path of this host")
	}
	// Whatever a browser makes of dots and slashes must stay here, too.
	if strings.HasPrefix(u.Path, "//") || strings.ContainsAny(u.Path, "\\\r\n\t\x00") {
		return "", fault.New(fault.Malformed, "the place to return to is no path of this host")
	}
	return text, nil
}

// Answer is what the tenant sent back through the browser.
type Answer struct {
	State string
	Code  string
	// Error and Description instead of a code.
	Error, Description string
}

// ParseAnswer reads the form or the query of a callback. A field that comes
// twice, or is too long, is the reason Malformed; a token, the reason Front.
func ParseAnswer(v url.Values) (Answer, error) {
	fail := func(why string) (Answer, error) { return Answer{}, reason(Malformed, fault.New(fault.Malformed, why)) }
	for _, name := range []string{"id_token", "access_token", "token", "refresh_token"} {
		if v.Has(name) {
			return Answer{}, reason(Front, &fault.Error{Kind: fault.Malformed, Op: "read the tenant's answer", Err: oidc.ErrFront,
				Remedy: "switch off both boxes of \"Implicit grant and hybrid flows\" in the app registration"})
		}
	}
	var a Answer
	for name, field := range map[string]*string{"state": &a.State, "code": &a.Code, "error": &a.Error, "error_description": &a.Description} {
		values := v[name]
		if len(values) > 1 {
			return fail(name + " comes twice")
		}
		if len(values) == 1 {
			*field = values[0]
		}
	}
	switch {
	case len(a.State) != 43:
		return fail("there is no state")
	case len(a.Code) > 8192 || len(a.Error) > 256 || len(a.Description) > 8192:
		return fail("a field is too long")
	case (a.Code == "") == (a.Error == ""):
		return fail("there is neither a code nor an error, or both")
	}
	if _, err := decode(a.State); err != nil {
		return fail("the state is none of ours")
	}
	return a, nil
}

// CookieName is the cookie to read for Finish, and to delete afterwards.
func (a Answer) CookieName() string { return CookieFor(a.State) }

// From is where a browser is.
type From struct {
	RemoteHost string // address
	Agent      string
	// Old is the session cookie that came along; it ends with the sign-in.
	Old string
}

// Finished is a sign-in that came through.
type Finished struct {
	// Token is the value of Cookie: a secret of this browser.
	Token   string
	Session *Session
	// Location is where the browser goes: a path of this host, or the redirect
	// URI of an app with a one-time code.
	Location string
}

// Finish takes the tenant's answer together with the cookie of the sign-in and
// makes a session. ReasonOf tells why it did not. An answer is taken once.
func (s *Sessions) Finish(ctx context.Context, a Answer, cookie string, from From) (*Finished, error) {
	f, err := s.openFlight(a, cookie)
	if err != nil {
		return nil, err
	}
	if !s.spent.take(hashOf(f.State), s.c.Now().Add(signInTime)) {
		return nil, s.failed(from, reason(Replayed, fault.New(fault.BadCredential, "this answer of the tenant was used before")))
	}
	if a.Error != "" {
		return nil, s.failed(from, saidNo(a, f.Silent))
	}
	p := s.provider()
	if p == nil || p.Issuer() != f.Issuer {
		return nil, s.failed(from, reason(Stale, fault.New(fault.BadCredential, "the settings changed while somebody signed in")))
	}
	claims, err := p.Redeem(ctx, f.Flight, a.Code)
	if err != nil {
		return nil, s.failed(from, reason(ReasonOf(err), err))
	}
	in, err := s.c.Accept(ctx, login.Request{Service: Service, RemoteHost: from.RemoteHost, Door: "web", Caller: "browser"},
		claims.Tenant.String(), claims.Object.String())
	if err != nil {
		return nil, ofLogin(err, claims.Guest)
	}
	defer in.Wipe()
	done, err := s.open(ctx, opening{who: Who{Row: in.User.Row}, how: string(in.How), audit: in.Session, shown: in.User.Name, provider: claims.Session,
		issuer: f.Issuer, state: f.State, from: from})
	if err != nil {
		return nil, err
	}
	done.Location = f.Return
	if f.Request != "" {
		if done.Location, err = s.Pass(ctx, done.Token, f.Request); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// Wanted is where a browser wanted to go that comes back with an answer, as Ask
// has it: what a page needs that says why it cannot, and leads back. Empty where
// the browser did not begin this sign-in.
func (s *Sessions) Wanted(a Answer, cookie string) (back, request string) {
	f, err := s.openFlight(a, cookie)
	if err != nil {
		return "", ""
	}
	return f.Return, f.Request
}

// openFlight finds out whether the answer belongs to a sign-in of this browser.
func (s *Sessions) openFlight(a Answer, cookie string) (*flight, error) {
	stale := reason(Stale, fault.New(fault.BadCredential, "the browser did not begin this sign-in, or too long ago"))
	plain, err := s.sealer.open(purposeFlight, cookie, s.c.Now())
	if err != nil {
		return nil, stale
	}
	var f flight
	if err := json.Unmarshal(plain, &f); err != nil {
		return nil, stale
	}
	if subtle.ConstantTimeCompare([]byte(f.State), []byte(a.State)) != 1 {
		return nil, stale
	}
	return &f, nil
}

// failed records an attempt that package login never heard of.
func (s *Sessions) failed(from From, err error) error {
	if s.c.Audit != nil && ReasonOf(err) != Quiet {
		outcome, reason := audit.Of(err)
		s.c.Audit.Record(audit.Event{ID: audit.NewID(), Time: s.c.Now(), Action: audit.SignIn, Outcome: outcome, Reason: reason,
			Detail: err.Error(), Door: "web", Service: Service, How: "oidc", RemoteHost: from.RemoteHost})
	}
	return err
}

// saidNo is the reason behind an error that the tenant sent (RFC 6749 4.1.2.1,
// OpenID Connect Core 1.0 3.1.2.6).
func saidNo(a Answer, silent bool) error {
	err := errors.New("the tenant says " + oidc.Said(a.Error, a.Description))
	switch a.Error {
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		if silent {
			return reason(Quiet, fault.Wrap(fault.BadCredential, "sign in without a page", err))
		}
		return reason(Cancelled, fault.Wrap(fault.BadCredential, "sign in", err))
	case "temporarily_unavailable", "server_error":
		return reason(Away, fault.Wrap(fault.Unreachable, "sign in", err))
	case "invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope", "invalid_client":
		return reason(Setup, fault.WithRemedy(fault.Wrap(fault.Conflict, "sign in", err), "`latchkey sso test` checks the registration"))
	}
	return reason(Cancelled, fault.Wrap(fault.BadCredential, "sign in", err))
}
