// SPDX-License-Identifier: Apache-2.0

//go:build lab

package join

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/lab"
)

// refusal is a join that cannot work.
type refusalCase struct {
	name   string
	edit   func(*task)
	kind   fault.Kind
	step   string
	say    string // in the error
	remedy string // in the remedy
}

func (c refusalCase) check(t *testing.T, d *lab.Domain, box *lab.Box) *outcome {
	t.Helper()
	o := do(t, box, joinTask(d, c.edit))
	s := o.step(c.step)
	if o.Kind != c.kind || s.State != Failed || !strings.Contains(o.Error, c.say) || !strings.Contains(o.Remedy, c.remedy) || o.Remedy == "" {
		t.Errorf("%s: want %s at %s, %q, remedy %q; got:\n%s", c.name, c.kind, c.step, c.say, c.remedy, o)
	}
	if !strings.HasSuffix(o.Error, s.Detail) || s.Remedy != o.Remedy {
		t.Errorf("%s: the step says %q -> %q, the error %q -> %q", c.name, s.Detail, s.Remedy, o.Error, o.Remedy)
	}
	if res, _ := box.Run(t.Context(), "test", "-e", boxKeytab); res.Ok() {
		t.Errorf("%s: a refused join left a keytab", c.name)
	}
	return o
}

func TestEveryRefusalHasItsMessage(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	ctx := t.Context()
	box := nas(t, d, "nas1", lab.BoxOptions{})
	ou, err := d.AddOU(ctx, "NAS")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		d.Lock(ctx, "user00001"), d.Disable(ctx, "user00002", true), d.Expire(ctx, "user00003", time.Now().Add(-24*time.Hour)),
		d.SetAttr(ctx, "user00004", "userAccountControl", lab.Text("512")...), d.MustChange(ctx, "user00004"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	holder, err := d.AddUser(ctx, lab.User{Name: "service1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetAttr(ctx, "service1", "servicePrincipalName", lab.Text("HTTP/taken."+d.DNS)...); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddUser(ctx, lab.User{Name: "BOX$"}); err != nil {
		t.Fatal(err)
	}
	user := func(name string, n int) func(*task) {
		return func(t *task) { t.Join.User, t.Password = name, lab.UserPassword(n) }
	}
	host := func(name string) func(*task) { return func(t *task) { t.Join.Hostname = name } }
	var said []string
	for _, c := range []refusalCase{
		{"wrong password", func(t *task) { t.Password = "n0t-It" }, fault.BadCredential, StepSignIn, "the password of joiner is wrong", "five wrong ones"},
		{"no such user", func(t *task) { t.Join.User = "nobody-of-that-name" }, fault.NotFound, StepSignIn, "has no user nobody-of-that-name", "check the name"},
		{"no such UPN", func(t *task) { t.Join.User = "nobody@" + d.UPNSuffix }, fault.NotFound, StepSignIn, "has no user nobody@" + d.UPNSuffix, "check the name"},
		{"locked", user("user00001", 1), fault.Locked, StepSignIn, "is locked", "30 minutes"},
		{"disabled", user("user00002", 2), fault.Disabled, StepSignIn, "is disabled", "enable it"},
		{"expired", user("user00003", 3), fault.Expired, StepSignIn, "has expired", "renew it"},
		{"must change", user("user00004", 4), fault.MustChange, StepSignIn, "must be changed", "change it in Entra ID"},
		{"no such OU", func(t *task) { t.Join.OU = "OU=Nowhere," + d.BaseDN() }, fault.NotFound, StepContainer, "there is no OU=Nowhere," + d.BaseDN(), "leave it out"},
		{"not a DN", func(t *task) { t.Join.OU = "NAS" }, fault.Malformed, StepRequest, "not a distinguished name", "OU=NAS," + d.BaseDN()},
		{"a broken DN", func(t *task) { t.Join.OU = `OU=a+,DC=` }, fault.Malformed, StepContainer, "not a distinguished name", "OU=NAS,"},
		{"OU is a user", func(t *task) { t.Join.OU = holder.DN }, fault.Malformed, StepContainer, "is no organizational unit", "--ou"},
		{"no rights in the OU", func(t *task) { t.Join.OU = ou }, fault.Denied, StepAccount, "joiner may not create computers in " + ou, "leave --ou out"},
		{"16 characters", host("abcdefghijklmnop"), fault.Malformed, StepHostname, "abcdefghijklmnop has 16 characters", "at most 15"},
		{"illegal characters", host("my_nas"), fault.Malformed, StepHostname, "characters other than", "letters, digits and dashes"},
		{"the domain's own name", host("aadds"), fault.Malformed, StepHostname, "the domain's own name", "at most 15"},
		{"a domain controller's name", host("dc1"), fault.Conflict, StepAccount, "is a domain controller", "--hostname"},
		{"a user's name", host("box"), fault.Conflict, StepAccount, "is no computer account", "--hostname"},
		{"a name in use", host("taken"), fault.Conflict, StepAccount, "the service name HTTP/taken." + d.DNS + " belongs to " + holder.DN, "--hostname"},
		{"no domain", func(t *task) { t.Join.Domain = "" }, fault.Malformed, StepRequest, "no domain is named", "aadds.contoso.com"},
		{"short domain", func(t *task) { t.Join.Domain = "AADDSCONTOSO" }, fault.Malformed, StepRequest, "is a short name", "aadds.contoso.com"},
		{"no password", func(t *task) { t.Password = "" }, fault.Malformed, StepRequest, "the password is empty", "--password-stdin"},
		{"no user", func(t *task) { t.Join.User = "" }, fault.Malformed, StepRequest, "no user is named", "any user"},
		{"tenant", func(t *task) { t.Join.TenantID = "contoso" }, fault.Malformed, StepRequest, "not a tenant id", "--tenant"},
		{"DNS server", func(t *task) { t.Join.DNSServers = []string{"dc1"} }, fault.Malformed, StepRequest, "not the address of a DNS server", "virtual network"},
		{"no SRV records", func(t *task) { t.Join.Domain = "corp." + d.DNS }, fault.NotFound, StepSRV, "know no record _ldap._tcp.dc._msdcs.corp." + d.DNS, "check the name of the domain"},
		{"a silent DNS server", func(t *task) { t.Join.DNSServers = []string{"10.77.0.99"} }, fault.Unreachable, StepDNS, "no answer from 10.77.0.99", "port 53"},
		{"the machine's own DNS", func(t *task) { t.Join.DNSServers = nil }, fault.Unreachable, StepDNS, "own name servers do not answer", "--dns"},
		{"an unknown DC name", func(t *task) { t.Join.DomainControllers = []string{"dc9." + d.DNS} }, fault.NotFound, StepDC, "no address for dc9." + d.DNS, "--dc"},
		{"a dead DC", func(t *task) { t.Join.DomainControllers = []string{"10.77.0.99"} }, fault.Unreachable, "port-88", "10.77.0.99", "allow TCP 88"},
		{"another domain's DC", func(t *task) { t.Join.Domain, t.Join.DomainControllers = "other.test", []string{d.DC.IP()} }, fault.NotFound, StepDC, "serves the domain " + d.DNS + ", not other.test", "join " + d.DNS},
	} {
		o := c.check(t, d, box)
		said = append(said, o.Error)
	}
	// Distinct, each of them.
	seen := map[string]bool{}
	for _, text := range said {
		if seen[text] {
			t.Errorf("said twice: %s", text)
		}
		seen[text] = true
	}
	// None of it left anything in the domain.
	found, err := d.Search(ctx, d.BaseDN(), "(objectClass=computer)", "sAMAccountName")
	if err != nil || len(found) != 1 {
		t.Errorf("%d computers, %v, want the domain controller alone", len(found), err)
	}
}

func TestNotADomainController(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	other := d.StartBox(t, "other", lab.BoxOptions{})
	for _, port := range []string{":389", ":88"} {
		l, err := other.Listen("tcp", other.IP()+port)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					return
				}
			}
		}()
	}
	refusalCase{"not a DC", func(t *task) { t.Join.DomainControllers = []string{other.IP()} }, fault.NotFound, StepDC,
		"does not answer as an Active Directory domain controller", "check the address"}.check(t, d, nas(t, d, "nas1", lab.BoxOptions{}))
}

func TestBlockedPorts(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	where := d.DC.FQDN() + " (" + d.DC.IP() + ")"
	heal := func() {
		if err := d.DC.Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		ports  []int
		needed bool
	}{{[]int{88}, true}, {[]int{389}, true}, {[]int{135, 445, 464}, false}} {
		for _, block := range []struct {
			how  func(context.Context, ...int) error
			says string
		}{{d.DC.Blackhole, "does not answer (blocked on the way)"}, {d.DC.Refuse, "is closed (refused)"}} {
			if err := block.how(t.Context(), c.ports...); err != nil {
				t.Fatal(err)
			}
			o := do(t, box, joinTask(d, func(t *task) { t.Verb, t.Join.User, t.Password = "check", "", "" }))
			for _, port := range c.ports {
				s := o.step(StepPort + strconv.Itoa(port))
				if want := fmt.Sprintf("port %d on %s %s", port, where, block.says); !strings.HasPrefix(s.Detail, want) {
					t.Errorf("port %d says %q, want %q", port, s.Detail, want)
				}
				if want := fmt.Sprintf("allow TCP %d from this machine to %s", port, d.DC.IP()); !strings.HasPrefix(s.Remedy, want) {
					t.Errorf("port %d: remedy %q, want %q", port, s.Remedy, want)
				}
				switch {
				case c.needed && (o.Kind != fault.Unreachable || s.State != Failed || !strings.Contains(o.Error, s.Detail)):
					t.Errorf("port %d %s:\n%s", port, block.says, o)
				case !c.needed && (o.Error != "" || s.State != Warning):
					t.Errorf("port %d %s:\n%s", port, block.says, o)
				}
			}
			heal()
		}
	}
	// What is not needed does not stop a join.
	if err := d.DC.Blackhole(t.Context(), 135, 445, 464); err != nil {
		t.Fatal(err)
	}
	mustJoin(t, d, box, nil)
}

func TestDeadDomainController(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	if err := d.DC.Blackhole(t.Context()); err != nil {
		t.Fatal(err)
	}
	refusalCase{"all is silent", nil, fault.Unreachable, StepDNS, "no answer from " + d.DC.IP(), "port 53"}.check(t, d, box)
	o := refusalCase{"by address", func(t *task) { t.Join.DNSServers, t.Join.DomainControllers = nil, []string{d.DC.IP()} }, fault.Unreachable, "port-88",
		"port 88 on " + d.DC.IP() + " does not answer", "allow TCP 88"}.check(t, d, box)
	if s := o.step(StepDC); s.State != Failed || !strings.Contains(s.Detail, d.DC.IP()+" cannot be reached") {
		t.Errorf("the step of the domain controller says %s %q", s.State, s.Detail)
	}
}

func TestSkewedClock(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	for by, want := range map[time.Duration]State{90 * time.Second: Warning, -90 * time.Second: Warning, 10 * time.Minute: Failed, -10 * time.Minute: Failed} {
		if err := d.DC.Skew(t.Context(), by); err != nil {
			t.Fatal(err)
		}
		o := do(t, box, joinTask(d, nil))
		s := o.step(StepClock)
		word := "behind"
		if by < 0 {
			word = "ahead of"
		}
		if s.State != want || !strings.Contains(s.Detail, word) || s.Remedy == "" {
			t.Errorf("skewed by %s:\n%s", by, o)
		}
		if want == Failed && (o.Kind != fault.Unreachable || !strings.Contains(o.Error, "Kerberos allows 5 minutes") || o.step(StepSignIn).ID != "") {
			t.Errorf("skewed by %s:\n%s", by, o)
		}
		if want == Warning {
			if o.Error != "" {
				t.Errorf("skewed by %s:\n%s", by, o)
			}
			if o := do(t, box, task{Verb: "leave", Password: lab.JoinPassword, Leave: LeaveRequest{User: lab.JoinUser}}); o.Error != "" {
				t.Errorf("leave:\n%s", o)
			}
		}
	}
}

func TestCheckChangesNothing(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	before := must(t, box, "find", "/etc", "/root", "-newer", "/etc/hostname")
	for _, password := range []string{"", lab.JoinPassword} {
		o := do(t, box, joinTask(d, func(t *task) {
			t.Verb, t.Password = "check", password
			if password == "" {
				t.Join.User = ""
			}
		}))
		if o.Error != "" || (o.step(StepContainer).State == Done) != (password != "") {
			t.Errorf("check:\n%s", o)
		}
	}
	if after := must(t, box, "find", "/etc", "/root", "-newer", "/etc/hostname"); after != before {
		t.Errorf("a check left\n%s\nafter\n%s", after, before)
	}
	if found, err := d.Search(t.Context(), d.BaseDN(), "(objectClass=computer)"); err != nil || len(found) != 1 {
		t.Errorf("%d computers, %v, want the domain controller alone", len(found), err)
	}
	o := do(t, box, joinTask(d, func(t *task) { t.Verb, t.Join.OU = "check", "OU=Nowhere,"+d.BaseDN() }))
	if o.Kind != fault.NotFound {
		t.Errorf("check of an OU that is not there:\n%s", o)
	}
}
