// SPDX-License-Identifier: Apache-2.0

//go:build lab

package directory_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// TestLabMachineAccount is the road of a join: an ordinary user makes the
// computer object, its keys are derived from the DC's own salt, MIT accepts
// them, they bind, verify a KDC, and rotate.
func TestLabMachineAccount(t *testing.T) {
	p := start(t, 200, 40)
	ctx := t.Context()
	user := p.conn(t, p.asUser(t, 1))
	fqdn := "nas-01." + p.DNS
	attributes := func(pw string) []directory.Attribute {
		return []directory.Attribute{directory.Text("objectClass", "computer"), directory.Text("sAMAccountName", "NAS-01$"), directory.Text("userAccountControl", "4096"),
			directory.Text("dNSHostName", fqdn), directory.Text("servicePrincipalName", "host/"+fqdn, "host/NAS-01", "HTTP/"+fqdn, "cifs/"+fqdn),
			directory.Text("msDS-SupportedEncryptionTypes", "24"), {Name: "unicodePwd", Values: [][]byte{directory.UnicodePwd(secret.FromString(pw))}}}
	}
	const first, second = "First-Machine-Passw0rd-0123456789", "Second-Machine-Passw0rd-9876543210"
	var le *directory.LDAPError
	if err := user.Add(ctx, "CN=NAS-01,CN=Computers,"+p.BaseDN(), attributes(first)); !fault.Is(err, fault.Denied) || !errors.As(err, &le) || le.Code != 50 {
		t.Errorf("in CN=Computers: %v, want denied", err)
	}
	dn := "CN=NAS-01," + p.ComputersDN()
	if err := user.Add(ctx, "CN=NAS-01,OU=Nowhere,"+p.BaseDN(), attributes(first)); !fault.Is(err, fault.NotFound) {
		t.Errorf("in an OU that is not there: %v, want not found", err)
	}
	if err := user.Add(ctx, dn, attributes(first)); err != nil {
		t.Fatal(err)
	}
	if err := user.Add(ctx, dn, attributes(first)); !fault.Is(err, fault.Conflict) {
		t.Errorf("again: %v, want conflict", err)
	}
	account := kerberos.Account("NAS-01$", p.Realm())
	names := []kerberos.Principal{account, kerberos.Service("host", fqdn, p.Realm()), kerberos.Service("HTTP", fqdn, p.Realm()), kerberos.Service("cifs", fqdn, p.Realm())}
	entries := func(pw string) (*kerberos.Login, []kerberos.KeytabEntry) {
		t.Helper()
		l, err := p.kerberos().Login(ctx, account, password(pw))
		if err != nil {
			t.Fatal(err)
		}
		if want := kerberos.MachineSalt("NAS-01$", p.DNS); len(l.Keys) != 2 || l.Keys[0].Salt != want {
			t.Errorf("the DC's salt is %+v, ours %q", l.Keys, want)
		}
		var keys []kerberos.Key
		for _, info := range l.Keys {
			k, err := kerberos.DeriveKey(secret.FromString(pw), info)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, k)
		}
		return l, kerberos.MachineEntries(names, keys, l.KVNO, time.Now())
	}
	kt := &kerberos.Keytab{}
	l, made := entries(first)
	kt.Add(made...)
	e, err := user.Get(ctx, dn, "msDS-KeyVersionNumber")
	if err != nil || e.First("msDS-KeyVersionNumber") != fmt.Sprint(l.KVNO) {
		t.Errorf("the KDC says key version %d, the directory %q, %v", l.KVNO, e.First("msDS-KeyVersionNumber"), err)
	}
	p.acceptedByMIT(t, kt, fqdn)

	machine := p.as(t, account, kt)
	conn := p.conn(t, machine)
	if n, err := conn.ReadAll(ctx, 0, func(directory.Object) error { return nil }); err != nil || n < 240 {
		t.Errorf("the machine reads %d objects, %v", n, err)
	}
	people := p.kerberos()
	alice, err := people.Login(ctx, kerberos.Account("user00002", p.Realm()), password(lab.UserPassword(2)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := people.Verify(ctx, alice.TGT, names[1], kt)
	if err != nil || v.Client.Name[0] != "user00002" || v.PAC == nil || v.PAC.Account != "user00002" {
		t.Errorf("Verify = %+v, %v", v, err)
	}

	// What the PAC says of somebody in many groups is what the directory says.
	zero, err := people.Login(ctx, kerberos.Account("user00000", p.Realm()), password(lab.UserPassword(0)))
	if err != nil {
		t.Fatal(err)
	}
	if v, err = people.Verify(ctx, zero.TGT, names[1], kt); err != nil {
		t.Fatal(err)
	}
	token, err := conn.TokenGroups(ctx, "<SID="+v.PAC.User.String()+">")
	if err != nil {
		t.Fatal(err)
	}
	asserted, users := identity.MustParseSID("S-1-18-1"), identity.MustParseSID("S-1-5-32-545")
	for _, g := range v.PAC.Groups {
		if g != asserted && !slices.Contains(token, g) {
			t.Errorf("%v is in the PAC and not in tokenGroups", g)
		}
	}
	for _, g := range token {
		if g != users && !slices.Contains(v.PAC.Groups, g) {
			t.Errorf("%v is in tokenGroups and not in the PAC", g)
		}
	}

	// Rotation by the machine itself: delete the old value, add the new one.
	if err := conn.Modify(ctx, dn, []directory.Change{
		{Op: directory.DeleteValues, Attribute: directory.Attribute{Name: "unicodePwd", Values: [][]byte{directory.UnicodePwd(secret.FromString(first))}}},
		{Op: directory.AddValues, Attribute: directory.Attribute{Name: "unicodePwd", Values: [][]byte{directory.UnicodePwd(secret.FromString(second))}}},
	}); err != nil {
		t.Fatalf("rotation: %v", err)
	}
	if _, err := people.Verify(ctx, alice.TGT, names[1], kt); !fault.Is(err, fault.Conflict) {
		t.Errorf("Verify with the old keys: %v, want conflict", err)
	}
	rotated, more := entries(second)
	if rotated.KVNO != l.KVNO+1 {
		t.Errorf("key version %d after %d", rotated.KVNO, l.KVNO)
	}
	kt.Add(more...)
	if v, err := people.Verify(ctx, alice.TGT, names[1], kt); err != nil || v.Client.Name[0] != "user00002" {
		t.Errorf("Verify with the new keys: %v", err)
	}
	if _, err := p.as(t, account, kt).Conn(ctx); err != nil {
		t.Errorf("bind with the new keys, in the same second as the old: %v", err)
	}
	p.acceptedByMIT(t, kt, fqdn)
	if err := p.kerberos().ChangePassword(ctx, account, kt, secret.FromString(first+"!")); err != nil {
		t.Errorf("rotation by kpasswd with the keytab: %v", err)
	}
	if err := conn.Delete(ctx, dn); !fault.Is(err, fault.Denied) {
		t.Errorf("the machine deletes itself: %v, want denied", err)
	}
}

// acceptedByMIT lets kinit and kvno of MIT use a keytab of ours.
func (p *place) acceptedByMIT(t *testing.T, kt *kerberos.Keytab, fqdn string) {
	t.Helper()
	ctx := t.Context()
	b, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("[libdefaults]\ndefault_realm = %s\ndns_lookup_kdc = false\ndns_canonicalize_hostname = false\nrdns = false\n[realms]\n%s = {\nkdc = %s\n}\n", p.Realm(), p.Realm(), p.DC.IP())
	if err := errors.Join(p.box.WriteFile(ctx, "/tmp/keytab", b, 0o600), p.box.WriteFile(ctx, "/etc/krb5.conf", []byte(conf), 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := p.box.Output(ctx, "sh", "-c", "kinit -k -t /tmp/keytab 'NAS-01$' && kvno -k /tmp/keytab host/"+fqdn+" HTTP/"+fqdn+" && klist -kte /tmp/keytab"); err != nil {
		t.Errorf("MIT does not accept the keytab: %v: %s", err, out)
	}
}
