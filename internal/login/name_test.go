// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/store"
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
		if cache := string(r.CCache.Reveal()); !strings.HasPrefix(cache, "\x05\x04") || strings.Count(cache, "krbtgt") == 0 {
			t.Errorf("%s: the cache is %q, want one with a TGT", name, cache)
		}
		r.Wipe()
	}
	for _, e := range w.events()[1:] {
		if e.Action != audit.SignIn || e.Outcome != audit.Allowed || e.SID != domainSID.WithRID(1105).String() || !e.Sent || e.Rule != "allow sshd alice" {
			t.Errorf("event %+v", e)
		}
	}
}

// named changes what the directory says of a person.
func (w *world) named(rid uint32, change func(*identity.User)) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), func(tx *store.Tx) error {
		r, err := tx.FindObject(guid(byte(rid)))
		if err != nil {
			return err
		}
		r = r.Clone()
		change(r.User)
		return tx.Put(r)
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestMailAddressIsANameWhereTheConfigurationSaysSo(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	w.named(1105, func(u *identity.User) { u.Mail = "Alice.Liddell@wonder.test" })
	w.named(1106, func(u *identity.User) { u.Mail = "bob@wonder.test" })
	_, err := w.try("alice.liddell@wonder.test", "wonder land")
	wantKind(t, "switched off", err, fault.NotFound)

	w.settings.Store(&login.Settings{AlternateID: true, PasswordURL: "https://password.example.test"})
	for _, name := range []string{"alice.liddell@wonder.test", "ALICE.Liddell@WONDER.test"} {
		if r, err := w.try(name, "wonder land"); err != nil || r.User.Name != "alice" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := w.login.Account(t.Context(), login.Request{Name: "alice.liddell@wonder.test", Service: "sshd"}); err != nil {
		t.Errorf("account: %v", err)
	}
	if _, here, err := w.login.PasswordPlace(t.Context(), "alice.liddell@wonder.test"); err != nil || !here {
		t.Errorf("where the password is changed: %v, %v", here, err)
	}

	// Two who have it: neither, and strangers hear what everybody hears.
	w.named(1106, func(u *identity.User) { u.Mail = "alice.liddell@Wonder.test" })
	_, err = w.try("alice.liddell@wonder.test", "wonder land")
	wantKind(t, "two people", err, fault.NotFound)
	if !strings.Contains(err.Error(), "more than one") || login.ForStranger(err).Error() != login.ForStranger(fault.New(fault.BadCredential, "")).Error() {
		t.Errorf("two people: %v, and for a stranger %v", err, login.ForStranger(err))
	}
	// Another's mail address takes nobody's UPN away.
	w.named(1106, func(u *identity.User) { u.Mail = "alice@contoso.test" })
	if r, err := w.try("alice@contoso.test", "wonder land"); err != nil || r.User.Name != "alice" {
		t.Errorf("a UPN that is another's mail: %+v, %v", r, err)
	}
	// A guest's address is at home elsewhere.
	w.named(1106, func(u *identity.User) { u.Mail, u.State = "carol@elsewhere.test", u.State|identity.Guest })
	_, err = w.try("carol@elsewhere.test", "x")
	wantKind(t, "a guest", err, fault.NotFound)
}

func TestNameAtTheTenantsFirstDomain(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	in := func(name string) bool {
		t.Helper()
		r, err := w.try(name, "wonder land")
		if err != nil {
			wantKind(t, name, err, fault.NotFound)
			return false
		}
		return r.User.Name == "alice"
	}
	if !in("alice@contoso.onmicrosoft.com") || !in("Alice@Contoso.OnMicrosoft.COM") { // the UPN's local part, while there is no nickname
		t.Error("the local part of the UPN does not find the row")
	}
	w.named(1105, func(u *identity.User) { u.MailNickname = "Liddell" })
	if !in("liddell@contoso.onmicrosoft.com") || in("alice@contoso.onmicrosoft.com") {
		t.Error("the nickname decides where there is one")
	}
	for _, name := range []string{"liddell@contoso.com", "liddell@a.b.onmicrosoft.com", "liddell@onmicrosoft.com", "liddell@contoso.onmicrosoft.com.evil.test", "@contoso.onmicrosoft.com", "liddell"} {
		if in(name) {
			t.Errorf("%s is taken for a name at the first domain", name)
		}
	}
	// Where rows say what the first domain is called, no other one is taken.
	w.named(1106, func(u *identity.User) { u.UPN = "bob@contoso.onmicrosoft.com" })
	if !in("liddell@contoso.onmicrosoft.com") || in("liddell@elsewhere.onmicrosoft.com") {
		t.Error("the first domain of another tenant is taken for ours")
	}
	w.named(1106, func(u *identity.User) { u.MailNickname = "liddell" })
	if in("liddell@contoso.onmicrosoft.com") {
		t.Error("two people have the nickname, and one got in")
	}
}
