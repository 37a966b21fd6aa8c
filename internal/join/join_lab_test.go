// SPDX-License-Identifier: Apache-2.0

//go:build lab

package join

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/lab"
)

// must runs a command in a machine.
func must(t *testing.T, m interface {
	Output(context.Context, ...string) (string, error)
}, args ...string) string {
	t.Helper()
	out, err := m.Output(t.Context(), args...)
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return out
}

// computerIn returns the computer object as the directory has it.
func computerIn(t *testing.T, d *lab.Domain, account string) lab.Entry {
	t.Helper()
	found, err := d.Search(t.Context(), d.BaseDN(), "(sAMAccountName="+account+")", "*", "msDS-KeyVersionNumber")
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %d objects, %v", account, len(found), err)
	}
	return found[0]
}

func values(e lab.Entry, name string) (all []string) {
	for _, v := range e.Attrs[name] {
		all = append(all, string(v))
	}
	slices.Sort(all)
	return all
}

// applyKrb5 writes the Kerberos files of the box as the CLI does.
func applyKrb5(t *testing.T, box *lab.Box, m *Membership) {
	t.Helper()
	if o := do(t, box, task{Verb: "krb5-apply", Settings: krb5conf.Settings{Realm: m.Realm, Domain: m.Domain, KDCs: m.KDCs}}); o.Error != "" {
		t.Fatal(o.Error)
	}
}

func TestJoinAsOrdinaryUser(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	before := must(t, box, "find", "/etc", "/var/lib", "-newer", "/etc/hostname", "-name", "*krb5*")
	o := mustJoin(t, d, box, nil)
	for _, s := range o.Steps {
		if s.State == Warning || s.State == Failed {
			t.Errorf("step %s: %s %s", s.ID, s.State, s.Detail)
		}
	}
	m := o.Membership
	if m.Domain != d.DNS || m.Realm != d.Realm() || m.NetBIOS != d.NetBIOS || m.ComputerAccount != "NAS1$" || m.FQDN != "nas1."+d.DNS ||
		m.ComputerDN != "CN=NAS1,"+d.ComputersDN() || m.DC != d.DC.FQDN() || m.Rejoined || !slices.Equal(m.KDCs, []string{d.DC.IP()}) {
		t.Errorf("membership %+v", m)
	}

	// The object.
	e := computerIn(t, d, "NAS1$")
	want := spns("nas1", m.FQDN)
	slices.Sort(want)
	for name, want := range map[string][]string{
		"servicePrincipalName": want, "dNSHostName": {m.FQDN}, "userAccountControl": {"4096"}, "msDS-SupportedEncryptionTypes": {"24"},
		"operatingSystem": {"latchkey"}, "primaryGroupID": {"515"},
	} {
		if got := values(e, name); !slices.Equal(got, want) {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}

	// The keytab, and MIT Kerberos with the files of the contract.
	if got := must(t, box, "stat", "-c", "%a", boxKeytab); got != "600" {
		t.Errorf("keytab mode %s, want 600", got)
	}
	applyKrb5(t, box, m)
	list := must(t, box, "klist", "-ket", boxKeytab)
	for _, p := range append(spns("nas1", m.FQDN), "NAS1$") {
		for _, etype := range []string{"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"} {
			if !strings.Contains(list, p+"@"+m.Realm+" ("+etype+")") {
				t.Errorf("no %s key of %s in the keytab:\n%s", etype, p, list)
			}
		}
	}
	if strings.Contains(list, "arcfour") || strings.Contains(list, "des") {
		t.Errorf("weak keys:\n%s", list)
	}
	must(t, box, "kinit", "-k", "-t", boxKeytab, "NAS1$")
	for _, service := range []string{"host/nas1", "host/" + m.FQDN, "HTTP/" + m.FQDN, "cifs/nas1", "cifs/" + m.FQDN} {
		must(t, box, "kvno", "-k", boxKeytab, service)
	}
	// As a person: no realm typed, no DNS of the domain, and root's own keytab.
	must(t, box, "sh", "-c", "kdestroy; echo '"+lab.UserPassword(1)+"' | kinit user00001 && kvno host/"+m.FQDN+" && kdestroy")
	must(t, box, "sh", "-c", "kinit -k 'NAS1$' && kdestroy")
	if got := must(t, box, "stat", "-c", "%a %U", "/etc/krb5.keytab"); got != "600 root" {
		t.Errorf("root's keytab: %s, want 600 root", got)
	}
	if root := must(t, box, "klist", "-k", "/etc/krb5.keytab"); !strings.Contains(root, "host/"+m.FQDN) || strings.Contains(root, "cifs/") {
		t.Errorf("root's keytab:\n%s", root)
	}

	// The name.
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), m.FQDN, "A"); got != box.IP() {
		t.Errorf("%s is %q in DNS, want %s", m.FQDN, got, box.IP())
	}

	// And out again.
	o = do(t, box, task{Verb: "leave", Password: lab.JoinPassword, Leave: LeaveRequest{User: lab.JoinUser}})
	if o.Error != "" {
		t.Fatalf("leave:\n%s", o)
	}
	if found, err := d.Search(t.Context(), d.BaseDN(), "(sAMAccountName=NAS1$)"); err != nil || len(found) != 0 {
		t.Errorf("after leave: %d accounts, %v", len(found), err)
	}
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), m.FQDN, "A"); got != "" {
		t.Errorf("after leave %s is still %s in DNS", m.FQDN, got)
	}
	if o := do(t, box, task{Verb: "krb5-remove"}); o.Error != "" {
		t.Error(o.Error)
	}
	if after := must(t, box, "find", "/etc", "/var/lib", "-newer", "/etc/hostname", "-name", "*krb5*"); after != before {
		t.Errorf("left behind:\n%s", after)
	}
	if o := do(t, box, task{Verb: "leave"}); o.Kind != fault.Conflict || !strings.Contains(o.Error, "in no domain") {
		t.Errorf("a second leave: %s", o)
	}
}

func TestEveryFormOfUserName(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	for _, user := range []string{"user00001", "USER00001", d.NetBIOS + `\user00001`, strings.ToLower(d.NetBIOS) + `\User00001`, d.DNS + `\user00001`,
		"user00001@" + d.UPNSuffix, "USER00001@" + strings.ToUpper(d.UPNSuffix), "user00001@" + d.Realm(), "user00001@" + d.DNS} {
		o := do(t, box, joinTask(d, func(t *task) { t.Verb, t.Join.User, t.Password = "check", user, lab.UserPassword(1) }))
		if s := o.step(StepSignIn); o.Error != "" || s.Detail != "as user00001@"+d.Realm() {
			t.Errorf("%s:\n%s", user, o)
		}
	}
	o := do(t, box, joinTask(d, func(t *task) { t.Verb, t.Join.User = "check", `OTHER\joiner` }))
	if o.Kind != fault.Malformed || !strings.Contains(o.Error, d.NetBIOS) {
		t.Errorf("a user of another domain:\n%s", o)
	}
}

func TestRejoinOverOwnAccount(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	first := mustJoin(t, d, box, nil).Membership
	rejoin := func(what string) *Membership {
		t.Helper()
		m := mustJoin(t, d, box, nil).Membership
		if !m.Rejoined || m.ComputerSID != first.ComputerSID || m.KVNO <= first.KVNO {
			t.Errorf("%s: rejoined %v, SID %s, key version %d after %+v", what, m.Rejoined, m.ComputerSID, m.KVNO, first)
		}
		applyKrb5(t, box, m)
		must(t, box, "kinit", "-k", "-t", boxKeytab, "NAS1$")
		return m
	}
	if o := do(t, box, task{Verb: "leave", Leave: LeaveRequest{KeepAccount: true}}); o.Error != "" {
		t.Fatal(o)
	}
	if res, _ := box.Run(t.Context(), "test", "-e", boxKeytab); res.Ok() {
		t.Error("the keytab is still there after leave --keep-account")
	}
	rejoin("after leave --keep-account")

	// A reinstalled box.
	must(t, box, "rm", "-r", boxState)
	rejoin("after the state was lost")

	// Names of others, and what an administrator did to the account meanwhile.
	must(t, box, "rm", "-r", boxState)
	for name, v := range map[string]string{"userAccountControl": "4098", "dNSHostName": "old." + d.DNS, "msDS-SupportedEncryptionTypes": "28"} {
		if err := d.SetAttr(t.Context(), "NAS1$", name, lab.Text(v)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.SetAttr(t.Context(), "NAS1$", "servicePrincipalName", lab.Text("nfs/nas1."+d.DNS, "HOST/nas1")...); err != nil {
		t.Fatal(err)
	}
	m := rejoin("after the account was changed")
	e := computerIn(t, d, "NAS1$")
	if e.Get("userAccountControl") != "4096" || e.Get("dNSHostName") != m.FQDN || e.Get("msDS-SupportedEncryptionTypes") != "24" {
		t.Errorf("the account was not put right: %v", e.Attrs)
	}
	got := values(e, "servicePrincipalName")
	for _, want := range append(spns("nas1", m.FQDN), "nfs/nas1."+d.DNS) {
		if !slices.ContainsFunc(got, func(g string) bool { return strings.EqualFold(g, want) }) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

func TestAccountOfAnother(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	first := nas(t, d, "nas1", lab.BoxOptions{})
	mustJoin(t, d, first, nil)
	second := nas(t, d, "nas2", lab.BoxOptions{})
	as := func(user, password string) func(*task) {
		return func(t *task) { t.Join.User, t.Join.Hostname, t.Password = user, "nas1", password }
	}
	kvno := computerIn(t, d, "NAS1$").Get("msDS-KeyVersionNumber")
	o := do(t, second, joinTask(d, as("user00001", lab.UserPassword(1))))
	if o.Kind != fault.Conflict || o.step(StepAccount).State != Failed {
		t.Fatalf("taking the account of another:\n%s", o)
	}
	for _, say := range []string{"CN=NAS1," + d.ComputersDN(), "belongs to joiner, not to user00001"} {
		if !strings.Contains(o.Error, say) {
			t.Errorf("%q is not in %q", say, o.Error)
		}
	}
	if !strings.Contains(o.Remedy, "--hostname") {
		t.Errorf("remedy %q", o.Remedy)
	}
	if now := computerIn(t, d, "NAS1$").Get("msDS-KeyVersionNumber"); now != kvno {
		t.Errorf("the account's key version went from %s to %s", kvno, now)
	}
	if res, _ := second.Run(t.Context(), "test", "-e", boxKeytab); res.Ok() {
		t.Error("a refused join left a keytab")
	}
	// Nor may that user delete it.
	if o := do(t, first, task{Verb: "leave", Password: lab.UserPassword(1), Leave: LeaveRequest{User: "user00001"}}); o.Kind != fault.Denied || !strings.Contains(o.Error, "user00001 may not delete") {
		t.Errorf("leave as another user:\n%s", o)
	}
	applyKrb5(t, first, &Membership{Realm: d.Realm(), Domain: d.DNS, KDCs: []string{d.DC.IP()}})
	must(t, first, "kinit", "-k", "-t", boxKeytab, "NAS1$") // nothing changed
	// An administrator may take it.
	if o := mustJoin(t, d, second, as(lab.AdminUser, lab.AdminPassword)); !o.Membership.Rejoined {
		t.Errorf("membership %+v", o.Membership)
	}
}

func TestBrokenMembershipIsMended(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	mustJoin(t, d, box, nil)
	// Nothing to mend: refused, and nothing changes.
	o := do(t, box, joinTask(d, nil))
	if o.Kind != fault.Conflict || !strings.Contains(o.Error, "member of "+d.DNS+" already") {
		t.Errorf("a second join:\n%s", o)
	}
	if o := do(t, box, joinTask(d, func(t *task) { t.Verb, t.Password, t.Join.User = "check", "", "" })); o.Error != "" || o.step(StepMember).State == Failed {
		t.Errorf("a check of a member:\n%s", o)
	}
	if o := do(t, box, joinTask(d, func(t *task) { t.Join.Domain = "other.test" })); o.Kind != fault.Conflict || !strings.Contains(o.Error, "member of "+d.DNS) || o.step(StepDNS).ID != "" {
		t.Errorf("a join of another domain:\n%s", o)
	}
	for what, broke := range map[string]func() error{
		"the account was deleted": func() error { return d.Delete(t.Context(), "NAS1$") },
		"its password was reset":  func() error { return d.SetPassword(t.Context(), "NAS1$", "Passw0rd!Reset-by-admin") },
		"it was disabled":         func() error { return d.Disable(t.Context(), "NAS1$", true) },
	} {
		if err := broke(); err != nil {
			t.Fatal(err)
		}
		o := mustJoin(t, d, box, nil)
		if s := o.step(StepMember); s.State != Warning || !strings.Contains(s.Detail, "refuses the machine's present account") {
			t.Errorf("%s:\n%s", what, o)
		}
		applyKrb5(t, box, o.Membership)
		must(t, box, "kinit", "-k", "-t", boxKeytab, "NAS1$")
	}
}

// TestKilledAnywhere kills the join by SIGKILL after each step that changes
// something; the same join run again repairs.
func TestKilledAnywhere(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	for i, step := range []string{StepSignIn, StepAccount, StepKeytab, StepNames, StepVerify, StepRegister, StepRemember, StepHostKeys} {
		box := nas(t, d, "kill"+string(rune('a'+i)), lab.BoxOptions{})
		do(t, box, joinTask(d, func(t *task) { t.KillAt = step }))
		o := do(t, box, joinTask(d, nil))
		if step == StepRemember || step == StepHostKeys {
			if o.Kind != fault.Conflict {
				t.Errorf("killed after %s, then joined:\n%s", step, o)
			}
			continue
		}
		if o.Error != "" {
			t.Errorf("killed after %s, then joined:\n%s", step, o)
			continue
		}
		applyKrb5(t, box, o.Membership)
		must(t, box, "kinit", "-k", "-t", boxKeytab, o.Membership.ComputerAccount)
		must(t, box, "kvno", "-k", boxKeytab, "host/"+o.Membership.FQDN)
	}
}
