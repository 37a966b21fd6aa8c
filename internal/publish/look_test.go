// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
)

// String returns the template as it was written.
func (t template) String() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable != 0 {
			b.WriteString("%" + string(p.variable))
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String()
}

func TestTemplates(t *testing.T) {
	u := &identity.User{Common: identity.Common{Name: "žofie", Account: "Žofie", DisplayName: "Žofie: \"Žofka\"\nNová"}, UID: 100001105, UPN: "zofie@contoso.test"}
	q := &identity.User{Common: identity.Common{Name: `CONTOSO\root`, Account: "root", DisplayName: "../../etc"}, UID: 100001106}
	for _, tc := range []struct {
		user       *identity.User
		kind       templateKind
		text, want string
	}{
		{u, pathTemplate, "/home/%D/%u", "/home/CONTOSO/žofie"},
		{u, pathTemplate, "/home/%d/%l/%U", "/home/contoso.test/ž/100001105"},
		{u, pathTemplate, "/100%%/%p", "/100%/zofie@contoso.test"},
		{u, pathTemplate, "/h/%n", "/h/Žofie_ \"Žofka\"_Nová"},
		{u, textTemplate, "%n", "Žofie  \"Žofka\" Nová"},
		{u, textTemplate, "", ""},
		{u, textTemplate, "%n, %p", "Žofie  \"Žofka\" Nová, zofie@contoso.test"},
		{q, pathTemplate, "/home/%u", "/home/CONTOSO+root"},
		{q, pathTemplate, "/home/%l/%n", "/home/r/.._.._etc"},
		{&identity.User{Common: identity.Common{Name: "x", DisplayName: ".."}}, pathTemplate, "/home/%n/x", "/home/_/x"},
		{&identity.User{Common: identity.Common{Account: "Mail Only"}}, textTemplate, "%u%l%n", "Mail Only"},
	} {
		tmpl, err := parseTemplate(tc.text, tc.kind)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if got := tmpl.expand(tc.user, contoso); got != tc.want {
			t.Errorf("%q for %q is %q, want %q", tc.text, tc.user.Name, got, tc.want)
		}
	}
}

func TestPolicyRefuses(t *testing.T) {
	for text, s := range map[string]Settings{
		"home: ":                {Home: "home"},
		"has a .. in it":        {Home: "/home/../%u"},
		"means nothing":         {Shell: "/bin/%x"},
		"single %":              {Gecos: "100%"},
		"colon":                 {Gecos: "a:b"},
		"control":               {Gecos: "a\nb"},
		"override 2: it has no": {Overrides: []Override{{Group: "a"}, {Shell: "/bin/sh"}}},
		"override 1: shell":     {Overrides: []Override{{Group: "a", Shell: "sh"}}},
		"is no pattern":         {Users: Filter{Hide: []string{"[a"}}},
	} {
		if _, err := NewPolicy(s); !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), text) {
			t.Errorf("NewPolicy(%+v) = %v, want malformed with %q", s, err, text)
		}
	}
}

func TestGecosIsCutBetweenLetters(t *testing.T) {
	p, err := NewPolicy(Settings{Gecos: "%n"})
	if err != nil {
		t.Fatal(err)
	}
	u := &identity.User{Common: identity.Common{Name: "a", DisplayName: strings.Repeat("é", 300)}}
	p.Plain(contoso).Fill(u)
	if len(u.Gecos) > maxGecos || !utf8.ValidString(u.Gecos) || len(u.Gecos) < maxGecos-1 {
		t.Errorf("gecos of %d bytes, valid %v", len(u.Gecos), utf8.ValidString(u.Gecos))
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("/home/%D/%u", "ana", "Ana", true)
	f.Add("%n%%%l", `D\x`, "a:b\n", false)
	f.Fuzz(func(t *testing.T, text, name, display string, isPath bool) {
		kind := textTemplate
		if isPath {
			kind = pathTemplate
		}
		tmpl, err := parseTemplate(text, kind)
		if err != nil {
			return
		}
		if got := tmpl.String(); got != text {
			t.Fatalf("%q came back as %q", text, got)
		}
		got := tmpl.expand(&identity.User{Common: identity.Common{Name: name, DisplayName: display}}, contoso)
		if len(got) <= snapshot.MaxField && snapshot.CheckField(got) != nil {
			t.Fatalf("%q gave %q: %v", text, got, snapshot.CheckField(got))
		}
		if isPath && strings.Contains(got+"/", "/../") {
			t.Fatalf("%q gave %q, which climbs", text, got)
		}
	})
}
