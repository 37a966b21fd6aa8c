// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// as runs a command as a person of the domain, in the groups that they have now.
func (s *story) as(name, command string) *lab.Result {
	s.t.Helper()
	r, err := s.nas.Run(s.ctx, "runuser", "-u", name, "--", "sh", "-c", command)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// TestAdmins: people of the domain administer the machine, as long as the
// directory says so.
func TestAdmins(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.try(s.nas.UseNSS(s.ctx))
	if _, err := s.domain.AddGroup(s.ctx, lab.Group{Name: "NAS Größen"}); err != nil {
		t.Fatal(err)
	}
	s.try(s.domain.AddMembers(s.ctx, "NAS Größen", "user00007", "user00008"))
	s.cli(0, "sync")
	s.waitFor("the new group", func() bool { r := s.as("user00007", "id -Gn"); return strings.Contains(r.Stdout, "nas gr") })
	refused := func(when, name string) {
		t.Helper()
		if r := s.as(name, "latchkey config set log.level info"); r.Exit != 4 {
			t.Errorf("%s %s: %s", when, name, r)
		}
	}
	refused("before", "user00007")
	s.cli(2, "config", "set", "api.admins", `["*"]`)
	s.cli(0, "config", "set", "api.admins", `["%NAS Größen", "user00009", "nobody-at-all"]`)
	s.waitFor("a member gets in", func() bool { return s.as("user00007", "latchkey status >/dev/null").Ok() })
	for _, name := range []string{"user00008", "user00009"} {
		if r := s.as(name, "latchkey config set log.level info"); !r.Ok() {
			t.Errorf("%s: %s", name, r)
		}
	}
	refused("nobody's admin", "user00001")
	if mode := s.sh("stat -c '%a %U %G' /run/latchkey/admin.sock"); mode != "660 root latchkey-admin" {
		t.Errorf("admin.sock is %s", mode)
	}
	if !s.problem("admins") || s.problem("machine-key") {
		t.Errorf("nobody-at-all is not told: %+v", s.status().Problems)
	}
	// Who leaves the group is out, even where a process still has it.
	gid := s.sh("getent group 'nas größen' | cut -d: -f3")
	uid := s.sh("id -u user00008")
	s.try(s.domain.RemoveMembers(s.ctx, "NAS Größen", "user00008"))
	s.cli(0, "sync")
	still := fmt.Sprintf("setpriv --reuid %s --regid %s --groups %s latchkey config set log.level info", uid, gid, gid)
	s.waitFor("who left the group is out", func() bool { r, err := s.nas.Run(s.ctx, "sh", "-c", still); return err == nil && r.Exit == 4 })
	// Disabled: out.
	s.try(s.domain.Disable(s.ctx, "user00009", true))
	s.cli(0, "sync")
	s.waitFor("who is disabled is out", func() bool { return s.as("user00009", "latchkey status").Exit == 4 })
	// A rename keeps the right, and the name's heir does not have it.
	s.try(s.domain.Rename(s.ctx, "user00007", "former"))
	if _, err := s.domain.AddUser(s.ctx, lab.User{Name: "heir"}); err != nil {
		t.Fatal(err)
	}
	s.try(s.domain.SetAttr(s.ctx, "heir", "sAMAccountName", lab.Text("user00007")...))
	s.cli(0, "sync")
	s.waitFor("the new name", func() bool { return s.as("former", "true").Ok() && s.as("user00007", "true").Ok() })
	if r := s.as("former", "latchkey status >/dev/null"); !r.Ok() {
		t.Errorf("under the new name: %s", r)
	}
	refused("the heir of the name", "user00007")
	// The worker's death changes nothing; taking the setting back does.
	s.sh("kill -9 " + s.worker())
	s.waitFor("the worker is back", func() bool { return s.as("former", "latchkey status >/dev/null").Ok() })
	refused("after a restart", "user00007")
	s.cli(0, "config", "set", "api.admins", "[]")
	s.waitFor("nobody but root", func() bool { return s.as("former", "latchkey status").Exit == 4 })
	if list := s.sh("getfattr -d -m - --absolute-names /run/latchkey/admin.sock 2>/dev/null || true"); strings.Contains(list, "posix_acl") {
		t.Errorf("left on the socket: %s", list)
	}
}

// TestSudo: a group of the domain uses the real sudo.
func TestSudo(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.try(s.nas.UseNSS(s.ctx))
	s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey")
	if _, err := s.domain.AddGroup(s.ctx, lab.Group{Name: "sudoers"}); err != nil {
		t.Fatal(err)
	}
	s.try(s.domain.AddMembers(s.ctx, "sudoers", "user00007"))
	s.try(s.domain.SetAttr(s.ctx, "sudoers", "sAMAccountName", lab.Text("NAS Größen ALL")...))
	s.cli(0, "sync")
	become := func(user string, n int) *lab.Result {
		t.Helper()
		c := s.nas.Command("runuser", "-u", user, "--", "sudo", "-k", "-S", "-p", "", "id", "-u")
		c.Stdin = strings.NewReader(lab.UserPassword(n) + "\n")
		r, err := c.Run(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s.waitFor("the new group", func() bool { return strings.Contains(s.as("user00007", "id -Gn").Stdout, "nas gr") })
	if r := become("user00007", 7); r.Ok() {
		t.Errorf("sudo before: %s", r)
	}
	// A configuration that is broken already stays as it is.
	s.sh("echo 'nonsense here' >/etc/sudoers.d/broken")
	if r := s.cli(4, "access", "sudo", "NAS Größen ALL"); !strings.Contains(r.Stderr, "visudo refuses the present configuration") {
		t.Errorf("with a broken file: %s", r)
	}
	s.sh("rm /etc/sudoers.d/broken; test -z \"$(ls /etc/sudoers.d | grep latchkey)\"")
	s.cli(3, "access", "sudo", "nobody-at-all")
	s.cli(0, "access", "sudo", "nas größen all")
	if r := become("user00007", 7); strings.TrimSpace(r.Stdout) != "0" {
		t.Errorf("sudo of a member: %s\n%s", r, s.sh("cat /etc/sudoers.d/latchkey*; cat /var/log/latchkey/audit.jsonl"))
	}
	if r := become("user00001", 1); r.Ok() {
		t.Errorf("sudo of somebody else: %s", r)
	}
	if r := s.cli(0, "access", "sudo", "--json"); !strings.Contains(r.Stdout, `"group": "nas größen all"`) {
		t.Errorf("the list: %s", r)
	}
	// The audit has it, also for who looks at the rotated file.
	s.sh("mv /var/log/latchkey/audit.jsonl /var/log/latchkey/audit.jsonl.1")
	if r := s.cli(0, "audit", "--user", "USER00007", "--outcome", "allowed", "--json"); !strings.Contains(r.Stdout, `"service":"sudo"`) || strings.Contains(r.Stdout, "user00001") {
		t.Errorf("the audit: %s", r)
	}
	// And so have the metrics, which are root's.
	const ask = `python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.connect("/run/latchkey/metrics.sock"); s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n"); print(s.makefile().read())'`
	for _, line := range []string{`latchkey_attempts_total{action="sign-in",outcome="allowed",service="sudo"} `, "latchkey_serving 1\n", "latchkey_machine_key_version 1\n"} {
		if got := s.sh(ask); !strings.Contains(got, line) {
			t.Errorf("want %s in\n%s", line, got)
		}
	}
	if r := s.as("user00007", ask); r.Ok() {
		t.Errorf("the metrics for everybody: %s", r)
	}
	s.cli(0, "access", "sudo", "--remove", "nas größen all")
	if r := become("user00007", 7); r.Ok() {
		t.Errorf("sudo after: %s", r)
	}
	if left := s.sh("ls /etc/sudoers.d | grep latchkey || true"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestSSHKeys: the directory's keys open the real sshd.
func TestSSHKeys(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.try(s.nas.UseNSS(s.ctx))
	s.sh("useradd -m -s /bin/sh local && su local -c \"ssh-keygen -q -t ed25519 -N '' -f ~/key\"")
	key := s.sh("cat ~local/key.pub")
	s.try(s.domain.SetAttr(s.ctx, "user00003", "altSecurityIdentities", lab.Text(`SSHKey:command="false" `+key, "X509:<I>DC=test<S>CN=x")...))
	s.sh("ssh-keygen -A >/dev/null && mkdir -p /run/sshd && /usr/sbin/sshd -E /var/log/sshd.log -o LogLevel=DEBUG3 -o UsePAM=no " +
		"-o 'AuthorizedKeysCommand=/usr/bin/latchkey ssh-keys -- %u' -o AuthorizedKeysCommandUser=nobody")
	in := func(name string) *lab.Result {
		t.Helper()
		return s.sshTo("local", name, "127.0.0.1", "", "id -un", "IdentityFile=~/key", "IdentitiesOnly=yes", "BatchMode=yes", "PreferredAuthentications=publickey")
	}
	if r := in("user00003"); r.Ok() {
		t.Errorf("without a setting: %s", r)
	}
	s.cli(0, "config", "set", "directory.ssh_keys", "altSecurityIdentities")
	s.waitFor("the key is read", func() bool { return s.cli(0, "ssh-keys", "user00003").Stdout != "" })
	if got, want := s.cli(0, "ssh-keys", "USER00003@"+s.domain.DNS).Stdout, strings.Join(strings.Fields(key)[:2], " ")+"\n"; got != want {
		t.Errorf("the keys are %q, want %q", got, want)
	}
	if r := in("user00003"); strings.TrimSpace(r.Stdout) != "user00003" {
		t.Errorf("by key: %s\n%s", r, s.sh("tail -40 /var/log/sshd.log"))
	}
	for _, name := range []string{"user00004", "local", "nobody-at-all"} {
		if r := in(name); r.Ok() {
			t.Errorf("%s by somebody else's key: %s", name, r)
		}
	}
	s.try(s.domain.Disable(s.ctx, "user00003", true))
	s.cli(0, "sync")
	if got := s.cli(0, "ssh-keys", "user00003").Stdout; got != "" {
		t.Errorf("who is disabled has the keys %q", got)
	}
	if r := in("user00003"); r.Ok() {
		t.Errorf("who is disabled comes in by key: %s", r)
	}
}
