// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// describer is a domain controller that says the same of everybody.
type describer netlogon.Validation

func (d describer) SamLogon(context.Context, netlogon.Logon) (*netlogon.Validation, error) {
	v := netlogon.Validation(d)
	v.SessionKey = secret.FromString("0123456789abcdef")
	return &v, nil
}

// counting counts how often the directory is asked.
type counting struct {
	login.Refresher
	n *int
}

func (c counting) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	*c.n++
	return c.Refresher.RefreshOne(ctx, key)
}

// Somebody whom the domain controller has just described as the row has them is
// not looked up in the directory as well; everybody else is.
func TestTheDirectoryIsNotAskedWhatTheDCHasSaid(t *testing.T) {
	w := newWorld(t)
	if err := w.store.Update(t.Context(), func(tx *store.Tx) error {
		for rid, kind := range map[uint32]struct {
			name     string
			security bool
			member   bool
		}{1201: {"Builders", true, true}, 1202: {"News", false, true}, 1203: {"Others", true, false}} {
			g := store.NewGroup()
			g.Group.ObjectGUID, g.Group.SID, g.Group.Account = guid(byte(rid%256)), domainSID.WithRID(rid), kind.name
			g.Group.Scope, g.Group.Security = identity.ScopeGlobal, kind.security
			if err := tx.Put(g); err != nil {
				return err
			}
			if kind.member {
				u, err := tx.FindObject(guid(byte(1105 % 256)))
				if err != nil {
					return err
				}
				if err := tx.SetMembers(g.Common().Row, []store.Member{{GUID: u.Common().ObjectGUID, SID: u.Common().SID}}); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	same := netlogon.Validation{EffectiveName: "Alice", LogonDomain: "AADDSEX", DomainSID: domainSID, UserRID: 1105, PrimaryGroupRID: 513, UPN: "ALICE@contoso.test",
		Groups: []netlogon.Group{{RID: 513}, {RID: 1201}}, ExtraSIDs: []netlogon.SIDAttributes{{SID: identity.MustParseSID("S-1-18-1")}}}
	for what, tc := range map[string]struct {
		edit  func(*netlogon.Validation)
		state identity.State
		asked int
	}{
		"the same":                    {func(*netlogon.Validation) {}, 0, 0},
		"a group more":                {func(v *netlogon.Validation) { v.Groups = append(v.Groups, netlogon.Group{RID: 1203}) }, 0, 1},
		"one that nobody knows":       {func(v *netlogon.Validation) { v.Groups = append(v.Groups, netlogon.Group{RID: 4711}) }, 0, 1},
		"one more, among the others":  {func(v *netlogon.Validation) { v.ExtraSIDs = []netlogon.SIDAttributes{{SID: domainSID.WithRID(1203)}} }, 0, 1},
		"a group less":                {func(v *netlogon.Validation) { v.Groups = v.Groups[:1] }, 0, 1},
		"another primary group":       {func(v *netlogon.Validation) { v.PrimaryGroupRID = 1203 }, 0, 1},
		"another name":                {func(v *netlogon.Validation) { v.EffectiveName = "alice2" }, 0, 1},
		"another UPN":                 {func(v *netlogon.Validation) { v.UPN = "alice@elsewhere.test" }, 0, 1},
		"our row says it is disabled": {func(*netlogon.Validation) {}, identity.Disabled, 1},
	} {
		if err := w.store.Update(t.Context(), func(tx *store.Tx) error {
			r, err := tx.FindObject(guid(byte(1105 % 256)))
			if err != nil {
				return err
			}
			r = r.Clone()
			r.User.State = tc.state
			return tx.Put(r)
		}); err != nil {
			t.Fatal(err)
		}
		v := same
		v.Groups = append([]netlogon.Group(nil), same.Groups...)
		tc.edit(&v)
		asked := 0
		domain := *w.domain
		domain.Refresh = counting{w, &asked}
		l := login.New(login.Config{Store: w.store, Audit: w.rec, Log: slog.New(slog.DiscardHandler), Now: w.now, NTLM: func() login.NTLMAuthority { return describer(v) },
			Lockout: func() login.Lockout { return w.lockout }, Domain: func() *login.Domain { return &domain }, Settings: func() login.Settings { return *w.settings.Load() }})
		r, err := l.VerifyNTLM(t.Context(), login.NTLMRequest{Request: login.Request{Name: "alice"}, Domain: "AADDSEX", NT: []byte("x")})
		if (err == nil) != (tc.state == 0) || asked != tc.asked {
			t.Errorf("%s: %v, the directory was asked %d times, want %d", what, err, asked, tc.asked)
		}
		r.Wipe()
		l.Close()
	}
}
