// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/browser"
)

// echo is an app that tells which headers it got.
const echo = `
import http.server, json
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = json.dumps([[k, v] for k, v in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_POST = do_GET
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8081), App).serve_forever()
`

// The examples that we ship, with the real nginx and the real Caddy in front of
// an app: people are signed in first, the app learns who they are, and nobody
// else can tell it.
func TestWebProxies(t *testing.T) {
	s := beginWeb(t, `
[[sso.app]]
name = "photos"
user = "www-data"
redirect = ["https://photos.aadds.contoso.test/.latchkey/callback"]
[[sso.app]]
name = "files"
user = "caddy"
redirect = ["https://files.aadds.contoso.test/.latchkey/callback"]
`)
	s.sh("echo '" + s.nas.IP() + " photos." + s.domain.DNS + " files." + s.domain.DNS + "' >>/etc/hosts")
	s.sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj /CN=lab -addext 'subjectAltName=DNS:photos." + s.domain.DNS + ",DNS:files." + s.domain.DNS +
		"' -keyout /etc/ssl/lab.key -out /etc/ssl/lab.pem 2>/dev/null; chmod 644 /etc/ssl/lab.key")
	s.try(s.nas.WriteFile(s.ctx, "/srv/app.py", []byte(echo), 0o644))
	app := s.nas.Command("python3", "/srv/app.py")
	app.Log = "/var/log/app.log"
	_, err := app.Start(s.ctx)
	s.try(err)
	s.chromium()

	example := func(name string, replace ...string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("../../packaging/web", name))
		s.try(err)
		for i := 0; i < len(replace); i += 2 {
			if !strings.Contains(string(text), replace[i]) {
				t.Fatalf("%s has no %s", name, replace[i])
			}
		}
		s.try(s.nas.WriteFile(s.ctx, "/srv/"+name, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o644))
	}
	example("nginx-latchkey.conf", "photos.contoso.com", "photos."+s.domain.DNS, "/etc/ssl/photos.pem", "/etc/ssl/lab.pem", "/etc/ssl/private/photos.key", "/etc/ssl/lab.key")
	s.sh("rm -f /etc/nginx/sites-enabled/default; cp /srv/nginx-latchkey.conf /etc/nginx/conf.d/; nginx -t 2>&1 && nginx")
	s.behindProxy("photos." + s.domain.DNS)
	s.sh("nginx -s stop; sleep 0.5")

	example("Caddyfile", "photos.contoso.com {", "files."+s.domain.DNS+" {\n\ttls /etc/ssl/lab.pem /etc/ssl/lab.key")
	s.sh("(printf '{\\n admin off\\n}\\n'; cat /srv/Caddyfile) >/srv/Caddyfile.lab; mkdir -p /srv/caddy; chown caddy /srv/caddy; sysctl -qw net.ipv4.ip_unprivileged_port_start=80 2>/dev/null || true")
	caddy := s.nas.Command("setpriv", "--reuid=caddy", "--regid=caddy", "--init-groups", "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service",
		"env", "HOME=/srv/caddy", "caddy", "run", "--config", "/srv/Caddyfile.lab", "--adapter", "caddyfile")
	caddy.Log = "/var/log/caddy.log"
	p, err := caddy.Start(s.ctx)
	s.try(err)
	defer func() { _ = p.Kill() }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.sh("tail -20 /var/log/caddy.log /var/log/nginx/error.log 2>/dev/null; true"))
		}
	})
	s.behindProxy("files." + s.domain.DNS)
}

// behindProxy signs in at an app behind a proxy, and then lies to it.
func (s *website) behindProxy(host string) {
	t := s.t
	t.Helper()
	there := "https://" + host + "/album?year=2026"
	curl := func(args ...string) string {
		t.Helper()
		r, err := s.nas.Run(s.ctx, append([]string{"curl", "-ksi", "--http1.1", "--max-time", "20"}, args...)...)
		s.try(err)
		return r.Stdout
	}
	s.waitFor("the proxy of "+host+" listens", func() bool { return strings.HasPrefix(curl(there), "HTTP/") })
	first := curl(there)
	if !strings.HasPrefix(first, "HTTP/1.1 303") || !strings.Contains(strings.ToLower(first), "location: https://"+host+"/.latchkey/start?return=%2falbum%3fyear%3d2026") {
		t.Fatalf("a stranger at %s:\n%s", host, first)
	}
	for _, path := range []string{"/.latchkey/check", "/auth/check"} {
		if got := curl("https://" + host + path); strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%s%s is open:\n%s", host, path, got)
		}
	}
	p := s.page(browser.PageOptions{})
	_, err := p.Goto(there)
	s.try(err)
	s.try(p.Fill("#name", "user00001"))
	s.try(p.Fill("#password", lab.UserPassword(1)))
	s.try(p.Click("#submit"))
	s.try(p.WaitURL(host + "/album"))
	headers := func(text string) map[string][]string {
		t.Helper()
		if i := strings.Index(text, "\r\n\r\n"); i >= 0 {
			text = text[i+4:]
		}
		var list [][2]string
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("the app of %s says: %s (%v)", host, text, err)
		}
		all := map[string][]string{}
		for _, h := range list {
			// As CGI, WSGI and PHP do: a hyphen and an underscore are one.
			name := strings.ToUpper(strings.ReplaceAll(h[0], "-", "_"))
			all[name] = append(all[name], h[1])
		}
		return all
	}
	uid := s.sh("id -u user00001")
	check := func(what string, h map[string][]string) {
		t.Helper()
		for name, want := range map[string]string{"X_LATCHKEY_USER": "user00001", "X_LATCHKEY_UID": uid} {
			if len(h[name]) != 1 || h[name][0] != want {
				t.Errorf("%s, %s: the app of %s got %q, want %s once", what, name, host, h[name], want)
			}
		}
		if g := h["X_LATCHKEY_GROUPS"]; len(g) != 1 || !strings.Contains(g[0], "domain%20users") {
			t.Errorf("%s: the app of %s got groups %q", what, host, g)
		}
		for _, c := range h["COOKIE"] {
			if strings.Contains(c, "__Host-latchkey") {
				t.Errorf("%s: the app of %s got our cookie: %s", what, host, c)
			}
		}
	}
	check("a browser", headers(s.text(p, "body")))
	token := ""
	for _, c := range must(p.Cookies()) {
		if c.Name == "__Host-latchkey" && c.Domain == host {
			token = c.Value
		}
	}
	if token == "" {
		t.Fatalf("the browser has no cookie of %s", host)
	}
	mine := "Cookie: theme=dark; __Host-latchkey=" + token + "; __Host-latchkey-at=x; lang=hu"
	h := headers(curl("-H", mine, there))
	check("curl", h)
	if c := strings.Join(h["COOKIE"], ";"); !strings.Contains(c, "theme=dark") || !strings.Contains(c, "lang=hu") {
		t.Errorf("the app of %s lost its own cookies: %q", host, c)
	}
	// A worker that dies is missed by nobody: the proxy asks the next one.
	for range 3 {
		s.sh("kill -KILL " + s.worker())
		check("the worker was killed", headers(curl("-H", mine, there)))
	}
	// Headers that only the proxy may set, in every way to write them.
	for _, lie := range []string{"X-Latchkey-User: root", "X_Latchkey_User: root", "X-Latchkey_User: root", "X_LATCHKEY-UID: 0", "x-latchkey-groups: admin", "X_Latchkey_Groups: admin", "X-Latchkey-Uid: 0"} {
		check(lie, headers(curl("-H", mine, "-H", lie, there)))
		if got := curl("-H", lie, there); !strings.HasPrefix(got, "HTTP/1.1 303") {
			t.Errorf("%s without a session: %.100s", lie, got)
		}
	}
	for _, lie := range []string{"X-Forwarded-Host: " + s.host, "X-Forwarded-Uri: /public", "X-Original-Uri: /public"} {
		if got := curl("-H", lie, there); !strings.HasPrefix(got, "HTTP/1.1 303") {
			t.Errorf("%s without a session: %.100s", lie, got)
		}
	}
	// The session of the sign-in pages is no session of the app.
	pages := ""
	for _, c := range must(p.Cookies()) {
		if c.Name == "__Host-latchkey" && c.Domain == s.host {
			pages = c.Value
		}
	}
	if got := curl("-H", "Cookie: __Host-latchkey="+pages, there); pages == "" || !strings.HasPrefix(got, "HTTP/1.1 303") {
		t.Errorf("the cookie of the sign-in pages at %s: %.100s", host, got)
	}
	// Signed out there, signed out here.
	s.goTo(p, "/auth/account", 200)
	s.try(p.Click("#sign-out"))
	if got := curl("-H", mine, there); !strings.HasPrefix(got, "HTTP/1.1 303") {
		t.Errorf("after the sign-out %s still lets in: %.100s", host, got)
	}
}
