// SPDX-License-Identifier: Apache-2.0

//go:build lab

package winbind_test

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/peers"
	"github.com/latchkey-nas/latchkey/internal/netlogon/ntlmtest"
)

//go:embed testdata/talk.py
var talkProgram []byte

// machine is a NAS in a domain, with the pipes open and Samba's tools; no
// winbindd runs, and no smbd.
type machine struct {
	*nas.NAS
	t      *testing.T
	ctx    context.Context
	domain *lab.Domain
	sid    string
	rid    uint32 // of user00001
}

func newMachine(t *testing.T, suite string, settings ...string) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	m := &machine{t: t, ctx: ctx, domain: lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})}
	var err error
	if m.NAS, err = nas.Install(ctx, m.domain.StartBox(t, "nas1", lab.BoxOptions{Suite: suite})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := m.ReadFile(context.WithoutCancel(ctx), "/var/log/latchkeyd.log")
			t.Logf("the daemon's log:\n%s", log)
		}
	})
	if err := m.WriteFile(ctx, "/etc/latchkey/latchkey.toml", []byte("version = 1\n"+strings.Join(settings, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := m.MustJoin(ctx, m.domain, "--people", "cloud-only"); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("[global]\nworkgroup = %s\nrealm = %s\nsecurity = ads\n", m.domain.NetBIOS, m.domain.Realm())
	if err := m.WriteFile(ctx, "/etc/samba/smb.conf", []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.WriteFile(ctx, "/root/talk.py", talkProgram, 0o644); err != nil {
		t.Fatal(err)
	}
	m.sh("latchkey config set samba.pipes true")
	m.until("wbinfo -p is answered", "wbinfo -p")
	who, err := m.domain.Find(ctx, "user00001")
	if err != nil {
		t.Fatal(err)
	}
	m.sid = who.SID.Domain().String()
	m.rid, _ = who.SID.RID()
	return m
}

// try runs a shell command, with $D, $S and $U for the domain, its SID and
// user00001's SID, and returns what it printed and whether it succeeded.
func (m *machine) try(command string) (string, bool) {
	m.t.Helper()
	c := m.Command("sh", "-c", command)
	c.Env = []string{"D=" + m.domain.NetBIOS, "S=" + m.sid, fmt.Sprintf("U=%s-%d", m.sid, m.rid), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	r, err := c.Run(m.ctx)
	if err != nil {
		m.t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(r.Stdout + r.Stderr), r.Ok()
}

// in runs a command in another box, with the words of try.
func (m *machine) in(box *lab.Box, command string) (string, bool) {
	other := *m
	other.NAS = nas.Attach(box)
	return other.try(command)
}

func (m *machine) sh(command string) string {
	m.t.Helper()
	out, ok := m.try(command)
	if !ok {
		m.t.Fatalf("%s failed:\n%s", command, out)
	}
	return out
}

func (m *machine) until(what, command string) {
	m.t.Helper()
	for {
		if _, ok := m.try(command); ok {
			return
		}
		select {
		case <-m.ctx.Done():
			m.t.Fatalf("waited in vain: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// The tools of Samba, as they are on the machine, are content: those of Debian
// 12 (4.17, interface version 32), and at night those of Debian 13 (4.22, 33).
func TestToolsOfSamba(t *testing.T) {
	if os.Getenv("LATCHKEY_NIGHTLY") != "" {
		t.Run("Debian 13", func(t *testing.T) {
			m := newMachine(t, "trixie")
			if log := m.sh("cat /var/log/latchkeyd.log"); !strings.Contains(log, "interface=33") {
				t.Errorf("the daemon took this machine's Samba for another:\n%s", log)
			}
			t.Run("wbinfo", m.wbinfo)
			t.Run("ntlm_auth", m.ntlmAuth)
			t.Run("nss_winbind", m.nss)
		})
	}
	m := newMachine(t, "")
	t.Run("wbinfo", m.wbinfo)
	t.Run("ntlm_auth", m.ntlmAuth)
	t.Run("nss_winbind", m.nss)
	t.Run("privileged pipe", m.onlyThePrivileged)
	t.Run("MS-CHAPv2", m.mschap)
	t.Run("rpcclient", m.rpcclient)
	t.Run("killed all the time", m.killed)
	t.Run("no domain controller", m.alone)
}

// What wbinfo prints beside a real winbindd with the same arithmetic is the same,
// but for the case of names and the order of lists. (Its rid backend takes every
// SID for a user and a group at once; its unknown RIDs are called "(null)".)
func TestTheSameAsWinbindd(t *testing.T) {
	m := newMachine(t, "", "[idmap]", "base = 2000000", "size = 1000000")
	peer, err := peers.Winbind(m.ctx, m.domain.StartBox(t, "wb1", lab.BoxOptions{UseDNS: true, Krb5Conf: true}), m.domain, true)
	if err != nil {
		t.Fatal(err)
	}
	for ready := false; !ready; {
		_, ready = m.in(peer.Box, "wbinfo -i user00001")
		if m.ctx.Err() != nil {
			t.Fatal("winbindd does not answer")
		}
	}
	same := func(s string) string {
		lines := strings.Split(strings.ToLower(s), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	for _, args := range []string{"-p", "--own-domain", "-D $D", "-D BUILTIN", "-D NOSUCH", "--separator", "--getdcname=$D", "--getdcname=NOSUCH", "--dc-info=$D", "--dc-info=NOSUCH",
		"-n user00001", `-n "$D\\user00001"`, `-n "$D\\"`, `-n 'domain users'`, `-n "BUILTIN\\Administrators"`, "-n nobody.here", `-n 'NOSUCH\\user00001'`,
		"-s $U", "-s $S", "-s $S-513", "-s $S-99999999", "-s S-1-5-32-544", "-s S-1-1-0", "-s S-1-5-21-1-2-3-4",
		"-S $U", "-Y $S-513", "-S S-1-5-21-1-2-3-4", fmt.Sprintf("-U %d", 2000000+m.rid), "-G 2000513", "-U 7", "--unix-ids-to-sids=g2000513,u7",
		"-R 513,512", "--lookup-sids=$U,$S-513,S-1-5-32-544,$S-99999999",
		"--user-sids=$U", "--user-domgroups=$U", "--user-sids=$S-99999999", "-u", "-g", "--group-info=nobody", "-i nobody.here",
		"-a user00001%" + lab.UserPassword(1), "--pam-logon=user00001%" + lab.UserPassword(1), "--sequence", "-N x", "-I 192.0.2.1",
	} {
		ours, ok := m.try("wbinfo " + args)
		theirs, also := m.in(peer.Box, "wbinfo "+args)
		if ok != also || same(ours) != same(theirs) {
			t.Errorf("wbinfo %s: latchkey (%t)\n%s\nwinbindd (%t)\n%s", args, ok, ours, also, theirs)
		}
	}
}

func (m *machine) wbinfo(t *testing.T) {
	m.t = t
	uid, gid := 100000001+m.rid, 100000001+513
	passwd := fmt.Sprintf(`user00001:\*:%d:%d:User 1:/home/%s/user00001:/bin/bash`, uid, gid, m.domain.NetBIOS)
	for _, tt := range []struct {
		args string
		ok   bool
		want string // a pattern for all of the output
	}{
		{"-p", true, `Ping to winbindd succeeded`},
		{"-P", true, `checking the NETLOGON for domain\[.+\] dc connection to "dc1\..+" succeeded`},
		{"--ping-dc", true, `checking the NETLOGON for domain.+succeeded`},
		{"-t", true, `checking the trust secret for domain .+ via RPC calls succeeded`},
		{"--own-domain", true, m.domain.NetBIOS},
		{"-D $D", true, `Name +: ` + m.domain.NetBIOS + `\s.+` + m.domain.DNS + `\s.+` + m.sid + `\s+Active Directory  : Yes\s+Native            : Yes\s+Primary           : Yes`},
		{"-D NOSUCH", false, `.*`},
		{"--all-domains", true, "BUILTIN\n" + m.domain.NetBIOS},
		{"-m", true, "BUILTIN\n" + m.domain.NetBIOS},
		{"--online-status", true, "BUILTIN : active connection\n" + m.domain.NetBIOS + " : active connection"},
		{"--getdcname=$D", true, m.domain.DC.FQDN()},
		{"--dc-info=$D", true, regexp.QuoteMeta(m.domain.DC.FQDN() + " (" + m.domain.DC.IP() + ")")},
		{"--dsgetdcname=" + m.domain.DNS, true, `\\\\` + m.domain.DC.FQDN() + `\n.+`},
		{"--separator", true, `\\`},
		{"-n user00001", true, `$U SID_USER \(1\)`},
		{`-n "$D\\USER00001"`, true, `$U SID_USER \(1\)`},
		{"-n user00001@contoso.test", true, `$U SID_USER \(1\)`},
		{`-n "Domain Users"`, true, m.sid + `-513 SID_DOM_GROUP \(2\)`},
		{"-n nobody.here", false, `.*`},
		{"-s $U", true, regexp.QuoteMeta(m.domain.NetBIOS+`\user00001`) + ` 1`},
		{"-s $S-99999999", false, `.*`},
		{"-s S-1-5-32-544", true, `BUILTIN\\Administrators 4`},
		{"-s S-1-1-0", true, `\\Everyone 5`},
		{"-R 513,99999999", true, `Domain: ` + m.domain.NetBIOS + `\n +513: domain users \(SID_DOM_GROUP\)\n *99999999:.*\(SID_UNKNOWN\)`},
		{"--lookup-sids=$U,S-1-1-0,$S-99999999,S-1-5-21-1-2-3-4", true, `$U -> .+\\user00001 1\nS-1-1-0 -> .*\\Everyone 5\n.+ 8\n.+ 8`},
		{"-S $U", true, fmt.Sprint(uid)},
		{"-Y $S-513", true, fmt.Sprint(gid)},
		{"-S $S-513", false, `.*`},
		{"--sids-to-unix-ids=$U,$S-513,$S-99999999,S-1-18-1,S-1-5-32-545", true,
			fmt.Sprintf("$U -> uid %d\n%s-513 -> gid %d\n.+ -> unmapped\n.+ -> unmapped\nS-1-5-32-545 -> gid [0-9]+", uid, m.sid, gid)},
		{fmt.Sprintf("-U %d", uid), true, `$U`},
		{fmt.Sprintf("-G %d", gid), true, m.sid + `-513`},
		{fmt.Sprintf("--unix-ids-to-sids=u%d,g%d,u5", uid, gid), true, "$U\n" + m.sid + "-513\nNOT MAPPED"},
		{"-i user00001", true, passwd},
		{`-i "$D\\user00001"`, true, passwd},
		{fmt.Sprintf("--uid-info=%d", uid), true, passwd},
		{"--user-sidinfo=$U", true, passwd},
		{"-i nobody.here", false, `.*`},
		{"-i root", false, `.*`},
		{`--group-info="domain users"`, true, fmt.Sprintf(`domain users:\*:%d:`, gid)},
		{fmt.Sprintf("--gid-info=%d", gid), true, fmt.Sprintf(`domain users:\*:%d:`, gid)},
		{"-r user00001", true, fmt.Sprintf(`%d\n.*`, gid)},
		{"--user-sids=$U", true, "$U\n" + m.sid + "-513\n.*"},
		{"--user-domgroups=$U", true, "$U\n" + m.sid + "-513\n.*"},
		{"--sid-aliases=$U", true, `.*`},
		{"-u", true, `(.*\n)?user00001\n.*`},
		{"-g", true, `(.*\n)?domain users\n.*`},
		{"-a user00001%" + lab.UserPassword(1), true, "plaintext password authentication succeeded\nchallenge/response password authentication succeeded"},
		{"--ntlmv2 -a user00001%" + lab.UserPassword(1), true, `.*succeeded`},
		{"-a user00001%wrong", false, `.*NT_STATUS_WRONG_PASSWORD.*`},
		{"-a nobody.here%wrong", false, `.*NT_STATUS_NO_SUCH_USER.*`},
		{`-a "OTHER\\user00001%wrong"`, false, `.*NT_STATUS_NO_SUCH_USER \(0xc0000064, authoritative=0\).*`},
		{"-K user00001%" + lab.UserPassword(1), true, `.*succeeded.*`},
		{"--pam-logon=user00001%" + lab.UserPassword(1), true, `.*succeeded`},
		{"--allocate-uid", false, `.*`},
		{"--allocate-gid", false, `.*`},
		{"-c", false, `.*NT_STATUS_NOT_SUPPORTED.*`},
		{"-N x", false, `.*`},
		{"-I 192.0.2.1", false, `.*`},
		{"--ccache-save=user00001%x", false, `.*`},
		{"--sequence", false, `.*`},
	} {
		out, ok := m.try("wbinfo " + tt.args)
		pattern := strings.ReplaceAll(tt.want, "$U", fmt.Sprintf("%s-%d", m.sid, m.rid))
		if ok != tt.ok || !regexp.MustCompile(`(?s)^(`+pattern+`)$`).MatchString(out) {
			t.Errorf("wbinfo %s: success %t, want %t with %s; printed\n%s", tt.args, ok, tt.ok, pattern, out)
		}
	}
}

func (m *machine) ntlmAuth(t *testing.T) {
	m.t = t
	good := "--password='" + lab.UserPassword(1) + "'"
	member := strings.Fields(m.sh("wbinfo -r user00001"))[1]
	inside, outside := m.sh("wbinfo -G "+member), m.sid+"-512"
	answer := ntlmtest.New(m.domain.NetBIOS, "user00001", lab.UserPassword(1), ntlmtest.Info(m.domain.NetBIOS, "NAS1"))
	challenge, response := hex.EncodeToString(answer.Challenge[:]), hex.EncodeToString(answer.NT)
	session := strings.ToUpper(hex.EncodeToString(answer.Key[:]))
	for _, tt := range []struct {
		command string
		ok      bool
		want    string
	}{
		{"ntlm_auth --username=user00001 --domain=$D " + good + " --request-nt-key", true, `NT_STATUS_OK.*`},
		{"ntlm_auth --username=user00001 --domain=$D --password=wrong", false, `NT_STATUS_WRONG_PASSWORD.*`},
		{"ntlm_auth --username=user00001 " + good + " --require-membership-of=" + inside, true, `NT_STATUS_OK.*`},
		{"ntlm_auth --username=user00001 " + good + " --require-membership-of=" + outside, false, `NT_STATUS_LOGON_FAILURE.*`},
		{"ntlm_auth --username=user00001 --domain=$D --challenge=" + challenge + " --nt-response=" + response + " --request-nt-key", true, `NT_KEY: ` + session},
		{"ntlm_auth --username=user00002 --domain=$D --challenge=" + challenge + " --nt-response=" + response, false, `.*NT_STATUS_LOGON_FAILURE.*|.*0xc000006d.*`},
		{"printf 'user00001 " + lab.UserPassword(1) + `\nuser00001 wrong\nuser00001 wrong\n` + "' | ntlm_auth --helper-protocol=squid-2.5-basic", true, "OK\nERR\nERR"},
		{`printf 'Username: user00001\nNT-Domain: '$D'\nPassword: ` + lab.UserPassword(1) + `\nRequest-User-Session-Key: yes\n.\n' | ntlm_auth --helper-protocol=ntlm-server-1`, true, "Authenticated: Yes\n.*"},
		{"python3 /root/talk.py user00001 $D '" + lab.UserPassword(1) + "' squid-2.5-ntlmssp ntlmssp-client-1", true, `AF user00001`},
		{"python3 /root/talk.py user00001 $D wrong squid-2.5-ntlmssp ntlmssp-client-1", true, `NA NT_STATUS_LOGON_FAILURE`},
		{"python3 /root/talk.py user00001 $D '" + lab.UserPassword(1) + "' gss-spnego gss-spnego-client", true, `AF .+ user00001`},
		// NTLMv1, LM and plain text in their place: never.
		{"ntlm_auth --username=user00001 --domain=$D " + good + " --diagnostics", false, `.*Test NTLM failed!.*`},
	} {
		out, ok := m.try(tt.command)
		if ok != tt.ok || !regexp.MustCompile(`(?s)^(`+tt.want+`)$`).MatchString(out) {
			t.Errorf("%s: success %t, want %t with %s; printed\n%s", tt.command, ok, tt.ok, tt.want, out)
		}
	}
	if out, _ := m.try("ntlm_auth --username=user00001 --domain=$D " + good + " --diagnostics"); strings.Contains(out, "Test NTLMv2 failed") || strings.Contains(out, "Test NTLMv2 and LMv2 failed") {
		t.Errorf("NTLMv2 does not work:\n%s", out)
	}
	log := m.sh("cat /var/log/latchkeyd.log /var/log/latchkey/audit.jsonl")
	if strings.Contains(log, lab.UserPassword(1)) || strings.Contains(log, response[:32]) {
		t.Error("a password or a response is in a log")
	}
}

// nss_winbind over our pipe gives the names and numbers that our own module does.
func (m *machine) nss(t *testing.T) {
	m.t = t
	ask := "id user00001; id 'USER00002'; getent passwd \"$D\\\\user00003\" user00001@contoso.test; getent group 'domain users' | cut -d: -f1-3; getent passwd | grep -c user0; getent initgroups user00001; getent passwd nobody.here; getent passwd root; echo $?"
	with := func(service string) string {
		m.sh(`sed -i -E 's/^(passwd|group):.*/\1: files ` + service + `/; /^initgroups/d' /etc/nsswitch.conf`)
		return m.sh(ask)
	}
	theirs := with("winbind")
	ours := with("latchkey")
	if theirs != ours || strings.Count(ours, "user00001") < 2 {
		t.Errorf("nss_winbind says\n%s\nand latchkey's own module\n%s", theirs, ours)
	}
}

func (m *machine) onlyThePrivileged(t *testing.T) {
	m.t = t
	nobody := "setpriv --reuid=nobody --regid=nogroup --clear-groups "
	connect := `python3 -c "import socket; socket.socket(socket.AF_UNIX).connect('/var/lib/samba/winbindd_privileged/pipe')"`
	if out, ok := m.try(nobody + connect); ok || !strings.Contains(out, "Permission denied") {
		t.Errorf("nobody opened the privileged pipe: %s", out)
	}
	if out, ok := m.try(nobody + "wbinfo -i user00001"); !ok {
		t.Errorf("nobody cannot ask for a name: %s", out)
	}
	if out, ok := m.try(nobody + "ntlm_auth --username=user00001 --domain=$D --challenge=0011223344556677 --nt-response=" + strings.Repeat("00", 60)); ok || strings.Contains(out, "WRONG_PASSWORD") {
		t.Errorf("nobody tried a challenge-response: %s", out)
	}
	if out, ok := m.try("setpriv --reuid=nobody --regid=nogroup --groups=$(getent group winbindd_priv | cut -d: -f3) " + connect); !ok {
		t.Errorf("a member of winbindd_priv cannot open the privileged pipe: %s", out)
	}
	if got := m.sh("stat -c '%a %U %G' /run/samba/winbindd /run/samba/winbindd/pipe /var/lib/samba/winbindd_privileged /var/lib/samba/winbindd_privileged/pipe"); got != "755 root root\n777 root root\n750 root winbindd_priv\n777 root root" {
		t.Errorf("owners and modes:\n%s", got)
	}
}

// mschap: what a RADIUS server hands on is refused, until the setting says
// otherwise (RFC 2759).
func (m *machine) mschap(t *testing.T) {
	m.t = t
	challenge, response := ntlmtest.MSCHAPv2("user00001", lab.UserPassword(1), [16]byte{1}, [16]byte{2})
	command := fmt.Sprintf("ntlm_auth --username=user00001 --domain=$D --challenge=%x --nt-response=%x --request-nt-key", challenge, response)
	if out, ok := m.try(command + " --allow-mschapv2"); ok {
		t.Errorf("MS-CHAPv2 is taken though nobody wants it: %s", out)
	}
	// Domain controllers have a word in it too.
	if err := m.domain.DC.Stop(m.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.domain.DC.Output(m.ctx, "sed", "-i", "s/ntlm auth = .*/ntlm auth = mschapv2-and-ntlmv2-only/", "/etc/samba/smb.conf"); err != nil {
		t.Fatal(err)
	}
	if err := m.domain.DC.Start(m.ctx); err != nil {
		t.Fatal(err)
	}
	m.until("the domain controller is found again", "timeout 20 wbinfo -t")
	m.sh("latchkey config set ntlm.mschapv2 true")
	defer m.sh("latchkey config set ntlm.mschapv2 false")
	if out, ok := m.try(command + " --allow-mschapv2"); !ok || !strings.HasPrefix(out, "NT_KEY: ") {
		t.Errorf("MS-CHAPv2 is wanted and not taken: %s", out)
	}
	if out, ok := m.try(command); ok {
		t.Errorf("the same without the word MS-CHAPv2, which is NTLMv1, is taken: %s", out)
	}
	wrong := strings.Replace(command, fmt.Sprintf("%x", response), strings.Repeat("5a", 24), 1)
	if out, ok := m.try(wrong + " --allow-mschapv2"); ok {
		t.Errorf("a wrong MS-CHAPv2 response is taken: %s", out)
	}
}

// rpcclient asks smbd, which asks us: as root, and as the person who asks.
func (m *machine) rpcclient(t *testing.T) {
	m.t = t
	if _, err := m.ServeSMB(m.ctx, m.domain, "[share]\npath = /srv\n"); err != nil {
		t.Fatal(err)
	}
	m.sh(`sed -i -E 's/^(passwd|group):.*/\1: files latchkey/' /etc/nsswitch.conf`)
	for _, tt := range []struct {
		ask  string
		ok   bool
		want string
	}{
		{`lookupnames user00001`, true, `user00001 $U \(User: 1\)`},
		{`lookupnames $D\\\\user00001`, true, `.+user00001 $U \(User: 1\)`},
		{`lookupnames user00001@contoso.test`, true, `.+ $U \(User: 1\)`},
		{`lookupnames 'domain users'`, true, `.+-513 \(Domain Group: 2\)`},
		{`lookupnames nobody.here`, false, `.*NT_STATUS_NONE_MAPPED`},
		{`lookupsids $U $S-513 S-1-5-32-544 S-1-1-0 $S-99999999`, true, `$U .+\\user00001 \(1\)\n.+\\domain users \(2\)\nS-1-5-32-544 BUILTIN\\Administrators \(4\)\nS-1-1-0 \\Everyone \(5\)\n.+ \(8\)`},
		{`getusername`, true, `Account Name: user00001, Authority Name: ` + m.domain.NetBIOS},
	} {
		out, ok := m.try(`rpcclient -U "$D\\user00001%` + lab.UserPassword(1) + `" 127.0.0.1 -c "` + tt.ask + `"`)
		pattern := strings.ReplaceAll(tt.want, "$U", fmt.Sprintf("%s-%d", m.sid, m.rid))
		if ok != tt.ok || !regexp.MustCompile(`(?s)^(`+pattern+`)$`).MatchString(out) {
			t.Errorf("rpcclient %s: success %t, want %t with %s; printed\n%s", tt.ask, ok, tt.ok, pattern, out)
		}
	}
}

// killed: sockets, connections and what is asked on them outlive the worker, so a
// client waits for the next one and notices nothing.
func (m *machine) killed(t *testing.T) {
	m.t = t
	out := m.sh(`
		( while [ ! -e /tmp/enough ]; do pkill -9 -f '[l]atchkeyd worker'; sleep 0.4; done ) & 
		failed=0; i=0
		while [ $i -lt 100 ]; do i=$((i+1)); wbinfo -i user00001 >/dev/null 2>&1 || failed=$((failed+1)); wbinfo -S $U >/dev/null 2>&1 || failed=$((failed+1)); sleep 0.02; done
		touch /tmp/enough; wait; rm /tmp/enough; echo $failed`)
	if out != "0" {
		t.Errorf("%s of 200 lookups failed while the worker was killed every 400 ms", out)
	}
	m.until("the tools work afterwards", "wbinfo -t")
	m.until("the daemon says that it serves", "latchkey status")
}

// alone: without a domain controller nobody is let in, and it does not take
// long; names are as fast as ever.
func (m *machine) alone(t *testing.T) {
	m.t = t
	if err := m.domain.DC.Stop(m.ctx); err != nil {
		t.Fatal(err)
	}
	m.until("the loss is noticed", "! wbinfo -t")
	for _, tt := range []struct {
		command string
		ok      bool
		want    string
	}{
		{"timeout 5 wbinfo -i user00001", true, `user00001:.*`},
		{"timeout 5 wbinfo -n nobody.here", false, `.*Could not lookup name.*`},
		{"timeout 5 wbinfo -S $U", true, `[0-9]+`},
		{"timeout 5 wbinfo -u | grep -c user0", true, `200`},
		{"timeout 20 wbinfo -t", false, `.*NT_STATUS_NO_LOGON_SERVERS.*`},
		{"timeout 20 wbinfo --ntlmv2 -a user00005%" + lab.UserPassword(5), false, `.*NT_STATUS_NO_LOGON_SERVERS.*`},
	} {
		out, ok := m.try(tt.command)
		if ok != tt.ok || !regexp.MustCompile(`(?s)^(`+tt.want+`)$`).MatchString(out) {
			t.Errorf("%s: success %t, want %t with %s; printed\n%s", tt.command, ok, tt.ok, tt.want, out)
		}
	}
	if err := m.domain.DC.Start(m.ctx); err != nil {
		t.Fatal(err)
	}
	m.until("the domain controller is found again", "timeout 20 wbinfo -t")
}
