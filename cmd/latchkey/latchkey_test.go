// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// bench is a command line with everything around it played.
type bench struct {
	*console
	out, err bytes.Buffer
	daemon   *fake
	prompts  []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	time.Local = time.UTC
	b := &bench{}
	daemon, dir := serve(t)
	b.daemon = daemon
	etc := t.TempDir()
	if err := os.MkdirAll(etc+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	b.console = &console{in: strings.NewReader(""), out: &b.out, err: &b.err, width: 80, utf8: true, now: func() time.Time { return noon },
		root: true, krb5: krb5conf.Files{Root: etc}, apiSocket: dir + "/api.sock", adminSocket: dir + "/admin.sock",
		rootUID: uint32(os.Getuid()), statfs: roomy(4 << 30),
		configFile: "testdata/latchkey.toml", folder: "testdata/conf.d", nsswitch: "testdata/nsswitch.conf"}
	b.password = func(_ context.Context, prompt string) (secret.Bytes, error) {
		b.prompts = append(b.prompts, prompt)
		return secret.FromString("typed Passw0rd!"), nil
	}
	return b
}

// run returns what a person would see, and the exit status.
func (b *bench) run(args ...string) (string, int) {
	b.out.Reset()
	b.err.Reset()
	exit := run(context.Background(), args, b.console)
	var s strings.Builder
	fmt.Fprintf(&s, "$ latchkey %s\n%s", strings.Join(args, " "), b.out.String())
	if b.err.Len() > 0 {
		fmt.Fprintf(&s, "--- standard error\n%s", b.err.String())
	}
	fmt.Fprintf(&s, "--- exit status %d\n", exit)
	return s.String(), exit
}

func TestGolden(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(*bench)
		lines [][]string
	}{
		{name: "user", lines: [][]string{
			{"user", "get", "ALICE"}, {"user", "get", "100001104"}, {"user", "get", "S-1-5-21-1-2-3-1104"},
			{"user", "get", "11111111-2222-3333-4444-555555555555", "--json"}, {"user", "get", "99999999-2222-3333-4444-555555555555", "--json"},
			{"user", "get", "carol d'arc"}, {"user", "get", "nobodyknows"}, {"user", "get", ""}, {"user", "get"},
			{"user", "list"}, {"user", "list", "--unpublished"}, {"user", "list", "--json"}, {"user", "groups", "alice"}, {"user", "groups", "alice", "--json"},
		}},
		{name: "group", lines: [][]string{
			{"group", "get", "designers"}, {"group", "get", "100000514", "--json"}, {"group", "get", "nogroup"}, {"group", "list"},
			{"group", "list", "--unpublished"}, {"group", "list", "--json"}, {"group", "members", "designers"}, {"group", "members", "designers", "--direct", "--json"},
			{"group", "check", "alice", "designers"}, {"group", "check", "alice", "designers", "domain users"}, {"group", "check", "alice", "nogroup"},
			{"group", "check", "alice", "designers", "--json"},
		}},
		{name: "empty", lines: [][]string{
			{"user", "list", "--filter", "zzz"}, {"user", "list", "--unpublished", "--filter", "zzz", "--json"}, {"group", "list", "--unpublished", "--filter", "zzz"},
			{"group", "list", "--filter", "zzz", "--json"}, {"search", "zzz"}, {"search", "zzz", "--json"}, {"access", "list", "none"}, {"audit", "--user", "ghost"},
			{"audit", "--user", "ghost", "--json"}, {"access", "sudo"}, {"access", "sudo", "--json"},
		}},
		{name: "search", lines: [][]string{
			{"search", "al"}, {"search", "al", "--json"}, {"resolve", "alice", "gid:100001201", "S-1-5-21-1-2-3-513", "nobody"}, {"resolve", "alice", "nobody", "--json"},
		}},
		{name: "watch", lines: [][]string{{"watch"}, {"watch", "--no-snapshot"}, {"watch", "--json"}}},
		{name: "status", lines: [][]string{{"status"}, {"status", "--json"}}},
		{name: "status_not_joined", setup: func(b *bench) {
			b.daemon.status = &latchkeyv1.Status{Health: latchkeyv1.Status_HEALTH_NOT_JOINED, Version: "1.0", StartTime: ago(time.Second)}
		}, lines: [][]string{{"status"}}},
		{name: "status_degraded", setup: func(b *bench) {
			st := b.daemon.status
			st.Health, st.DomainControllerReachable, st.UnreachableSince = latchkeyv1.Status_HEALTH_DEGRADED, false, ago(20*time.Minute)
			st.LastSyncError, st.HeldDeletions, st.MovedIds, st.WorkerRestarts = "no domain controller answers", 40, 2, 1
			st.Problems = []*latchkeyv1.Problem{{Id: "dc-unreachable", Summary: "no domain controller answers", Remedy: "look at the VPN", Since: ago(20 * time.Minute)},
				{Id: "config", Summary: "the new configuration is not used:\nlatchkey.toml:3: unknown key", Remedy: "latchkey config check"}}
		}, lines: [][]string{{"status"}}},
		{name: "sync", lines: [][]string{{"sync"}, {"sync", "--full", "--accept-deletions", "--json"}}},
		{name: "sync_fails", setup: func(b *bench) {
			b.daemon.fail = fault.WithRemedy(fault.New(fault.Unreachable, "no domain controller answers"), "look at the VPN")
		}, lines: [][]string{{"sync"}}},
		{name: "join", setup: func(b *bench) { b.in = strings.NewReader("secret Passw0rd!\n") }, lines: [][]string{
			{"join", "aadds.contoso.test", "--user", "alice", "--password-stdin", "--people", "hybrid"}}},
		{name: "join_json", setup: func(b *bench) { b.in = strings.NewReader("secret Passw0rd!\n") }, lines: [][]string{
			{"join", "aadds.contoso.test", "--user", "alice", "--password-stdin", "--json"}}},
		{name: "join_check", lines: [][]string{{"join", "aadds.contoso.test", "--check"}}},
		{name: "join_usage", lines: [][]string{
			{"join"}, {"join", "aadds.contoso.test"}, {"join", "aadds.contoso.test", "--user", "alice"},
			{"join", "aadds.contoso.test", "--user", "alice", "--people", "both"}, {"join", "aadds.contoso.test", "--user", "alice", "--tenant", "contoso"},
			{"join", "aadds.contoso.test", "--user", "alice", "--password", "x"}, {"join", "aadds.contoso.test", "--user", "alice", "--password-stdin"},
		}},
		{name: "join_fails", setup: func(b *bench) {
			b.in = strings.NewReader("wrong\n")
			b.daemon.fail = fault.WithRemedy(fault.New(fault.BadCredential, "sign in as alice: the password is wrong"), "type it again; five wrong ones lock the account")
		}, lines: [][]string{{"join", "aadds.contoso.test", "--user", "alice", "--password-stdin"}}},
		{name: "join_not_root", setup: func(b *bench) { b.in = strings.NewReader("x\n"); b.root = false; b.utf8 = false }, lines: [][]string{
			{"join", "aadds.contoso.test", "--user", "alice", "--password-stdin"}}},
		{name: "leave", lines: [][]string{{"leave"}, {"leave", "--keep-account", "--json"}}},
		{name: "config", lines: [][]string{
			{"config", "check"}, {"config", "check", "testdata/bad.toml"}, {"config", "check", "testdata/none.toml"}, {"config", "check", "--json"}, {"config", "show"},
			{"config", "show", "log.level", "--json"}, {"config", "show", "log.levle"}, {"config", "set", "log.level", "debug"},
			{"config", "set", "idmap.base", "5000"}, {"config", "set", "idmap.baes", "5000"}, {"config", "set", "idmap.method", "sssd", "--json"},
		}},
		{name: "login", setup: func(b *bench) { b.in = strings.NewReader("secret Passw0rd!\n") }, lines: [][]string{
			{"login", "alice", "--password-stdin"}}},
		{name: "login_json", setup: func(b *bench) { b.in = strings.NewReader("secret Passw0rd!\n") }, lines: [][]string{
			{"login", "alice", "--password-stdin", "--json"}}},
		{name: "login_wrong", setup: func(b *bench) { b.in = strings.NewReader("wrong\n") }, lines: [][]string{{"login", "alice", "--password-stdin"}}},
		{name: "login_unknown", setup: func(b *bench) { b.in = strings.NewReader("x\n") }, lines: [][]string{{"login", "nobody", "--password-stdin"}, {"login"}}},
		{name: "login_no_password", lines: [][]string{{"login", "alice", "--no-password"}, {"login", "nobody", "--no-password"},
			{"login", "alice", "--no-password", "--service", "sudo", "--json"}, {"login", "alice", "--no-password", "--password-stdin"}}},
		{name: "login_denied", setup: func(b *bench) { b.in = strings.NewReader("secret Passw0rd!\n") }, lines: [][]string{
			{"login", "alice", "--service", "sudo", "--password-stdin"}}},
		{name: "access", lines: [][]string{
			{"access", "list"}, {"access", "list", "none"}, {"access", "list", "--json"}, {"access", "allow", "sshd", "*"}, {"access", "deny", "sshd", "bob", "%temps", "--json"},
			{"access", "remove", "sshd", "bob"}, {"access", "allow", "sshd", "nobody"}, {"access", "allow", "sshd"},
		}},
		{name: "machine", lines: [][]string{{"machine", "rotate"}, {"machine", "rotate", "--json"}, {"machine"}}},
		{name: "machine_fails", setup: func(b *bench) {
			b.daemon.fail = fault.WithRemedy(fault.New(fault.Denied, "dc1 does not let NAS$ change its password"), "ask an administrator of the domain")
		}, lines: [][]string{{"machine", "rotate"}}},
		{name: "audit", lines: [][]string{{"audit"}, {"audit", "--user", "ghost"}, {"audit", "--json", "--since", "3d"}, {"audit", "--since", "soon"}}},
		{name: "ids", setup: func(b *bench) {
			b.in = strings.NewReader(`{"latchkey_ids":1,"domain_sid":"S-1-5-21-1-2-3"}` + "\n" + `{"kind":"user","id":100001104,"sid":"S-1-5-21-1-2-3-1103","name":"alice"}`)
		}, lines: [][]string{{"ids", "export", "-"}, {"ids", "import", "-"}, {"ids", "import", "-"}, {"ids", "import", "testdata/ids.clash"}, {"ids", "import", "testdata/ids.clash", "--json"},
			{"ids", "import", "testdata/ids.broken"}, {"ids", "import", "testdata/ids.future"}, {"ids", "import", "testdata/none"}}},
		{name: "ssh_keys", lines: [][]string{{"ssh-keys", "alice"}, {"ssh-keys", "nobody"}, {"ssh-keys", "alice", "--json"}, {"ssh-keys"}}},
		{name: "sudo", setup: func(b *bench) { b.sudoBox(t, nil) }, lines: [][]string{
			{"access", "sudo"}, {"access", "sudo", "designers"}, {"access", "sudo", "%Domain Users", "--json"}, {"access", "sudo"}, {"access", "sudo", "--json"},
			{"access", "sudo", "news"}, {"access", "sudo", "nogroup"}, {"access", "sudo", "--remove", "S-1-5-21-1-2-3-1200"}, {"access", "sudo", "--remove", "designers"},
			{"access", "sudo", "--remove"}, {"access", "sudo"}}},
		{name: "sudo_refused", setup: func(b *bench) { b.sudoBox(t, fault.New(fault.Internal, "visudo: syntax error")) }, lines: [][]string{{"access", "sudo", "designers"}, {"access", "sudo"}}},
		{name: "sudo_not_root", setup: func(b *bench) { b.sudoBox(t, nil); b.root = false }, lines: [][]string{{"access", "sudo", "designers"}}},
		{name: "doctor", setup: func(b *bench) { b.healthy(t) }, lines: [][]string{{"doctor"}, {"doctor", "--json"}}},
		{name: "doctor_ill", setup: func(b *bench) {
			b.healthy(t)
			b.nsswitch, b.configFile = "testdata/nsswitch.without", "testdata/bad.toml"
			b.daemon.status.Problems = []*latchkeyv1.Problem{{Id: "dc-unreachable", Summary: "no domain controller answers", Remedy: "look at the VPN"}}
			b.daemon.fail = fault.WithRemedy(fault.New(fault.Unreachable, "port 88 of dc1 is silent"), "open it in the firewall")
		}, lines: [][]string{{"doctor"}}},
		{name: "status_failed", setup: func(b *bench) {
			b.daemon.status = &latchkeyv1.Status{Health: latchkeyv1.Status_HEALTH_FAILED, Version: "1.0", StartTime: ago(time.Minute), Problems: []*latchkeyv1.Problem{
				{Id: "store", Summary: "open /var/lib/latchkey/latchkey.db: the store is damaged: it is empty", Remedy: "put a backup of the file in its place"}}}
		}, lines: [][]string{{"status"}, {"doctor"}}},
		{name: "doctor_not_joined", setup: func(b *bench) {
			b.daemon.status = &latchkeyv1.Status{Health: latchkeyv1.Status_HEALTH_NOT_JOINED, Version: "1.0"}
		},
			lines: [][]string{{"doctor"}}},
		{name: "usage", lines: [][]string{{"frobnicate"}, {"user", "frobnicate"}, {"user"}, {"--frobnicate"}, {"version"}, {"version", "--json"}, {"--version"}, {"status", "too", "many"}}},
		{name: "not_running", setup: func(b *bench) {
			b.adminSocket, b.apiSocket = "/nowhere/admin.sock", "/nowhere/api.sock"
		}, lines: [][]string{
			{"status"}, {"user", "get", "alice"}, {"sync"}, {"leave"}, {"join", "aadds.contoso.test", "--user", "alice"}, {"config", "set", "log.level", "info"}, {"watch"}, {"doctor"},
			{"config", "check"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			if test.setup != nil {
				test.setup(b)
			}
			var got strings.Builder
			for _, line := range test.lines {
				text, _ := b.run(line...)
				got.WriteString(text + "\n")
			}
			file := filepath.Join("testdata", test.name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", file, got.String(), want)
			}
		})
	}
}

// Every method of the services has a command, so that everything the daemon can
// do can be done, and tried, by hand.
func TestEveryMethodHasACommand(t *testing.T) {
	b := newBench(t)
	b.in = strings.NewReader("x\n")
	b.sudoBox(t, nil)
	for method, line := range map[string][]string{
		"IdentityService/GetUser":           {"user", "get", "alice"},
		"IdentityService/GetGroup":          {"group", "get", "designers"},
		"IdentityService/ResolveIdentities": {"resolve", "alice"},
		"IdentityService/ListUsers":         {"user", "list"},
		"IdentityService/ListGroups":        {"group", "list"},
		"IdentityService/SearchIdentities":  {"search", "a"},
		"IdentityService/ListUserGroups":    {"user", "groups", "alice"},
		"IdentityService/ListGroupMembers":  {"group", "members", "designers"},
		"IdentityService/CheckMembership":   {"group", "check", "alice", "designers"},
		"IdentityService/WatchIdentities":   {"watch"},
		"AdminService/Join":                 {"join", "aadds.contoso.test", "--user", "alice", "--password-stdin"},
		"AdminService/Leave":                {"leave"},
		"AdminService/GetStatus":            {"status"},
		"AdminService/Sync":                 {"sync"},
		"AdminService/SetConfig":            {"config", "set", "log.level", "info"},
		"IdentityService/ListSshKeys":       {"ssh-keys", "alice"},
		"MachineService/RotateMachineKey":   {"machine", "rotate"},
		"MachineService/ExportIds":          {"ids", "export", "-"},
		"MachineService/ImportIds":          {"ids", "import", "testdata/ids.good"},
		"MachineService/ReadAudit":          {"audit"},
		"MachineService/RecordFiles":        {"access", "sudo", "designers"},
	} {
		clear(b.daemon.called)
		text, exit := b.run(line...)
		if exit != 0 || !b.daemon.called["/latchkey.v1."+method] {
			t.Errorf("%s is not called by\n%s", method, text)
		}
		delete(b.daemon.called, "")
	}
	commands := map[string]bool{}
	for _, d := range []grpc.ServiceDesc{latchkeyv1.IdentityService_ServiceDesc, latchkeyv1.AdminService_ServiceDesc, latchkeyv1.MachineService_ServiceDesc} {
		for _, m := range d.Methods {
			commands["/"+d.ServiceName+"/"+m.MethodName] = true
		}
		for _, s := range d.Streams {
			commands["/"+d.ServiceName+"/"+s.StreamName] = true
		}
	}
	if len(commands) != 21 {
		t.Errorf("the services have %d methods, the table above 21: add the new ones with a command", len(commands))
	}
}

func walk(c *cobra.Command, fn func(*cobra.Command)) {
	fn(c)
	for _, sub := range c.Commands() {
		walk(sub, fn)
	}
}

// No flag takes a secret: the process list and the shell's history would show it.
func TestNoFlagTakesASecret(t *testing.T) {
	walk(newRoot(&app{console: newBench(t).console}), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			for _, word := range []string{"password", "secret", "key", "token"} {
				if strings.Contains(f.Name, word) && f.Value.Type() != "bool" && f.Name != "resume" {
					t.Errorf("%s --%s takes a value", c.CommandPath(), f.Name)
				}
			}
		})
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: say in a few words what it does, without a full stop", c.CommandPath())
		}
	})
}

// The password reaches the daemon, and nothing that is printed.
func TestPassword(t *testing.T) {
	for _, test := range []struct {
		name, stdin, want string
		exit              int
	}{
		{"line", "Passw0rd! with blanks \nmore\n", "Passw0rd! with blanks ", 0},
		{"no newline", "Passw0rd!", "Passw0rd!", 0},
		{"windows line", "Passw0rd!\r\n", "Passw0rd!", 0},
		{"utf-8", "Pässwörd\n", "Pässwörd", 0},
		{"empty", "\n", "", exitUsage},
		{"nothing", "", "", exitUsage},
		{"longest", strings.Repeat("x", maxPassword) + "\n", strings.Repeat("x", maxPassword), 0},
		{"too long", strings.Repeat("x", maxPassword+1) + "\n", "", exitUsage},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.in = strings.NewReader(test.stdin)
			text, exit := b.run("join", "aadds.contoso.test", "--user", "alice", "--password-stdin", "--json")
			if exit != test.exit {
				t.Errorf("exit status: got %d, want %d\n%s", exit, test.exit, text)
			}
			req, _ := b.daemon.last.(*latchkeyv1.JoinRequest)
			if got := string(req.GetPassword()); got != test.want {
				t.Errorf("the daemon got %q, want %q", got, test.want)
			}
			if test.want != "" && strings.Contains(text, test.want) {
				t.Errorf("the password is printed:\n%s", text)
			}
		})
	}
}

// At a terminal the join asks for the password, and at the end for what it was
// not told; elsewhere it never waits.
func TestJoinAtATerminal(t *testing.T) {
	b := newBench(t)
	b.people = true
	b.in = &lines{"maybe\n", "h\n", "contoso\n", "8B0F2A6E-3C4D-4E5F-9A1B-2C3D4E5F6A7B\n"}
	text, exit := b.run("join", "aadds.contoso.test", "--user", "alice")
	if exit != 0 || !slices.Equal(b.prompts, []string{"Password of alice: "}) || strings.Contains(text, "typed Passw0rd!") {
		t.Errorf("exit status %d, prompts %q\n%s", exit, b.prompts, text)
	}
	set, _ := b.daemon.last.(*latchkeyv1.SetConfigRequest)
	if set.GetKey() != "directory.tenant" || set.GetValue() != "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b" {
		t.Errorf("the last thing set is %v", set)
	}
	if !strings.Contains(text, "c or h, please.") || !strings.Contains(text, "That is no id") {
		t.Errorf("wrong answers are not explained:\n%s", text)
	}
	b.in = &lines{"\n", "\n"}
	b.daemon.last = nil
	if _, exit := b.run("join", "aadds.contoso.test", "--user", "alice"); exit != 0 {
		t.Errorf("deciding later: exit status %d", exit)
	}
	if _, set := b.daemon.last.(*latchkeyv1.SetConfigRequest); set {
		t.Error("deciding later set something")
	}
	krb5, err := os.ReadFile(b.krb5.Root + "/etc/krb5.conf.d/latchkey.conf")
	if err != nil || !strings.Contains(string(krb5), "AADDS.CONTOSO.TEST") {
		t.Errorf("krb5 file: %v\n%s", err, krb5)
	}
	if text, exit := b.run("leave"); exit != 0 {
		t.Errorf("leave: exit status %d\n%s", exit, text)
	}
	if _, err := os.Lstat(b.krb5.Root + "/etc/krb5.conf.d/latchkey.conf"); !os.IsNotExist(err) {
		t.Errorf("the krb5 file is left behind: %v", err)
	}
}

// lines is standard input that gives one line for each question.
type lines []string

func (l *lines) Read(p []byte) (int, error) {
	if len(*l) == 0 {
		return 0, os.ErrClosed
	}
	n := copy(p, (*l)[0])
	*l = (*l)[1:]
	return n, nil
}

// What is under way is shown on one line that the next overwrites, and cut to
// the terminal's width.
func TestLiveProgress(t *testing.T) {
	b := newBench(t)
	b.live, b.colour, b.width = true, true, 24
	b.run("sync")
	if got := b.out.String(); !strings.HasPrefix(got, "\r\x1b[K\x1b[2m…   9% Read the directo\x1b[0m\r\x1b[K") {
		t.Errorf("got %q", got)
	}
}

// What is printed as JSON is JSON, one value a line for streams.
func TestJSONIsJSON(t *testing.T) {
	b := newBench(t)
	for _, line := range [][]string{{"status"}, {"user", "get", "alice"}, {"user", "list"}, {"group", "list"}, {"config", "show"}, {"search", "a"}} {
		b.run(append(line, "--json")...)
		var v map[string]any
		if err := json.Unmarshal(b.out.Bytes(), &v); err != nil {
			t.Errorf("%v: %v", line, err)
		}
	}
	for _, line := range [][]string{{"sync"}, {"watch"}, {"leave"}} {
		b.run(append(line, "--json")...)
		for text := range strings.Lines(b.out.String()) {
			var v map[string]any
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Errorf("%v: %q: %v", line, text, err)
			}
		}
	}
}
