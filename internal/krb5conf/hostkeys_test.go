// SPDX-License-Identifier: Apache-2.0

package krb5conf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

const realm = "AADDS.CONTOSO.TEST"

var host = Host{Realm: realm, Account: "NAS$", FQDN: "nas.aadds.contoso.test"}

// entry makes a keytab entry whose key is n, repeated.
func entry(principal string, kvno uint32, e kerberos.EType, n byte) kerberos.KeytabEntry {
	name, realm, _ := strings.Cut(principal, "@")
	p := kerberos.Principal{Type: kerberos.NTPrincipal, Name: strings.Split(name, "/"), Realm: realm}
	size := map[kerberos.EType]int{kerberos.AES256: 32, kerberos.AES128: 16, 23: 16}[e]
	return kerberos.KeytabEntry{Principal: p, Time: time.Unix(1700000000, 0), KVNO: kvno,
		Key: kerberos.Key{EType: e, Value: secret.Own(bytes.Repeat([]byte{n}, size))}}
}

func keytab(t *testing.T, entries ...kerberos.KeytabEntry) []byte {
	t.Helper()
	b, err := (&kerberos.Keytab{Entries: entries}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	kt, err := kerberos.ReadKeytab(filepath.Join(dir, keytabFile))
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range kt.Entries {
		all = append(all, fmt.Sprintf("%s %d %d %02x", strings.TrimSuffix(e.Principal.String(), "@"+realm), e.KVNO, e.Key.EType, e.Key.Value.Reveal()[0]))
	}
	slices.Sort(all)
	return all
}

// machineKeys are the keys of the given versions, as the worker's keytab holds
// them; each version's keys are its number, repeated.
func machineKeys(t *testing.T, versions ...uint32) HostKeys {
	var all []kerberos.KeytabEntry
	for _, p := range []string{"NAS$", "host/nas", "host/nas.aadds.contoso.test", "HTTP/nas", "cifs/nas.aadds.contoso.test", "RestrictedKrbHost/nas"} {
		for _, v := range versions {
			all = append(all, entry(p+"@"+realm, v, kerberos.AES256, byte(v)), entry(p+"@"+realm, v, kerberos.AES128, byte(v)))
		}
	}
	return HostKeys{host, secret.Own(keytab(t, all...))}
}

func installed(versions ...uint32) []string {
	var all []string
	for _, p := range []string{"NAS$", "host/nas", "host/nas.aadds.contoso.test"} {
		for _, v := range versions {
			all = append(all, fmt.Sprintf("%s %d 17 %02x", p, v, v), fmt.Sprintf("%s %d 18 %02x", p, v, v))
		}
	}
	return all
}

func TestHostKeysComeRotateAndGo(t *testing.T) {
	f, dir := box(t, nil)
	for n := uint32(2); n <= 4; n++ {
		if err := f.InstallHostKeys(machineKeys(t, n-1, n)); err != nil {
			t.Fatal(err)
		}
		if got, want := list(t, dir), installed(n-1, n); !slices.Equal(got, want) {
			t.Errorf("after version %d: %q, want %q", n, got, want)
		}
	}
	same(t, "files", names(t, dir), map[string]string{"etc/": "", "etc/krb5.keytab": ""})
	if st, err := os.Stat(filepath.Join(dir, keytabFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	for _, when := range []string{"removal", "a second removal"} {
		if err := f.RemoveHostKeys(host); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		same(t, when, tree(t, dir), map[string]string{"etc/": ""})
	}
}

func TestForeignKeysStay(t *testing.T) {
	foreign := []kerberos.KeytabEntry{
		entry("nfs/nas.aadds.contoso.test@"+realm, 3, kerberos.AES256, 0xa1),
		entry("host/nas.aadds.contoso.test@HOME.LAN", 1, kerberos.AES256, 0xa2),
		entry("host/other.aadds.contoso.test@"+realm, 1, 23, 0xa3),
		entry("HTTP/nas@"+realm, 9, kerberos.AES256, 0xa4),
	}
	stale := entry("host/nas@"+realm, 7, 23, 0xb1)
	f, dir := box(t, nil)
	file := filepath.Join(dir, keytabFile)
	if err := os.WriteFile(file, keytab(t, append(slices.Clone(foreign), stale)...), 0o644); err != nil {
		t.Fatal(err)
	}
	before := list(t, dir)
	for _, k := range []HostKeys{machineKeys(t, 1), machineKeys(t, 1, 2)} {
		if err := f.InstallHostKeys(k); err != nil {
			t.Fatal(err)
		}
	}
	got := list(t, dir)
	for _, want := range append(installed(1, 2), "nfs/nas.aadds.contoso.test 3 18 a1", "host/nas.aadds.contoso.test@HOME.LAN 1 18 a2",
		"host/other.aadds.contoso.test 1 23 a3", "HTTP/nas 9 18 a4") {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if len(got) != 16 {
		t.Errorf("%d entries, want 16: %q", len(got), got)
	}
	for _, name := range []string{file, file + ".before-latchkey"} {
		if st, err := os.Stat(name); err != nil || (name == file && st.Mode().Perm() != 0o600) {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if err := f.RemoveHostKeys(host); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dir); !slices.Equal(got, before) {
		t.Errorf("after the removal %q, want %q", got, before)
	}
	same(t, "names", names(t, dir), map[string]string{"etc/": "", "etc/krb5.keytab": ""})
}

// names is tree without the content.
func names(t *testing.T, dir string) map[string]string {
	all := tree(t, dir)
	for n := range all {
		all[n] = ""
	}
	return all
}

func TestHijackedWorkerCannotPlantKeys(t *testing.T) {
	good := machineKeys(t, 1)
	with := func(e ...kerberos.KeytabEntry) HostKeys { return HostKeys{host, secret.Own(keytab(t, e...))} }
	ours := entry("host/nas@"+realm, 1, kerberos.AES256, 1)
	for name, k := range map[string]HostKeys{
		"another realm":    with(ours, entry("host/nas@HOME.LAN", 1, kerberos.AES256, 1)),
		"another host":     with(ours, entry("host/dc1.aadds.contoso.test@"+realm, 1, kerberos.AES256, 1)),
		"another service":  with(ours, entry("nfs/nas@"+realm, 1, kerberos.AES256, 1)),
		"a user":           with(ours, entry("root@"+realm, 1, kerberos.AES256, 1)),
		"krbtgt":           with(ours, entry("krbtgt/"+realm+"@"+realm, 1, kerberos.AES256, 1)),
		"RC4":              with(ours, entry("host/nas@"+realm, 1, 23, 1)),
		"no host key":      with(entry("HTTP/nas@"+realm, 1, kerberos.AES256, 1)),
		"nothing":          {host, secret.Bytes{}},
		"no keytab":        {host, secret.FromString("hello")},
		"too long":         {host, secret.Own(make([]byte, MaxKeytab+1))},
		"account":          {Host{realm, "NAS", host.FQDN}, good.Keytab},
		"account path":     {Host{realm, "../x$", host.FQDN}, good.Keytab},
		"long account":     {Host{realm, "ABCDEFGHIJKLMNOP$", "abcdefghijklmnop.aadds.contoso.test"}, good.Keytab},
		"name of another":  {Host{realm, "NAS$", "dc1.aadds.contoso.test"}, good.Keytab},
		"short name":       {Host{realm, "NAS$", "nas"}, good.Keytab},
		"realm in lower":   {Host{strings.ToLower(realm), "NAS$", host.FQDN}, good.Keytab},
		"realm with lines": {Host{"A\nB", "NAS$", host.FQDN}, good.Keytab},
	} {
		f, dir := box(t, nil)
		if err := f.InstallHostKeys(k); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, want malformed", name, err)
		}
		same(t, name, tree(t, dir), map[string]string{"etc/": ""})
	}
	f, _ := box(t, nil)
	if err := f.RemoveHostKeys(Host{realm, "nfs", "x.y"}); !fault.Is(err, fault.Malformed) {
		t.Errorf("RemoveHostKeys of no computer = %v, want malformed", err)
	}
}

func TestWhatIsNoKeytabIsNotReplaced(t *testing.T) {
	f, dir := box(t, map[string]string{"krb5.keytab": "precious"})
	if err := f.InstallHostKeys(machineKeys(t, 1)); !fault.Is(err, fault.Conflict) || fault.Remedy(err) == "" {
		t.Errorf("InstallHostKeys over a text file = %v, want a conflict with a remedy", err)
	}
	same(t, "text", tree(t, dir), map[string]string{"etc/": "", "etc/krb5.keytab": "precious"})

	f, dir = box(t, map[string]string{"other": ""})
	if err := os.Symlink("other", filepath.Join(dir, keytabFile)); err != nil {
		t.Fatal(err)
	}
	if err := f.InstallHostKeys(machineKeys(t, 1)); !fault.Is(err, fault.Conflict) {
		t.Errorf("InstallHostKeys over a link = %v, want a conflict", err)
	}
	same(t, "link", tree(t, dir), map[string]string{"etc/": "", "etc/other": "", "etc/krb5.keytab": "-> other"})
}

func TestNoKeyIsPrinted(t *testing.T) {
	k := machineKeys(t, 1, 0x5a)
	if text := fmt.Sprintf("%v %+v %#v", k, k, k); strings.Contains(text, "ZZZZ") || strings.Contains(text, "5a5a") || strings.Contains(text, "90 90") {
		t.Errorf("a key is printed in %q", text)
	}
}
