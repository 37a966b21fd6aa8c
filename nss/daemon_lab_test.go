// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nss

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
)

// answers is what programs say of names and numbers, line by line: it has to be
// the same whatever has become of the daemon.
const answers = `
	getent passwd user00001; getent passwd USER00002; getent passwd 'AADDSCONTOSO\user00003'; getent passwd user00004@contoso.test
	id user00000; id user00007; id root
	getent group group0003; getent group everyone-big | tr , '\n' | wc -l
	getent passwd nosuch || echo $?; getent group nosuch || echo $?; getent passwd 123456 || echo $?; id nosuch 2>&1 || echo $?
	getent passwd | wc -l; getent group | wc -l
	stat -c '%U %G' /srv/file; find /srv -user user00001 -group group0003; ls -l /srv | awk '{print $3, $4}'
`

// A NAS whose daemon is stopped, dead, or whose root half is dead, knows
// everybody it knew, and the unknown are unknown at once.
func TestDaemonStoppedOrDead(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 50, Groups: 10}})
	box, err := nas.Install(ctx, d.StartBox(t, "nas1", lab.BoxOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Box: box.Box, t: t}
	lib := m.sh("ls -d /usr/lib/*/libnss_latchkey.so.2")
	if err := box.CopyIn(ctx, shipped(t), lib, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return box.Start(ctx, false) }, func() error { return box.MustJoin(ctx, d) }, func() error { return box.UseNSS(ctx) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	m.waitUntil("getent passwd user00001 >/dev/null && echo yes || true", "yes")
	m.sh("touch /srv/file; chown user00001:group0003 /srv/file")
	before, exit := m.nobody("sh", "-c", answers)
	if exit != 0 || strings.Count(before, "user00001") < 4 || !strings.Contains(before, "user00001 group0003") {
		t.Fatalf("with the daemon running programs say, with status %d:\n%s", exit, before)
	}
	t.Logf("programs say:\n%s", before)
	same := func(when string) {
		t.Helper()
		if got, _ := m.nobody("sh", "-c", answers); got != before {
			t.Errorf("%s programs say otherwise:\n%s", when, got)
		}
	}

	t.Run("getent shows what the daemon shows", func(t *testing.T) { (&machine{Box: m.Box, t: t}).sameAsDaemon(box) })
	t.Run("a change is seen without a sign-in", func(t *testing.T) {
		if err := d.AddMembers(ctx, "group0003", "user00042"); err != nil {
			t.Fatal(err)
		}
		m.waitUntil("getent group group0003 | grep -c -w user00042 || true", "1")
		m.waitUntil("id -Gn user00042 | grep -c -w group0003 || true", "1")
		if err := d.RemoveMembers(ctx, "group0003", "user00042"); err != nil {
			t.Fatal(err)
		}
		m.waitUntil("getent group group0003 | grep -c -w user00042 || true", "0")
	})
	t.Run("a local account takes its name back", func(t *testing.T) {
		m.sh("echo user00009:x:4242:4242::/:/bin/sh >>/etc/passwd")
		m.waitUntil("getent passwd 'AADDSCONTOSO\\user00009' | cut -d: -f1", `AADDSCONTOSO\user00009`)
		m.expect("user00009:x:4242:4242::/:/bin/sh", "getent", "passwd", "user00009")
		m.sh("sed -i /^user00009:/d /etc/passwd")
		m.waitUntil("getent passwd 'AADDSCONTOSO\\user00009' | cut -d: -f1", "user00009")
	})
	same("after all that")

	if n, err := box.Signal(ctx, syscall.SIGSTOP, "latchkeyd"); err != nil || n < 2 {
		t.Fatalf("SIGSTOP reached %d processes, %v", n, err)
	}
	same("with the daemon stopped")
	if _, err := box.Signal(ctx, syscall.SIGCONT, "latchkeyd"); err != nil {
		t.Fatal(err)
	}
	if n, err := box.Signal(ctx, syscall.SIGKILL, "latchkeyd"); err != nil || n < 2 {
		t.Fatalf("SIGKILL reached %d processes, %v", n, err)
	}
	if err := box.WaitGone(ctx, "latchkeyd"); err != nil {
		t.Fatal(err)
	}
	same("with the daemon dead")
	if err := d.DC.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	same("with the daemon dead and the domain controller gone")
	if err := box.Start(ctx, false); err != nil {
		t.Fatal(err)
	}
	same("with the daemon back and the domain controller gone")
	if err := d.DC.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
}

// sameAsDaemon compares getent's lines with `latchkey user get`.
func (m *machine) sameAsDaemon(box *nas.NAS) {
	for _, name := range []string{"user00000", "user00001", "user00049", "joiner"} {
		var got struct {
			Name  string `json:"username"`
			UID   uint32 `json:"uid"`
			GID   uint32 `json:"gid"`
			Gecos string `json:"gecos"`
			Home  string `json:"home"`
			Shell string `json:"shell"`
		}
		if err := box.JSON(m.t.Context(), &got, "user", "get", name); err != nil {
			m.t.Fatal(err)
		}
		m.expect(fmt.Sprintf("%s:*:%d:%d:%s:%s:%s", got.Name, got.UID, got.GID, got.Gecos, got.Home, got.Shell), "getent", "passwd", name)
	}
}
