// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// What a membership left in /etc goes without the daemon: the Kerberos files, the
// host keys but not somebody else's, the right to use sudo.
func TestLeaveEtcOnly(t *testing.T) {
	b := newBench(t)
	b.sudoBox(t, nil)
	if text, exit := b.run("access", "sudo", "designers"); exit != 0 {
		t.Fatal(text)
	}
	if _, err := b.krb5.Apply(krb5conf.Settings{Realm: "AADDS.CONTOSO.TEST", Domain: "aadds.contoso.test", KDCs: []string{"dc1.aadds.contoso.test"}}); err != nil {
		t.Fatal(err)
	}
	entries := func(kvno uint32, who ...kerberos.Principal) []kerberos.KeytabEntry {
		return kerberos.MachineEntries(who, []kerberos.Key{{EType: kerberos.AES256, Value: secret.Own(make([]byte, 32))}}, kvno, time.Unix(1700000000, 0))
	}
	const realm = "AADDS.CONTOSO.TEST"
	ours := []kerberos.Principal{kerberos.Account("NAS$", realm), kerberos.Service("host", "nas.aadds.contoso.test", realm), kerberos.Service("host", "nas", realm)}
	own, roots := &kerberos.Keytab{}, &kerberos.Keytab{}
	own.Add(entries(2, append(ours, kerberos.Service("HTTP", "nas.aadds.contoso.test", realm))...)...)
	roots.Add(entries(2, ours...)...)
	nfs := kerberos.Service("nfs", "nas.other.test", "OTHER.TEST")
	roots.Add(entries(7, nfs)...)
	if err := os.MkdirAll(b.at("/var/lib/latchkey"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, kt := range map[string]*kerberos.Keytab{"/var/lib/latchkey/krb5.keytab": own, "/etc/krb5.keytab": roots} {
		if err := kt.WriteFile(b.at(path)); err != nil {
			t.Fatal(err)
		}
	}
	b.adminSocket, b.apiSocket = "/nonexistent", "/nonexistent" // nobody is asked

	b.root = false
	if text, exit := b.run("leave", "--etc-only"); exit != exitRefused || !strings.Contains(text, "is root's") {
		t.Errorf("not as root:\n%s", text)
	}
	b.root = true
	text, exit := b.run("leave", "--etc-only")
	if exit != 0 || !strings.Contains(text, "✓ Take the groups of the domain out of /etc/sudoers.d – designers") || !strings.Contains(text, "✓ Take the host keys out of root's keytab – /etc/krb5.keytab") {
		t.Errorf("as root:\n%s", text)
	}
	left, err := kerberos.ReadKeytab(b.at("/etc/krb5.keytab"))
	if err != nil || len(left.Entries) != 1 || !left.Entries[0].Principal.Equal(nfs) {
		t.Errorf("root's keytab: %v, %v, want the key of %s alone", left, err, nfs)
	}
	_ = filepath.WalkDir(b.at("/etc"), func(path string, d fs.DirEntry, err error) error {
		if strings.Contains(d.Name(), "latchkey") || d.Name() == "krb5.conf" {
			t.Errorf("%s is still there", path)
		}
		return err
	})
	if text, exit := b.run("leave", "--etc-only"); exit != 0 {
		t.Errorf("a second time:\n%s", text)
	}
	if text, exit := b.run("leave", "--etc-only", "--user", "alice"); exit != exitUsage {
		t.Errorf("with --user:\n%s", text)
	}
}
