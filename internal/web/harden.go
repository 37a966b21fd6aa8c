// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/session"
)

// policy is what a page may load and who may frame it: its own style sheet, and
// nobody.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// harden is around every page.
func (s *Server) harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		// Not with a certificate of our own, which may be thrown away; a browser
		// heeds it for names only (RFC 6797 8.1).
		if r.TLS != nil && s.certs.trusted() {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		defer func() {
			if what := recover(); what != nil {
				if what == http.ErrAbortHandler {
					panic(what)
				}
				s.c.Log.Error("a page has failed", "path", r.URL.Path, "panic", what)
				s.fail(w, r, http.StatusInternalServerError, "internal", nil)
			}
		}()
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if changes(r) && !slices.Contains(s.c.Settings().Callbacks, r.URL.Path) && !sameOrigin(r) {
			s.fail(w, r, http.StatusForbidden, "cross-site", nil)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func changes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
}

// crossOrigin is the standard library's: Sec-Fetch-Site, and where a browser
// does not send it, Origin against Host.
var crossOrigin = http.NewCrossOriginProtection()

// sameOrigin says whether a page of ours sent the request. Every browser since
// 2020 says at least one of the two with a POST; a request without both is not
// taken for one of ours.
func sameOrigin(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return false
	}
	return crossOrigin.Check(r) == nil
}

// The cookies beside the session's. __Host- makes a browser refuse one that
// another host, a subdomain or plain http would set (RFC 6265bis 4.1.3.2).
const (
	cookieLanguage = "__Host-latchkey-lang"
	cookieTried    = "__Host-latchkey-tried" // what was tried without being asked
	cookieEntra    = "__Host-latchkey-entra" // came through Entra ID the last time
)

func setCookie(w http.ResponseWriter, name, value string, age time.Duration, site http.SameSite) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: site, MaxAge: int(age / time.Second)}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func cookie(r *http.Request, name string) string {
	// Two of one name are a trick: RFC 6265 leaves open which counts.
	all := r.CookiesNamed(name)
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}

// setSession gives the browser a session that nobody had before.
func setSession(w http.ResponseWriter, token string) {
	setCookie(w, session.Cookie, token, 0, http.SameSiteLaxMode)
}

// remote is where a request comes from.
func remote(r *http.Request) netip.Addr {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// localPath is where a visitor wants to go afterwards, "/" for everything that
// is no path of this host.
func localPath(text string) string {
	path, err := session.LocalPath(text)
	if err != nil {
		return "/"
	}
	return path
}

// limited keeps one address from taking all connections.
type limited struct {
	net.Listener
	total, each int

	mu    sync.Mutex
	count int
	by    map[netip.Addr]int
}

func newLimited(ln net.Listener, total, each int) *limited {
	return &limited{Listener: ln, total: total, each: each, by: map[netip.Addr]int{}}
}

// Accept returns the next connection that is not too many; those are closed.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var from netip.Addr
		if at, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
			from = network(at.Addr())
		}
		l.mu.Lock()
		// Whoever sits on this machine is a proxy with many behind it.
		full := l.count >= l.total || l.by[from] >= l.each && !from.IsLoopback()
		if !full {
			l.count++
			l.by[from]++
		}
		l.mu.Unlock()
		if full {
			_ = c.Close()
			continue
		}
		return &counted{Conn: &sendsToHTTPS{Conn: c}, gone: sync.OnceFunc(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.count--
			if l.by[from]--; l.by[from] == 0 {
				delete(l.by, from)
			}
		})}, nil
	}
}

type counted struct {
	net.Conn
	gone func()
}

// Close closes the connection and counts it off.
func (c *counted) Close() error {
	defer c.gone()
	return c.Conn.Close()
}
