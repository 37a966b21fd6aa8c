// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/provider"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

// webBox is a NAS with a tenant of its own and nginx.
type webBox struct {
	nas    *nas.NAS
	issuer *oidctest.Issuer
	host   string // with its port
	secure *http.Client
}

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
	if err := box.WriteFile(ctx, "/etc/latchkey/latchkey.toml", []byte(config), 0o644); err != nil {
		return nil, err
	}
	if err := w.nas.Start(ctx, false); err != nil {
		return nil, err
	}
	if err := w.nas.MustJoin(ctx, s.domain); err != nil {
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
	return w.forward(ctx, r, cookie.Name+"="+cookie.Value)
}
