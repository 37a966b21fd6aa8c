// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

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

// The clock of the provider is seen by its answers, before a token fails by it.
func TestClocksAreCompared(t *testing.T) {
	g := start(t)
	if err := g.client.CheckClock(); err != nil {
		t.Errorf("before anything was said: %v", err)
	}
	for _, tc := range []struct {
		date string
		ok   bool
	}{{g.now().Add(4 * time.Minute).UTC().Format(http.TimeFormat), true}, {g.now().Add(6 * time.Minute).UTC().Format(http.TimeFormat), false},
		{g.now().Add(-4 * time.Minute).UTC().Format(http.TimeFormat), true}, {g.now().Add(-6 * time.Minute).UTC().Format(http.TimeFormat), false}, {"yesterday", false}, {g.now().UTC().Format(http.TimeFormat), true}} {
		g.issuer.Handle(func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", tc.date)
			return false
		})
		if err := g.client.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.client.CheckClock(); (err == nil) != tc.ok || err != nil && !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", tc.date, err)
		}
	}
}
