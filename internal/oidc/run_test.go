// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"log/slog"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/oidc/oidctest"
)

// In the background the discovery document is looked at often, for the button,
// and the keys once an hour.
func TestKeysAreLeftForAnHour(t *testing.T) {
	now := time.Now()
	i := oidctest.New(t, nil)
	c, err := New(Config{Authority: i.Authority(), Tenant: oidctest.Tenant, Client: oidctest.Client, RedirectURI: "https://nas.test/cb", Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []struct {
		pass time.Duration
		keys int
	}{{0, 1}, {10 * time.Minute, 1}, {49 * time.Minute, 1}, {time.Minute, 2}, {time.Minute, 2}} {
		now = now.Add(want.pass)
		if err := c.ask(t.Context(), refreshAfter); err != nil || i.Reads("keys") != want.keys || i.Reads("discovery") != n+1 {
			t.Errorf("look %d: %v, keys read %d times, want %d; discovery %d times, want %d", n, err, i.Reads("keys"), want.keys, i.Reads("discovery"), n+1)
		}
	}
	if err := c.Check(t.Context()); err != nil || i.Reads("keys") != 3 {
		t.Errorf("who asks gets them read: %v, %d", err, i.Reads("keys"))
	}
}
