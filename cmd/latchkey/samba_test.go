// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
	wb "github.com/latchkey-nas/latchkey/internal/winbind/wire"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

const debianConf = "[global]\n   workgroup = WORKGROUP\n   server role = standalone server\n   map to guest = bad user\n\n#=== shares\n[homes]\n   read only = yes\n"

// nas is a machine with Samba on it, played.
type nas struct {
	*bench
	t       *testing.T
	root    string
	secrets map[string]string // Samba's secrets.tdb: SIDs by name
	cache   string            // what `net cache list` prints
	netbios string            // what Samba calls the machine without us
	smbd    string            // what smbd -V prints
	broken  string            // a program and its first argument that fail: "net setdomainsid"
	mu      sync.Mutex
	ran     []string
	xids    map[string]string // what the daemon says of SIDs
	channel uint32            // NTSTATUS of the secure channel
}

func newNAS(t *testing.T, pipes bool) *nas {
	t.Helper()
	n := &nas{bench: newBench(t), t: t, secrets: map[string]string{"FILER": "S-1-5-21-7-7-7"}, netbios: "FILER", smbd: "Version 4.17.12-Debian\n",
		xids: map[string]string{"S-1-5-21-1-2-3-1103": "U100001104"}}
	n.root = n.krb5.Root
	n.smb.Root = n.root
	n.daemonUID = uint32(os.Geteuid())
	n.tool = n.play
	n.proc = n.root + "/proc"
	short, err := os.MkdirTemp("", "lk") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	n.configFile = n.root + "/latchkey.toml"
	for _, dir := range []string{"/etc/samba", "/proc/1"} {
		if err := os.MkdirAll(n.root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.write("/etc/samba/smb.conf", debianConf)
	n.write("/proc/stat", "cpu 1\nbtime 1000000000\n")
	n.write("/proc/1/stat", "1 (init) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 5 1")
	n.write("/latchkey.toml", fmt.Sprintf("version = 1\n[samba]\npipes = %v\npipe = %q\nprivileged_pipe = %q\n", pipes, short+"/w/pipe", short+"/p/pipe"))
	n.serve(short + "/w/pipe")
	n.serve(short + "/p/pipe")
	kt := &kerberos.Keytab{Entries: []kerberos.KeytabEntry{{Principal: kerberos.Principal{Realm: "AADDS.CONTOSO.TEST", Name: []string{"NAS$"}}, KVNO: 2, Time: noon,
		Key: kerberos.Key{EType: kerberos.AES256, Value: secret.Own(make([]byte, 32))}}}}
	text, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	n.write("/etc/krb5.keytab", string(text))
	return n
}

func (n *nas) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(n.root+name, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *nas) content(name string) string {
	text, err := os.ReadFile(n.root + name)
	if err != nil {
		return ""
	}
	return string(text)
}

// process makes a process of that name run since so many seconds after boot.
func (n *nas) process(pid int, name string, seconds int64) {
	n.t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	if err := os.MkdirAll(n.root+dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	n.write(dir+"/stat", fmt.Sprintf("%d (%s) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 %d 1", pid, name, seconds*100))
}

// rooted gives a process a root directory.
func (n *nas) rooted(pid, root string) {
	n.t.Helper()
	if err := errors.Join(os.MkdirAll(root, 0o755), os.MkdirAll(n.root+"/proc/"+pid, 0o755), os.Symlink(root, n.root+"/proc/"+pid+"/root")); err != nil {
		n.t.Fatal(err)
	}
}

func TestSambaOfAContainerIsNotOurs(t *testing.T) {
	n := newNAS(t, false)
	n.rooted("self", n.root)
	n.process(50, "winbindd", 1)
	n.rooted("50", n.root+"/container")
	n.process(51, "smbd", 1)
	n.rooted("51", n.root)
	// One that has ended and that nobody fetches has no root to look at.
	n.process(52, "winbindd", 1)
	n.write("/proc/52/stat", strings.Replace(n.content("/proc/52/stat"), ") S ", ") Z ", 1))
	for name, want := range map[string]int{"winbindd": 0, "smbd": 1} {
		if _, got, err := n.console.running(name); err != nil || got != want {
			t.Errorf("%d %s run here, %v, want %d", got, name, err, want)
		}
	}
}

// play is Samba's programs.
func (n *nas) play(_ context.Context, name string, args ...string) (string, error) {
	if name == "net" { // every call names the file
		if len(args) < 2 || !strings.HasPrefix(args[0], "--configfile=/etc/samba/") {
			return "", fmt.Errorf("net %q", args)
		}
		args = args[1:]
	}
	line := name + " " + strings.Join(args, " ")
	n.ran = append(n.ran, line)
	if n.broken != "" && strings.HasPrefix(line, n.broken) {
		return "", fault.Errorf(fault.Internal, "%s: it broke", line)
	}
	global := n.effective("/etc/samba/smb.conf")
	switch {
	case name == "smbd":
		return n.smbd, nil
	case name == "testparm":
		var out strings.Builder
		out.WriteString("# Global parameters\n[global]\n")
		values := n.effective(args[len(args)-1])
		for _, k := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&out, "\t%s = %s\n", k, values[k])
		}
		return out.String() + "\n[homes]\n\tread only = yes\n", overlap(values)
	case name == "systemctl":
		return "disabled\n", errors.New("exit status 1")
	case line == "net getlocalsid":
		host := n.netbios
		if v := global["netbios name"]; v != "" {
			host = v
		}
		if n.secrets[host] == "" {
			n.secrets[host] = "S-1-5-21-8-8-8"
		}
		return "SID for domain " + host + " is: " + n.secrets[host] + "\n", nil
	case strings.HasPrefix(line, "net getlocalsid "):
		if sid := n.secrets[args[1]]; sid != "" {
			return "SID for domain " + args[1] + " is: " + sid + "\n", nil
		}
		return "", errors.New("exit status 255: Can't fetch domain SID for name: " + args[1])
	case strings.HasPrefix(line, "net setdomainsid "):
		n.secrets[global["workgroup"]] = args[1]
		return "", nil
	case strings.HasPrefix(line, "net setlocalsid "):
		n.secrets[global["netbios name"]] = args[1]
		return "", nil
	case line == "net cache flush":
		n.cache = ""
		return "", nil
	case line == "net cache list":
		return n.cache, nil
	}
	return "", fmt.Errorf("nobody plays %s", line)
}

// overlap is testparm's complaint of ranges of ids.
func overlap(values map[string]string) error {
	ranges := map[string][2]int{}
	for name, value := range values {
		var r [2]int
		if _, err := fmt.Sscanf(value, "%d-%d", &r[0], &r[1]); err != nil || !strings.HasSuffix(name, " : range") {
			continue
		}
		for other, o := range ranges {
			if r[0] <= o[1] && o[0] <= r[1] {
				return fmt.Errorf("exit status 1: ERROR: %s overlaps with %s", name, other)
			}
		}
		ranges[name] = r
	}
	return nil
}

// effective is how Samba would read a file: the last value holds.
func (n *nas) effective(name string) map[string]string {
	values, global := map[string]string{}, true
	for line := range strings.Lines(n.content(name)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			global = strings.EqualFold(line, "[global]")
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || !global || line[0] == '#' {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "include" {
			maps.Copy(values, n.effective(value))
		} else {
			values[key] = value
		}
	}
	return values
}

// serve is the daemon on one of the pipes.
func (n *nas) serve(path string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		n.t.Fatal(err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for n.answer(c, filepath.Dir(filepath.Dir(path))+"/p") == nil {
				}
			}()
		}
	}()
}

func (n *nas) answer(c net.Conn, privileged string) error {
	b := make([]byte, wb.RequestSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	req, err := wb.Parse(b, wb.V32)
	if err != nil {
		return err
	}
	extra := make([]byte, req.ExtraLen())
	if _, err := io.ReadFull(c, extra); err != nil {
		return err
	}
	resp := &wb.Response{}
	resp.Begin(nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch command, _ := req.Command(); command {
	case wb.InterfaceVersion:
		resp.SetNumber(32)
		resp.OK()
	case wb.PrivilegedPipeDir:
		resp.Append(privileged + "\x00")
		resp.OK()
	case wb.Ping:
		resp.OK()
	case wb.CheckMachineAccount:
		if n.channel == 0 {
			resp.OK()
		} else {
			resp.SetAuth(&wb.Auth{Status: n.channel, StatusName: "NT_STATUS_NO_LOGON_SERVERS"})
		}
	case wb.LookupName: // everybody is in the domain
		resp.SetSID("S-1-5-21-1-2-3-1103", wb.TypeUser)
		resp.OK()
	case wb.SIDsToXIDs:
		for line := range strings.Lines(strings.TrimRight(string(extra), "\x00")) {
			resp.Append(n.xids[strings.TrimSpace(line)] + "\n")
		}
		resp.Append("\x00")
		resp.OK()
	}
	out := resp.Finish()
	if int(binary.LittleEndian.Uint32(out)) != len(out) {
		return errors.New("a wrong length")
	}
	_, err = c.Write(out)
	return err
}

// shown is run with this machine's own paths taken out.
func (n *nas) shown(args ...string) (string, int) {
	text, exit := n.run(args...)
	short := strings.TrimSuffix(strings.Split(n.content("/latchkey.toml"), `"`)[1], "/w/pipe")
	return strings.ReplaceAll(text, short, "/pipes"), exit
}

func (n *nas) golden(file string, lines ...[]string) {
	n.t.Helper()
	var got strings.Builder
	for _, line := range lines {
		text, _ := n.shown(line...)
		got.WriteString(text + "\n")
	}
	file = filepath.Join("testdata", file+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got.String() != string(want) {
		n.t.Errorf("%s: %v: got\n%s\nwant\n%s", file, err, got.String(), want)
	}
}

func TestSambaEnableAndDisable(t *testing.T) {
	n := newNAS(t, false)
	n.process(77, "smbd", 60)
	before := map[string]string{}
	for name, sid := range n.secrets {
		before[name] = sid
	}
	n.golden("samba_enable", []string{"samba", "enable"}, []string{"samba", "enable"})
	if set, ok := n.daemon.last.(*latchkeyv1.SetConfigRequest); !ok || set.GetKey() != "samba.pipes" || set.GetValue() != "true" {
		t.Errorf("the daemon was asked %v", n.daemon.last)
	}
	if want := map[string]string{"FILER": "S-1-5-21-7-7-7", "NAS": "S-1-5-21-7-7-7", "AADDSCONTOSO": "S-1-5-21-1-2-3"}; !maps.Equal(n.secrets, want) {
		t.Errorf("secrets: got %v, want %v", n.secrets, want)
	}
	if !slices.Contains(n.ran, "net cache flush") {
		t.Errorf("the cache is not emptied: %q", n.ran)
	}
	n.golden("samba_disable", []string{"samba", "disable"}, []string{"samba", "disable"})
	if n.content("/etc/samba/smb.conf") != debianConf {
		t.Errorf("smb.conf afterwards: %s", n.content("/etc/samba/smb.conf"))
	}
	if files, _ := os.ReadDir(n.root + "/etc/samba"); len(files) != 1 {
		t.Errorf("left in /etc/samba: %v", files)
	}
	if set, ok := n.daemon.last.(*latchkeyv1.SetConfigRequest); !ok || set.GetKey() != "samba.pipes" || set.GetValue() != "" {
		t.Errorf("the daemon was asked %v", n.daemon.last)
	}
}

// An old winbindd's SID of the domain comes back.
func TestSambaTakesOverAndGivesBack(t *testing.T) {
	n := newNAS(t, false)
	n.secrets["AADDSCONTOSO"] = "S-1-5-21-9-9-9"
	n.secrets["NAS"], n.netbios = "S-1-5-21-6-6-6", "NAS"
	n.cache = "Key: IDMAP/SID2XID/S-1-5-21-1-2-3-1103\tTimeout: x\tValue: 2001103:U\n"
	if text, exit := n.run("samba", "enable"); exit != 0 {
		t.Fatal(text)
	}
	if n.secrets["AADDSCONTOSO"] != "S-1-5-21-1-2-3" || n.secrets["NAS"] != "S-1-5-21-6-6-6" || n.cache != "" {
		t.Errorf("after enable: %v, cache %q", n.secrets, n.cache)
	}
	if text, exit := n.run("samba", "disable"); exit != 0 {
		t.Fatal(text)
	}
	if n.secrets["AADDSCONTOSO"] != "S-1-5-21-9-9-9" || n.content("/etc/samba/smb.conf") != debianConf {
		t.Errorf("after disable: %v\n%s", n.secrets, n.content("/etc/samba/smb.conf"))
	}
}

// A winbindd of before had ids of its own, in the range that latchkey took over
// from it.
func TestSambaRangesOfAWinbinddOfBefore(t *testing.T) {
	n := newNAS(t, true)
	old := strings.Replace(debianConf, "[global]\n", "[global]\n   idmap config * : range = 3000-7999\n   idmap config AADDSCONTOSO : backend = rid\n   idmap config AADDSCONTOSO : range = 100000000-200000000\n   idmap config OTHER : range = 150000000-160000000\n", 1)
	n.write("/etc/samba/smb.conf", old)
	for range 2 { // the second time finds what the first one wrote
		if text, exit := n.run("samba", "enable"); exit != 0 {
			t.Fatal(text)
		}
		if got := n.effective("/etc/samba/smb.conf"); got["idmap config * : range"] != "100000001-200000000" || got["idmap config AADDSCONTOSO : range"] != "1-1" || got["idmap config OTHER : range"] != "2-2" {
			t.Errorf("the ranges that hold: %v", got)
		}
	}
	n.process(9, "smbd", 2_000_000_000)
	if text, exit := n.run("samba", "check"); exit != 0 {
		t.Errorf("check: %d\n%s", exit, text)
	}
	n.write("/etc/samba/smb.conf", "[global]\nidmap config THIRD : range = 150000000-160000000\n"+n.content("/etc/samba/smb.conf"))
	if text, exit := n.run("samba", "check"); exit != 1 || !strings.Contains(text, "other ranges of ids") {
		t.Errorf("check of a range that came later: %d\n%s", exit, text)
	}
	n.write("/etc/samba/smb.conf", strings.TrimPrefix(n.content("/etc/samba/smb.conf"), "[global]\nidmap config THIRD : range = 150000000-160000000\n"))
	if text, exit := n.run("samba", "disable"); exit != 0 || n.content("/etc/samba/smb.conf") != old {
		t.Errorf("disable: %d\n%s\n%s", exit, text, n.content("/etc/samba/smb.conf"))
	}
}

// Whatever fails, everything is as it was.
func TestSambaEnableRollsBack(t *testing.T) {
	for _, test := range []struct {
		name string
		with func(*nas)
		exit int
		word string
	}{
		{"not root", func(n *nas) { n.bench.root = false }, 4, "root's"},
		{"no daemon", func(n *nas) { n.adminSocket = "/nowhere/admin.sock" }, 5, "latchkeyd"},
		{"not joined", func(n *nas) { n.daemon.status = &latchkeyv1.Status{} }, 4, "latchkey join"},
		{"no Samba", func(n *nas) { n.broken = "smbd" }, 1, "apt install samba"},
		{"a Samba of the future", func(n *nas) { n.smbd = "Version 4.99.0" }, 4, "4.99"},
		{"no Samba's answer", func(n *nas) { n.smbd = "hello" }, 4, "hello"},
		{"winbindd runs", func(n *nas) { n.process(50, "winbindd", 1) }, 4, "systemctl mask winbind"},
		{"testparm refuses", func(n *nas) { n.broken = "testparm" }, 4, "it broke"},
		{"overruled", func(n *nas) {
			n.tool = func(ctx context.Context, name string, args ...string) (string, error) {
				out, err := n.play(ctx, name, args...)
				return strings.Replace(out, "security = ads", "security = user", 1), err
			}
		}, 4, "security = user holds, ads is needed"},
		{"no SID", func(n *nas) { n.broken = "net setdomainsid" }, 1, "it broke"},
		{"no flush", func(n *nas) { n.broken = "net cache" }, 1, "it broke"},
		{"another version on the pipe", func(n *nas) { n.smbd = "Version 4.22.1" }, 4, "speaks version 32"},
		{"somebody else's pipe", func(n *nas) { n.daemonUID++ }, 4, "belongs to uid"},
		{"somebody else's fragment", func(n *nas) { n.write("/etc/samba/latchkey.conf", "[global]\n") }, 4, "not made by latchkey"},
		{"no such file", func(n *nas) { _ = os.Remove(n.root + "/etc/samba/smb.conf") }, 3, "there is no /etc/samba/smb.conf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNAS(t, false)
			n.secrets["AADDSCONTOSO"] = "S-1-5-21-9-9-9"
			test.with(n)
			files := func() map[string]string {
				all := map[string]string{}
				entries, _ := os.ReadDir(n.root + "/etc/samba")
				for _, e := range entries {
					all[e.Name()] = n.content("/etc/samba/" + e.Name())
				}
				return all
			}
			before := files()
			text, exit := n.run("samba", "enable")
			if exit != test.exit || !strings.Contains(text, test.word) {
				t.Errorf("exit status %d, want %d and a word of %q\n%s", exit, test.exit, test.word, text)
			}
			if after := files(); !maps.Equal(after, before) {
				t.Errorf("files afterwards: %v, want %v", after, before)
			}
			if n.secrets["AADDSCONTOSO"] != "S-1-5-21-9-9-9" {
				t.Errorf("the SID afterwards: %v", n.secrets)
			}
			if set, ok := n.daemon.last.(*latchkeyv1.SetConfigRequest); ok && set.GetValue() != "" {
				t.Errorf("the setting stays: %v", set)
			}
		})
	}
}

// A machine that leaves its domain is told of the smbd that relied on it.
func TestLeaveTellsOfSamba(t *testing.T) {
	n := newNAS(t, false)
	if text, exit := n.run("leave"); exit != 0 || strings.Contains(text, "samba") {
		t.Errorf("without Samba: %s", text)
	}
	if text, exit := n.run("samba", "enable"); exit != 0 {
		t.Fatal(text)
	}
	if text, exit := n.run("leave"); exit != 0 || !strings.Contains(text, "latchkey samba disable") {
		t.Errorf("with Samba: exit status %d\n%s", exit, text)
	}
}
