// SPDX-License-Identifier: Apache-2.0

//go:build lab && nightly

package lab

import (
	"strings"
	"testing"
)

// TestTrixie shows that the lab also stands on the next Debian, with the Samba
// and the glibc of that release.
func TestTrixie(t *testing.T) {
	l, err := Up(t.Context(), Options{Base: BaseSpec{Suite: "trixie"}, Progress: logProgress(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d, err := l.Domain(t.Context(), DomainOptions{Population: Population{Users: 3}})
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]BoxOptions{"new": {}, "old": {Suite: "bookworm"}} {
		options.UseDNS, options.Krb5Conf = true, true
		box := d.StartBox(t, name, options)
		want := map[string]string{"new": "13.", "old": "12."}[name]
		if got := must(t, box.Machine, "cat", "/etc/debian_version"); !strings.HasPrefix(got, want) {
			t.Errorf("Debian of the box %s: got %s, want %s", name, got, want)
		}
		if got := kinit(t, box, UserName(1)+"@contoso.test", UserPassword(1), "-E"); !got.Ok() {
			t.Errorf("kinit in the box %s: %s", name, got)
		}
	}
}

// TestHundredThousandPeople is the size that plans are made for.
func TestHundredThousandPeople(t *testing.T) {
	d := Start(t, DomainOptions{Population: Population{Users: 100000, Groups: 10000}})
	found, err := d.Search(t.Context(), d.UsersDN(), "(sAMAccountName=everyone-big)", "member")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(found[0].Attrs["member"]); got != 100000 {
		t.Errorf("members of everyone-big: got %d, want 100000", got)
	}
}
