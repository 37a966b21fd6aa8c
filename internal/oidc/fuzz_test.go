// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func fuzzClient(f *testing.F) *Client {
	f.Helper()
	c, err := New(Config{Authority: DefaultAuthority, Tenant: identity.GUID{1}, Client: identity.GUID{2}, RedirectURI: "https://nas.test/cb"})
	if err != nil {
		f.Fatal(err)
	}
	// The tenant has been asked, so that nobody is.
	c.found, c.health = &metadata{Authorize: "https://x.test/a", Token: "https://x.test/t", Keys: "http://127.0.0.1:1/k", read: time.Now()}, nil
	return c
}

// The tenant's keys: no panic, and what is taken is taken again as it is.
func FuzzKeys(f *testing.F) {
	c := fuzzClient(f)
	n := strings.Repeat("A", 340) + "AQ"
	for _, s := range []string{"", "{}", `{"keys":[]}`, `{"keys":[{"kty":"RSA","kid":"a","use":"sig","n":"` + "0" + n + `","e":"AQAB"}]}`, `{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`,
		`{"keys":[{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"},{"kty":"EC"},7,null]}`, `{"keys":[{"kty":"RSA","kid":"a","issuer":"https://evil.test","n":"` + "0" + n + `","e":"AQAB"}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := c.keys.parse(b)
		if err != nil {
			return
		}
		for id, k := range keys {
			if id == "" || k.N.BitLen() < 2048 {
				t.Errorf("key %q of %d bits was taken", id, k.N.BitLen())
			}
			one, err := json.Marshal(map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": id, "n": b64.EncodeToString(k.N.Bytes()), "e": b64.EncodeToString([]byte{byte(k.E >> 24), byte(k.E >> 16), byte(k.E >> 8), byte(k.E)})}}})
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.keys.parse(one)
			if err != nil || len(again) != 1 || again[id] == nil || !again[id].Equal(k) {
				t.Errorf("key %q came back as %v, %v", id, again, err)
			}
		}
	})
}

// An id_token: nothing that the tenant's key did not sign is ever taken.
func FuzzIDToken(f *testing.F) {
	c := fuzzClient(f)
	c.keys.keys, c.keys.read, c.keys.unknown = nil, time.Now(), time.Now()
	head := func(s string) string { return b64.EncodeToString([]byte(s)) }
	for _, s := range []string{"", ".", "..", "a.b.c", head(`{"alg":"none"}`) + ".e30.", head(`{"alg":"RS256","kid":"a"}`) + ".e30.AAAA", head(`{"alg":"HS256","kid":"a"}`) + ".e30.AAAA",
		head(`{"alg":"RS256","kid":"a","crit":["x"],"x":1}`) + ".e30.AAAA", head(`{"alg":"RS256","alg":"none","kid":"a"}`) + ".e30.", `{"payload":"e30","signatures":[]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		claims, err := c.verify(ctx, s, "nonce")
		if err == nil || claims != nil {
			t.Errorf("%q was taken: %+v", s, claims)
		}
	})
}

// A certificate and its key: no panic, and nothing but fault.Malformed.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Certificate(secret.Own(append([]byte(nil), b...)))
		if err != nil && (c != nil || !fault.Is(err, fault.Malformed)) {
			t.Errorf("%v, %v", c, err)
		}
		if err == nil && (c.key == nil || c.thumbprint == "" || c.Expires.IsZero()) {
			t.Errorf("taken with half of it: %+v", c)
		}
	})
}

// What the provider says is quoted without anything that moves a terminal or
// breaks a header, and short.
func FuzzSaid(f *testing.F) {
	f.Add("access_denied", "AADSTS65004: User declined\r\nSet-Cookie: x")
	f.Add("", "")
	f.Add(strings.Repeat("x", 500), "\x1b[2J\u202e\xff")
	f.Fuzz(func(t *testing.T, code, description string) {
		text := Said(code, description)
		if len(text) > 700 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
			t.Errorf("%q", text)
		}
	})
}
