// SPDX-License-Identifier: Apache-2.0

package idmap

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

func TestName(t *testing.T) {
	reserved := Reserved{
		Local:      map[string]struct{}{"nasadmin": {}, "žofie": {}},
		Privileged: Privileged("Backup-Operator"),
	}
	long := strings.Repeat("x", 255)
	for _, tc := range []struct {
		account string
		want    string
		why     identity.Unpublished
	}{
		{"alice", "alice", ""},
		{"Alice", "alice", ""},
		{"Ærøskøbing", "ærøskøbing", ""},
		{"Domain Users", "domain users", ""},
		{"AAD DC Administrators", "aad dc administrators", ""},
		{"o'neil", "o'neil", ""},
		{"a", "a", ""},
		{"$QP3000-1FJ0O1VB8T", "$qp3000-1fj0o1vb8t", ""},
		{"x-1", "x-1", ""},
		{"1a", "1a", ""},
		{long, long, ""},

		{"", "", ReasonEmpty},
		{long + "x", "", ReasonTooLong},
		{"a:b", "", ReasonCharacter}, {"a/b", "", ReasonCharacter}, {"a,b", "", ReasonCharacter},
		{`a\b`, "", ReasonCharacter}, {"a@b", "", ReasonCharacter}, {"a\nb", "", ReasonCharacter},
		{"a\x00b", "", ReasonCharacter}, {"a\x7fb", "", ReasonCharacter}, {"a\u0085b", "", ReasonCharacter},
		{"a\u202eb", "", ReasonCharacter}, {"a\u2028b", "", ReasonCharacter}, {"\ufeffa", "", ReasonCharacter},
		{"a\xffb", "", ReasonCharacter}, {".", "", ReasonCharacter}, {"..", "", ReasonCharacter},

		{"12345", `CONTOSO\12345`, ReasonDigits}, {"0", `CONTOSO\0`, ReasonDigits},
		{"-rf", `CONTOSO\-rf`, ReasonLeading}, {"+nis", `CONTOSO\+nis`, ReasonLeading}, {"~root", `CONTOSO\~root`, ReasonLeading},
		{"#wheel", `CONTOSO\#wheel`, ReasonLeading}, {"%admin", `CONTOSO\%admin`, ReasonLeading},
		{"NASADMIN", `CONTOSO\nasadmin`, ReasonLocal}, {"Žofie", `CONTOSO\žofie`, ReasonLocal},
		{"root", `CONTOSO\root`, ReasonPrivileged}, {"Wheel", `CONTOSO\wheel`, ReasonPrivileged},
		{"sudo", `CONTOSO\sudo`, ReasonPrivileged}, {"docker", `CONTOSO\docker`, ReasonPrivileged},
		{"backup-operator", `CONTOSO\backup-operator`, ReasonPrivileged},
		{"#" + long[:247], "", ReasonLeading}, // 7 + 1 + 248 bytes
	} {
		name, why := Name(tc.account, "CONTOSO", reserved)
		if name != tc.want || why != tc.why {
			t.Errorf("Name(%.40q) = %.40q, %q, want %.40q, %q", tc.account, name, why, tc.want, tc.why)
		}
	}
	if name, why := Name("root", "", reserved); name != "" || why != ReasonPrivileged {
		t.Errorf("without a domain name: %q, %q", name, why)
	}
	if name, _ := Name("root", "A:B", reserved); name != "" {
		t.Errorf("with an illegal domain name: %q", name)
	}
}

func TestPrivilegedNamesAreThere(t *testing.T) {
	set := Privileged("Extra Name")
	for _, name := range strings.Fields("root wheel admin docker lxd incus libvirt sudo adm disk shadow staff users nogroup nobody www-data kvm latchkey latchkey-admin winbindd_priv") {
		if _, ok := set[name]; !ok {
			t.Errorf("%s is not in the shipped list", name)
		}
	}
	if _, ok := set["extra name"]; !ok {
		t.Error("a name of the configuration is not in the list")
	}
	for name := range set {
		if identity.Fold(name) != name || illegal(name) != "" {
			t.Errorf("%q in the list is not a folded, legal name", name)
		}
	}
	for _, name := range strings.Fields("alice administrator guest domain") {
		if _, ok := set[name]; ok {
			t.Errorf("%s is an ordinary name", name)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"alice", "root", "a:b", "-x", "123", "Ångström", "\xff", "a\u202eb", "..", "DOMAIN\\x"} {
		f.Add(s, "CONTOSO")
	}
	reserved := Reserved{Privileged: Privileged()}
	f.Fuzz(func(t *testing.T, account, netbios string) {
		name, why := Name(account, netbios, reserved)
		if len(name) > MaxName || strings.ContainsAny(name, ":/,@\n\x00") || (name == "" && why == "") {
			t.Fatalf("Name(%q, %q) = %q, %q", account, netbios, name, why)
		}
		if why == "" {
			// A published bare name names itself and nobody of this machine.
			again, whyAgain := Name(name, netbios, reserved)
			if again != name || whyAgain != "" || strings.Contains(name, `\`) || reserved.Why(name) != "" {
				t.Fatalf("Name(%q) = %q, again %q, %q", account, name, again, whyAgain)
			}
		} else if name != "" && strings.Count(name, `\`) != 1 {
			t.Fatalf("Name(%q, %q) = %q, %q", account, netbios, name, why)
		}
	})
}
