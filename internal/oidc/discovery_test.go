// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

func TestDiscoveryThatIsNotRight(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	handle := func(fn http.HandlerFunc) func(*ground) {
		return func(g *ground) {
			g.issuer.Handle(func(path string, w http.ResponseWriter, r *http.Request) bool {
				if path == "discovery" {
					fn(w, r)
				}
				return path == "discovery"
			})
		}
	}
	with := func(name string, value any) func(*ground) {
		return func(g *ground) { g.issuer.Discovery(func(d map[string]any) { d[name] = value }) }
	}
	for name, tc := range map[string]struct {
		change func(*ground)
		want   fault.Kind
	}{
		"down":    {func(g *ground) { g.issuer.Close() }, fault.Unreachable},
		"404":     {handle(func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }), fault.Conflict},
		"400":     {handle(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"error":"invalid_tenant"}`, 400) }), fault.Conflict},
		"500":     {handle(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }), fault.Unreachable},
		"garbage": {handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), fault.Unreachable},
		"huge":    {handle(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"issuer":"`+long+`"}`) }), fault.Unreachable},
		"elsewhere": {handle(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.test/", http.StatusFound)
		}), fault.Unreachable},
		"another issuer":      {with("issuer", "https://login.microsoftonline.com/"+oidctest.Client.String()+"/v2.0"), fault.Conflict},
		"issuer of everybody": {with("issuer", "https://login.microsoftonline.com/{tenantid}/v2.0"), fault.Conflict},
		"http token endpoint": {with("token_endpoint", "http://login.contoso.test/token"), fault.Unreachable},
		"no keys":             {with("jwks_uri", ""), fault.Unreachable},
		"no form_post":        {with("response_modes_supported", []string{"query"}), fault.Conflict},
		"no RS256":            {with("id_token_signing_alg_values_supported", []string{"ES256"}), fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			tc.change(g)
			if err := g.client.Check(context.Background()); fault.KindOf(err) != tc.want {
				t.Errorf("check: %v (%v), want %v", err, fault.KindOf(err), tc.want)
			}
			if g.client.Health() == nil {
				t.Error("the button would be shown")
			}
			if _, _, err := g.client.Begin(context.Background(), false); err == nil {
				t.Error("a browser would be sent there")
			}
		})
	}
}

func TestSlowDiscoveryIsGivenUpAndAskedOnce(t *testing.T) {
	g := start(t)
	release := make(chan struct{})
	g.issuer.Handle(func(path string, _ http.ResponseWriter, r *http.Request) bool {
		if path == "discovery" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	var all sync.WaitGroup
	failed := make([]error, 8)
	for n := range failed {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if n == 0 {
				ctx = context.Background()
			}
			_, _, failed[n] = g.client.Begin(ctx, false)
		})
	}
	time.Sleep(200 * time.Millisecond)
	close(release)
	all.Wait()
	if n := g.issuer.Reads("discovery"); n > 2 {
		t.Errorf("the slow document was asked for %d times", n)
	}
	for n, err := range failed {
		if err != nil && !fault.Is(err, fault.Unreachable) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if _, err := g.signIn(oidctest.Person); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestProxiesOfTheEnvironmentAreHonoured(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // nobody listens there
	t.Setenv("NO_PROXY", "")
	c, err := oidc.New(oidc.Config{Authority: "https://login.invalid/{tenant}/v2.0", Tenant: oidctest.Tenant, Client: oidctest.Client, RedirectURI: redirect,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Check(context.Background())
	if !fault.Is(err, fault.Unreachable) || !strings.Contains(err.Error(), "proxyconnect") || strings.Contains(err.Error(), "lookup login.invalid") {
		t.Errorf("got %v, want the proxy's refusal", err)
	}
}

// A tenant whose certificate comes of an authority that this machine does not
// know: the remedy names the setting, and with it everything works.
func TestAnAuthorityOfOnesOwn(t *testing.T) {
	issuer, ca := oidctest.NewTLS(t, nil)
	with := func(file string) (*oidc.Client, error) {
		return oidc.New(oidc.Config{Authority: issuer.Authority(), Tenant: oidctest.Tenant, Client: oidctest.Client, RedirectURI: redirect, CAFile: file,
			Log: slog.New(slog.DiscardHandler)})
	}
	c, err := with("")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(context.Background()); !fault.Is(err, fault.Unreachable) || !strings.Contains(fault.Remedy(err), "--ca-file") {
		t.Errorf("without the authority: %v, %q", err, fault.Remedy(err))
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"none": "", "text": "-----BEGIN CERTIFICATE-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"none", "text", "missing"} {
		if _, err := with(filepath.Join(dir, name)); !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), "ca file: ") {
			t.Errorf("a file that is %s: %v", name, err)
		}
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = with(file); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(context.Background()); err != nil {
		t.Errorf("with the authority: %v (%s)", err, fault.Remedy(err))
	}
	g := &ground{clock: newClock(), issuer: issuer, client: c, t: t}
	if claims, err := g.signIn(oidctest.Person); err != nil || claims.Object != oidctest.Person {
		t.Errorf("a sign-in: %+v, %v", claims, err)
	}
}
