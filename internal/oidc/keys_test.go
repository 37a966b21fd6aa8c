// SPDX-License-Identifier: Apache-2.0

package oidc_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

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
