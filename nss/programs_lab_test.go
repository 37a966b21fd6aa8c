// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nss

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/publish/install"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// office is a small domain for real programs.
func office() *world {
	w := &world{groups: []snapshot.Group{
		{Name: "domain users", GID: base + 513, Aliases: []string{`aaddscontoso\domain users`}},
		{Name: "designers", GID: base + 2001, Aliases: []string{`aaddscontoso\designers`}},
		{Name: "påskkören", GID: base + 2002},
	}}
	for i, name := range []string{"ana", "bob", "žofie", "two words"} {
		w.users = append(w.users, snapshot.User{Name: name, UID: identity.UID(base + 1105 + i), GID: base + 513, Gecos: "Person " + fmt.Sprint(i),
			Dir: "/home/AADDSCONTOSO/" + name, Shell: "/bin/sh", Aliases: []string{`aaddscontoso\` + name, name + "@aadds.contoso.test", name + "@contoso.test"}})
	}
	w.users[0].Groups = []identity.GID{base + 2001, base + 2002}
	return w
}

// machine is a box with the module in it and nothing else of latchkey: no
// daemon, no socket. The test publishes into it.
type machine struct {
	*lab.Box
	t *testing.T
	i *install.Installer
}

func newMachine(t *testing.T, suite string) *machine {
	t.Helper()
	ctx := t.Context()
	l, err := lab.Up(ctx, lab.Options{Base: lab.BaseSpec{Suite: suite}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	box, err := l.Box(ctx, "nas", lab.BoxOptions{Suite: suite})
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Box: box, t: t}
	lib := strings.TrimSuffix(m.sh("ls -d /usr/lib/*/libc.so.6"), "libc.so.6")
	if err := box.CopyIn(ctx, shipped(t), lib+"libnss_latchkey.so.2", 0o644); err != nil {
		t.Fatal(err)
	}
	m.sh("sed -i -E 's/^(passwd|group):.*/\\1: files latchkey/' /etc/nsswitch.conf && install -d -o root -g root -m 0755 /var/lib/latchkey-nss /home/AADDSCONTOSO /srv/data")
	root := fmt.Sprintf("/proc/%d/root", box.PID())
	m.i, err = install.Open(install.Options{Dir: root + "/var/lib/latchkey-nss", Ranges: ranges, Grace: time.Hour, NSCD: root + "/run/nscd/socket",
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.i.Close() })
	put(t, m.i, office())
	return m
}

// sh runs a script as root, which has to succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	out, err := m.Output(m.t.Context(), "sh", "-ec", script)
	if err != nil {
		m.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// nobody runs a program as an ordinary user who is in no group.
func (m *machine) nobody(args ...string) (string, int) {
	m.t.Helper()
	c := m.Command(args...)
	c.User = "nobody"
	r, err := c.Run(m.t.Context())
	if err != nil {
		m.t.Fatalf("%q: %v", args, err)
	}
	return r.Stdout, r.Exit
}

func (m *machine) expect(want string, args ...string) {
	m.t.Helper()
	if got, exit := m.nobody(args...); strings.TrimSuffix(got, "\n") != want || exit != 0 {
		m.t.Errorf("%q says %q with status %d, want %q", args, got, exit, want)
	}
}

const (
	anaLine = "ana:*:100001106:100000514:Person 0:/home/AADDSCONTOSO/ana:/bin/sh"
	anaID   = "uid=100001106(ana) gid=100000514(domain users) groups=100000514(domain users),100002002(designers),100002003(påskkören)"
)

func TestProgramsAsAnOrdinaryUser(t *testing.T) {
	suites := []string{""}
	if nightly() {
		suites = append(suites, "trixie")
	}
	for _, suite := range suites {
		t.Run("suite "+suite, func(t *testing.T) { programs(t, newMachine(t, suite)) })
	}
}

func programs(t *testing.T, m *machine) {
	for _, name := range []string{"ana", "ANA", `AADDSCONTOSO\Ana`, "ana@aadds.contoso.test", "Ana@contoso.test", "100001106"} {
		m.expect(anaLine, "getent", "passwd", name)
	}
	m.expect("designers:*:100002002:ana", "getent", "group", "Designers")
	m.expect("påskkören:*:100002003:ana", "getent", "group", "PÅSKKÖREN")
	m.expect("domain users:*:100000514:ana,bob,žofie,two words", "getent", "group", "100000514")
	m.expect(anaID, "id", "ana")
	m.expect(anaID, "id", `aaddscontoso\ANA`)
	for _, key := range []string{"nosuch", "4711", "100001999"} {
		for _, database := range []string{"passwd", "group"} {
			if out, exit := m.nobody("getent", database, key); exit != 2 || out != "" {
				t.Errorf("getent %s %s says %q with status %d, want 2", database, key, out, exit)
			}
		}
	}
	// All of the domain, after all of the machine.
	out, _ := m.nobody("getent", "passwd")
	if want := []string{"ana", "bob", "žofie", "two words"}; !strings.HasSuffix(names(out), strings.Join(want, "\n")) || !strings.HasPrefix(names(out), "root\n") {
		t.Errorf("getent passwd lists %q", names(out))
	}
	out, _ = m.nobody("getent", "group")
	if !strings.HasSuffix(names(out), "domain users\ndesigners\npåskkören") {
		t.Errorf("getent group lists %q", names(out))
	}

	// Files: chown and setfacl by name, ls, stat, find, tar.
	m.sh("cd /srv/data; touch hers his; chown 'ana:designers' hers; chown 'two words:domain users' his; setfacl -m u:žofie:rw,g:påskkören:r his; mkdir -p deep/er; touch deep/er/x; chown -R žofie deep")
	m.expect("ana designers", "stat", "-c", "%U %G", "/srv/data/hers")
	m.expect("two words domain users", "stat", "-c", "%U %G", "/srv/data/his")
	if out, _ := m.nobody("ls", "-l", "/srv/data"); !strings.Contains(out, " ana       designers ") || !strings.Contains(out, " two words domain users ") {
		t.Errorf("ls -l says %s", out)
	}
	m.expect("/srv/data/hers", "find", "/srv/data", "-user", "ana")
	m.expect("/srv/data/deep\n/srv/data/deep/er\n/srv/data/deep/er/x", "find", "/srv/data", "-user", "žofie")
	m.expect("/srv/data/his", "find", "/srv/data", "-type", "f", "-group", "domain users")
	if out, _ := m.nobody("getfacl", "-pc", "/srv/data/his"); !strings.Contains(out, "user:žofie:rw-") && !strings.Contains(out, `user:\305\276ofie:rw-`) {
		t.Errorf("getfacl says %s", out)
	}
	m.sh("tar -C /srv -cf /srv/data.tar data; rm -r /srv/data; tar -C /srv -xpf /srv/data.tar")
	if out, _ := m.nobody("tar", "-tvf", "/srv/data.tar"); !strings.Contains(out, "ana/designers") || !strings.Contains(out, "two words/domain users") {
		t.Errorf("tar -tv says %s", out)
	}
	m.expect("/srv/data/hers", "find", "/srv/data", "-user", "100001106", "-group", "designers")

	// A membership that changes is seen by the next id, with nobody signing in.
	w := office()
	w.users[1].Groups = []identity.GID{base + 2001}
	put(t, m.i, w)
	m.expect("domain users designers", "id", "-Gn", "bob")
	m.expect("designers:*:100002002:ana,bob", "getent", "group", "designers")
	put(t, m.i, office())
	m.expect("domain users", "id", "-Gn", "bob")

	for _, sub := range []struct {
		name string
		test func(*machine)
	}{
		{"local accounts", (*machine).localAccounts}, {"sudo", (*machine).sudo}, {"cron", (*machine).cron}, {"sshd", (*machine).sshd},
		{"nscd", (*machine).nscd}, {"chroot", (*machine).chroot}, {"without a snapshot", (*machine).without},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.test(&machine{m.Box, t, m.i}) })
	}
}

// A local account keeps its own groups, whatever its name.
func (m *machine) localAccounts() {
	m.sh("cp -a /etc/passwd /root; cp -a /etc/group /root; echo ana:x:4200:4242::/:/bin/sh >>/etc/passwd; echo staff2:x:4242: >>/etc/group")
	defer m.sh("cp -a /root/passwd /root/group /etc")
	m.expect("uid=4200(ana) gid=4242(staff2) groups=4242(staff2)", "id", "ana")
	m.expect("uid=0(root) gid=0(root) groups=0(root)", "id", "root")
	m.expect("ana:x:4200:4242::/:/bin/sh", "getent", "passwd", "ana")
	m.expect(anaLine, "getent", "passwd", "ana@contoso.test") // the domain's, by a name of its own
}

func (m *machine) sudo() {
	m.sh("printf '%%designers ALL=(ALL) NOPASSWD: ALL\\n%%domain\\\\ users ALL=(bob) NOPASSWD: /usr/bin/id\\n' >/etc/sudoers.d/lab; chmod 440 /etc/sudoers.d/lab; visudo -cq")
	as := func(user string, args ...string) string {
		out, _ := m.Output(m.t.Context(), append([]string{"setpriv", "--reuid", user, "--regid", "domain users", "--init-groups", "sudo", "-n"}, args...)...)
		return out
	}
	if got := as("ana", "id", "-un"); got != "root" {
		m.t.Errorf("a designer becomes %q", got)
	}
	if got := as("bob", "id", "-un"); got != "" {
		m.t.Errorf("who is no designer becomes %q", got)
	}
	if got := as("žofie", "-u", "bob", "/usr/bin/id", "-un"); got != "bob" {
		m.t.Errorf("a domain user becomes %q by a rule of one", got)
	}
	if got := m.sh("sudo -u ana id -Gn"); got != "domain users designers påskkören" {
		m.t.Errorf("sudo -u ana is in %q", got)
	}
}

func (m *machine) cron() {
	m.sh("rm -f /run/crond.reboot /tmp/cron-said; printf '@reboot ana id -Gn >/tmp/cron-said.new; mv /tmp/cron-said.new /tmp/cron-said\\n' >/etc/cron.d/lab; install -d -o ana -m 0700 /home/AADDSCONTOSO/ana")
	p, err := m.Command("cron", "-f").Start(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = p.Kill() }()
	if got := m.waitFor("/tmp/cron-said"); got != "domain users designers påskkören\n" {
		m.t.Errorf("a cron job of ana is in %q", got)
	}
}

// waitUntil runs a command until it says so.
func (m *machine) waitUntil(command, want string) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); m.sh(command) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%s says %q, want %q", command, m.sh(command), want)
		}
	}
}

// waitFor reads a file once it is there.
func (m *machine) waitFor(path string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	for {
		if data, err := m.ReadFile(ctx, path); err == nil {
			return string(data)
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("%s does not come", path)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *machine) sshd() {
	m.sh(`mkdir -p /run/sshd; install -d -o ana -g 'domain users' -m 0700 /home/AADDSCONTOSO/ana /home/AADDSCONTOSO/ana/.ssh
		rm -f /root/key; ssh-keygen -qt ed25519 -N '' -f /root/key; cp /root/key.pub /home/AADDSCONTOSO/ana/.ssh/authorized_keys; chown ana /home/AADDSCONTOSO/ana/.ssh/authorized_keys
		ssh-keygen -A >/dev/null`)
	p, err := m.Command("/usr/sbin/sshd", "-D", "-p", "2222", "-o", "UsePAM=no", "-o", "AllowGroups=designers", "-o", "PidFile=/run/sshd-lab.pid").Start(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = p.Kill() }()
	m.waitFor("/run/sshd-lab.pid")
	ssh := func(user string) (string, error) {
		return m.Output(m.t.Context(), "ssh", "-i", "/root/key", "-p", "2222", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", user+"@127.0.0.1", "id", "-Gn")
	}
	for _, user := range []string{"ana", `aaddscontoso\ana`, "ANA"} {
		if got, err := ssh(user); err != nil || got != "domain users designers påskkören" {
			m.t.Errorf("ssh as %s says %q, %v", user, got, err)
		}
	}
	if got, err := ssh("bob"); err == nil {
		m.t.Errorf("ssh as bob, who is in no allowed group, says %q", got)
	}
}

func (m *machine) nscd() {
	m.sh("mkdir -p /run/nscd")
	p, err := m.Command("nscd", "-F").Start(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = p.Kill() }()
	m.sh("for i in $(seq 300); do nscd -g >/dev/null 2>&1 && exit 0; sleep 0.02; done; exit 1")
	for range 2 { // asked of the module, then of nscd's cache
		m.expect(anaLine, "getent", "passwd", "ana")
		m.expect(anaID, "id", "ana")
		m.expect("designers:*:100002002:ana", "getent", "group", "designers")
		if _, exit := m.nobody("getent", "passwd", "nosuch"); exit != 2 {
			m.t.Errorf("an unknown name through nscd ends with status %d", exit)
		}
	}
	// A new snapshot empties its cache.
	w := office()
	w.users[0].Groups = nil
	put(m.t, m.i, w)
	m.waitUntil("id -Gn ana", "domain users")
	put(m.t, m.i, office())
	m.waitUntil("id -Gn ana", "domain users designers påskkören")
	// Not available is not cached as not there: nscd asks again.
	if err := m.i.Withdraw(); err != nil {
		m.t.Fatal(err)
	}
	if _, exit := m.nobody("getent", "passwd", "bob"); exit == 0 {
		m.t.Error("a name that nobody can tell was told")
	}
	put(m.t, m.i, office())
	if out, exit := m.nobody("getent", "passwd", "bob"); exit != 0 {
		m.t.Errorf("nscd keeps an outage as an answer: %q, status %d", out, exit)
	}
	m.expect(anaLine, "getent", "passwd", "ana")
}

// In a chroot without the file a lookup says at once that it cannot tell; with
// the directory mounted into it, it can.
func (m *machine) chroot() {
	m.sh("mkdir -p /srv/jail; mount --bind / /srv/jail; mount -t tmpfs none /srv/jail/var/lib; mkdir /srv/jail/var/lib/latchkey-nss")
	defer m.sh("umount -R /srv/jail")
	for _, key := range []string{"ana", "nosuch"} {
		if r, err := m.Run(m.t.Context(), "chroot", "/srv/jail", "getent", "passwd", key); err != nil || r.Exit != 2 || r.Stdout != "" {
			m.t.Errorf("getent passwd %s in an empty chroot: %v, %v", key, r, err)
		}
	}
	if got := m.sh("chroot /srv/jail id root"); got != "uid=0(root) gid=0(root) groups=0(root)" {
		m.t.Errorf("id root in an empty chroot says %q", got)
	}
	m.sh("mount --bind /var/lib/latchkey-nss /srv/jail/var/lib/latchkey-nss")
	if got := m.sh("chroot /srv/jail id ana"); got != anaID {
		m.t.Errorf("id ana in a chroot with the directory says %q", got)
	}
}

// No snapshot, or one that is not root's: local accounts work, the rest is
// nobody, and nothing waits.
func (m *machine) without() {
	if err := m.i.Withdraw(); err != nil {
		m.t.Fatal(err)
	}
	for what, make := range map[string]string{
		"nothing": "true", "a FIFO": "mkfifo -m 644 /var/lib/latchkey-nss/identities", "a link": "ln -s /etc/passwd /var/lib/latchkey-nss/identities",
		"somebody's": "install -o nobody -m 644 /etc/passwd /var/lib/latchkey-nss/identities", "noise": "head -c 100000 /dev/urandom >/var/lib/latchkey-nss/identities",
	} {
		m.sh(make)
		m.expect("uid=0(root) gid=0(root) groups=0(root)", "id", "root")
		if out, exit := m.nobody("getent", "passwd", "ana"); exit != 2 || out != "" {
			m.t.Errorf("with %s getent says %q, %d", what, out, exit)
		}
		m.sh("rm -f /var/lib/latchkey-nss/identities")
	}
	put(m.t, m.i, office())
	m.expect(anaID, "id", "ana")
}

// A daemon that changes its root directory goes on with the snapshot that it has
// mapped, until that is superseded; then it cannot tell, and says so.
func TestChangedRoot(t *testing.T) {
	dir := t.TempDir()
	i := openInstaller(t, dir)
	put(t, i, numbered(1))
	c := start(t, program(t, "host", plain), filepath.Join(dir, install.Name), "chroot")
	if line, err := c.out.ReadString('\n'); err != nil || line != "changed\n" {
		t.Fatalf("it said %q, %v\n%s", line, err, c.trace.String())
	}
	put(t, i, numbered(2))
	if got := c.end(); got != "unavailable\n" {
		t.Errorf("it said %q", got)
	}
	left, _ := filepath.Glob("/tmp/latchkey-root-*")
	for _, dir := range left {
		_ = os.Remove(dir)
	}
}

// names are the first fields of lines.
func names(lines string) string {
	var out []string
	for _, line := range strings.Split(strings.TrimSuffix(lines, "\n"), "\n") {
		name, _, _ := strings.Cut(line, ":")
		out = append(out, name)
	}
	return strings.Join(out, "\n")
}
