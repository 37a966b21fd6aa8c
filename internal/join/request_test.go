// SPDX-License-Identifier: Apache-2.0

package join

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func TestDomainNames(t *testing.T) {
	for in, want := range map[string]string{
		"aadds.contoso.com": "aadds.contoso.com", " AADDS.Contoso.COM. ": "aadds.contoso.com", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"": "", "CONTOSO": "", "10.0.0.4": "", "fd00::1": "", "a..b": "", "-a.b": "", "a_b.c": "", "a b.c": "", "bücher.example": "", strings.Repeat("a", 64) + ".b": "",
		strings.Repeat("a.", 130) + "b": "", "a.b/c": "",
	} {
		got, err := parseDomain(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("parseDomain(%q) = %q, %v, want %q", in, got, err, want)
		}
		if err != nil && (!fault.Is(err, fault.Malformed) || fault.Remedy(err) == "") {
			t.Errorf("parseDomain(%q): kind %v, remedy %q", in, fault.KindOf(err), fault.Remedy(err))
		}
	}
}

func TestUserNames(t *testing.T) {
	dc := directory.DC{NetBIOS: "CONTOSO", DNSDomain: "aadds.contoso.com"}
	for in, want := range map[string]kerberos.Principal{
		"alice":                   kerberos.Account("alice", "AADDS.CONTOSO.COM"),
		" alice ":                 kerberos.Account("alice", "AADDS.CONTOSO.COM"),
		`contoso\alice`:           kerberos.Account("alice", "AADDS.CONTOSO.COM"),
		`AADDS.contoso.com\alice`: kerberos.Account("alice", "AADDS.CONTOSO.COM"),
		"alice@contoso.com":       kerberos.Enterprise("alice@contoso.com", "AADDS.CONTOSO.COM"),
		"alice@AADDS.CONTOSO.COM": kerberos.Enterprise("alice@AADDS.CONTOSO.COM", "AADDS.CONTOSO.COM"),
		"al.ice@x@contoso.com":    kerberos.Enterprise("al.ice@x@contoso.com", "AADDS.CONTOSO.COM"),
		"žofie":                   kerberos.Account("žofie", "AADDS.CONTOSO.COM"),
		"":                        {}, `\alice`: {}, `contoso\`: {}, "@contoso.com": {}, "alice@": {}, `a\b\c`: {}, `contoso\alice@x`: {}, "a\nb": {}, "a/b": {}, `fabrikam\alice`: {}, "a;b": {},
	} {
		u, err := parseUser(in)
		var got kerberos.Principal
		if err == nil {
			got, err = u.principal(dc)
		}
		if want.IsZero() {
			if !fault.Is(err, fault.Malformed) || fault.Remedy(err) == "" {
				t.Errorf("%q: %v, %v, want it refused", in, got, err)
			}
		} else if err != nil || !got.Equal(want) || got.Type != want.Type {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestHostnames(t *testing.T) {
	for _, tc := range []struct{ given, own, want string }{
		{"", "nas", "nas"}, {"", "NAS-01.home.lan", "nas-01"}, {"Box", "nas", "box"}, {"", "abcdefghijklmno", "abcdefghijklmno"}, {"0a", "", "0a"},
		{"", "", ""}, {"nas.home", "", ""}, {"", "abcdefghijklmnop", ""}, {"abcdefghijklmnop", "", ""}, {"", "12345", ""}, {"", "localhost", ""}, {"", "localhost.localdomain", ""},
		{"aadds", "", ""}, {"", "AADDS", ""}, {"my_nas", "", ""}, {"-a", "", ""}, {"a-", "", ""}, {"näs", "", ""}, {"", ".x", ""}, {"a b", "", ""}, {"a$", "", ""},
	} {
		got, err := parseHostname(tc.given, tc.own, "aadds.contoso.com")
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("parseHostname(%q, %q) = %q, %v, want %q", tc.given, tc.own, got, err, tc.want)
		}
		if err != nil && (!fault.Is(err, fault.Malformed) || !strings.Contains(fault.Remedy(err), "--hostname")) {
			t.Errorf("parseHostname(%q, %q): kind %v, remedy %q", tc.given, tc.own, fault.KindOf(err), fault.Remedy(err))
		}
	}
}

func TestRequests(t *testing.T) {
	good := func(edit func(*Request)) *Request {
		r := &Request{Domain: "aadds.contoso.com", User: "alice", Password: secret.FromString("x")}
		edit(r)
		return r
	}
	p, err := good(func(r *Request) {
		r.DomainControllers = []string{"DC1.aadds.contoso.com.", "10.0.0.4", "::ffff:10.0.0.5", "[fd00::1]"}
		r.DNSServers = []string{"10.0.0.4", "[fd00::1]:5353", "fd00::2", "10.0.0.5:5300"}
		r.OU = " ou=NAS,DC=aadds,DC=contoso,DC=com "
		r.TenantID = " 00112233-4455-6677-8899-AABBCCDDEEFF "
	}).understand(false)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(p.dcs, " "), "dc1.aadds.contoso.com 10.0.0.4 10.0.0.5 fd00::1"; got != want {
		t.Errorf("domain controllers %q, want %q", got, want)
	}
	if got, want := strings.Join(serverTexts(p.dns), " "), "10.0.0.4 [fd00::1]:5353 fd00::2 10.0.0.5:5300"; got != want {
		t.Errorf("name servers %q, want %q", got, want)
	}
	if p.ou != "ou=NAS,DC=aadds,DC=contoso,DC=com" || p.tenant.String() != "00112233-4455-6677-8899-aabbccddeeff" || p.realm() != "AADDS.CONTOSO.COM" {
		t.Errorf("plan %+v", p)
	}
	for name, edit := range map[string]func(*Request){
		"domain":             func(r *Request) { r.Domain = "" },
		"user":               func(r *Request) { r.User = "" },
		"password":           func(r *Request) { r.Password = secret.Bytes{} },
		"DC with port":       func(r *Request) { r.DomainControllers = []string{"dc1:389"} },
		"DC with path":       func(r *Request) { r.DomainControllers = []string{"ldap://dc1"} },
		"many DCs":           func(r *Request) { r.DomainControllers = make([]string, 17) },
		"DNS by name":        func(r *Request) { r.DNSServers = []string{"dns1"} },
		"OU by path":         func(r *Request) { r.OU = "NAS/Servers" },
		"OU with newline":    func(r *Request) { r.OU = "OU=a\nb,DC=x" },
		"OU of another kind": func(r *Request) { r.OU = "DC=aadds,DC=contoso" },
		"endless OU":         func(r *Request) { r.OU = "OU=" + strings.Repeat("a", 5000) + ",DC=x" },
		"tenant":             func(r *Request) { r.TenantID = "------------------------------------" },
		"zero tenant":        func(r *Request) { r.TenantID = "00000000-0000-0000-0000-000000000000" },
		"people":             func(r *Request) { r.People = 9 },
		"user of nowhere":    func(r *Request) { r.User = `a\b\c` },
	} {
		if _, err := good(edit).understand(false); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, want malformed", name, err)
		}
	}
	if _, err := (&Request{Domain: "aadds.contoso.com"}).understand(true); err != nil {
		t.Errorf("a check needs no user: %v", err)
	}
}

func TestPasswordsOfMachines(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		p := newPassword()
		text := string(p.Reveal())
		if len(text) != passwordLength || seen[text] || strings.Trim(text, alphabet) != "" {
			t.Fatalf("%d characters, seen before: %v", len(text), seen[text])
		}
		for _, class := range []string{"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789", "-_"} {
			if !strings.ContainsAny(text, class) {
				t.Errorf("no character of %s", class)
			}
		}
		seen[text] = true
	}
	if len(alphabet) != 64 {
		t.Errorf("%d characters to choose from: not all are as likely", len(alphabet))
	}
}
