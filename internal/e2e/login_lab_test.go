// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// session is what `latchkey login --json` says, as far as the tests look.
type session struct {
	Session struct {
		User     user     `json:"user"`
		GIDs     []uint32 `json:"gids"`
		How      string   `json:"how"`
		Warnings []string `json:"warnings"`
		AuditID  string   `json:"audit_id"`
	} `json:"session"`
}

// login runs `latchkey login`, which has to end with the status.
func (s *story) login(exit int, name, password string, more ...string) (in session, told string) {
	s.t.Helper()
	c := s.nas.Command(append([]string{"/usr/bin/latchkey", "login", name, "--password-stdin", "--json"}, more...)...)
	c.Stdin = strings.NewReader(password + "\n")
	r, err := c.Run(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Exit != exit {
		s.t.Errorf("latchkey login %s %v: exit status %d, want %d\n%s", name, more, r.Exit, exit, r)
	}
	if r.Exit == 0 {
		if err := json.Unmarshal([]byte(r.Stdout), &in); err != nil {
			s.t.Errorf("latchkey login %s: %v\n%s", name, err, r)
		}
	}
	return in, r.Stderr
}

// count returns how many wrong passwords the domain has counted.
func (s *story) count(name string) string {
	s.t.Helper()
	found, err := s.domain.Search(s.ctx, s.domain.BaseDN(), "(sAMAccountName="+name+")", "badPwdCount")
	if err != nil || len(found) != 1 {
		s.t.Fatalf("badPwdCount of %s: %v, %v", name, found, err)
	}
	for _, v := range found[0].Attrs["badPwdCount"] {
		return string(v)
	}
	return "0"
}

// A password decides, the KDC has to prove itself, the rules are asked, and what
// the directory says now counts; without a domain controller the last good
// password still does.
func TestSignInByPassword(t *testing.T) {
	s := begin(t, lab.Population{Users: 200, Groups: 40})
	s.cli(3, "access", "remove", "sshd", "*")
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	right := lab.UserPassword

	if err := s.nas.UseNSS(s.ctx); err != nil {
		t.Fatal(err)
	}

	// A shell is closed, the web is open.
	if _, told := s.login(4, "user00001", right(1)); !strings.Contains(told, "closed to every domain user") || !strings.Contains(told, "latchkey access allow sshd") {
		t.Errorf("before any rule: %s", told)
	}
	s.login(0, "user00001", right(1), "--service", "web")
	s.cli(3, "access", "allow", "sshd", "nobody-at-all")
	s.cli(2, "access", "allow", "*", "user00001")
	s.cli(0, "access", "allow", "sshd", "*")

	// What a sign-in depends on is told without a password, too.
	if out := s.cli(0, "login", "user00001", "--no-password").Stdout; !strings.Contains(out, "allow sshd *") || !strings.Contains(out, "a domain controller answers") {
		t.Errorf("explained:\n%s", out)
	}
	if out := s.cli(4, "login", "user00001", "--no-password", "--service", "sudo").Stdout; !strings.Contains(out, "latchkey access allow sudo") {
		t.Errorf("a closed service, explained:\n%s", out)
	}
	s.cli(3, "login", "nobody-at-all", "--no-password")

	// Every form of the name is the same row.
	want, _ := s.login(0, "user00001", right(1))
	if want.Session.How != "kerberos" || want.Session.User.Username != "user00001" || want.Session.User.UID == 0 || len(want.Session.GIDs) < 2 {
		t.Errorf("signed in as %+v", want)
	}
	if out := s.sh("id -G user00001"); len(strings.Fields(out)) != len(want.Session.GIDs) {
		t.Errorf("id -G says %s, the sign-in %v", out, want.Session.GIDs)
	}
	for _, name := range []string{"USER00001", s.domain.NetBIOS + `\user00001`, "user00001@contoso.test", "User00001@" + s.domain.DNS} {
		if got, _ := s.login(0, name, right(1)); got.Session.User.SID != want.Session.User.SID {
			t.Errorf("%s is %+v", name, got.Session.User)
		}
	}

	// A wrong password is counted once, however often it is typed.
	for range 4 {
		s.login(4, "user00002", "not the password")
	}
	if n := s.count("user00002"); n != "1" {
		t.Errorf("the domain counted %s wrong passwords, want 1", n)
	}
	for i := range 6 {
		s.login(4, "user00003", fmt.Sprintf("guess %d", i))
	}
	if n := s.count("user00003"); n != "3" {
		t.Errorf("the domain counted %s wrong passwords, want 3, short of its lockout", n)
	}
	s.login(3, "nobody-at-all", "x")
	s.login(2, "user00001", "")

	// Somebody who is no administrator and no authenticator is told nothing.
	c := s.nas.Command("/usr/bin/latchkey", "login", "user00001", "--password-stdin")
	c.User, c.Stdin = "nobody", strings.NewReader(right(1)+"\n")
	if r, err := c.Run(s.ctx); err != nil || r.Exit != 4 || strings.Contains(r.Stdout, "may sign in") {
		t.Errorf("nobody tries a password: %v\n%s", err, r)
	}

	// An authenticator is told what the person at the door would be.
	s.sh("useradd --no-create-home --groups latchkey-login app")
	asApp := func(exit int, name, password string) string {
		t.Helper()
		c := s.nas.Command("/usr/bin/latchkey", "login", name, "--password-stdin")
		c.User, c.Stdin = "app", strings.NewReader(password+"\n")
		r, err := c.Run(s.ctx)
		if err != nil || r.Exit != exit {
			t.Errorf("an authenticator tries %s: %v, exit status %d, want %d\n%s", name, err, r.Exit, exit, r)
		}
		return r.Stderr
	}
	s.waitFor("the new member of latchkey-login is known", func() bool {
		c := s.nas.Command("/usr/bin/latchkey", "login", "user00001", "--password-stdin")
		c.User, c.Stdin = "app", strings.NewReader(right(1)+"\n")
		r, err := c.Run(s.ctx)
		return err == nil && r.Exit == 0
	})
	s.try(s.domain.Disable(s.ctx, "user00007", true))
	wrong := asApp(4, "user00001", "not the password")
	for name, told := range map[string]string{"unknown": asApp(4, "nobody-at-all", "x"), "disabled": asApp(4, "user00007", right(7))} {
		if told != wrong {
			t.Errorf("%s is told apart from a wrong password: %q and %q", name, told, wrong)
		}
	}

	// What the directory says now counts now.
	s.cli(0, "access", "allow", "sudo", "%group0007")
	s.try(s.domain.AddMembers(s.ctx, "group0007", "user00004"))
	s.login(0, "user00004", right(4), "--service", "sudo")
	if names := s.sh("id -Gn user00004"); !strings.Contains(names, "group0007") {
		t.Errorf("after the sign-in the new group is not seen: %s", names)
	}
	s.try(s.domain.RemoveMembers(s.ctx, "group0007", "user00004"))
	s.login(4, "user00004", right(4), "--service", "sudo")
	if names := s.sh("id -Gn user00004"); strings.Contains(names, "group0007") {
		t.Errorf("after the sign-in the revoked group is still seen: %s", names)
	}
	s.try(s.domain.Disable(s.ctx, "user00004", true))
	if _, told := s.login(4, "user00004", right(4)); !strings.Contains(told, "enable the account") {
		t.Errorf("a disabled account: %s", told)
	}
	s.try(s.domain.SetAttr(s.ctx, "user00005", "userAccountControl", []byte("512"))) // without "never expires"
	s.try(s.domain.MustChange(s.ctx, "user00005"))
	s.login(4, "user00005", right(5))
	s.cli(0, "access", "deny", "*", "user00006")
	s.login(4, "user00006", right(6))

	// Nobody answers: the last good password is enough, another one is not.
	s.try(s.domain.DC.Blackhole(s.ctx))
	if got, _ := s.login(0, "user00001", right(1)); got.Session.How != "offline" || len(got.Session.Warnings) == 0 {
		t.Errorf("without a domain controller: %+v", got)
	}
	s.login(4, "user00001", "not the password")
	s.login(1, "user00010", right(10))
	s.try(s.domain.DC.Heal(s.ctx))
	s.waitFor("the domain answers again", func() bool {
		got, _ := s.tryLogin("user00001", right(1))
		return got.Session.How == "kerberos"
	})

	// One line for every attempt, and no password in it, nor in the log or the store.
	lines := s.sh("grep -c sign-in /var/log/latchkey/audit.jsonl")
	if lines == "0" {
		t.Error("the audit is empty")
	}
	for _, file := range []string{"/var/log/latchkey/audit.jsonl", "/var/log/latchkeyd.log", "/var/lib/latchkey/latchkey.db"} {
		if n := s.sh("grep -c -a -F -e 'Passw0rd!0000' -e 'not the password' " + file + " || true"); n != "0" {
			t.Errorf("%s lines of %s hold a password", n, file)
		}
	}
	if mode := s.sh("stat -c '%U %a' /var/log/latchkey/audit.jsonl"); mode != "latchkey 600" {
		t.Errorf("the audit is %s", mode)
	}
}

// tryLogin is login with any outcome.
func (s *story) tryLogin(name, password string) (in session, exit int) {
	s.t.Helper()
	c := s.nas.Command("/usr/bin/latchkey", "login", name, "--password-stdin", "--json")
	c.Stdin = strings.NewReader(password + "\n")
	r, err := c.Run(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Exit == 0 {
		if err := json.Unmarshal([]byte(r.Stdout), &in); err != nil {
			s.t.Errorf("latchkey login %s: %v", name, err)
		}
	}
	return in, r.Exit
}

// try fails the story at an error of the lab.
func (s *story) try(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
