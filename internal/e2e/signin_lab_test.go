// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

const (
	localPassword = "local password"
	plainUser     = "plain" // has no Entra object id: the password is the domain's own
	plainPassword = "Passw0rd!Pla1n"
)

// openShells makes a box of the story that people sign in to: joined, names and
// PAM stacks as docs/ssh.md says, a local user, a domain user whose password is
// the domain's own, and sshd as talkative as it can be.
func (s *story) openShells() {
	s.t.Helper()
	if _, err := s.domain.AddUser(s.ctx, lab.User{Name: plainUser, Password: plainPassword, Attrs: map[string][][]byte{"userAccountControl": lab.Text("512")}}); err != nil {
		s.t.Fatal(err)
	}
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		s.t.Fatal(err)
	}
	s.useShells()
}

// useShells is openShells on a box that is joined already.
func (s *story) useShells() {
	s.t.Helper()
	s.try(s.nas.UseNSS(s.ctx))
	s.sh("getent passwd user00001") // a join ends when the names are published
	// A bare Debian asks nobody but pam_unix about a new password.
	s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --disable pwquality && DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey latchkey-password")
	stack := s.sh("cat /etc/pam.d/common-auth /etc/pam.d/common-account /etc/pam.d/common-password /etc/pam.d/common-session")
	if n := strings.Count(stack, "pam_latchkey.so"); n != 4 {
		s.t.Fatalf("pam-auth-update made of the profile:\n%s", stack)
	}
	s.sameAsDocumented()
	s.sh("useradd -m -s /bin/sh local && echo 'local:" + localPassword + "' | chpasswd")
	// GSSAPI wants the name of the machine to be the one that its keys are for.
	s.sh("echo '" + s.nas.IP() + " nas1." + s.domain.DNS + "' >>/etc/hosts")
	s.sh("ssh-keygen -A >/dev/null && mkdir -p /run/sshd && /usr/sbin/sshd -E /var/log/sshd.log -o LogLevel=DEBUG3 -o UsePAM=yes " +
		"-o KbdInteractiveAuthentication=yes -o PasswordAuthentication=yes -o GSSAPIAuthentication=yes -o MaxStartups=300 -o LoginGraceTime=60")
	s.t.Cleanup(func() {
		if s.t.Failed() {
			text, err := s.nas.Output(context.WithoutCancel(s.ctx), "sh", "-c", "grep -v debug /var/log/sshd.log; cat /var/log/latchkey/audit.jsonl")
			s.t.Logf("sshd's log and the audit: %v\n%s", err, text)
		}
	})
}

// sameAsDocumented checks that what pam-auth-update makes of the profiles is
// what docs/ssh.md prints.
func (s *story) sameAsDocumented() {
	s.t.Helper()
	text, err := os.ReadFile("../../docs/ssh.md")
	s.try(err)
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "    ") && len(f) > 2 {
			documented[strings.Join(f, " ")] = true
		}
	}
	made := s.sh("cd /etc/pam.d; grep -hv -e '^#' -e '^$' common-auth common-account common-password common-session; grep -h -e latchkey -e mkhomedir common-session-noninteractive")
	for line := range strings.Lines(made) {
		if !documented[strings.Join(strings.Fields(line), " ")] {
			s.t.Errorf("docs/ssh.md does not print the line %q", strings.Join(strings.Fields(line), " "))
		}
	}
}

// sshTo runs a command by ssh with more options, as a user of the machine.
func (s *story) sshTo(as, name, host, password, command string, options ...string) *lab.Result {
	s.t.Helper()
	args := []string{"ssh", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1"}
	if password != "" {
		args = append([]string{"sshpass", "-p", password}, args...)
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	c := s.nas.Command(append(args, "-l", name, host, command)...)
	c.User = as
	r, err := c.Run(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// terminal is expect(1), as far as it is needed here, for whom its own reading
// of a terminal that nobody has opened yet is too hasty.
const terminal = `
import json, os, pty, re, select, sys, time
command, *talk = json.load(sys.stdin)
pid, fd = pty.fork()
if pid == 0:
    os.execv("/bin/sh", ["sh", "-c", command])
seen, at, end = b"", 0, time.monotonic() + 20
while time.monotonic() < end:
    if not select.select([fd], [], [], 0.1)[0]:
        continue
    try:
        got = os.read(fd, 4096)
    except OSError:
        got = b""
    if not got:
        break
    sys.stdout.buffer.write(got)
    seen += got
    if at + 1 < len(talk):
        m = re.search(talk[at].encode(), seen)
        if m:
            seen = seen[m.end():]
            text = talk[at + 1]
            if text.startswith("/"):
                while not os.path.exists(text) and time.monotonic() < end:
                    time.sleep(0.05)
                text = open(text).read()
            time.sleep(0.05)
            os.write(fd, text.encode() + b"\r")
            at += 2
else:
    sys.exit(98)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(97 if at < len(talk) and status == 0 else status)
`

// part is a named part of the story.
func (s *story) part(name string, tell func(t *testing.T)) {
	whole := s.t
	whole.Run(name, func(t *testing.T) {
		s.t = t
		defer func() { s.t = whole }()
		tell(t)
	})
}

// dialogue runs a command line at a terminal as a user. talk is what is waited
// for (a regular expression) and what is typed then, in turn, or
// the name of a file that has it, once there is one. The exit status is the
// program's; 97 and 98 when nothing of the kind was asked.
func (s *story) dialogue(as, command string, talk ...string) *lab.Result {
	s.t.Helper()
	words, err := json.Marshal(append([]string{command}, talk...))
	s.try(err)
	args := []string{"timeout", "60", "python3", "-c", terminal}
	if as != "" { // the lab's machines know no domain users
		args = append([]string{"setpriv", "--reuid=" + as, "--regid=" + s.sh("id -g "+as), "--init-groups", "--"}, args...)
	}
	c := s.nas.Command(args...)
	c.Stdin = bytes.NewReader(words)
	r, err := c.Run(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// locals checks that whatever is wrong with us, the people of the machine get
// in: by ssh, su and sudo, and root too.
func (s *story) locals(state string) {
	s.t.Helper()
	if r := s.ssh("keyboard-interactive", "local", localPassword, "id -un"); strings.TrimSpace(r.Stdout) != "local" {
		s.t.Errorf("%s: a local user by ssh: %s", state, r)
	}
	for _, service := range []string{"sshd", "login", "su", "sudo", "cron"} {
		for name, password := range map[string]string{"local": localPassword, "root": "root password"} {
			c := s.nas.Command("pamtester", service, name, "authenticate", "acct_mgmt", "setcred(PAM_ESTABLISH_CRED)")
			c.Stdin = strings.NewReader(password + "\n")
			if r, err := c.Run(s.ctx); err != nil || !r.Ok() {
				s.t.Errorf("%s: %s at %s: %v %s", state, name, service, err, r)
			}
		}
	}
	if got := s.sh("su - local -c 'id -un'"); got != "local" {
		s.t.Errorf("%s: su by root: %q", state, got)
	}
}

// pam signs in at a service without the program that belongs to it.
func (s *story) pam(service, name, password string) *lab.Result {
	s.t.Helper()
	c := s.nas.Command("pamtester", service, name, "authenticate", "acct_mgmt")
	c.Stdin = strings.NewReader(password + "\n")
	r, err := c.Run(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// Nothing that was typed is left anywhere on the machine.
func (s *story) nothingIsLeft(words ...string) {
	s.t.Helper()
	var patterns strings.Builder
	for _, w := range append(words, "Passw0rd!", localPassword, "not the password") {
		patterns.WriteString(w + "\n")
	}
	s.try(s.nas.WriteFile(s.ctx, "/root/patterns", []byte(patterns.String()), 0o600))
	for _, where := range []string{"/var/log", "/var/lib/latchkey", "/var/lib/latchkey-nss", "/run", "/tmp", "/etc", "/home", "/var/tmp"} {
		if found := s.sh("grep -raoF --exclude=lastlog -f /root/patterns " + where + " 2>/dev/null | head -5"); found != "" {
			s.t.Errorf("a password is left in %s:\n%s", where, found)
		}
	}
	found := s.sh("for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do tr '\\0' '\\n' <$f 2>/dev/null | grep -F -f /root/patterns && echo $f; done; true")
	if found != "" {
		s.t.Errorf("a password is in the arguments or the environment of a process:\n%s", found)
	}
	if found := s.sh("find / -xdev -name 'core*' -type f -size +100k -newer /run/sshd 2>/dev/null"); found != "" {
		s.t.Errorf("core files: %s", found)
	}
	s.sh("rm /root/patterns")
}

// Every program of a Debian that asks PAM, for a domain user and beside local
// ones: by password, by ticket, with a rule and without one.
func TestSignInPrograms(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	s.openShells()
	s.sh("echo 'root:root password' | chpasswd")
	right := lab.UserPassword
	s.locals("after the join")
	for _, service := range []string{"sshd", "su", "su-l", "login", "passwd"} {
		s.cli(0, "access", "allow", service, "*")
	}
	s.cli(0, "access", "allow", "sudo", "user00001")
	s.cli(0, "access", "allow", "cron", "user00001")

	// cron looks every minute; see below.
	s.sh("id user00001 && id user00002 && mkdir -p /srv/cron && chmod 1777 /srv/cron")
	for _, name := range []string{"user00001", "user00002", "local"} {
		s.sh("echo '* * * * * id -un >/srv/cron/" + name + "' | crontab -u " + name + " -")
	}
	s.sh("cron")

	s.part("names", func(t *testing.T) {
		for _, name := range []string{"user00001", "USER00001", s.domain.NetBIOS + `\user00001`, "user00001@contoso.test", "User00001@" + strings.ToUpper(s.domain.DNS)} {
			for _, how := range []string{"password", "keyboard-interactive"} {
				if r := s.ssh(how, name, right(1), "id -un"); strings.TrimSpace(r.Stdout) != "user00001" {
					t.Errorf("%s by %s: %s", name, how, r)
				}
			}
		}
		for _, bad := range []string{"user00001 ", "user00001@elsewhere.test", "ELSEWHERE\\user00001", "user0000*", "-user00001", "нет"} {
			if r := s.ssh("password", bad, right(1), "id -un"); r.Ok() {
				t.Errorf("%q comes in: %s", bad, r)
			}
		}
	})

	s.part("passwords", func(t *testing.T) {
		for what, password := range map[string]string{"long": strings.Repeat("x", 1000), "not UTF-8": "Passw0rd!\xff\xfe", "too long": strings.Repeat("y", 4000)} {
			if r := s.pam("sshd", "user00002", password); r.Ok() {
				t.Errorf("a password that is %s: %s", what, r)
			}
		}
		if r := s.pam("sshd", "user00002", right(2)); !r.Ok() {
			t.Errorf("the right one afterwards: %s", r)
		}
	})

	s.part("tickets", func(t *testing.T) {
		host := "nas1." + s.domain.DNS
		kinit := func(name, password string) {
			t.Helper()
			c := s.nas.Command("kinit", name+"@"+s.domain.Realm())
			c.User, c.Stdin = "local", strings.NewReader(password+"\n")
			if r, err := c.Run(s.ctx); err != nil || !r.Ok() {
				t.Fatalf("kinit %s: %v %s", name, err, r)
			}
		}
		byTicket := func(name string) *lab.Result {
			t.Helper()
			return s.sshTo("local", name, host, "", "id -un", "PreferredAuthentications=gssapi-with-mic", "GSSAPIAuthentication=yes", "BatchMode=yes")
		}
		kinit("user00004", right(4))
		if r := byTicket("user00004"); strings.TrimSpace(r.Stdout) != "user00004" {
			t.Errorf("by ticket: %s\n%s", r, s.sh("tail -40 /var/log/sshd.log"))
		}
		if r := byTicket("user00005"); r.Ok() {
			t.Errorf("the ticket of another: %s", r)
		}
		s.try(s.domain.Disable(s.ctx, "user00004", true))
		if r := byTicket("user00004"); r.Ok() {
			t.Errorf("the ticket of somebody who is disabled: %s", r)
		}
		s.try(s.domain.Disable(s.ctx, "user00004", false))
		s.cli(0, "access", "deny", "sshd", "user00004")
		if r := byTicket("user00004"); r.Ok() {
			t.Errorf("the ticket of somebody with a rule against them: %s", r)
		}
		s.cli(0, "access", "remove", "sshd", "user00004")
		s.sh("runuser -u local -- kdestroy")
	})

	s.part("sudo", func(t *testing.T) {
		s.sh("echo 'user00001 ALL=(ALL) ALL\nuser00002 ALL=(ALL) ALL\nlocal ALL=(ALL) ALL' >/etc/sudoers.d/story")
		waiting := s.sh("ls /run/latchkey-pam | wc -l") // pamtester ends before there is a session
		sudo := func(name, password string) *lab.Result {
			t.Helper()
			return s.dialogue(name, "cd /; sudo -k; sudo id -un", "assword", password)
		}
		if r := sudo("user00001", right(1)); !r.Ok() || !strings.Contains(r.Stdout, "root") {
			t.Errorf("sudo: %s", r)
		}
		if r := sudo("local", localPassword); !r.Ok() || !strings.Contains(r.Stdout, "root") {
			t.Errorf("sudo by a local user: %s", r)
		}
		// sudoers lets them, the rules do not.
		if r := sudo("user00002", right(2)); r.Ok() || strings.Contains(r.Stdout, "root\r") {
			t.Errorf("sudo without a rule: %s", r)
		}
		// No tickets for somebody else are left behind.
		if n := s.sh("ls /run/latchkey-pam | wc -l"); n != waiting {
			t.Errorf("%s sets of tickets wait in the stash, and %s did before", n, waiting)
		}
	})

	s.part("su", func(t *testing.T) {
		if r := s.dialogue("local", "su - user00001 -c 'id -un; klist -s && echo tickets'", "assword", right(1)); !r.Ok() || !strings.Contains(r.Stdout, "tickets") {
			t.Errorf("su: %s", r)
		}
		if r := s.dialogue("user00001", "cd /; su - local -c 'id -un'", "assword", localPassword); !r.Ok() {
			t.Errorf("su to a local user: %s", r)
		}
		if r := s.dialogue("local", "su - user00001 -c id", "assword", "not the password"); r.Ok() {
			t.Errorf("su with a wrong password: %s", r)
		}
	})

	s.part("console", func(t *testing.T) {
		r := s.dialogue("", "login", "login:", s.domain.NetBIOS+`\user00002`, "assword", right(2), `\$ `, "id -un; klist -s && echo ti''ckets; exit")
		if !strings.Contains(r.Stdout, "tickets") || !strings.Contains(r.Stdout, "\nuser00002\r") {
			t.Errorf("the console: %s", r)
		}
		r = s.dialogue("", "login", "login:", "local", "assword", localPassword, `\$ `, "id -un; exit")
		if !strings.Contains(r.Stdout, "\nlocal\r") {
			t.Errorf("a local user at the console: %s", r)
		}
	})

	s.part("passwd", func(t *testing.T) {
		if r := s.dialogue("user00001", "passwd"); r.Ok() || !strings.Contains(r.Stdout, "Entra ID") && !strings.Contains(r.Stdout, "cannot be changed here") {
			t.Errorf("passwd of somebody of Entra ID: %s", r)
		}
		const next = "Passw0rd!Other2"
		if r := s.dialogue(plainUser, "passwd", "urrent", plainPassword, "ew", next, "etype", next); !r.Ok() {
			t.Errorf("passwd of somebody of the domain: %s", r)
		}
		if r := s.ssh("password", plainUser, next, "id -un"); strings.TrimSpace(r.Stdout) != plainUser {
			t.Errorf("the new password: %s", r)
		}
		if r := s.ssh("password", plainUser, plainPassword, "id -un"); r.Ok() {
			t.Error("the old password is as good as before")
		}
		if r := s.dialogue(plainUser, "passwd", "urrent", next, "ew", "short", "etype", "short"); r.Ok() {
			t.Errorf("a password that the domain refuses: %s", r)
		}
		if r := s.dialogue("local", "passwd", "urrent", localPassword, "ew", "another 10cal pass", "etype", "another 10cal pass"); !r.Ok() {
			t.Errorf("passwd of a local user: %s", r)
		}
		s.sh("echo 'local:" + localPassword + "' | chpasswd")
		if s.sh("getent passwd root") == "" || s.pam("login", "root", "root password").Exit != 0 {
			t.Error("root")
		}

		// Where another module asks for new passwords, nobody is asked twice.
		s.sh("echo 'dictcheck = 0' >>/etc/security/pwquality.conf && DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable pwquality")
		const fourth = "Passw0rd!F0urth-place"
		if r := s.dialogue(plainUser, "passwd", "urrent", next, "ew", fourth, "etype", fourth); !r.Ok() || strings.Count(strings.ToLower(r.Stdout), "etype") != 1 {
			t.Errorf("passwd with pam_pwquality before us: %s", r)
		}
		if r := s.dialogue("local", "passwd", "urrent", localPassword, "ew", "another 11cal pass", "etype", "another 11cal pass"); !r.Ok() {
			t.Errorf("passwd of a local user with pam_pwquality: %s", r)
		}
		s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --disable pwquality; echo 'local:" + localPassword + "' | chpasswd")

		// The password has to be changed: at sshd, in the same conversation.
		s.try(s.domain.MustChange(s.ctx, plainUser))
		const third = "Passw0rd!Third3"
		ssh := "ssh -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=keyboard-interactive -l " + plainUser + " 127.0.0.1 'id -un; klist -s && echo tickets'"
		if r := s.dialogue("local", ssh, "assword:", fourth, "ew password:", third, "etype", third); !r.Ok() || !strings.Contains(r.Stdout, "tickets") {
			t.Errorf("a password that must be changed: %s", r)
		}
		if r := s.ssh("password", plainUser, third, "id -un"); strings.TrimSpace(r.Stdout) != plainUser {
			t.Errorf("the third password: %s", r)
		}

		// By sshd's password method there is no question but one: sshd runs passwd.
		s.try(s.domain.MustChange(s.ctx, plainUser))
		const fifth = "Passw0rd!Fifth5"
		byPassword := strings.Replace(ssh, "=keyboard-interactive", "=password", 1)
		if r := s.dialogue("local", byPassword, "assword:", third); r.Ok() || !strings.Contains(r.Stdout, "Password change required") || strings.Contains(r.Stdout, "tickets") {
			t.Errorf("a command, with a password that must be changed: %s", r)
		}
		shell, _, _ := strings.Cut(byPassword, " '")
		if r := s.dialogue("local", shell, "assword:", third, "urrent password:", third, "ew password:", fifth, "etype", fifth); !strings.Contains(r.Stdout, "updated successfully") {
			t.Errorf("a shell, with a password that must be changed: %s", r)
		}
		if r := s.ssh("password", plainUser, fifth, "id -un; klist -s && echo tickets"); !strings.Contains(r.Stdout, "tickets") {
			t.Errorf("the fifth password: %s", r)
		}

		// A password settings object has another maximum age than the domain.
		for _, command := range [][]string{{"create", "short", "10", "--max-pwd-age=5"}, {"apply", "short", plainUser}} {
			_, err := s.domain.DC.Output(s.ctx, append([]string{"samba-tool", "domain", "passwordsettings", "pso"}, command...)...)
			s.try(err)
		}
		if r := s.pam("sshd", plainUser, fifth); !r.Ok() || !strings.Contains(r.Stdout+r.Stderr, "expires in 4 days") {
			t.Errorf("five days by a password settings object: %s", r)
		}
	})

	s.part("many groups", func(t *testing.T) {
		var changes []lab.Change
		who, err := s.domain.Find(s.ctx, "user00006")
		s.try(err)
		const many = 900
		for i := range many {
			name := fmt.Sprintf("crowd%03d", i)
			changes = append(changes, lab.Change{Op: "add", DN: s.domain.UserDN(name), Set: map[string][][]byte{
				"objectClass": lab.Text("group"), "sAMAccountName": lab.Text(name), "groupType": lab.Text(fmt.Sprint(lab.GlobalGroup)), "member": lab.Text(who.DN)}})
		}
		s.try(s.domain.ApplyAll(s.ctx, changes))
		s.cli(0, "sync")
		r := s.ssh("keyboard-interactive", "user00006", right(6), `id -G | wc -w; klist -s && echo tickets; kvno -q host/nas1.`+s.domain.DNS+` && echo ticket for the host; stat -c %s "${KRB5CCNAME#FILE:}"`)
		lines := strings.Fields(r.Stdout)
		if len(lines) < 2 || !strings.Contains(r.Stdout, "tickets\nticket for the host") {
			t.Errorf("in %d groups: %s", many, r)
		} else if n := lines[0]; len(n) != 3 || n < "901" {
			t.Errorf("id shows %s groups, want %d and more", n, many)
		}
	})

	s.part("cron", func(t *testing.T) {
		s.waitFor("cron has run for the domain user and the local one", func() bool {
			return s.sh("cat /srv/cron/user00001 /srv/cron/local 2>/dev/null; true") == "user00001\nlocal"
		})
		s.sh("! test -e /srv/cron/user00002")
	})

	s.locals("after all of it")
	s.nothingIsLeft("another 10cal pass", "root password")
}
