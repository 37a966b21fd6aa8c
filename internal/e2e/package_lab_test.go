// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
)

// The package comes to a bare machine, is used, upgraded, removed and purged;
// nothing of it is left, and the people of the machine sign in all the while.
func TestPackage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	top := "../.."
	if dir := os.Getenv("LATCHKEY_TOP"); dir != "" {
		top = dir
	}
	s := &story{t: t, ctx: ctx, domain: lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 20, Groups: 5}})}
	box := s.domain.StartBox(t, "nas1", lab.BoxOptions{})
	s.nas = nas.Attach(box)
	debs := t.TempDir()
	for _, version := range []string{"1.0.0", "1.0.1"} {
		build := exec.CommandContext(ctx, filepath.Join(top, "packaging/deb/build.sh"), filepath.Join(top, nas.Tree), version, debs)
		build.Env = append(os.Environ(), "DEB_COMPRESSION=none") // the best takes half a minute
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("the package: %v\n%s", err, out)
		}
		found, _ := filepath.Glob(filepath.Join(debs, "latchkey_"+version+"_*.deb"))
		if len(found) != 1 {
			t.Fatalf("packages of version %s: %v", version, found)
		}
		s.try(box.CopyIn(ctx, found[0], "/root/"+version+".deb", 0o644))
	}
	s.sh("useradd -m -s /bin/sh local && echo 'local:" + localPassword + "' | chpasswd; echo 'root:root password' | chpasswd")
	s.sh("ssh-keygen -A >/dev/null && mkdir -p /run/sshd && /usr/sbin/sshd -o UsePAM=yes -o KbdInteractiveAuthentication=yes")
	s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --disable pwquality") // what a first run of it changes is not ours
	// What other programs write while they work is not looked at.
	const survey = `{ find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/lib/dpkg -o -path /var/cache -o -path /root -o -path /run -o -path /home \) -prune -o -print; ` +
		`cd /etc && md5sum pam.d/* nsswitch.conf; grep -hE '^(latchkey|winbindd_priv)' passwd group shadow gshadow; true; } | ` +
		`grep -v -e '^/etc/[a-z]*-$' -e '^/var/log/' -e '^/var/lib/pam/' -e '^/var/lib/samba/private/' | sort`
	before := s.sh(survey)
	s.locals("before")

	s.sh("dpkg -i /root/1.0.0.deb")
	s.locals("installed")
	if got := s.sh("grep -E '^(passwd|group):' /etc/nsswitch.conf"); strings.Count(got, "files latchkey") != 2 {
		t.Errorf("nsswitch.conf:\n%s", got)
	}
	if got := s.sh("cat /etc/pam.d/common-*"); strings.Contains(got, "latchkey") {
		t.Error("the package switches itself on in PAM")
	}
	s.try(s.nas.Start(ctx, false))
	s.try(s.nas.MustJoin(ctx, s.domain))
	s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey latchkey-password")
	s.cli(0, "access", "allow", "sshd", "*")
	s.in("installed", "user00001", lab.UserPassword(1))
	uid := s.sh("id -u user00001")

	// An upgrade under a running daemon, and the start of the new one.
	s.sh("dpkg -i /root/1.0.1.deb")
	s.in("upgraded, the old daemon", "user00001", lab.UserPassword(1))
	s.stop(s.sh("pgrep -f '[l]atchkeyd run'"))
	s.locals("between the daemons")
	s.try(s.nas.Start(ctx, false))
	s.in("upgraded", "user00001", lab.UserPassword(1))
	if now := s.sh("id -u user00001; dpkg-query -f '${Version}' -W latchkey"); now != uid+"\n1.0.1" {
		t.Errorf("after the upgrade: %s, want uid %s", now, uid)
	}
	if got := s.sh("grep -c latchkey /etc/pam.d/common-*"); strings.Count(got, ":1") < 4 {
		t.Errorf("the stacks after the upgrade: %s", got)
	}

	// Removed: nobody is locked out, and a later installation knows the numbers.
	leave := s.nas.Command("/usr/bin/latchkey", "leave", "--keep-account")
	if r, err := leave.Run(ctx); err != nil || !r.Ok() {
		t.Errorf("leave: %v\n%s", err, r)
	}
	s.stop(s.sh("pgrep -f '[l]atchkeyd run'"))
	s.sh("dpkg -r latchkey")
	s.locals("removed")
	if got := s.sh("cat /etc/pam.d/common-* /etc/nsswitch.conf"); strings.Contains(got, "latchkey") {
		t.Errorf("after the removal the stacks name us:\n%s", got)
	}
	s.sh("test -e /var/lib/latchkey/latchkey.db")
	s.sh("dpkg -P latchkey")
	s.locals("purged")
	s.asBefore("purged", before, s.sh(survey))

	// The same without a leave, with the daemon running and every door open, beside
	// a service that merges with the machine's own groups.
	s.sh("cp /etc/nsswitch.conf /root/nsswitch.conf && sed -i 's/^group:.*/group: files [SUCCESS=merge] systemd/' /etc/nsswitch.conf")
	s.sh("dpkg -i /root/1.0.1.deb")
	if got := s.sh("grep ^group: /etc/nsswitch.conf"); got != "group: files [SUCCESS=merge] latchkey systemd" {
		t.Errorf("nsswitch.conf: %s", got)
	}
	s.try(s.nas.Start(ctx, false))
	s.try(s.nas.MustJoin(ctx, s.domain))
	if got := s.sh("getent group group0001 | cut -d: -f1; getent group daemon"); got != "group0001\ndaemon:x:1:" {
		t.Errorf("groups beside a merging service: %s", got)
	}
	s.sh("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey latchkey-password")
	s.cli(0, "access", "sudo", "group0001")
	s.cli(0, "samba", "enable")
	s.sh("test -s /etc/krb5.keytab && test -e /etc/krb5.conf.d/latchkey.conf && ls /etc/sudoers.d/latchkey-*")
	s.sh("dpkg -r latchkey")
	s.locals("removed without a leave")
	// Installed again, it knows the people as before; what an administrator took out
	// stays out.
	s.sh("dpkg -i /root/1.0.1.deb")
	if got := s.sh("grep ^group: /etc/nsswitch.conf"); got != "group: files [SUCCESS=merge] latchkey systemd" {
		t.Errorf("nsswitch.conf, installed again: %s", got)
	}
	s.try(s.nas.Start(ctx, false))
	s.waitFor("the people are there again", func() bool { r, err := s.nas.Run(ctx, "id", "user00001"); return err == nil && r.Ok() })
	s.sh("sed -i 's/ latchkey//' /etc/nsswitch.conf; dpkg -i /root/1.0.1.deb; dpkg -r latchkey; dpkg -i /root/1.0.1.deb")
	if got := s.sh("grep -c latchkey /etc/nsswitch.conf; true"); got != "0" {
		t.Errorf("taken out by hand, nsswitch.conf has %s lines of ours", got)
	}
	s.sh("dpkg -r latchkey")
	if got := s.sh("pgrep -f '[l]atchkeyd (run|worker)'; grep -rl latchkey /etc/pam.d /etc/nsswitch.conf /etc/samba /etc/krb5* /etc/sudoers.d; true"); got != "/etc/pam.d/latchkey-web" {
		t.Errorf("after a removal without a leave:\n%s", got)
	}
	s.sh("test -e /var/lib/latchkey/latchkey.db")
	s.sh("dpkg -P latchkey")
	s.locals("purged without a leave")
	s.sh("cp /root/nsswitch.conf /etc/nsswitch.conf")
	s.asBefore("purged without a leave", before, s.sh(survey))
	if got := s.sh("ls -d /run/latchkey* /run/samba/winbindd/* 2>/dev/null; true"); got != "" {
		t.Errorf("left in /run: %s", got)
	}
}

// asBefore compares two surveys of the machine.
func (s *story) asBefore(when, before, after string) {
	s.t.Helper()
	had := map[string]bool{}
	for line := range strings.Lines(before) {
		had[strings.TrimSpace(line)] = true
	}
	for line := range strings.Lines(after) {
		if line = strings.TrimSpace(line); !had[line] {
			s.t.Errorf("%s: left behind or changed: %s", when, line)
		}
		delete(had, line)
	}
	for line := range had {
		s.t.Errorf("%s: taken away: %s", when, line)
	}
}
