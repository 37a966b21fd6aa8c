// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestParsePrincipal(t *testing.T) {
	for text, want := range map[string]Principal{
		"alice@EXAMPLE.TEST":                 {NTPrincipal, []string{"alice"}, "EXAMPLE.TEST"},
		"NAS$@EXAMPLE.TEST":                  {NTPrincipal, []string{"NAS$"}, "EXAMPLE.TEST"},
		"host/nas.example.test":              {NTService, []string{"host", "nas.example.test"}, ""},
		`alice\@contoso.test@EXAMPLE.TEST`:   {NTPrincipal, []string{"alice@contoso.test"}, "EXAMPLE.TEST"},
		`a\/b\\c/d@R`:                        {NTService, []string{`a/b\c`, "d"}, "R"},
		"ldap/dc1.example.test/example.test": {NTService, []string{"ldap", "dc1.example.test", "example.test"}, ""},
	} {
		got, err := ParsePrincipal(text)
		if err != nil || !got.Equal(want) || got.Type != want.Type || got.String() != text {
			t.Errorf("ParsePrincipal(%q) = %+v (%q), %v, want %+v", text, got, got, err, want)
		}
	}
	for _, text := range []string{"", "@R", "alice@", "a//b", "/b", "a@b@c", `a\`, strings.Repeat("x", 256)} {
		if p, err := ParsePrincipal(text); !fault.Is(err, fault.Malformed) {
			t.Errorf("ParsePrincipal(%q) = %+v, %v, want malformed", text, p, err)
		}
	}
}

func FuzzParsePrincipal(f *testing.F) {
	for _, s := range []string{"alice@R", "host/x@R", `a\@b@R`, `\0\n\t\b`, "a/b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrincipal(s)
		if err != nil {
			return
		}
		again, err := ParsePrincipal(p.String())
		if len(p.String()) > 255 {
			return // escapes may make it too long to read back
		}
		if err != nil || again.String() != p.String() || again.Realm != p.Realm || strings.Join(again.Name, "\xff") != strings.Join(p.Name, "\xff") {
			t.Errorf("%q printed %q, which reads %+v, %v", s, p, again, err)
		}
	})
}

func TestMachineSalt(t *testing.T) {
	// MS-KILE 3.1.1.2, as a KDC answers for such accounts.
	if got, want := MachineSalt("NAS-01$", "aadds.Contoso.test"), "AADDS.CONTOSO.TESThostnas-01.aadds.contoso.test"; got != want {
		t.Errorf("MachineSalt = %q, want %q", got, want)
	}
}
