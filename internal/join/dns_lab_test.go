// SPDX-License-Identifier: Apache-2.0

//go:build lab

package join

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/lab"
)

// admin runs samba-tool dns as the administrator.
func admin(t *testing.T, d *lab.Domain, args ...string) string {
	t.Helper()
	full := append([]string{"samba-tool", "dns", args[0], d.DC.FQDN()}, args[1:]...)
	return must(t, d.DC, append(full, "-U", lab.AdminUser+"%"+lab.AdminPassword)...)
}

func TestNameAndReverseName(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	admin(t, d, "zonecreate", "0.77.10.in-addr.arpa")
	must(t, box, "ip", "addr", "add", "fd77::20/64", "dev", "eth0", "nodad")
	o := mustJoin(t, d, box, nil)
	dig := func(args ...string) string {
		return must(t, box, append([]string{"dig", "+short", "@" + d.DC.IP()}, args...)...)
	}
	if got := dig(o.Membership.FQDN, "A"); got != box.IP() {
		t.Errorf("A is %q, want %s", got, box.IP())
	}
	if got := dig(o.Membership.FQDN, "AAAA"); got != "fd77::20" {
		t.Errorf("AAAA is %q, want fd77::20", got)
	}
	if got := dig("-x", box.IP()); got != o.Membership.FQDN+"." {
		t.Errorf("PTR is %q, want %s.", got, o.Membership.FQDN)
	}
	if s := o.step(StepRegister); s.State != Done || !strings.Contains(s.Detail, "no reverse zone for") || !strings.Contains(s.Detail, "reverse names for "+box.IP()) {
		t.Errorf("the step says %s %q", s.State, s.Detail)
	}

	// The machine has another address now: it replaces the old one.
	do(t, box, task{Verb: "leave", Leave: LeaveRequest{KeepAccount: true}})
	must(t, box, "ip", "addr", "del", "fd77::20/64", "dev", "eth0")
	mustJoin(t, d, box, nil)
	if got := dig(o.Membership.FQDN, "AAAA"); got != "" {
		t.Errorf("the old AAAA %q is still there", got)
	}
	if o := do(t, box, task{Verb: "leave"}); o.step(StepUnregister).State != Done {
		t.Errorf("leave:\n%s", o)
	}
	for _, q := range [][]string{{o.Membership.FQDN, "A"}, {"-x", box.IP()}} {
		if got := dig(q...); got != "" {
			t.Errorf("after leave %v is still %q", q, got)
		}
	}
}

func TestDNSUpdateRefusedIsAWarning(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	admin(t, d, "add", d.DNS, "nas1", "A", "10.1.2.3")
	o := mustJoin(t, d, box, nil)
	// A record that is an administrator's; Windows says REFUSED, Samba SERVFAIL.
	if s := o.step(StepRegister); s.State != Warning || !strings.Contains(s.Detail, "the DNS server answers") || !strings.Contains(s.Remedy, o.Membership.FQDN+" = "+box.IP()) {
		t.Errorf("the step says %s %q -> %q", s.State, s.Detail, s.Remedy)
	}
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), o.Membership.FQDN, "A"); got != "10.1.2.3" {
		t.Errorf("A is %q, want the record of another untouched", got)
	}
}

func TestNoDNSUpdateWhenNotWanted(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	o := mustJoin(t, d, box, func(t *task) { t.Join.NoDNSUpdate = true })
	if got := must(t, box, "dig", "+short", "@"+d.DC.IP(), o.Membership.FQDN, "A"); got != "" || o.step(StepRegister).ID != "" {
		t.Errorf("A is %q, step %+v", got, o.step(StepRegister))
	}
}

func TestBlockedDNSPortIsAWarning(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{})
	if err := d.DC.Refuse(t.Context(), 53); err != nil {
		t.Fatal(err)
	}
	// By address, without any DNS.
	o := mustJoin(t, d, box, func(t *task) { t.Join.DNSServers, t.Join.DomainControllers = nil, []string{d.DC.IP()} })
	for _, id := range []string{StepDNS, "port-53", StepRegister} {
		if s := o.step(id); s.State != Warning {
			t.Errorf("step %s is %s: %s", id, s.State, s.Detail)
		}
	}
	if s := o.step(StepSRV); s.State != Done || !strings.Contains(s.Detail, "not needed") {
		t.Errorf("step srv is %s: %s", s.State, s.Detail)
	}
}

func TestJoinThroughTheMachinesOwnDNS(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{})
	box := nas(t, d, "nas1", lab.BoxOptions{UseDNS: true})
	o := mustJoin(t, d, box, func(t *task) { t.Join.DNSServers = nil })
	if len(o.Membership.KDCs) != 0 {
		t.Errorf("KDCs %v, but DNS finds them", o.Membership.KDCs)
	}
	applyKrb5(t, box, o.Membership)
	must(t, box, "kinit", "-k", "-t", boxKeytab, "NAS1$")
}

// debian is what krb5-config writes where nobody answers its question.
const debian = "[libdefaults]\n\tdefault_realm = ATHENA.MIT.EDU\n\tkdc_timesync = 1\n\trdns = true\n[realms]\n\tATHENA.MIT.EDU = {\n\t\tkdc = kerberos.mit.edu\n\t}\n"

func TestKerberosFilesInARealMachine(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	outer := t // all boxes stay until the end
	for name, conf := range map[string]string{"none": "", "debian": debian, "foreign": strings.ReplaceAll(debian, "ATHENA.MIT.EDU", "HOME.LAN")} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if conf != "" {
				files["/etc/krb5.conf"] = conf
			}
			box := nas(outer, d, "krb-"+name, lab.BoxOptions{Files: files})
			state := func() string {
				return must(t, box, "sh", "-c", "find /etc -name '*krb5*' | sort; cat /etc/krb5.conf 2>/dev/null; ls -a /etc/krb5.conf.d 2>/dev/null; true")
			}
			before := state()
			m := mustJoin(t, d, box, nil).Membership
			for range 2 {
				applyKrb5(t, box, m)
			}
			who := "user00001"
			if name == "foreign" {
				who += "@" + m.Realm
			}
			must(t, box, "sh", "-c", "echo '"+lab.UserPassword(1)+"' | kinit "+who+" && kvno host/"+m.FQDN+"@"+m.Realm+" && klist && kdestroy")
			if o := do(t, box, task{Verb: "leave", Password: lab.JoinPassword, Leave: LeaveRequest{User: lab.JoinUser}}); o.Error != "" {
				t.Fatal(o)
			}
			if o := do(t, box, task{Verb: "krb5-remove", Settings: krb5conf.Settings{}}); o.Error != "" {
				t.Fatal(o.Error)
			}
			if after := state(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// TestSSHTakesATicket is what root's copy of the host keys is for.
func TestSSHTakesATicket(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	box := nas(t, d, "nas1", lab.BoxOptions{UseDNS: true})
	m := mustJoin(t, d, box, nil).Membership
	applyKrb5(t, box, m)
	must(t, box, "useradd", "-m", "-p", "*", "user00001")
	must(t, box, "sh", "-c", "mkdir -p /run/sshd; ssh-keygen -A >/dev/null; /usr/sbin/sshd -o GSSAPIAuthentication=yes -o PasswordAuthentication=no -o UsePAM=no; until nc -z localhost 22; do sleep .1; done")
	got := must(t, box, "sh", "-c", "echo '"+lab.UserPassword(1)+"' | kinit user00001 >/dev/null && ssh -o StrictHostKeyChecking=no -o PreferredAuthentications=gssapi-with-mic -o GSSAPIAuthentication=yes user00001@"+m.FQDN+" id -un")
	if got != "user00001" {
		t.Errorf("ssh by ticket: %q", got)
	}
}
