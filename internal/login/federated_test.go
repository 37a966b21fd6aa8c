// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"errors"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
)

// bob is the person of Entra ID.
func bobsOID() string {
	rid := 1106 % 256
	return guid(200 + byte(rid)).String()
}

func TestTokenOfEntraFindsTheRowByItsObjectID(t *testing.T) {
	w := newWorld(t)
	r, err := w.login.AcceptFederated(t.Context(), login.Request{Name: "bob@contoso.test", Door: "web", RemoteHost: "192.0.2.7"}, tenant.String(), bobsOID())
	if err != nil {
		t.Fatal(err)
	}
	if r.User.Name != "bob" || r.How != login.ByFederated || r.User.UID == 0 || r.CCache.Len() != 0 {
		t.Errorf("result %+v", r)
	}
	e := w.events()[0]
	if e.Action != audit.SignIn || e.How != "oidc" || e.Service != access.Web || e.Outcome != audit.Allowed || e.OID != bobsOID() || e.Asked != "bob@contoso.test" || e.RemoteHost != "192.0.2.7" {
		t.Errorf("event %+v", e)
	}
}

func TestTokenOfEntraIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		set         func(w *world)
		tenant, oid string
		want        fault.Kind
		reason      error
	}{
		"another tenant":    {nil, guid(9).String(), bobsOID(), fault.Denied, login.ErrOtherTenant},
		"not in the domain": {nil, tenant.String(), guid(99).String(), fault.NotFound, login.ErrNotSynced},
		// An objectGUID is no object id of Entra, and a row without an oid has none.
		"an objectGUID":      {nil, tenant.String(), guid(1106 % 256).String(), fault.NotFound, login.ErrNotSynced},
		"the empty id":       {nil, tenant.String(), "00000000-0000-0000-0000-000000000000", fault.Malformed, nil},
		"no id":              {nil, tenant.String(), "bob@contoso.test", fault.Malformed, nil},
		"no tenant":          {nil, "", bobsOID(), fault.Malformed, nil},
		"disabled":           {func(w *world) { w.change = func(u *identity.User) { u.State |= identity.Disabled } }, tenant.String(), bobsOID(), fault.Disabled, nil},
		"two rows":           {func(w *world) { w.conflict(1106) }, tenant.String(), bobsOID(), fault.Denied, login.ErrTwoRows},
		"gone":               {func(w *world) { w.nobody.Store(true) }, tenant.String(), bobsOID(), fault.Disabled, nil},
		"denied by a rule":   {func(w *world) { _, _ = w.login.SetRules(t.Context(), "test", access.Web, access.Deny, "bob") }, tenant.String(), bobsOID(), fault.Denied, nil},
		"the service closed": {func(w *world) { w.allow(access.Web, "alice") }, tenant.String(), bobsOID(), fault.Denied, nil},
	} {
		w := newWorld(t)
		if tc.set != nil {
			tc.set(w)
		}
		r, err := w.login.AcceptFederated(t.Context(), login.Request{Name: "alice", Door: "web"}, tc.tenant, tc.oid)
		wantKind(t, name, err, tc.want)
		if r != nil {
			t.Errorf("%s: let in as %s", name, r.User.Name)
		}
		for _, reason := range []error{login.ErrOtherTenant, login.ErrNotSynced, login.ErrTwoRows} {
			if errors.Is(err, reason) != (reason == tc.reason) {
				t.Errorf("%s: %v; is %q = %v", name, err, reason, errors.Is(err, reason))
			}
		}
		all := w.events()
		if last := all[len(all)-1]; last.Outcome != audit.Refused || last.How != "oidc" {
			t.Errorf("%s: event %+v", name, last)
		}
	}
}

// A domain whose tenant nobody told believes the door, which has checked it.
func TestTokenOfEntraWithoutAKnownTenant(t *testing.T) {
	w := newWorld(t)
	w.domain.Tenant = identity.GUID{}
	if _, err := w.login.AcceptFederated(t.Context(), login.Request{}, guid(9).String(), bobsOID()); err != nil {
		t.Error(err)
	}
}
