// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// openTickets makes a box of the story that people sign in to by ticket: joined,
// names, a local user who is the client, and an sshd that asks the keytab alone.
func (s *story) openTickets() {
	s.t.Helper()
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		s.t.Fatal(err)
	}
	s.try(s.nas.UseNSS(s.ctx))
	s.sh("useradd -m -s /bin/sh local")
	s.sh("echo '" + s.nas.IP() + " nas1." + s.domain.DNS + "' >>/etc/hosts")
	s.sh("ssh-keygen -A >/dev/null && mkdir -p /run/sshd && /usr/sbin/sshd -E /var/log/sshd.log -o LogLevel=DEBUG3 -o UsePAM=no -o GSSAPIAuthentication=yes")
}

// bySSHTicket signs in with the ticket that the local user has.
func (s *story) bySSHTicket(name string) *lab.Result {
	s.t.Helper()
	return s.sshTo("local", name, "nas1."+s.domain.DNS, "", "id -un", "PreferredAuthentications=gssapi-with-mic", "GSSAPIAuthentication=yes", "BatchMode=yes")
}

// tickets gives the local user fresh tickets of a person, one for this machine
// among them, and returns the version of the key that it is made with.
func (s *story) tickets(n int) string {
	s.t.Helper()
	return s.sh(fmt.Sprintf(`su local -c "kdestroy -q; echo '%s' | kinit %s >/dev/null && kvno host/nas1.%s" | sed 's/.*kvno = //'`,
		lab.UserPassword(n), lab.UserName(n), s.domain.DNS))
}

// versions are the versions of a keytab's keys, "1 2".
func (s *story) versions(keytab string) string {
	s.t.Helper()
	return strings.Join(strings.Fields(s.sh("klist -k "+keytab+` | awk '$1 ~ /^[0-9]+$/ {print $1}' | sort -un`)), " ")
}

func (s *story) problem(id string) bool {
	for _, p := range s.status().Problems {
		if p.ID == id {
			return true
		}
	}
	return false
}

// TestMachineKey: the machine's key is changed under a running sshd, whole, by
// halves and in vain.
func TestMachineKey(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	s.openTickets()
	const rootKeytab, ourKeytab = "/etc/krb5.keytab", "/var/lib/latchkey/krb5.keytab"
	first := s.status().Key
	if got := s.tickets(1); got != strconv.Itoa(first) {
		t.Fatalf("the ticket is of version %s, the key of %d", got, first)
	}
	goesOn := func(when string) {
		t.Helper()
		if r := s.bySSHTicket("user00001"); strings.TrimSpace(r.Stdout) != "user00001" {
			t.Fatalf("%s, by ticket: %s\n%s", when, r, s.sh("tail -40 /var/log/sshd.log; klist -ket "+rootKeytab))
		}
	}
	goesOn("at first")

	// Whole. The ticket of before is good, and so is a new one.
	r := s.cli(0, "machine", "rotate", "--json")
	if !strings.Contains(r.Stdout, `"detail":"by kpasswd"`) || !strings.Contains(r.Stdout, fmt.Sprintf(`"key_version":%d`, first+1)) {
		t.Errorf("rotate: %s", r)
	}
	goesOn("after the change, with the ticket of before")
	if got := s.tickets(1); got != strconv.Itoa(first+1) {
		t.Errorf("a new ticket is of version %s, want %d", got, first+1)
	}
	goesOn("with a new ticket")
	for _, keytab := range []string{rootKeytab, ourKeytab} {
		if got, want := s.versions(keytab), fmt.Sprintf("%d %d", first, first+1); got != want {
			t.Errorf("%s has versions %s, want %s", keytab, got, want)
		}
		if got := s.sh("klist -ke " + keytab); strings.Contains(got, "arcfour") || strings.Contains(got, "des") {
			t.Errorf("%s:\n%s", keytab, got)
		}
	}
	if mode := s.sh("stat -c '%a %U' " + rootKeytab + " " + ourKeytab); mode != "600 root\n600 latchkey" {
		t.Errorf("the keytabs are %s", mode)
	}
	s.cli(0, "sync")

	// Where kpasswd is closed, LDAP does.
	s.try(s.domain.DC.Refuse(s.ctx, 464))
	if r := s.cli(0, "machine", "rotate", "--json"); !strings.Contains(r.Stdout, `"detail":"by LDAP"`) {
		t.Errorf("without kpasswd: %s", r)
	}
	s.try(s.domain.DC.Heal(s.ctx))
	goesOn("after a change by LDAP")

	// Killed at every step: the worker comes back and ends what was begun, and
	// whoever has a ticket notices nothing.
	for _, at := range []string{`prepare.*running`, `prepare.*done`, `keytab.*done`, `change.*running`, `change.*done`, `sign-in.*done`, `remember.*running`, `remember.*done`} {
		restarts := s.status().Restarts
		s.tickets(1)
		s.sh(`latchkey machine rotate --json 2>&1 | while read -r line; do if echo "$line" | grep -q '"id":"` + strings.Replace(at, ".*", `".*"state":"`, 1) +
			`"'; then kill -9 $(pgrep -u latchkey -f 'latchkeyd worker'); fi; done`)
		s.waitFor("the worker comes back after "+at, func() bool { return s.status().Restarts > restarts })
		goesOn("killed at " + at)
		s.waitFor("what was begun is ended after "+at, func() bool { return !s.problem("machine-key") })
		now := s.status().Key
		if got := s.tickets(1); got != strconv.Itoa(now) {
			t.Errorf("killed at %s: the domain has version %s, the machine %d", at, got, now)
		}
		goesOn("killed at " + at + ", with a new ticket")
		s.cli(0, "sync")
	}
	// A day has not passed: no key has gone.
	if n := len(strings.Fields(s.versions(ourKeytab))); n != s.status().Key-first+1 {
		t.Errorf("%s has versions %s, the key is %d", ourKeytab, s.versions(ourKeytab), s.status().Key)
	}

	// In vain: the domain refuses, and everything goes on with the key of before.
	before := s.status().Key
	dn := "CN=NAS1,OU=AADDC Computers," + s.domain.BaseDN()
	// SELF and everybody may change a password that they know: not this one.
	if out, err := s.domain.DC.Output(s.ctx, "samba-tool", "dsacl", "set", "--objectdn="+dn,
		"--sddl=(OD;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;PS)(OD;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	refused := s.cli(4, "machine", "rotate")
	if !strings.Contains(refused.Stderr+refused.Stdout, "does not let NAS1$ change its password") {
		t.Errorf("refused: %s", refused)
	}
	if !s.problem("machine-key") {
		t.Errorf("status does not tell: %+v", s.status().Problems)
	}
	if now := s.status().Key; now != before {
		t.Errorf("the key became version %d", now)
	}
	goesOn("after a refusal")
	s.cli(0, "sync")
	s.cli(0, "access", "allow", "sshd", "*")
	if session, _ := s.login(0, "user00002", lab.UserPassword(2)); session.Session.How != "kerberos" {
		t.Errorf("a password after the refusal: %+v", session)
	}

	// No password of all these is anywhere but in the store.
	for _, file := range []string{"/var/log/latchkeyd.log", "/var/log/latchkey/audit.jsonl"} {
		if text := s.sh("cat " + file); strings.Contains(text, "Aa0-") {
			t.Errorf("%s has something like a machine password", file)
		}
	}
}

// TestMachineKeyOfTwoMinds: two domain controllers, of which one has not heard of
// the change. The machine tries the new password and the old.
func TestMachineKeyOfTwoMinds(t *testing.T) {
	s := beginWith(t, lab.DomainOptions{DCs: 2, Population: lab.Population{Users: 20, Groups: 5}})
	other := s.domain.DCs[1]
	if err := s.nas.MustJoin(s.ctx, s.domain, "--dns", other.IP()); err != nil {
		t.Fatal(err)
	}
	s.try(s.domain.WaitReplicated(s.ctx))
	// The change is made where the other cannot hear of it.
	s.try(other.Blackhole(s.ctx))
	s.cli(0, "machine", "rotate")
	s.try(s.domain.DC.Blackhole(s.ctx))
	s.try(other.Heal(s.ctx))
	// Only the one with the old password answers: the mirror and sign-ins go on.
	s.waitFor("a pass with the domain controller that lags", func() bool {
		r, err := s.nas.CLI(s.ctx, "sync")
		return err == nil && r.Ok()
	})
	s.cli(0, "access", "allow", "sshd", "*")
	if session, told := s.login(0, "user00001", lab.UserPassword(1)); session.Session.How != "kerberos" {
		t.Errorf("a sign-in with the domain controller that lags: %+v\n%s", session, told)
	}
	// It would be wrong to change the password here: the next change waits.
	r := s.cli(1, "machine", "rotate")
	if !strings.Contains(r.Stdout+r.Stderr, "still has the password before the last change") {
		t.Errorf("rotate at the one that lags: %s", r)
	}
	s.try(s.domain.DC.Heal(s.ctx))
}

// TestAfterALeave: the people of the domain are nobody's on this machine, at every
// door, and come back as they were with another join. Numbers that were imported
// before stay with them.
func TestAfterALeave(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	s.cli(1, "user", "get", "user00001")
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.try(s.nas.UseNSS(s.ctx))
	// As on another machine, where user00001 was met under another number.
	s.cli(0, "ids", "export", "/root/ids")
	s.sh(`sed -i 's/"id":[0-9]*\(.*"name":"user00001"\)/"id":150000001\1/' /root/ids && grep -q 150000001 /root/ids`)
	if r := s.cli(0, "ids", "import", "--dry-run", "/root/ids"); !strings.Contains(r.Stdout, "1 would change") {
		t.Errorf("dry run: %s", r)
	}
	s.cli(0, "ids", "import", "/root/ids")
	s.waitFor("the new number", func() bool {
		r, err := s.nas.Run(s.ctx, "id", "-u", "user00001")
		return err == nil && strings.TrimSpace(r.Stdout) == "150000001"
	})
	var before user
	s.try(s.nas.JSON(s.ctx, &before, "user", "get", "user00001"))

	leave := s.nas.Command("/usr/bin/latchkey", "leave", "--user", lab.JoinUser, "--password-stdin")
	leave.Stdin = strings.NewReader(lab.JoinPassword + "\n")
	if r, err := leave.Run(s.ctx); err != nil || !r.Ok() {
		t.Fatalf("leave: %v\n%s", err, r)
	}
	for _, args := range [][]string{{"user", "get", "user00001"}, {"user", "get", "150000001"}, {"user", "list"}, {"group", "list"}, {"search", "user"}} {
		if r := s.cli(1, args...); !strings.Contains(r.Stderr, "not known") {
			t.Errorf("%v: %s", args, r)
		}
	}
	if r, err := s.nas.Run(s.ctx, "getent", "passwd", "user00001"); err != nil || r.Ok() {
		t.Errorf("getent: %v\n%s", err, r)
	}
	s.cli(4, "machine", "rotate")
	s.cli(4, "ids", "export", "/root/none")

	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	var again user
	s.try(s.nas.JSON(s.ctx, &again, "user", "get", "user00001"))
	if again != before {
		t.Errorf("after another join: %+v, want %+v", again, before)
	}
}
