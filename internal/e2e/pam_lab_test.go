// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// ssh signs in on the NAS itself with a password and runs a command; how is an
// authentication method.
func (s *story) ssh(how, name, password, command string) *lab.Result {
	s.t.Helper()
	r, err := s.nas.Run(s.ctx, "sshpass", "-p", password, "ssh", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "NumberOfPasswordPrompts=1", "-o", "PreferredAuthentications="+how, "-l", name, "127.0.0.1", command)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// Real sshd and su, with the stack that pam-auth-update makes of our profile.
func TestShells(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	s.openShells()

	right := lab.UserPassword
	methods := []string{"password", "keyboard-interactive"}
	for _, how := range methods {
		if r := s.ssh(how, "user00001", right(1), "true"); r.Ok() {
			t.Errorf("%s: a shell is open before any rule", how)
		}
	}
	s.cli(0, "access", "allow", "sshd", "*")
	s.cli(0, "access", "allow", "su-l", "*")
	s.cli(0, "access", "allow", "su", "*")
	for _, how := range methods {
		// In with tickets of one's own, which end with the session.
		r := s.ssh(how, "user00001", right(1), `id -un; stat -c '%U %a' "${KRB5CCNAME#FILE:}"; klist -s && echo tickets; env | grep -c LATCHKEY; pwd`)
		lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
		if len(lines) != 5 || lines[0] != "user00001" || lines[1] != "user00001 600" || lines[2] != "tickets" || lines[3] != "0" || lines[4] == "/" {
			t.Errorf("%s: %s", how, r)
		}
		for name, password := range map[string]string{"user00001": "wrong", "user00002": "", "nobody-at-all": "x", "local": "wrong"} {
			if r := s.ssh(how, name, password, "true"); r.Ok() {
				t.Errorf("%s lets %s in with %q", how, name, password)
			}
		}
		if r := s.ssh(how, "local", "local password", "id -un"); strings.TrimSpace(r.Stdout) != "local" {
			t.Errorf("%s of a local user: %s", how, r)
		}
	}
	s.waitFor("the tickets of ended sessions are gone", func() bool {
		return s.sh("ls /tmp/krb5cc_* /run/latchkey-pam/* 2>/dev/null | wc -l") == "0"
	})

	// A key opens no door to who is disabled.
	s.sh(`install -d -o user00003 -m 700 ~user00003 ~user00003/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/key &&
		install -o user00003 -m 600 /root/key.pub ~user00003/.ssh/authorized_keys`)
	key := "ssh -i /root/key -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -l user00003 127.0.0.1 id -un"
	if got := s.sh(key); got != "user00003" {
		t.Errorf("by key: %q", got)
	}
	s.try(s.domain.Disable(s.ctx, "user00003", true))
	if r, err := s.nas.Run(s.ctx, "sh", "-c", key); err != nil || r.Ok() {
		t.Errorf("the key of a disabled user still opens: %v, %s", err, r)
	}

	// su from a local user, and sudo's way through: root is never asked about.
	su := func(name, password, command string) *lab.Result {
		t.Helper()
		c := s.nas.Command("expect", "-c", `set timeout 20
			spawn -noecho su - `+name+` -c "`+command+`"
			expect "Password:" { send "`+password+`\r" }
			expect eof
			exit [lindex [wait] 3]`)
		c.User = "local"
		r, err := c.Run(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := su("user00001", right(1), "id -un"); !r.Ok() || !strings.Contains(r.Stdout, "user00001") {
		t.Errorf("su: %s", r)
	}
	if r := su("user00001", "wrong", "id -un"); r.Ok() {
		t.Errorf("su with a wrong password: %s", r)
	}
	if got := s.sh("su - user00001 -c 'id -un'"); got != "user00001" {
		t.Errorf("su by root: %q", got)
	}

	// Whatever becomes of the daemon, local people get in and the others do not.
	for _, signal := range []string{"STOP", "KILL"} {
		state := "sent SIG" + signal
		s.sh("pkill -" + signal + " latchkeyd")
		if r := s.ssh("password", "local", "local password", "id -un"); strings.TrimSpace(r.Stdout) != "local" {
			t.Errorf("the daemon was %s: a local user: %s", state, r)
		}
		if r := s.ssh("password", "user00001", right(1), "true"); r.Ok() {
			t.Errorf("the daemon was %s: a domain user came in", state)
		}
		if got := s.sh("su - local -c 'id -un'"); got != "local" {
			t.Errorf("the daemon was %s: su by root: %q", state, got)
		}
	}
}
