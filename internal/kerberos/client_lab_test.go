// SPDX-License-Identifier: Apache-2.0

//go:build lab

package kerberos_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// domain starts a lab and a client in a box of it.
func domain(t *testing.T, addrs ...netip.Addr) (*lab.Domain, *lab.Box, *kerberos.Client) {
	t.Helper()
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	box := d.StartBox(t, "nas1", lab.BoxOptions{UseDNS: true, Krb5Conf: true})
	pool := kerberos.NewPool(append(addrs, netip.MustParseAddr(d.DC.IP()))...)
	return d, box, kerberos.NewClient(kerberos.Config{Realm: d.Realm(), Servers: pool, Dial: box.Dial})
}

func TestLabLogin(t *testing.T) {
	d, _, c := domain(t)
	ctx := t.Context()
	for _, u := range []lab.User{
		{Name: "jörg.müller", UPN: "Jörg.Müller@contoso.test", Password: "Grüße-42-€uro"},
		{Name: "disabled", Password: "Passw0rd!Lab", Disabled: true},
		// Not with "password never expires", which a DC puts before it.
		{Name: "mustchange", Password: "Passw0rd!Lab", Attrs: map[string][][]byte{"userAccountControl": lab.Text("512")}}, {Name: "expired", Password: "Passw0rd!Lab"}, {Name: "locked", Password: "Passw0rd!Lab"},
	} {
		if _, err := d.AddUser(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.MustChange(ctx, "mustchange"), d.Expire(ctx, "expired", time.Now().Add(-time.Hour)), d.Lock(ctx, "locked"), d.RandomNTHash(ctx, "user00003")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		who      kerberos.Principal
		password string
		client   string
		want     fault.Kind
		status   kerberos.Status
	}{
		"account":             {kerberos.Account("user00001", d.Realm()), lab.UserPassword(1), "user00001", 0, 0},
		"account, other case": {kerberos.Account("USER00001", d.Realm()), lab.UserPassword(1), "user00001", 0, 0},
		"UPN":                 {kerberos.Enterprise("user00001@contoso.test", d.Realm()), lab.UserPassword(1), "user00001", 0, 0},
		"UPN, other case":     {kerberos.Enterprise("User00001@Contoso.TEST", d.Realm()), lab.UserPassword(1), "user00001", 0, 0},
		"account at realm":    {kerberos.Enterprise("user00001@aadds.contoso.test", d.Realm()), lab.UserPassword(1), "user00001", 0, 0},
		"not ASCII":           {kerberos.Account("jörg.müller", d.Realm()), "Grüße-42-€uro", "jörg.müller", 0, 0},
		"not ASCII, UPN":      {kerberos.Enterprise("Jörg.Müller@contoso.test", d.Realm()), "Grüße-42-€uro", "jörg.müller", 0, 0},
		"random NT hash":      {kerberos.Account("user00003", d.Realm()), lab.UserPassword(3), "user00003", 0, 0},
		"wrong password":      {kerberos.Account("user00002", d.Realm()), "wrong", "", fault.BadCredential, 0},
		"nobody":              {kerberos.Account("nobody-of-that-name", d.Realm()), "x", "", fault.NotFound, 0},
		"no password yet":     {kerberos.Account("user00060", d.Realm()), "x", "", fault.BadCredential, 0},
		"disabled":            {kerberos.Account("disabled", d.Realm()), "Passw0rd!Lab", "", fault.Disabled, kerberos.StatusAccountDisabled},
		"must change":         {kerberos.Account("mustchange", d.Realm()), "Passw0rd!Lab", "", fault.MustChange, kerberos.StatusMustChange},
		"expired":             {kerberos.Account("expired", d.Realm()), "Passw0rd!Lab", "", fault.Expired, kerberos.StatusAccountExpired},
		"locked":              {kerberos.Account("locked", d.Realm()), "Passw0rd!Lab", "", fault.Locked, 0},
		"disabled, wrong":     {kerberos.Account("disabled", d.Realm()), "wrong", "", fault.BadCredential, 0},
	} {
		l, err := c.Login(ctx, tc.who, kerberos.Password(secret.FromString(tc.password)))
		if got := fault.KindOf(err); got != tc.want {
			t.Errorf("%s: %v, want %v (%v)", name, got, tc.want, err)
			continue
		}
		if err == nil {
			if got := l.TGT.Client.String(); got != tc.client+"@"+d.Realm() {
				t.Errorf("%s: client = %s, want %s", name, got, tc.client)
			}
			if _, err := c.ServiceTicket(ctx, l.TGT, kerberos.Service("ldap", d.DC.FQDN(), d.Realm())); err != nil {
				t.Errorf("%s: ticket: %v", name, err)
			}
			continue
		}
		var ke *kerberos.Error
		if !errors.As(err, &ke) || (tc.status != 0 && ke.Status != tc.status) {
			t.Errorf("%s: %+v, want status %08x", name, ke, uint32(tc.status))
		}
	}
}

func TestLabAWrongPasswordCountsOnce(t *testing.T) {
	d, _, c := domain(t)
	if _, err := c.Login(t.Context(), kerberos.Enterprise("user00004@contoso.test", d.Realm()), kerberos.Password(secret.FromString("wrong"))); !fault.Is(err, fault.BadCredential) {
		t.Fatal(err)
	}
	found, err := d.Search(t.Context(), d.BaseDN(), "(sAMAccountName=user00004)", "badPwdCount")
	if err != nil || len(found) != 1 || found[0].Get("badPwdCount") != "1" {
		t.Errorf("badPwdCount = %+v, %v, want 1", found, err)
	}
}

func TestLabTicketsForMIT(t *testing.T) {
	d, box, c := domain(t)
	ctx := t.Context()
	l, err := c.Login(ctx, kerberos.Enterprise("user00001@contoso.test", d.Realm()), kerberos.Password(secret.FromString(lab.UserPassword(1))))
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.ServiceTicket(ctx, l.TGT, kerberos.Service("cifs", d.DC.FQDN(), d.Realm()))
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := c.Renew(ctx, l.TGT)
	if err != nil || !renewed.EndTime.After(time.Now()) {
		t.Errorf("Renew = %+v, %v", renewed, err)
	}
	b, err := (&kerberos.CCache{Client: l.TGT.Client, Tickets: []*kerberos.Ticket{renewed, st}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := box.WriteFile(ctx, "/tmp/krb5cc", b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := box.Output(ctx, "klist", "-ef", "/tmp/krb5cc")
	if err != nil || !strings.Contains(out, "user00001@"+d.Realm()) || !strings.Contains(out, "cifs/"+d.DC.FQDN()) || !strings.Contains(out, "aes256") {
		t.Errorf("klist says %q, %v", out, err)
	}
	if out, err := box.Output(ctx, "kvno", "-c", "/tmp/krb5cc", "ldap/"+d.DC.FQDN()); err != nil {
		t.Errorf("kvno with our cache: %q, %v", out, err)
	}
}

func TestLabSkewedClock(t *testing.T) {
	d, _, c := domain(t)
	if err := d.DC.Skew(t.Context(), -20*time.Minute); err != nil {
		t.Fatal(err)
	}
	_, err := c.Login(t.Context(), kerberos.Account("user00001", d.Realm()), kerberos.Password(secret.FromString(lab.UserPassword(1))))
	var skew *kerberos.SkewError
	if !errors.As(err, &skew) || skew.Skew().Round(time.Minute) != 20*time.Minute || fault.Remedy(err) == "" {
		t.Errorf("login = %v, want a skew of 20 minutes with a remedy", err)
	}
	if _, got, err := c.Time(t.Context()); err != nil || got.Round(time.Minute) != 20*time.Minute {
		t.Errorf("Time = %v, %v, want 20 minutes", got, err)
	}
}

func TestLabDeadKDCIsPassedOver(t *testing.T) {
	dead := netip.MustParseAddr("10.77.0.250") // nobody answers its ARP
	d, _, c := domain(t, dead)
	for i := range 2 {
		if _, err := c.Login(t.Context(), kerberos.Account("user00001", d.Realm()), kerberos.Password(secret.FromString(lab.UserPassword(1)))); err != nil {
			t.Errorf("login %d: %v", i, err)
		}
	}
}

func TestLabChangePassword(t *testing.T) {
	d, _, c := domain(t)
	ctx := t.Context()
	if err := d.MustChange(ctx, "user00006"); err != nil {
		t.Fatal(err)
	}
	pw := func(s string) kerberos.Secret { return kerberos.Password(secret.FromString(s)) }
	for name, tc := range map[string]struct {
		user, old, new string
		want           fault.Kind
		code           uint16
	}{
		"own password":         {"user00005", lab.UserPassword(5), "An0ther!Passwort-ü", 0, 0},
		"that must be changed": {"user00006", lab.UserPassword(6), "An0ther!Password", 0, 0},
		"too short":            {"user00007", lab.UserPassword(7), "x", fault.Denied, 4},
		"wrong old one":        {"user00008", "wrong", "An0ther!Password", fault.BadCredential, 0},
	} {
		err := c.ChangePassword(ctx, kerberos.Account(tc.user, d.Realm()), pw(tc.old), secret.FromString(tc.new))
		var pe *kerberos.PasswordError
		if fault.KindOf(err) != tc.want || (tc.code != 0 && (!errors.As(err, &pe) || pe.Code != tc.code || pe.Text == "")) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
			continue
		}
		want := tc.new
		if tc.want != 0 {
			want = lab.UserPassword(map[string]int{"user00007": 7, "user00008": 8}[tc.user])
		}
		if _, err := c.Login(ctx, kerberos.Account(tc.user, d.Realm()), pw(want)); err != nil {
			t.Errorf("%s: login afterwards: %v", name, err)
		}
	}
	admin := kerberos.Account(lab.AdminUser, d.Realm())
	if err := c.SetPassword(ctx, admin, pw(lab.AdminPassword), kerberos.Account("user00060", d.Realm()), secret.FromString("S3t-by-admin!")); err != nil {
		t.Errorf("set by an administrator: %v", err)
	}
	if _, err := c.Login(ctx, kerberos.Account("user00060", d.Realm()), pw("S3t-by-admin!")); err != nil {
		t.Errorf("login after it was set: %v", err)
	}
	err := c.SetPassword(ctx, kerberos.Account("user00009", d.Realm()), pw(lab.UserPassword(9)), kerberos.Account("user00010", d.Realm()), secret.FromString("S3t-by-nobody!"))
	var pe *kerberos.PasswordError
	if !fault.Is(err, fault.Denied) || !errors.As(err, &pe) || pe.Code != 5 {
		t.Errorf("set by somebody without the right: %v, want denied by code 5", err)
	}
}
