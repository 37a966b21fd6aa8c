// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"testing"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/login"
)

func TestEveryFormOfNameIsOneRow(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "alice")
	for _, name := range []string{"alice", "ALICE", `AADDSEX\alice`, "alice@contoso.test", "Alice@AADDS.example.test"} {
		r, err := w.try(name, "wonder land")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.User.Name != "alice" || r.User.UID == 0 || len(r.GIDs) == 0 || r.How != login.ByKerberos || r.Principal != "alice@"+realm {
			t.Errorf("%s: %+v", name, r)
		}
		cache, err := kerberos.ParseCCache(r.CCache.Reveal())
		if err != nil || len(cache.Tickets) != 1 || cache.Tickets[0].Service.Name[0] != "krbtgt" {
			t.Errorf("%s: the cache holds %v, %v, want a TGT", name, cache, err)
		}
		r.Wipe()
	}
	for _, e := range w.events()[1:] {
		if e.Action != audit.SignIn || e.Outcome != audit.Allowed || e.SID != domainSID.WithRID(1105).String() || !e.Sent || e.Rule != "allow sshd alice" {
			t.Errorf("event %+v", e)
		}
	}
}
