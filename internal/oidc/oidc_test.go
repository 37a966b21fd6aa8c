// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

const redirect = "https://nas.contoso.test:8443/auth/oidc/callback"

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type ground struct {
	*clock
	issuer *oidctest.Issuer
	client *oidc.Client
	t      *testing.T
}

func start(t *testing.T, change ...func(*oidc.Config)) *ground {
	t.Helper()
	g := &ground{clock: newClock(), t: t}
	g.issuer = oidctest.New(t, g.now)
	c := oidc.Config{Authority: g.issuer.Authority(), Tenant: oidctest.Tenant, Client: oidctest.Client, RedirectURI: redirect, Now: g.now,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, fn := range change {
		fn(&c)
	}
	var err error
	if g.client, err = oidc.New(c); err != nil {
		t.Fatal(err)
	}
	return g
}

// signIn walks the whole way for somebody.
func (g *ground) signIn(object identity.GUID) (*oidc.Claims, error) {
	g.t.Helper()
	address, f, err := g.client.Begin(context.Background(), false)
	if err != nil {
		return nil, err
	}
	back, err := g.issuer.Answer(address, object)
	if err != nil {
		g.t.Fatal(err)
	}
	if back.Get("state") != f.State {
		g.t.Fatal("the state of the request is not the flight's")
	}
	return g.client.Redeem(context.Background(), f, back.Get("code"))
}

func TestSignInByCodeWithPKCEAndNonce(t *testing.T) {
	g := start(t)
	claims, err := g.signIn(oidctest.Person)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Object != oidctest.Person || claims.Tenant != oidctest.Tenant || claims.Session == "" || claims.Guest || claims.Overage {
		t.Errorf("got %+v", claims)
	}
	address, f, err := g.client.Begin(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	q := u.Query()
	if q.Get("prompt") != "none" || q.Get("response_mode") != oidc.FormPost || q.Get("redirect_uri") != redirect || strings.Contains(address, f.Verifier) || q.Get("client_secret") != "" {
		t.Errorf("a silent request is %s", address)
	}
	again, second, err := g.client.Begin(context.Background(), false)
	if err != nil || second.State == f.State || second.Nonce == f.Nonce || second.Verifier == f.Verifier {
		t.Errorf("two flights have something in common: %v", err)
	}
	if u, _ = url.Parse(again); u.Query().Get("prompt") != "select_account" {
		t.Errorf("a click is asked %s", again)
	}
}

func TestCodesAreGoodOnceAndForTheirVerifier(t *testing.T) {
	g := start(t)
	address, f, err := g.client.Begin(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	back, err := g.issuer.Answer(address, oidctest.Person)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.client.Redeem(context.Background(), f, back.Get("code")); err != nil {
		t.Fatal(err)
	}
	if _, err := g.client.Redeem(context.Background(), f, back.Get("code")); !errors.Is(err, oidc.ErrCode) || !fault.Is(err, fault.BadCredential) {
		t.Errorf("a code for the second time: %v", err)
	}
	address, f, _ = g.client.Begin(context.Background(), false)
	back, _ = g.issuer.Answer(address, oidctest.Person)
	f.Verifier = strings.Repeat("x", 43)
	if _, err := g.client.Redeem(context.Background(), f, back.Get("code")); !errors.Is(err, oidc.ErrCode) {
		t.Errorf("another's verifier: %v", err)
	}
}

func TestTokenEndpointErrors(t *testing.T) {
	answer := func(status int, text string) func(*ground) {
		return func(g *ground) {
			g.issuer.Handle(func(path string, w http.ResponseWriter, _ *http.Request) bool {
				if path == "token" {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(status)
					_, _ = io.WriteString(w, text)
				}
				return path == "token"
			})
		}
	}
	for name, tc := range map[string]struct {
		change func(*ground)
		want   fault.Kind
		is     error
	}{
		"secret has ended": {answer(401, `{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired"}`), fault.Conflict, oidc.ErrCredential},
		"app is unknown":   {answer(400, `{"error":"unauthorized_client","error_description":"AADSTS700016"}`), fault.Conflict, oidc.ErrCredential},
		"code is old":      {answer(400, `{"error":"invalid_grant","error_description":"AADSTS70008"}`), fault.BadCredential, oidc.ErrCode},
		"overloaded":       {answer(503, `{"error":"temporarily_unavailable"}`), fault.Unreachable, nil},
		"too many":         {answer(429, `{"error":"slow_down"}`), fault.Unreachable, nil},
		"an error page":    {answer(502, `<html>bad gateway</html>`), fault.Unreachable, nil},
		"garbage":          {answer(200, `{"access_token":`), fault.Unreachable, nil},
		"no id_token":      {answer(200, `{"token_type":"Bearer","access_token":"x"}`), fault.BadCredential, oidc.ErrClaims},
		"id_token is none": {answer(200, `{"token_type":"Bearer","access_token":"x","id_token":"x"}`), fault.BadCredential, oidc.ErrAlgorithm},
		"huge":             {answer(200, `{"token_type":"Bearer","access_token":"`+strings.Repeat("x", 2<<20)+`"}`), fault.Unreachable, nil},
		"long id_token":    {answer(200, `{"token_type":"Bearer","access_token":"x","id_token":"a.b.`+strings.Repeat("x", 100<<10)+`"}`), fault.BadCredential, oidc.ErrClaims},
		"elsewhere": {func(g *ground) {
			g.issuer.Handle(func(path string, w http.ResponseWriter, r *http.Request) bool {
				if path == "token" {
					http.Redirect(w, r, "/evil", http.StatusTemporaryRedirect)
				}
				return path == "token"
			})
		}, fault.Unreachable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			tc.change(g)
			_, err := g.signIn(oidctest.Person)
			if fault.KindOf(err) != tc.want || (tc.is != nil && !errors.Is(err, tc.is)) {
				t.Errorf("got %v (%v), want %v", err, fault.KindOf(err), tc.want)
			}
			if g.issuer.Reads("") != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, a := range []string{"", "http://login.microsoftonline.com/{tenant}/v2.0", "https:///v2.0", "https://u:p@x.test/{tenant}", "https://x.test/{tenant}?a=b", "ftp://x.test/", "x"} {
		if _, err := oidc.Issuer(a, oidctest.Tenant); !fault.Is(err, fault.Malformed) {
			t.Errorf("authority %q: %v", a, err)
		}
	}
	if got, err := oidc.Issuer(oidc.DefaultAuthority, oidctest.Tenant); err != nil || got != "https://login.microsoftonline.com/"+oidctest.Tenant.String()+"/v2.0" {
		t.Errorf("got %q, %v", got, err)
	}
	for uri, good := range map[string]bool{
		redirect: true, "https://10.0.0.5:443" + oidc.QNAPCallback: true, "http://localhost/cb": true, "http://127.0.0.1:8080/cb": true, "https://[fd00::1]/cb": true,
		"http://nas.test/cb": false, "https://nas.test": false, "https://nas.test/cb#f": false, "https://u@nas.test/cb": false, "https://nas.test/a,b": false,
		"https://nas.test/*": false, "javascript:alert(1)": false, "/cb": false, "https://nas.test/" + strings.Repeat("x", 256): false, "": false,
	} {
		if err := oidc.CheckRedirect(uri); (err == nil) != good {
			t.Errorf("%q: %v, want good = %v", uri, err, good)
		}
	}
}
