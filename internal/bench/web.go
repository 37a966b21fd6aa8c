// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/provider"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

// plainServer is the argument that makes this program the peer of forward-auth:
// net/http on a socket, which answers 200 and does nothing else.
const plainServer = "serve-plain"

func servePlain(socket string) error {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o666); err != nil { // nginx is another user
		return err
	}
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
}

// webBox is a NAS with a tenant of its own and nginx.
type webBox struct {
	nas    *nas.NAS
	issuer *oidctest.Issuer
	host   string // with its port
	secure *http.Client
}

const webNginx = `worker_processes 1;
pid /run/nginx-bench.pid;
events { worker_connections 1024; }
http {
  access_log off; error_log /var/log/nginx-bench.log;
  keepalive_requests 1000000;
  upstream latchkey { server unix:/run/latchkey/auth.sock; keepalive 64; keepalive_requests 1000000; }
  upstream plain { server unix:/run/bench-plain.sock; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:8088;
    root /srv/bench;
    location /static/ { }
    location /guarded/ {
      auth_request /check;
      auth_request_set $u $upstream_http_x_latchkey_user;
    }
    location /nodded/ { auth_request /nod; }
    location = /nod {
      internal;
      proxy_pass http://plain/auth/check;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
    }
    location = /check {
      internal;
      proxy_pass http://latchkey/auth/check;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Forwarded-Host %s;
      proxy_set_header X-Forwarded-Uri $request_uri;
      proxy_buffer_size 32k; proxy_buffers 4 32k;
    }
  }
}
`

func openWebBox(ctx context.Context, s *stage) (*webBox, error) {
	box, err := s.lab.Box(ctx, "nasweb", lab.BoxOptions{UseDNS: true, Layer: provider.Layer()})
	if err != nil {
		return nil, err
	}
	w := &webBox{host: "nasweb." + s.domain.DNS + ":8443"}
	if w.nas, err = nas.Install(ctx, box); err != nil {
		return nil, err
	}
	ln, err := box.Listen("tcp", "127.0.0.1:9480")
	if err != nil {
		return nil, err
	}
	w.issuer = oidctest.Serve(ln)
	config := fmt.Sprintf("version = 1\n[sso]\ntenant = %q\nclient = %q\nauthority = %q\nredirect_uri = \"https://%s/auth/oidc/callback\"\n",
		oidctest.Tenant, oidctest.Client, w.issuer.Authority(), w.host)
	for name, text := range map[string]string{"/etc/latchkey/latchkey.toml": config, "/etc/nginx-bench.conf": fmt.Sprintf(webNginx, w.host), "/srv/bench/static/file": "hello\n", "/srv/bench/guarded/file": "hello\n", "/srv/bench/nodded/file": "hello\n"} {
		if _, err := box.Run(ctx, "mkdir", "-p", filepath.Dir(name)); err != nil {
			return nil, err
		}
		if err := box.WriteFile(ctx, name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := w.nas.Start(ctx, false); err != nil {
		return nil, err
	}
	if err := w.nas.MustJoin(ctx, s.domain); err != nil {
		return nil, err
	}
	if _, err := box.Run(ctx, "nginx", "-c", "/etc/nginx-bench.conf"); err != nil {
		return nil, err
	}
	w.secure = &http.Client{CheckRedirect: noRedirect, Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: strings.TrimSuffix(w.host, ":8443")}, // self-signed, and not what is measured
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return box.Dial(ctx, network, "127.0.0.1:8443")
		}}}
	return w, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// signIn walks a browser's way and returns the session cookie, how long the
// callback took, and how long of that the tenant was busy.
func (w *webBox) signIn(ctx context.Context, oid identity.GUID) (cookie *http.Cookie, took, tenant time.Duration, err error) {
	do := func(method, path string, form url.Values, cookies []*http.Cookie) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, method, "https://"+w.host+path, strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for _, c := range cookies {
			r.AddCookie(c)
		}
		resp, err := w.secure.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		return resp, err
	}
	begun, err := do(http.MethodGet, "/auth/oidc/start", nil, nil)
	if err != nil {
		return nil, 0, 0, err
	}
	answer, err := w.issuer.Answer(begun.Header.Get("Location"), oid)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("%s: %w", begun.Status, err)
	}
	busy, began := w.issuer.Busy(), time.Now()
	done, err := do(http.MethodPost, "/auth/oidc/callback", answer, begun.Cookies())
	if err != nil {
		return nil, 0, 0, err
	}
	took, tenant = time.Since(began), w.issuer.Busy()-busy
	for _, c := range done.Cookies() {
		if c.Name == "__Host-latchkey" && c.Value != "" {
			return c, took, tenant, nil
		}
	}
	return nil, 0, 0, fmt.Errorf("the callback answers %s and no session", done.Status)
}

// benchWeb measures the sign-in by a browser and forward-auth.
func benchWeb(ctx context.Context, s *stage, r *report) error {
	w, err := openWebBox(ctx, s)
	if err != nil {
		return err
	}
	defer w.issuer.Close()
	o, err := s.domain.Find(ctx, lab.UserName(1))
	if err != nil {
		return err
	}
	oid, err := identity.ParseGUID(o.OID)
	if err != nil {
		return err
	}
	var cookie *http.Cookie
	var whole, own, tenant sample
	for n := range 220 {
		c, took, busy, err := w.signIn(ctx, oid)
		if err != nil {
			return fmt.Errorf("sign-in %d: %w", n, err)
		}
		if cookie = c; n >= 20 { // the first ones fill caches and open connections
			whole, tenant, own = append(whole, took), append(tenant, busy), append(own, took-busy)
		}
	}
	r.table("A sign-in by Entra ID, from the callback to the cookie",
		[]string{"", "median [range]"},
		[]string{"callback answered", whole.String()},
		[]string{"of that the tenant (a stand-in on the same machine)", tenant.String()},
		[]string{"our own: TLS, tokens, LDAP refresh of the row, the session on disk", own.String()})
	return w.forward(ctx, r, cookie)
}

// forward measures the question of a proxy, alone and through nginx.
func (w *webBox) forward(ctx context.Context, r *report, cookie *http.Cookie) error {
	socket := fmt.Sprintf("/proc/%d/root/run/bench-plain.sock", w.nas.PID())
	peer := serve(ctx, plainServer, socket)
	if err := peer.Start(); err != nil {
		return err
	}
	defer func() { _ = peer.Process.Kill(); _ = peer.Wait() }()
	for range 100 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	unix := func(path string) func(context.Context) (net.Conn, error) {
		return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", path) }
	}
	nginx := func(ctx context.Context) (net.Conn, error) { return w.nas.Dial(ctx, "tcp", "127.0.0.1:8088") }
	auth := unix(fmt.Sprintf("/proc/%d/root/run/latchkey/auth.sock", w.nas.PID()))
	rows := [][]string{{"connections", "/auth/check p50 / p99", "net/http alone p50 / p99", "checks per second", "net/http per second", "p50 ratio"}}
	through := [][]string{{"connections", "nginx, guarded file p50 / p99", "guarded by net/http alone p50 / p99", "static file p50 / p99", "guarded per second", "by net/http per second", "static per second", "p50 ratio to static", "of net/http alone"}}
	for _, callers := range []int{1, 64} {
		sides := []*httpLoad{{dial: auth, path: "/auth/check"}, {dial: unix(socket), path: "/auth/check"}, {dial: nginx, path: "/guarded/file"}, {dial: nginx, path: "/nodded/file"}, {dial: nginx, path: "/static/file"}}
		for range 3 {
			for _, side := range sides {
				if err := side.add(ctx, callers, w.host, cookie); err != nil {
					return err
				}
			}
		}
		a, b, c, d, e := &sides[0].load, &sides[1].load, &sides[2].load, &sides[3].load, &sides[4].load
		rows = append(rows, []string{fmt.Sprint(callers), a.latency(), b.latency(), a.rate(), b.rate(), ratio(a.all.median(), b.all.median())})
		through = append(through, []string{fmt.Sprint(callers), c.latency(), d.latency(), e.latency(), c.rate(), d.rate(), e.rate(),
			ratio(c.all.median(), e.all.median()), ratio(d.all.median(), e.all.median())})
	}
	r.table("Forward-auth on auth.sock", rows...)
	r.table("Forward-auth through nginx", through...)
	return nil
}

// httpLoad is requests on kept connections, written and read by hand: a client
// that costs more than the server would be measured in its place.
type httpLoad struct {
	load
	dial func(context.Context) (net.Conn, error)
	path string
}

func (h *httpLoad) add(ctx context.Context, callers int, host string, cookie *http.Cookie) error {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Host: %s\r\nX-Forwarded-Uri: /file\r\nCookie: %s=%s\r\n\r\n", h.path, host, host, cookie.Name, cookie.Value)
	conns := make([]net.Conn, callers)
	for i := range conns {
		c, err := h.dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		conns[i] = c
	}
	buffers := make([][]byte, callers)
	for i := range buffers {
		buffers[i] = make([]byte, 64<<10)
	}
	return h.load.add(ctx, callers, func(_ context.Context, i int) error {
		c, buf := conns[i%callers], buffers[i%callers]
		if _, err := c.Write(request); err != nil {
			return err
		}
		return readAnswer(c, buf)
	})
}

// readAnswer reads one answer with a Content-Length of one digit or two, or none
// at all, and wants a 200.
func readAnswer(c net.Conn, buf []byte) error {
	for n := 0; ; {
		more, err := c.Read(buf[n:])
		if err != nil {
			return err
		}
		n += more
		end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answer %.60q", buf[:n])
		}
		body := 0
		if at := bytes.Index(buf[:end], []byte("Content-Length: ")); at >= 0 {
			if _, err := fmt.Sscanf(string(buf[at:min(end+2, at+24)]), "Content-Length: %d", &body); err != nil {
				return err
			}
		}
		if n >= end+4+body {
			return nil
		}
	}
}
