// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
	"github.com/latchkey-nas/latchkey/internal/secret"
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

// Everything that is wrong with a token, one at a time; each must be refused, and
// for its own reason.
func TestTokensThatAreRefused(t *testing.T) {
	other := "99999999-9999-4999-8999-999999999999"
	claim := func(name string, value any) func(*ground) {
		return func(g *ground) {
			g.issuer.Claims(func(c map[string]any) {
				if value == nil {
					delete(c, name)
				} else {
					c[name] = value
				}
			})
		}
	}
	in := func(name string, d time.Duration) func(*ground) {
		return func(g *ground) {
			g.issuer.Claims(func(c map[string]any) { c[name] = g.now().Add(d).Unix() })
		}
	}
	for name, tc := range map[string]struct {
		change func(*ground)
		want   error
	}{
		"wrong issuer":              {claim("iss", "https://login.microsoftonline.com/"+other+"/v2.0"), oidc.ErrIssuer},
		"issuer with a slash more":  {func(g *ground) { claim("iss", g.issuer.Issuer()+"/")(g) }, oidc.ErrIssuer},
		"wrong tenant":              {claim("tid", other), oidc.ErrTenant},
		"no tenant":                 {claim("tid", nil), oidc.ErrTenant},
		"wrong audience":            {claim("aud", other), oidc.ErrAudience},
		"two audiences":             {claim("aud", []string{oidctest.Client.String(), other}), oidc.ErrAudience},
		"another authorized party":  {claim("azp", other), oidc.ErrAudience},
		"wrong nonce":               {claim("nonce", "another"), oidc.ErrNonce},
		"no nonce":                  {claim("nonce", nil), oidc.ErrNonce},
		"expired":                   {in("exp", -6*time.Minute), oidc.ErrExpired},
		"expired just outside skew": {in("exp", -5*time.Minute), oidc.ErrExpired},
		"no end":                    {claim("exp", nil), oidc.ErrClaims},
		"not yet valid":             {in("nbf", 6*time.Minute), oidc.ErrEarly},
		"made in the future":        {in("iat", 6*time.Minute), oidc.ErrEarly},
		"no oid":                    {claim("oid", nil), oidc.ErrClaims},
		"oid is no GUID":            {claim("oid", "alice@contoso.test"), oidc.ErrClaims},
		"zero oid":                  {claim("oid", "00000000-0000-0000-0000-000000000000"), oidc.ErrClaims},
		"a token of version 1":      {claim("ver", "1.0"), oidc.ErrClaims},
		"claims that are no object": {claim("iat", "yesterday"), oidc.ErrClaims},
		"alg none": {func(g *ground) {
			g.issuer.Header(func(h map[string]any) { h["alg"] = "none" })
			g.issuer.Sign(func(string) string { return "" })
		}, oidc.ErrAlgorithm},
		"HS256 with the public key": {func(g *ground) {
			g.issuer.Header(func(h map[string]any) { h["alg"] = "HS256" })
			g.issuer.Sign(oidctest.HS256(g.issuer.PublicKeyPEM()))
		}, oidc.ErrAlgorithm},
		"HMAC under RS256": {func(g *ground) { g.issuer.Sign(oidctest.HS256(g.issuer.PublicKeyPEM())) }, oidc.ErrSignature},
		"alg RS512":        {func(g *ground) { g.issuer.Header(func(h map[string]any) { h["alg"] = "RS512" }) }, oidc.ErrAlgorithm},
		"no signature":     {func(g *ground) { g.issuer.Sign(func(string) string { return "" }) }, oidc.ErrSignature},
		"unknown kid":      {func(g *ground) { g.issuer.Header(func(h map[string]any) { h["kid"] = "unknown" }) }, oidc.ErrKey},
		"no kid":           {func(g *ground) { g.issuer.Header(func(h map[string]any) { delete(h, "kid") }) }, oidc.ErrKey},
		"a key in the head": {func(g *ground) {
			g.issuer.Header(func(h map[string]any) { h["kid"] = "mine"; h["jku"] = "https://evil.test/keys" })
		}, oidc.ErrKey},
		"claim names without sources": {claim("_claim_names", map[string]any{"groups": "src1"}), oidc.ErrClaims},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			tc.change(g)
			claims, err := g.signIn(oidctest.Person)
			if err == nil || claims != nil || !errors.Is(err, tc.want) || fault.KindOf(err) != fault.BadCredential {
				t.Errorf("got %+v, %v (%v); want %v", claims, err, fault.KindOf(err), tc.want)
			}
		})
	}
}

func TestClocksMayDifferByFiveMinutes(t *testing.T) {
	for name, change := range map[string]func(c map[string]any, now time.Time){
		"ours is ahead": func(c map[string]any, now time.Time) { c["exp"] = now.Add(-4 * time.Minute).Unix() },
		"ours is behind": func(c map[string]any, now time.Time) {
			c["nbf"], c["iat"] = now.Add(4*time.Minute).Unix(), now.Add(4*time.Minute).Unix()
		},
	} {
		g := start(t)
		g.issuer.Claims(func(c map[string]any) { change(c, g.now()) })
		if _, err := g.signIn(oidctest.Person); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Groups are the mirror's: a token that says there are too many, or where to ask
// for them, is as good as any, and nobody is asked.
func TestOverageAndGuestsAreSeenAndNobodyIsAsked(t *testing.T) {
	g := start(t)
	asked := false
	g.issuer.Handle(func(path string, _ http.ResponseWriter, _ *http.Request) bool {
		asked = asked || path == ""
		return false
	})
	source := strings.TrimSuffix(g.issuer.Issuer(), "/v2.0") + "/graph"
	g.issuer.Claims(func(c map[string]any) {
		c["_claim_names"] = map[string]any{"groups": "src1"}
		c["_claim_sources"] = map[string]any{"src1": map[string]any{"endpoint": source}}
		c["groups"] = []string{"11111111-1111-4111-8111-111111111111"}
	})
	if claims, err := g.signIn(oidctest.Person); err != nil || !claims.Overage || asked {
		t.Errorf("got %+v, %v, asked %v", claims, err, asked)
	}
	for name, change := range map[string]func(c map[string]any){
		"acct":  func(c map[string]any) { c["acct"] = 1 },
		"#EXT#": func(c map[string]any) { c["preferred_username"] = "alice_home.test#EXT#@contoso.onmicrosoft.com" },
	} {
		g.issuer.Claims(change)
		if claims, err := g.signIn(oidctest.Person); err != nil || !claims.Guest {
			t.Errorf("%s: got %+v, %v", name, claims, err)
		}
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

func TestRolledKeysAreReadAtMostEveryFiveMinutes(t *testing.T) {
	g := start(t)
	if _, err := g.signIn(oidctest.Person); err != nil {
		t.Fatal(err)
	}
	if n := g.issuer.Reads("keys"); n != 1 {
		t.Fatalf("the keys were read %d times, want once", n)
	}
	g.issuer.Roll()
	if _, err := g.signIn(oidctest.Person); err != nil || g.issuer.Reads("keys") != 2 {
		t.Errorf("after a roll: %v, %d reads", err, g.issuer.Reads("keys"))
	}
	g.issuer.Header(func(h map[string]any) { h["kid"] = "nobody's" })
	for range 5 {
		if _, err := g.signIn(oidctest.Person); !errors.Is(err, oidc.ErrKey) {
			t.Errorf("an unknown kid: %v", err)
		}
	}
	if n := g.issuer.Reads("keys"); n != 2 {
		t.Errorf("unknown kids had the keys read %d times", n-2)
	}
	g.pass(5 * time.Minute)
	_, _ = g.signIn(oidctest.Person)
	_, _ = g.signIn(oidctest.Person)
	if n := g.issuer.Reads("keys"); n != 4 { // the tenant's, and the app's own
		t.Errorf("after five minutes %d reads, want two more", n)
	}
	// A day later they are read anew, and good for longer where nobody answers.
	g.issuer.Header(nil)
	g.pass(25 * time.Hour)
	if _, err := g.signIn(oidctest.Person); err != nil || g.issuer.Reads("keys") != 5 {
		t.Errorf("a day later: %v, %d reads", err, g.issuer.Reads("keys"))
	}
	g.pass(25 * time.Hour)
	g.issuer.Handle(func(path string, w http.ResponseWriter, _ *http.Request) bool {
		if path == "keys" {
			http.Error(w, "no", http.StatusInternalServerError)
		}
		return path == "keys"
	})
	if _, err := g.signIn(oidctest.Person); err != nil {
		t.Errorf("the last good keys are not used: %v", err)
	}
}

// An app whose claims are mapped has a signing key of its own, which the tenant
// shows to who names the app.
func TestTheAppsOwnSigningKey(t *testing.T) {
	g := start(t)
	if _, err := g.signIn(oidctest.Person); err != nil {
		t.Fatal(err)
	}
	g.issuer.OwnKey()
	if claims, err := g.signIn(oidctest.Person); err != nil || claims.Object != oidctest.Person {
		t.Errorf("by the app's own key: %+v, %v", claims, err)
	}
	// The keys are read anew by the hour: it must not be forgotten by that.
	g.pass(time.Hour)
	if err := g.client.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	reads := g.issuer.Reads("keys")
	if _, err := g.signIn(oidctest.Person); err != nil || g.issuer.Reads("keys") != reads {
		t.Errorf("after the keys were read anew: %v, %d reads more", err, g.issuer.Reads("keys")-reads)
	}
	// A provider that knows no such question goes on as ever.
	g = start(t)
	g.issuer.Handle(func(path string, w http.ResponseWriter, r *http.Request) bool {
		if path == "keys" && r.URL.RawQuery != "" {
			http.Error(w, "no", http.StatusBadRequest)
			return true
		}
		return false
	})
	if _, err := g.signIn(oidctest.Person); err != nil {
		t.Fatal(err)
	}
	g.issuer.Roll()
	if _, err := g.signIn(oidctest.Person); err != nil {
		t.Errorf("after a roll: %v", err)
	}
}

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

func certificate(t *testing.T, notAfter time.Time) (text []byte, public *rsa.PublicKey) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nas"}, NotBefore: notAfter.Add(-time.Hour * 24 * 365), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...), &k.PublicKey
}

func TestTheAppProvesItself(t *testing.T) {
	end := newClock().now().Add(20 * 24 * time.Hour)
	text, public := certificate(t, end)
	byCertificate, err := oidc.Certificate(secret.Own(bytes.Clone(text)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("  "+oidctest.Secret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bySecret, err := oidc.ReadSecret(path, end)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := oidc.Secret(secret.FromString("wrong"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		credential *oidc.Credential
		wants      func(*oidctest.Issuer)
		good       bool
	}{
		"public":          {nil, func(*oidctest.Issuer) {}, true},
		"secret":          {bySecret, (*oidctest.Issuer).Confidential, true},
		"wrong secret":    {wrong, (*oidctest.Issuer).Confidential, false},
		"no secret":       {nil, (*oidctest.Issuer).Confidential, false},
		"certificate":     {byCertificate, func(i *oidctest.Issuer) { i.Certificate(public) }, true},
		"another's":       {byCertificate, func(i *oidctest.Issuer) { _, other := certificate(t, end); i.Certificate(other) }, false},
		"secret for cert": {bySecret, func(i *oidctest.Issuer) { i.Certificate(public) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(c *oidc.Config) { c.Credential = tc.credential })
			tc.wants(g.issuer)
			_, err := g.signIn(oidctest.Person)
			probe := g.client.Probe(context.Background())
			if (err == nil) != tc.good || (probe == nil) != tc.good {
				t.Errorf("sign-in: %v, probe: %v, want good = %v", err, probe, tc.good)
			}
			if !tc.good && (!errors.Is(err, oidc.ErrCredential) || !errors.Is(probe, oidc.ErrCredential)) {
				t.Errorf("sign-in: %v, probe: %v", err, probe)
			}
		})
	}
	for _, c := range []*oidc.Credential{bySecret, byCertificate} {
		now := newClock().now()
		if at, soon := c.Ends(now); !soon || !at.Equal(end) {
			t.Errorf("%s: ends %v, soon %v", c.Kind, at, soon)
		}
		if _, soon := c.Ends(now.Add(-11 * 24 * time.Hour)); soon {
			t.Errorf("%s: 31 days are not soon", c.Kind)
		}
	}
}

func TestCredentialsThatAreNone(t *testing.T) {
	text, _ := certificate(t, time.Now().Add(time.Hour))
	other, _ := certificate(t, time.Now().Add(time.Hour))
	cert, rest := pem.Decode(text)
	_, otherKey := pem.Decode(other)
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("secret"), "no key": pem.EncodeToMemory(cert), "no certificate": rest,
		"another's key": append(pem.EncodeToMemory(cert), otherKey...),
		"broken":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"passphrase":    append(pem.EncodeToMemory(cert), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})...),
	} {
		if _, err := oidc.Certificate(secret.Own(b)); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []string{"", " ", "two words", "two\nlines", strings.Repeat("x", 2000), "caf\u00e9"} {
		if _, err := oidc.Secret(secret.FromString(s), time.Time{}); !fault.Is(err, fault.Malformed) {
			t.Errorf("secret %.20q: %v", s, err)
		}
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
