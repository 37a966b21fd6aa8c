// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSsoKeysAreAllSetOrNone(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(t.TempDir(), "latchkey.toml")
	if err := os.WriteFile(file, []byte("version = 1\n[locked]\nkeys = [\"sso.authority\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := map[string]string{"sso.tenant": "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b", "sso.client": "1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90",
		"sso.app": `[{ name = "photos", user = "www-data", redirect = ["https://photos.test/cb", "https://photos.test/cb2"] }]`}
	if _, err := Trial(file, folder, good); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, SetFile)); err == nil {
		t.Error("a trial wrote a file")
	}
	for what, more := range map[string][2]string{
		"locked": {"sso.authority", "https://login.microsoftonline.us/{tenant}/v2.0"}, "http": {"sso.redirect_uri", "http://nas.test/cb"},
		"fragment": {"sso.redirect_uri", "https://nas.test/cb#x"}, "short id": {"sso.client", "1f6a2f0c"}, "a day": {"sso.secret_expires", "June"},
		"an app without a name": {"sso.app", `[{ user = "root", redirect = ["https://a.test/cb"] }]`},
		"an app without URIs":   {"sso.app", `[{ name = "a", user = "root", redirect = [] }]`},
		"an app with http":      {"sso.app", `[{ name = "a", user = "root", redirect = ["http://a.test/cb"] }]`},
	} {
		values := maps.Clone(good)
		values[more[0]] = more[1]
		if _, err := SetAll(file, folder, values); err == nil {
			t.Errorf("%s: it was taken", what)
		}
		if l, err := Load(file, folder); err != nil || !l.SSO.Tenant.IsZero() {
			t.Errorf("%s: half of it counts: %v, %v", what, l, err)
		}
	}
	l, err := SetAll(file, folder, good)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("text", []byte(l.Text()))
	if err != nil {
		t.Fatalf("%v\n%s", err, l.Text())
	}
	for _, l := range []*Loaded{l, again} {
		if len(l.SSO.Apps) != 1 || len(l.SSO.Apps[0].Redirects) != 2 || l.SSO.Apps[0].User != "www-data" || l.SSO.Client.String() != good["sso.client"] {
			t.Errorf("got %+v", l.SSO)
		}
	}
}

// TestListWithAMistakeIsNoName: `["*"]` must not become the name of somebody.
func TestListWithAMistakeIsNoName(t *testing.T) {
	folder, file := t.TempDir(), filepath.Join(t.TempDir(), "latchkey.toml")
	if err := os.WriteFile(file, []byte("version = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{`["*"]`: "is everybody", `["alice", "%*"]`: "is everybody", `["", "x"]`: "api.admins", `*`: "is everybody",
		`["%AAD DC Administrators", "S-1-5-21-1-2-3-1103"]`: "", `alice`: ""} {
		_, err := set(file, folder, "api.admins", text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for text, good := range map[string]bool{"altSecurityIdentities": true, "extensionAttribute5": true, "": true, "a b": false, "1x": false, "x)(y=*": false} {
		if _, err := set(file, folder, "directory.ssh_keys", text); (err == nil) != good {
			t.Errorf("directory.ssh_keys = %q: %v", text, err)
		}
	}
}

func TestAppsAsPeopleWriteThem(t *testing.T) {
	l, err := Parse("c", []byte("version = 1\n[sso]\nidle = \"1h\"\n[[sso.app]]\nname = \"photos\"\nuser = \"www-data\"\nredirect = \"https://photos.test/cb\"\n\n[[sso.app]]\nname = \"notes\"\nuser = \"gid:44\"\nredirect = [\"https://notes.test/cb\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.SSO.Apps) != 2 || l.SSO.Apps[0].Redirects[0] != "https://photos.test/cb" || l.SSO.Apps[1].User != "gid:44" {
		t.Errorf("got %+v", l.SSO.Apps)
	}
	for text, want := range map[string]string{
		"[[sso.app]]\nname = \"a\"\nuser = \"root\"\nredirct = \"https://a.test/cb\"\nredirect = \"https://a.test/cb\"\n":                                           "redirct",
		"[[sso.app]]\nname = \"A b\"\nuser = \"root\"\nredirect = \"https://a.test/cb\"\n":                                                                          "entry 1: name",
		"[sso]\napp = [{ name = \"a\", user = \"root\", redirect = \"https://a.test/cb\" }, { name = \"a\", user = \"root\", redirect = \"https://b.test/cb\" }]\n": "a is in it twice",
		"[sso]\napp = [{ name = \"a\", user = \"root\", redirect = \"https://a.test/cb\" }, { name = \"b\", user = \"root\", redirect = \"https://a.test/cb\" }]\n": "https://a.test/cb is in it twice",
		"[sso]\ntenant = \"x\"\n": "sso.tenant", "[sso]\nlifetime = \"1s\"\n": "sso.lifetime",
	} {
		if _, err := Parse("c", []byte("version = 1\n"+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// set is SetAll of one key.
