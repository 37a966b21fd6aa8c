// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"slices"
	"testing"
)

func TestUnderIsNotFooledByNames(t *testing.T) {
	ou, _ := splitDN("OU=AADDC Users," + testBase)
	for dn, want := range map[string]bool{
		"CN=alice,OU=AADDC Users," + testBase:         true,
		"cn=alice,ou=aaddc users,dc=EXAMPLE,dc=test":  true,
		"CN=alice,OU=Sub,OU=AADDC Users," + testBase:  true,
		`CN=a\,b,OU=AADDC Users,` + testBase:          true,
		`CN=a\\,OU=AADDC Users,` + testBase:           true,
		"OU=AADDC Users," + testBase:                  false, // the OU itself
		`CN=evil\,OU=AADDC Users,` + testBase:         false, // an object in the root with that name
		`CN=evil\\\,OU=AADDC Users,` + testBase:       false,
		"CN=alice,OU=AADDC Users,OU=Mine," + testBase: false,
		"CN=alice,OU=Mine," + testBase:                false,
		"CN=alice,OU=AADDC Users,DC=other,DC=test":    false,
		"CN=alice,OU=AADDC Users " + "," + testBase:   false,
		"":                                      false,
		`CN="alice,OU=AADDC Users",` + testBase: false,
		`CN=alice,OU=AADDC Users,` + testBase + `\`: false,
		"alice,OU=AADDC Users," + testBase:          false,
	} {
		if got := under(dn, ou); got != want {
			t.Errorf("under(%q) = %v, want %v", dn, got, want)
		}
	}
}

func TestParseReference(t *testing.T) {
	const guid, sid = "01020304-0506-0708-090a-0b0c0d0e0f10", "S-1-5-21-1-2-3-1104"
	for text, want := range map[string][3]string{
		"CN=a,DC=b": {"CN=a,DC=b"},
		"<GUID=" + guid + ">;<SID=" + sid + ">;CN=a,DC=b": {"CN=a,DC=b", guid, sid},
		"<GUID=" + guid + ">;CN=a,DC=b":                   {"CN=a,DC=b", guid},
		"<GUID=nonsense>;CN=a":                            {"<GUID=nonsense>;CN=a"},
		"<GUID=" + guid:                                   {"<GUID=" + guid},
		"CN=<GUID=" + guid + ">;x":                        {"CN=<GUID=" + guid + ">;x"},
		"<OTHER=1>;CN=a":                                  {"CN=a"},
	} {
		r := ParseReference(text)
		if r.DN != want[0] || r.GUID.String() != want[1] || r.SID.String() != want[2] {
			t.Errorf("ParseReference(%q) = %+v, want %v", text, r, want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("<GUID=01020304-0506-0708-090a-0b0c0d0e0f10>;<SID=S-1-5-21-1-2-3-1104>;CN=a,DC=b")
	f.Add(`CN=a\,b,OU=c`)
	f.Fuzz(func(t *testing.T, s string) {
		r := ParseReference(s)
		if len(r.DN) > 0 && r.DN[0] != '<' {
			if again := ParseReference(r.String()); again != r {
				t.Errorf("%q reads %+v, which prints %q and reads %+v", s, r, r.String(), again)
			}
		}
		if rdns, ok := splitDN(s); ok {
			if again, ok := splitDN(s); !ok || !slices.Equal(again, rdns) || under(s, rdns) {
				t.Errorf("%q lies under itself", s)
			}
		}
	})
}

func TestDomainOf(t *testing.T) {
	for dn, want := range map[string]string{"DC=aadds,DC=Contoso,DC=test": "aadds.contoso.test", "OU=x,DC=a": "", "": "", "dc=a": "a", "DC=": ""} {
		if got := domainOf(dn); got != want {
			t.Errorf("domainOf(%q) = %q, want %q", dn, got, want)
		}
	}
}
