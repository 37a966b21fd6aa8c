// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// fakeRoot lays out files below a directory.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		if err := writeFile(filepath.Join(root, name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const armoured = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: x\n\nAAEC\nAwQF\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"

func TestReadAptConfig(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"etc/os-release":                        "NAME=Debian\nVERSION_CODENAME=bookworm\n",
		"etc/apt/sources.list":                  "deb http://one bookworm main\n",
		"etc/apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://two\nSuites: bookworm\nComponents: main\n",
		"etc/apt/sources.list.d/old.list":       "deb http://three bookworm main\n",
		"etc/apt/sources.list.d/off.list.save":  "this is not read\n",
	})
	dump := `APT "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::http::Pipeline-Depth "0";
Acquire::http::Proxy-Auto-Detect "/usr/local/bin/find-proxy";
Acquire::https::CaInfo "/etc/ssl/own.pem";
Acquire::Check-Valid-Until "false";
Acquire::Languages:: "none";
Acquire::IndexTargets::deb::Packages "";
`
	got, err := ReadAptConfig(root, dump)
	if err != nil {
		t.Fatal(err)
	}
	var uris []string
	for _, source := range got.Sources {
		uris = append(uris, source.URI)
	}
	if want := []string{"http://one", "http://two", "http://three"}; !reflect.DeepEqual(uris, want) {
		t.Errorf("sources: got %q, want %q", uris, want)
	}
	if got.Codename != "bookworm" || got.HTTP != "http://proxy.example:3128" || got.HTTPS != got.HTTP {
		t.Errorf("got release %q, proxies %q and %q", got.Codename, got.HTTP, got.HTTPS)
	}
	want := []string{
		`Acquire::http::Proxy "http://proxy.example:3128";`, `Acquire::http::Pipeline-Depth "0";`,
		`Acquire::https::CaInfo "/etc/ssl/own.pem";`, `Acquire::Check-Valid-Until "false";`,
	}
	if !reflect.DeepEqual(got.Acquire, want) {
		t.Errorf("settings: got %q, want %q", got.Acquire, want)
	}
}

func TestReadAptConfigNamesTheFile(t *testing.T) {
	root := fakeRoot(t, map[string]string{"etc/os-release": "", "etc/apt/sources.list.d/bad.list": "nonsense\n"})
	if _, err := ReadAptConfig(root, ""); err == nil || !strings.Contains(err.Error(), "bad.list: line 1") {
		t.Errorf("got %v, want the file and the line", err)
	}
}

func TestKeyring(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"etc/os-release":              "",
		"etc/apt/trusted.gpg.d/a":     "not read",
		"etc/apt/trusted.gpg.d/b.asc": armoured,
		"etc/apt/trusted.gpg.d/c.gpg": "\x99binary",
		"keys/one.gpg":                "\x99one",
		"keys/two.asc":                armoured,
	})
	conf, err := ReadAptConfig(root, "")
	if err != nil {
		t.Fatal(err)
	}
	plain := "\x00\x01\x02\x03\x04\x05"
	for _, tc := range []struct{ name, signedBy, want string }{
		{"trusted for everything", "", "\x99binary" + plain},
		{"a file", "/keys/one.gpg", "\x99one"},
		{"an armoured file", "/keys/two.asc", plain},
		{"two files", "/keys/one.gpg,/keys/two.asc", "\x99one" + plain},
		{"in the stanza", armoured, plain},
		{"a fingerprint", "0123456789ABCDEF0123456789ABCDEF01234567", "\x99binary" + plain},
	} {
		got, err := conf.Keyring(tc.signedBy)
		if err != nil || !bytes.Equal(got, []byte(tc.want)) {
			t.Errorf("%s: got %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
	for _, signedBy := range []string{"/keys/absent.gpg", "-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAEC\n"} {
		if got, err := conf.Keyring(signedBy); err == nil {
			t.Errorf("%q: got %q, want an error", signedBy, got)
		}
	}
}

func TestBaseGetsTheHostsAptAndNothingElse(t *testing.T) {
	host := fakeRoot(t, map[string]string{
		"etc/os-release": "VERSION_CODENAME=bookworm\n", "etc/resolv.conf": "nameserver 192.0.2.1\n",
		"etc/apt/auth.conf": "machine mirror login x password y\n", "etc/apt/auth.conf.d/a.conf": "machine other login z password w\n", "etc/apt/trusted.gpg.d/c.gpg": "\x99binary", "etc/secret": "no",
		"etc/apt/sources.list": "deb [arch=amd64] https://mirror bookworm main\n",
	})
	conf, err := ReadAptConfig(host, "Acquire::Retries \"3\";\n")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := conf.writeInto(root, ForSuite(conf.Sources, "bookworm", "bookworm")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/apt/sources.list":       "deb [signed-by=/etc/apt/keyrings/lab-0.gpg arch=amd64] https://mirror bookworm main\n",
		"etc/apt/keyrings/lab-0.gpg": "\x99binary",
		"etc/apt/auth.conf":          "machine other login z password w\n\nmachine mirror login x password y\n\n",
		"etc/resolv.conf":            "nameserver 192.0.2.1\n",
	} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if settings, err := os.ReadFile(filepath.Join(root, "etc/apt/apt.conf.d/00lab")); err != nil || !strings.HasPrefix(string(settings), "Acquire::Retries \"3\";\n") {
		t.Errorf("settings: got %q, %v", settings, err)
	}
	if _, err := os.Stat(filepath.Join(root, "etc/secret")); err == nil {
		t.Error("a file that has nothing to do with apt was copied")
	}
}
