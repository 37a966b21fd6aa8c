// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"reflect"
	"strings"
	"testing"
)

const (
	oneLine = `# a comment
deb cdrom:[Debian GNU/Linux 12.0.0 _Bookworm_ - Official amd64 NETINST]/ bookworm main
deb http://deb.example.org/debian bookworm main contrib # and another
deb-src http://deb.example.org/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://mirror.example/debian-security	bookworm-security   main
deb [trusted=yes] http://repo.example/flat ./
`
	deb822 = `Types: deb deb-src
# a comment between fields
URIs: http://deb.example.org/debian http://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://deb.example.org/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: https://off.example
Suites: off
Components: main

types: deb
uris: https://other.example/apt
suites: nodistro
components: main
Check-Valid-Until: no
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 AAEC
 -----END PGP PUBLIC KEY BLOCK-----
`
)

func TestParseSourcesList(t *testing.T) {
	got, err := ParseSourcesList(oneLine)
	if err != nil {
		t.Fatal(err)
	}
	want := []AptSource{
		{URI: "http://deb.example.org/debian", Suite: "bookworm", Components: []string{"main", "contrib"}},
		{URI: "https://mirror.example/debian-security", Suite: "bookworm-security", Components: []string{"main"},
			Options: []string{"arch=amd64"}, SignedBy: "/usr/share/keyrings/debian-archive-keyring.gpg"},
		{URI: "http://repo.example/flat", Suite: "./", Components: []string{}, Options: []string{"trusted=yes"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseSourcesListRefusesNonsense(t *testing.T) {
	for text, want := range map[string]string{
		"rpm http://x y z":             "line 1: type",
		"\n\ndeb http://x":             "line 3: an address and a suite",
		"deb http://x bookworm":        "line 1: suite \"bookworm\" has no components",
		"deb [arch=amd64 http://x y z": "line 1: options are not closed",
		"deb [arch] http://x y z":      "line 1: option \"arch\" has no value",
	} {
		if _, err := ParseSourcesList(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestParseDeb822Sources(t *testing.T) {
	got, err := ParseDeb822Sources(deb822)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, source := range got {
		names = append(names, source.URI+" "+source.Suite)
	}
	want := []string{
		"http://deb.example.org/debian bookworm", "http://deb.example.org/debian bookworm-updates",
		"http://second.example/debian bookworm", "http://second.example/debian bookworm-updates",
		"https://other.example/apt nodistro",
	}
	if !reflect.DeepEqual(names, want) {
		t.Fatalf("got %q, want %q", names, want)
	}
	if key, want := got[4].SignedBy, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAEC\n-----END PGP PUBLIC KEY BLOCK-----"; key != want {
		t.Errorf("key in the stanza: got %q, want %q", key, want)
	}
	if got, want := got[4].Options, []string{"check-valid-until=no"}; !reflect.DeepEqual(got, want) {
		t.Errorf("options: got %q, want %q", got, want)
	}
}

func TestParseDeb822RefusesNonsense(t *testing.T) {
	for _, text := range []string{" continues nothing\n", "no colon\n", "Types: deb\nSuites: x\n", ": no name\n"} {
		if _, err := ParseDeb822Sources(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestForSuite(t *testing.T) {
	main := []string{"main"}
	all := []AptSource{
		{URI: "http://deb/debian", Suite: "bookworm", Components: []string{"main", "contrib"}, SignedBy: "/k"},
		{URI: "http://deb/debian", Suite: "bookworm-updates", Components: main},
		{URI: "http://deb/debian-security", Suite: "bookworm-security", Components: main},
		{URI: "http://deb/debian", Suite: "bookworm-backports", Components: main},
		{URI: "http://deb/debian", Suite: "bookworm", Components: []string{"non-free"}},
		{URI: "http://other/apt", Suite: "nodistro", Components: main},
		{URI: "http://deb/debian", Suite: "stable", Components: main},
	}
	got := ForSuite(all, "bookworm", "trixie")
	want := []AptSource{
		{URI: "http://deb/debian", Suite: "trixie", Components: main, SignedBy: "/k"},
		{URI: "http://deb/debian", Suite: "trixie-updates", Components: main},
		{URI: "http://deb/debian-security", Suite: "trixie-security", Components: main},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := ForSuite(all, "noble", "bookworm"); len(got) != 1 || got[0].Suite != "bookworm" {
		t.Errorf("on a machine that is no Debian: got %+v, want what it calls stable", got)
	}
}

// sameAgain checks that what a source prints is read as the same source.
func sameAgain(t *testing.T, source AptSource) {
	t.Helper()
	line := source.Line(source.SignedBy)
	again, err := ParseSourcesList(line)
	if err != nil || len(again) != 1 || again[0].Line(again[0].SignedBy) != line {
		t.Errorf("printed as %q and read again: got %+v, %v, want %+v", line, again, err, source)
	}
}

func FuzzParseSourcesList(f *testing.F) {
	f.Add(oneLine)
	f.Add("deb [ signed-by=/a,/b arch+=amd64 ] http://x y z")
	f.Fuzz(func(t *testing.T, text string) {
		sources, err := ParseSourcesList(text)
		if err != nil {
			return
		}
		for _, source := range sources {
			sameAgain(t, source)
		}
	})
}

func FuzzParseDeb822(f *testing.F) {
	f.Add(deb822)
	f.Add("Types: deb\nURIs: a\nSuites: b/\n")
	f.Fuzz(func(t *testing.T, text string) {
		sources, err := ParseDeb822Sources(text)
		if err != nil {
			return
		}
		for _, source := range sources {
			if source.URI == "" || source.Suite == "" {
				t.Errorf("a source without address or suite: %+v", source)
			}
		}
	})
}
