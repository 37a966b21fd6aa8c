// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// The worker has no privilege, no memory that could be dumped, and nothing of
// the password that was typed is left anywhere.
func TestWorkerHasNothing(t *testing.T) {
	s := begin(t, lab.Population{Users: 10, Groups: 2})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	pid := s.worker()
	proc := s.sh("cat /proc/" + pid + "/status")
	uid := s.sh("id -u latchkey")
	for _, line := range []string{"Uid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid, "Groups:\t", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(proc, line) {
			t.Errorf("the worker's status does not say %q:\n%s", line, proc)
		}
	}
	if groups := s.sh("awk '/^Groups:/ { print NF }' /proc/" + pid + "/status"); groups != "1" {
		t.Errorf("the worker has supplementary groups:\n%s", proc)
	}
	for _, who := range []string{pid, s.sh("pgrep -f '[l]atchkeyd run'")} {
		if limit := s.sh("awk '/Max core file size/ { print $5, $6 }' /proc/" + who + "/limits"); limit != "0 0" {
			t.Errorf("core dumps of %s: limit %s", who, limit)
		}
		// What belongs to a process that is not dumpable is root's (proc(5)).
		if owner := s.sh("stat -c %u /proc/" + who + "/environ"); owner != "0" {
			t.Errorf("%s is dumpable: its files belong to %s", who, owner)
		}
	}
	s.sh("! runuser -u latchkey -- cat /proc/" + pid + "/environ 2>/dev/null")
	for _, where := range []string{"/var/lib/latchkey", "/var/log", "/run/latchkey", "/etc", "/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		s.sh("! grep -raF '" + lab.JoinPassword + "' " + where + " 2>/dev/null | grep -v /proc/self | grep -v grep | grep .")
	}

	// An ordinary user may ask who somebody is, and nothing else; the worker's
	// own user is no administrator either.
	for _, who := range []string{"nobody", "latchkey"} {
		for args, exit := range map[string]int{"user get user00001": 0, "status": 4, "sync": 4, "leave": 4, "config set log.level debug": 4} {
			c := s.nas.Command(append([]string{"/usr/bin/latchkey"}, strings.Fields(args)...)...)
			c.User = who
			r, err := c.Run(s.ctx)
			if err != nil || r.Exit != exit {
				t.Errorf("latchkey %s as %s: exit status %d, want %d (%v)\n%s", args, who, r.Exit, exit, err, r)
			}
		}
	}
	// An admin method on the socket for everybody is refused to root as well.
	if r := s.cli(4, "status", "--admin-socket", "/run/latchkey/api.sock"); !strings.Contains(r.Stderr, "not allowed") && !strings.Contains(r.Stderr, "may not") {
		t.Errorf("admin method on api.sock: %s", r)
	}
}

// A worker that is killed or hangs is replaced, and callers notice nothing.
func TestWorkerIsReplaced(t *testing.T) {
	s := begin(t, lab.Population{Users: 50, Groups: 5})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	kills := 10
	for i := 1; i <= kills; i++ {
		s.sh("kill -9 " + s.worker())
		s.cli(0, "user", "get", "user00001")
		s.waitFor("the next worker", func() bool { return s.status().Restarts == i })
	}
	s.sh("kill -STOP " + s.worker())
	s.cli(0, "user", "get", "user00002") // waits in the queue of the socket
	s.waitFor("the next worker", func() bool { return s.status().Restarts == kills+1 })
	if !strings.Contains(s.log(), "it was silent for 3s") {
		t.Error("the log does not say that the worker was silent")
	}
	if st := s.status(); st.Health != "serving" && st.Health != "degraded" {
		t.Errorf("after the kills: %+v", st)
	}
}

// A bad configuration is refused at start and at SIGHUP, and the old one stays.
func TestConfiguration(t *testing.T) {
	s := begin(t, lab.Population{Users: 10, Groups: 2})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	monitor := s.sh("pgrep -f '[l]atchkeyd run'")
	shell := func() string {
		var u user
		if err := s.nas.JSON(s.ctx, &u, "user", "get", "user00001"); err != nil {
			t.Fatal(err)
		}
		return u.Shell
	}
	s.sh(`mkdir -p /etc/latchkey; printf 'version = 1\n[nss]\nshell = "/bin/zsh"\n' >/etc/latchkey/latchkey.toml; kill -HUP ` + monitor)
	s.waitFor("the new shell", func() bool { return shell() == "/bin/zsh" })
	s.cli(0, "config", "check")

	s.sh(`printf 'version = 1\n[nss]\nshel = "/bin/fish"\n' >/etc/latchkey/latchkey.toml; kill -HUP ` + monitor)
	s.waitFor("status tells of the mistake", func() bool {
		st := s.status()
		return len(st.Problems) == 1 && strings.Contains(st.Problems[0].Summary, `latchkey.toml:3: unknown key "nss.shel"; did you mean "nss.shell"?`)
	})
	if shell() != "/bin/zsh" {
		t.Error("the old configuration did not stay")
	}
	s.cli(1, "config", "check")
	s.sh("kill -9 " + s.worker())
	if got := shell(); got != "/bin/zsh" {
		t.Errorf("a worker started with a bad file does not go on with the old one: the shell is %q", got)
	}

	s.sh("rm /etc/latchkey/latchkey.toml; kill -HUP " + monitor)
	s.waitFor("the default shell", func() bool { return shell() == "/bin/bash" })
	s.cli(0, "config", "set", "nss.shell", "/bin/dash")
	s.waitFor("the shell that was set", func() bool { return shell() == "/bin/dash" })
	s.sh(`printf 'version = 1\n[locked]\nkeys = ["nss"]\n' >/etc/latchkey/latchkey.toml; kill -HUP ` + monitor)
	s.waitFor("the lock", func() bool { return shell() == "/bin/bash" })
	s.cli(4, "config", "set", "nss.shell", "/bin/zsh")

	// The start with a bad file.
	s.stop(monitor)
	s.sh(`printf 'version = 1\nfrobnicate = 1\n' >/etc/latchkey/latchkey.toml`)
	r, err := s.nas.Run(s.ctx, "/usr/sbin/latchkeyd", "run")
	if err != nil || r.Exit != 1 || !strings.Contains(r.Stderr, "latchkey.toml:2: unknown key") {
		t.Errorf("start with a bad file: %v\n%s", err, r)
	}
	s.cli(5, "status")
}

// A stop is clean: the worker ends by itself, in time, with everything on disk,
// and the next start serves people before it has heard of the domain.
func TestStopAndStart(t *testing.T) {
	s := begin(t, lab.Population{Users: 50, Groups: 5})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	watch := s.nas.Command("/usr/bin/latchkey", "watch", "--no-snapshot")
	w, err := watch.Start(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.stop(s.sh("pgrep -f '[l]atchkeyd run'"))
	if log := s.log(); !strings.Contains(log, "latchkeyd has stopped") || strings.Contains(log, "killed") {
		t.Errorf("the stop was not clean:\n%s", log)
	}
	if r, err := w.Wait(); err != nil || r.Exit != 5 {
		t.Errorf("watch: %v, want exit status 5\n%s", err, r)
	}
	s.sh("! ls /run/latchkey/*.sock 2>/dev/null")
	s.cli(5, "user", "get", "user00001")
	if err := s.domain.DC.Stop(s.ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.nas.Start(s.ctx, false); err != nil {
		t.Fatal(err)
	}
	s.cli(0, "user", "get", "user00001")
	s.cli(0, "status")
}

// The daemon refuses to be started by anybody but root, and twice.
func TestWhoMayStart(t *testing.T) {
	s := begin(t, lab.Population{})
	c := s.nas.Command("/usr/sbin/latchkeyd", "run")
	c.User = "nobody"
	if r, err := c.Run(s.ctx); err != nil || r.Exit != 1 || !strings.Contains(r.Stderr, "root") {
		t.Errorf("as nobody: %v\n%s", err, r)
	}
	if r, err := s.nas.Run(s.ctx, "/usr/sbin/latchkeyd", "run"); err != nil || r.Exit != 1 || !strings.Contains(r.Stderr, "another latchkeyd") {
		t.Errorf("a second one: %v\n%s", err, r)
	}
	if r, err := s.nas.Run(s.ctx, "/usr/sbin/latchkeyd", "worker"); err != nil || r.Exit != 1 || !strings.Contains(r.Stderr, "monitor") {
		t.Errorf("a worker by hand: %v\n%s", err, r)
	}
	s.cli(1, "status") // the first one is as it was
}

// The monitor dies, and the worker with it: nobody serves without a guard.
func TestWorkerDiesWithItsMonitor(t *testing.T) {
	s := begin(t, lab.Population{})
	s.sh("kill -9 $(pgrep -f '[l]atchkeyd run')")
	s.waitFor("the worker is gone", func() bool {
		r, err := s.nas.Run(s.ctx, "pgrep", "-f", "[l]atchkeyd worker")
		return err == nil && r.Exit == 1
	})
	if err := s.nas.Start(s.ctx, false); err != nil {
		t.Fatal(err)
	}
	s.cli(1, "status")
}

// held opens the sockets as systemd does, and starts the daemon with them each
// time it ends.
const held = `
import os, socket
os.makedirs("/run/latchkey", exist_ok=True)
listeners = []
for name, mode in (("api", 0o666), ("admin", 0o660)):
    s = socket.socket(socket.AF_UNIX)
    s.bind("/run/latchkey/%s.sock" % name)
    os.chmod("/run/latchkey/%s.sock" % name, mode)
    s.listen(128)
    listeners.append(s)
def pass_on():
    for i, s in enumerate(listeners):
        os.dup2(s.fileno(), 100 + i)
    for i in range(len(listeners)):
        os.dup2(100 + i, 3 + i)
        os.set_inheritable(3 + i, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="api:admin")
while True:
    pid = os.fork()
    if pid == 0:
        pass_on()
        os.execv("/usr/sbin/latchkeyd", ["/usr/sbin/latchkeyd", "run"])
    os.waitpid(pid, 0)
`

// With sockets that systemd holds, even the monitor may be killed: callers wait
// in the queue and are answered by the next daemon.
func TestSocketsOutliveTheDaemon(t *testing.T) {
	s := begin(t, lab.Population{Users: 10, Groups: 2})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.stop(s.sh("pgrep -f '[l]atchkeyd run'"))
	c := s.nas.Command("python3", "-c", held)
	c.Log = "/var/log/held.log"
	holder, err := c.Start(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Kill()
		if text, err := s.nas.ReadFile(context.WithoutCancel(s.ctx), "/var/log/held.log"); t.Failed() {
			t.Logf("the log of the daemons: %v\n%s", err, text)
		}
	})
	if err := s.nas.WaitAnswer(s.ctx); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.sh("kill -9 $(pgrep -f '[l]atchkeyd run')")
		s.cli(0, "user", "get", "user00001")
	}
	s.sh("test -S /run/latchkey/api.sock")
}

// The units mean what they say, as far as systemd can tell without running them.
func TestUnits(t *testing.T) {
	s := begin(t, lab.Population{})
	r, err := s.nas.Run(s.ctx, "sh", "-c", "systemd-analyze verify --man=no /lib/systemd/system/latchkeyd*")
	for _, name := range []string{"api", "admin", "shim-root", "auth", "metrics"} { // those that are always open
		s.sh("grep -qx FileDescriptorName=" + name + " /lib/systemd/system/latchkeyd-" + name + ".socket")
	}
	if err != nil || !r.Ok() || strings.Contains(r.Stderr, "latchkeyd") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, r)
	}
	s.sh("systemd-sysusers --dry-run /usr/lib/sysusers.d/latchkey.conf")
	s.sh("systemd-tmpfiles --create /usr/lib/tmpfiles.d/latchkey.conf")
}

// The daemon needs neither systemd nor a first process above it: it runs as
// process 1 of a container.
func TestAsFirstProcess(t *testing.T) {
	s := begin(t, lab.Population{Users: 10, Groups: 2})
	if err := s.nas.MustJoin(s.ctx, s.domain); err != nil {
		t.Fatal(err)
	}
	s.stop(s.sh("pgrep -f '[l]atchkeyd run'"))
	c := s.nas.Command("unshare", "--pid", "--fork", "--mount-proc", "/usr/sbin/latchkeyd", "run")
	c.Log = "/var/log/first.log"
	p, err := c.Start(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.nas.WaitAnswer(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.cli(0, "user", "get", "user00001")
	s.sh("kill -9 " + s.worker())
	s.cli(0, "user", "get", "user00001")
	s.sh("kill -TERM $(pgrep -f '^/usr/sbin/[l]atchkeyd run')")
	if r, err := p.Wait(); err != nil || r.Exit != 0 {
		t.Errorf("the end: %v\n%s", err, r)
	}
}
