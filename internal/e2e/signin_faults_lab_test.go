// SPDX-License-Identifier: Apache-2.0

//go:build lab

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// attempt is a line of the audit, as far as the stories look.
type attempt struct {
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	How     string `json:"how"`
	KDC     string `json:"kdc"`
	Reason  string `json:"reason"`
}

// lastSignIn is the last line of the audit about a password.
func (s *story) lastSignIn() (a attempt) {
	s.t.Helper()
	s.try(json.Unmarshal([]byte(s.sh(`grep '"action":"sign-in"' /var/log/latchkey/audit.jsonl | tail -1`)), &a))
	return a
}

// in signs somebody in by ssh, who is to get in.
func (s *story) in(state, name, password string) {
	s.t.Helper()
	if r := s.ssh("keyboard-interactive", name, password, "id -un"); strings.TrimSpace(r.Stdout) != name {
		s.t.Errorf("%s: %s: %s", state, name, r)
	}
}

// out is in for who is to be refused.
func (s *story) out(state, name, password string) {
	s.t.Helper()
	if r := s.ssh("password", name, password, "id -un"); r.Ok() {
		s.t.Errorf("%s: %s comes in: %s", state, name, r)
	}
}

// What becomes of sign-ins when something is done to the daemon, or by those who
// mean it ill; local users and root get in whatever happens.
func TestSignInFaults(t *testing.T) {
	s := begin(t, lab.Population{Users: 20, Groups: 5})
	s.openShells()
	s.sh("echo 'root:root password' | chpasswd; install -d -m 755 /srv/story")
	right := lab.UserPassword
	s.cli(0, "access", "allow", "sshd", "*")

	// killed kills in the middle of a conversation: the question has been asked,
	// and the password is typed when nobody is there any more to hear it.
	killed := func(what, kill string) {
		s.t.Helper()
		mark := s.sh("rm -f /srv/story/*; grep -c 'Postponed keyboard-interactive/pam for user00001' /var/log/sshd.log || true")
		over := make(chan *lab.Result, 1)
		go func() {
			over <- s.dialogue("local", "ssh -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "+
				"-o PreferredAuthentications=keyboard-interactive -o NumberOfPasswordPrompts=1 -l user00001 127.0.0.1 'echo came in'", "assword:", "/srv/story/password")
		}()
		s.waitFor("the question is asked", func() bool {
			return s.sh("grep -c 'Postponed keyboard-interactive for user00001' /var/log/sshd.log || true") != mark
		})
		time.Sleep(300 * time.Millisecond) // the question is on its way to the screen
		s.sh(kill)
		s.try(s.nas.WriteFile(s.ctx, "/srv/story/.password", []byte(right(1)), 0o644))
		s.sh("mv /srv/story/.password /srv/story/password")
		if r := <-over; r.Exit != 255 || strings.Contains(r.Stdout, "came in") {
			s.t.Errorf("%s: %s", what, r)
		}
		s.sh("rm -f /srv/story/*")
	}

	s.part("worker killed", func(t *testing.T) {
		killed("the worker was killed in the middle", "kill -9 "+s.worker())
		s.in("after its restart", "user00001", right(1))
		s.sh("kill -SEGV " + s.worker())
		s.locals("right after a crash")
		s.in("after a crash", "user00001", right(1))
	})

	s.part("killed and absent", func(t *testing.T) {
		killed("all was killed in the middle", "pkill -9 latchkeyd")
		s.try(s.nas.WaitGone(s.ctx, "latchkeyd"))
		s.out("nobody listens", "user00001", right(1))
		s.locals("nobody listens")
		s.try(s.nas.Start(s.ctx, false))
		s.in("started again", "user00001", right(1))
	})

	s.part("stopped", func(t *testing.T) {
		s.sh("pkill -STOP latchkeyd")
		s.out("stopped", "user00001", right(1))
		s.locals("stopped")
		s.sh("pkill -CONT latchkeyd")
		s.waitFor("a worker that answers", func() bool { r, err := s.nas.CLI(s.ctx, "status"); return err == nil && r.Exit == 0 })
		s.in("going on", "user00001", right(1))
	})

	s.part("root's socket", func(t *testing.T) {
		const knock = `python3 -c '
import socket
s = socket.socket(socket.AF_UNIX); s.settimeout(5)
try:
    s.connect("/run/latchkey/shim-root.sock")
    try:
        s.sendall(b"\0\0\0\0\0\0\0\1\1\0")
        print("answered" if s.recv(10) else "hung up")
    except ConnectionError:
        print("hung up")
except PermissionError:
    print("not let in")'`
		if got := s.sh("runuser -u local -- " + knock); got != "not let in" {
			t.Errorf("an ordinary user at root's socket: %s", got)
		}
		s.sh("chmod 666 /run/latchkey/shim-root.sock")
		if got := s.sh("runuser -u local -- " + knock); got != "hung up" {
			t.Errorf("an ordinary user at root's socket with its mode gone: %s", got)
		}
		if got := s.sh("runuser -u latchkey -- " + knock); got != "hung up" {
			t.Errorf("the worker's own user at root's socket: %s", got)
		}
		s.sh("chmod 600 /run/latchkey/shim-root.sock")
	})

	s.part("tickets' way", func(t *testing.T) {
		uid := s.sh("id -u user00001")
		s.sh("echo mine >/srv/story/victim; chmod 666 /srv/story/victim; ln -s /srv/story/victim /tmp/krb5cc_" + uid)
		s.in("a link at the usual name", "user00001", right(1))
		// The stash is replaced by a link into a directory of somebody else.
		s.sh("mv /run/latchkey-pam /run/latchkey-pam.away; install -d -m 777 /srv/story/theirs; ln -s /srv/story/theirs /run/latchkey-pam")
		s.in("the stash is a link", "user00001", right(1))
		if got := s.sh("cat /srv/story/victim; ls -A /srv/story/theirs"); got != "mine" {
			t.Errorf("tickets went where a link led: %s", got)
		}
		s.sh("rm -r /run/latchkey-pam /tmp/krb5cc_" + uid + " /srv/story/victim /srv/story/theirs; mv /run/latchkey-pam.away /run/latchkey-pam")
		// A name in the environment of PAM that a user made up is no ticket.
		s.sh("install -d -o user00002 /srv/story/h; echo 'LATCHKEY_CCACHE=../../etc/shadow' >~user00002/.pam_environment 2>/dev/null || true")
		s.in("a made-up name", "user00002", right(2))
	})

	s.part("names file", func(t *testing.T) {
		id := s.sh("id user00001")
		for what, damage := range map[string]string{
			"removed":   "rm $f",
			"noise":     "head -c 30000 /dev/urandom >/srv/story/noise; cp /srv/story/noise $f",
			"empty":     ": >$f",
			"directory": "rm $f; mkdir $f",
			"fifo":      "rm $f; mkfifo $f",
			"owner":     "chown 1000 $f",
		} {
			s.sh("f=/var/lib/latchkey-nss/identities; " + damage)
			s.waitFor("names are back, "+what, func() bool {
				r, err := s.nas.Run(s.ctx, "id", "user00001")
				return err == nil && strings.TrimSpace(r.Stdout) == id
			})
		}
		s.in("after the names were damaged", "user00001", right(1))
	})

	s.part("200 at a time", func(t *testing.T) {
		got := s.sh(`seq 0 199 | xargs -P 200 -I{} sh -c 'n=$(printf %05d $(({} % 20))); echo "Passw0rd!$n" | timeout 100 pamtester sshd user$n authenticate acct_mgmt >/dev/null 2>&1 && echo in || echo out' | sort | uniq -c`)
		if strings.Join(strings.Fields(got), " ") != "200 in" {
			t.Errorf("200 sign-ins at a time: %s", got)
		}
		s.locals("after 200 sign-ins")
	})

	s.part("revoked group", func(t *testing.T) {
		_, err := s.domain.AddGroup(s.ctx, lab.Group{Name: "readers"})
		s.try(err)
		s.cli(0, "sync")
		s.cli(0, "access", "remove", "sshd", "*")
		s.cli(0, "access", "allow", "sshd", "%readers")
		s.out("not a member", "user00018", right(18))
		s.try(s.domain.AddMembers(s.ctx, "readers", "user00018"))
		if r := s.ssh("password", "user00018", right(18), "id -Gn"); !strings.Contains(r.Stdout, "readers") {
			t.Errorf("a new member: %s", r)
		}
		s.try(s.domain.RemoveMembers(s.ctx, "readers", "user00018"))
		s.out("no longer a member", "user00018", right(18))
		if got := s.sh("id -Gn user00018"); strings.Contains(got, "readers") {
			t.Errorf("the revoked group is still there: %s", got)
		}
		s.cli(0, "access", "remove", "sshd", "%readers")
		s.cli(0, "access", "allow", "sshd", "*")
	})

	s.part("key rotated", func(t *testing.T) {
		host := "nas1." + s.domain.DNS
		s.sh("echo '" + right(4) + "' | runuser -u local -- kinit user00004@" + s.domain.Realm() + " && runuser -u local -- kvno -q host/" + host)
		byTicket := func(when string) {
			t.Helper()
			r := s.sshTo("local", "user00004", host, "", "id -un", "PreferredAuthentications=gssapi-with-mic", "GSSAPIAuthentication=yes", "BatchMode=yes")
			if strings.TrimSpace(r.Stdout) != "user00004" {
				t.Errorf("by ticket %s: %s", when, r)
			}
		}
		byTicket("before")
		key := s.status().Key
		over := make(chan string, 1)
		go func() {
			over <- s.sh(`for i in $(seq 40); do echo '` + right(3) + `' | pamtester sshd user00003 authenticate acct_mgmt >/dev/null 2>&1 && echo in || echo out; done | sort | uniq -c`)
		}()
		s.cli(0, "machine", "rotate")
		if got := strings.Join(strings.Fields(<-over), " "); got != "40 in" {
			t.Errorf("sign-ins while the key is changed: %s", got)
		}
		if now := s.status().Key; now <= key {
			t.Errorf("the key is of version %d, before %d", now, key)
		}
		byTicket("with a ticket for the old key")
		s.sh("echo '" + right(4) + "' | runuser -u local -- kinit user00004@" + s.domain.Realm())
		byTicket("with a ticket for the new key")
		s.sh("runuser -u local -- kdestroy")
	})

	s.locals("after all of it")
	s.nothingIsLeft("root password")
}

// Two domain controllers, of which one is lost, and then the other too: by
// password at a real sshd, by LDAP and by kpasswd.
func TestSignInWhileControllersFail(t *testing.T) {
	s := beginWith(t, lab.DomainOptions{DCs: 2, Population: lab.Population{Users: 20, Groups: 5}})
	s.openShells()
	s.sh("echo 'root:root password' | chpasswd")
	s.try(s.domain.WaitReplicated(s.ctx))
	right := lab.UserPassword
	for _, service := range []string{"sshd", "passwd"} {
		s.cli(0, "access", "allow", service, "*")
	}
	s.in("both there", "user00001", right(1))
	s.in("both there", plainUser, plainPassword)
	if a := s.lastSignIn(); a.How != "kerberos" {
		t.Fatalf("with two domain controllers: %+v", a)
	}
	timed := func(what string, f func()) {
		begun := time.Now()
		f()
		t.Logf("%s: %s", what, time.Since(begun).Round(time.Millisecond))
	}
	password := plainPassword
	for i, lost := range s.domain.DCs {
		other := s.domain.DCs[1-i]
		how, lose := "silently", func() { s.try(lost.Blackhole(s.ctx)) }
		back := func() { s.try(lost.Heal(s.ctx)) }
		if i == 1 {
			how = "with its cable"
			lose = func() { _, err := lost.Output(s.ctx, "ip", "link", "set", "eth0", "down"); s.try(err) }
			back = func() {
				_, err := lost.Output(s.ctx, "sh", "-c", "ip link set eth0 up; ip route show default | grep -q . || ip route add default via "+lab.GatewayIP)
				s.try(err)
			}
		}
		what := lost.Name() + " is lost " + how
		lose()
		timed(what+": first sign-in", func() { s.in(what, "user00001", right(1)) })
		if a := s.lastSignIn(); a.How != "kerberos" || a.Outcome != "allowed" {
			t.Errorf("%s: %+v", what, a)
		}
		timed(what+": second sign-in", func() { s.in(what, "user00002", right(2)) })
		next := "Passw0rd!Next" + string(rune('0'+i))
		timed(what+": passwd", func() {
			if r := s.dialogue(plainUser, "passwd", "urrent", password, "ew", next, "etype", next); !r.Ok() {
				t.Errorf("%s: passwd: %s", what, r)
			}
		})
		password = next
		s.in(what+", with the new password", plainUser, password)
		timed(what+": sync", func() { s.cli(0, "sync") })
		if st := s.status(); st.DC != other.FQDN() {
			t.Errorf("%s: status says %s", what, st.DC)
		}
		s.locals(what)
		back()
		s.try(s.domain.WaitReplicated(s.ctx))
	}

	for _, dc := range s.domain.DCs {
		s.try(dc.Blackhole(s.ctx))
	}
	timed("both are lost: first sign-in", func() { s.in("both are lost", "user00001", right(1)) })
	timed("both are lost: second sign-in", func() { s.in("both are lost", "user00002", right(2)) })
	if a := s.lastSignIn(); a.How != "offline" {
		t.Errorf("both are lost: %+v", a)
	}
	if r := s.dialogue("local", "ssh -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=keyboard-interactive -l user00001 127.0.0.1", "assword:", right(1), `\$ `, "exit"); !r.Ok() || !strings.Contains(r.Stdout, "domain cannot be reached") {
		t.Errorf("the user is not told: %s", r)
	}
	s.out("both are lost, a wrong password", "user00001", "not the password")
	s.out("both are lost, somebody who was never here", "user00010", right(10))
	s.locals("both are lost")
	for _, dc := range s.domain.DCs {
		s.try(dc.Heal(s.ctx))
	}
	timed("both are back: the first sign-in that asked the domain", func() {
		s.waitFor("the domain is asked again", func() bool { s.in("back", "user00001", right(1)); return s.lastSignIn().How == "kerberos" })
	})
	s.in("back, somebody who was never here", "user00010", right(10))
	s.nothingIsLeft("root password")
}
