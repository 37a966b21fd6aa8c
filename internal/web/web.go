// SPDX-License-Identifier: Apache-2.0

// Package web is the door for browsers: the sign-in pages, where Entra ID sends
// people back to, silent sign-in by Kerberos, everybody's own account, and what
// reverse proxies ask.
//
// It turns forms and headers into one attempt and the outcome into a page, in
// the reader's language; who may in is decided by packages login and session.
// The pages are HTML and one style sheet, work without JavaScript, and load
// nothing from anywhere else. The package never sees a key of the domain, never
// keeps a password, never puts text of a visitor into a header, and never sends
// a browser to a place that the visitor named unless it is a path of this host.
package web

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// Proven is somebody whose password was right and who may use the web.
type Proven struct {
	Who   session.Who
	Shown string // the name, for lists
	Audit string // id of the event; may be empty
}

// Passwords tries passwords with the PAM stack of this machine.
type Passwords interface {
	// Check returns whose password it is. fault.BadCredential: the name or the
	// password is wrong, which is all that is known; MustChange, Expired, Denied:
	// it was right; Unreachable: nobody could say. The caller wipes password.
	Check(ctx context.Context, name string, password secret.Bytes, remote string) (*Proven, error)
}

// ChangeAt is fault.MustChange of somebody whose password is changed at another
// place than this machine: the page has a link there.
type ChangeAt struct {
	Err error
	URL string // https; the configuration's
}

// Error is the error's.
func (c *ChangeAt) Error() string { return c.Err.Error() }

// Unwrap returns the error.
func (c *ChangeAt) Unwrap() error { return c.Err }

// Ticket is what came of a token that a browser sent for Negotiate (RFC 4559).
// With an error, it holds as much as was read before.
type Ticket struct {
	Proven
	Groups    []string // names and SIDs
	UID       uint32
	Reply     []byte // for the browser
	Mechanism string // "Kerberos", "NTLM", ""
	SPN       string
	KVNO      uint32
	EType     string
	Skew      time.Duration // of the client's clock, seen from ours
	// Why is one of the words of the test page ("test.why." in the languages),
	// empty where it was accepted.
	Why string
}

// Negotiator accepts tickets for this machine.
type Negotiator interface {
	// Accept never returns a nil Ticket.
	Accept(ctx context.Context, token []byte, remote string) (*Ticket, error)
}

// Settings are what the configuration says now.
type Settings struct {
	// Hostnames are the names by which browsers reach this machine, the first
	// one being shown. Empty: the machine's own.
	Hostnames []string
	// Certificate and Key are PEM files; empty: a self-signed one of our own.
	Certificate, Key string
	// Callbacks are the paths to which Entra ID sends people back.
	Callbacks []string
	// Negotiate says whether a ticket signs in at all.
	Negotiate bool
	// NegotiateFrom are the networks whose browsers are asked for a ticket before
	// they see the sign-in page; no others may then bring one. Empty: whoever
	// clicks may, and nobody is asked before.
	NegotiateFrom []netip.Prefix
	// NegotiateGroups, where not empty, are names or SIDs of groups to whose
	// members alone a ticket is good.
	NegotiateGroups []string
}

// Config is what a Server works with. Log and Settings are required; without
// Sessions every page says that the machine cannot decide.
type Config struct {
	Log        *slog.Logger
	Settings   func() Settings
	Sessions   *session.Sessions
	Passwords  Passwords  // nil: no form
	Negotiator Negotiator // nil: never
	// Folder keeps the certificate that we make ourselves.
	Folder string
	Now    func() time.Time
}

// Server serves the pages. Make it with New.
type Server struct {
	c        Config
	http     *http.Server
	certs    *certificates
	throttle *throttle
	pages    *pages
	handler  http.Handler
}

// The limits of one connection.
const (
	headerTime = 10 * time.Second
	readTime   = 30 * time.Second
	writeTime  = 80 * time.Second // a PAM stack may think for a while
	idleTime   = time.Minute
	maxHeader  = 128 << 10 // a ticket with many groups is long
	maxForm    = 32 << 10

	maxConnections = 1024
	maxPerAddress  = 64
)

// New returns a server that serves nobody yet.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{c: c, throttle: newThrottle(c.Now), pages: loadPages()}
	s.certs = &certificates{folder: c.Folder, settings: c.Settings, log: c.Log, now: c.Now}
	s.handler = s.harden(s.routes())
	s.http = &http.Server{Handler: s.handler, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certs.get}}
	return s
}

// Serve serves a TCP listener until Stop; then nil.
func (s *Server) Serve(ln net.Listener) error {
	err := s.http.ServeTLS(newLimited(ln, maxConnections, maxPerAddress), "", "")
	if err == http.ErrServerClosed {
		return nil
	}
	return fault.Wrap(fault.Internal, "serve the web sign-in", err)
}

// Stop ends the server; what is under way may go on until ctx ends.
func (s *Server) Stop(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
}

// ServeHTTP is the server without TLS and without limits of connections, for
// tests and for a proxy on this machine.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// routes says what is where. A path or method that is not listed is a page that
// says so.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.first)
	mux.HandleFunc("GET /auth/{$}", s.first)
	mux.HandleFunc("GET /auth/sign-in", s.signIn)
	mux.HandleFunc("POST /auth/password", s.password)
	mux.HandleFunc("GET "+session.BeginPath, s.begin)
	mux.HandleFunc("GET /auth/oidc/start", s.oidcStart)
	mux.HandleFunc("GET /auth/oidc/signed-out", s.oidcSignedOut)
	mux.HandleFunc("GET /auth/negotiate", s.negotiate)
	mux.HandleFunc("GET /auth/negotiate/test", s.negotiateTest)
	mux.HandleFunc("GET /auth/account", s.account)
	mux.HandleFunc("POST /auth/sessions/end", s.endSession)
	mux.HandleFunc("POST /auth/sign-out", s.signOut)
	mux.HandleFunc("GET /auth/language", s.language)
	mux.HandleFunc("GET /auth/asset/{name}", s.pages.asset)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusNotFound, "not-found", nil)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, path := range s.c.Settings().Callbacks {
			if r.URL.Path == path {
				s.oidcCallback(w, r)
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

// first sends to the account, or to the sign-in.
func (s *Server) first(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/auth/account", http.StatusSeeOther)
}
