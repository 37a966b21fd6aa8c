// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSambaCheck(t *testing.T) {
	n := newNAS(t, true)
	n.golden("samba_check_before", []string{"samba", "check"})
	n.write("/etc/samba/smb.conf", strings.Replace(debianConf, "bad user", "never", 1))
	if text, exit := n.run("samba", "enable"); exit != 0 {
		t.Fatal(text)
	}
	n.process(78, "smbd", time.Now().Unix()-1000000000+3600)
	n.cache = "Key: IDMAP/SID2XID/S-1-5-21-1-2-3-1103\tTimeout: x\tValue: 100001104:U\n"
	if text, exit := n.shown("samba", "check", "--json"); exit != 0 || strings.Contains(text, "failed") || strings.Contains(text, "warning") {
		t.Errorf("all is well, and check says\n%s", text)
	}
	for name, test := range map[string]struct {
		with func(*nas)
		word string
	}{
		"old cache":         {func(n *nas) { n.cache = strings.Replace(n.cache, "100001104", "2001103", 1) }, "net cache flush"},
		"channel":           {func(n *nas) { n.channel = 0xc000005e }, "NT_STATUS_NO_LOGON_SERVERS"},
		"winbindd":          {func(n *nas) { n.process(50, "winbindd", 1) }, "mask winbind"},
		"edited":            {func(n *nas) { n.write("/etc/samba/latchkey.conf", n.content("/etc/samba/latchkey.conf")+"x = y\n") }, "changed by hand"},
		"not included":      {func(n *nas) { n.write("/etc/samba/smb.conf", debianConf) }, "does not include"},
		"key":               {func(n *nas) { n.daemon.status.KeyVersion = 3 }, "no key of version 3"},
		"no keytab":         {func(n *nas) { _ = os.Remove(n.root + "/etc/krb5.keytab") }, "latchkey machine rotate"},
		"SID":               {func(n *nas) { n.secrets["AADDSCONTOSO"] = "S-1-5-21-9-9-9" }, "the domain is S-1-5-21-1-2-3"},
		"another realm":     {func(n *nas) { n.daemon.status.Realm = "OTHER.TEST" }, "another membership"},
		"nsswitch":          {func(n *nas) { n.nsswitch = "testdata/nsswitch.without" }, "nsswitch"},
		"upgraded":          {func(n *nas) { n.smbd = "Version 4.22.0" }, "restart latchkeyd"},
		"foreign pipe":      {func(n *nas) { n.daemonUID++ }, "believes only what is root's"},
		"everybody's pipe":  {func(n *nas) { _ = os.Chmod(filepath.Dir(strings.Split(n.content("/latchkey.toml"), `"`)[3]), 0o755) }, "everybody may enter"},
		"overruled by hand": {func(n *nas) { n.write("/etc/samba/smb.conf", n.content("/etc/samba/smb.conf")+"[global]\nrealm = X\n") }, "realm = X holds"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNAS(t, true)
			if text, exit := n.run("samba", "enable"); exit != 0 {
				t.Fatal(text)
			}
			n.cache = "Key: IDMAP/SID2XID/S-1-5-21-1-2-3-1103\tTimeout: x\tValue: 100001104:U\n"
			test.with(n)
			if text, exit := n.run("samba", "check"); exit != 1 || !strings.Contains(text, test.word) {
				t.Errorf("exit status %d, want 1 and a word of %q\n%s", exit, test.word, text)
			}
		})
	}
}

// A name that this machine and the domain both have is the domain's to Samba.
func TestSambaCheckOfNames(t *testing.T) {
	n := newNAS(t, true)
	n.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\ngames:x:5:60::/:/bin/sh\n")
	if text, exit := n.run("samba", "enable"); exit != 0 {
		t.Fatal(text)
	}
	for value, want := range map[string]string{"root, alice": "both have root;", `"Unix User\root" AADDSCONTOSO\games alice`: "none means two"} {
		n.write("/etc/samba/smb.conf", "[global]\nadmin users = "+value+"\ninclude = /etc/samba/latchkey.conf\n")
		if text, _ := n.run("samba", "check"); !strings.Contains(text, want) {
			t.Errorf("%s: no word of %q\n%s", value, want, text)
		}
	}
}
