// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"os"
	"strings"
	"testing"
)

// nightly chooses the long form of a test.
func nightly() bool { return os.Getenv("LATCHKEY_NIGHTLY") != "" }

// TestReleases shows that domain and boxes stand on each Debian, with the Samba
// and the glibc of that release, and on different ones side by side.
func TestReleases(t *testing.T) {
	versions := map[string]string{"bookworm": "12."}
	suite := "bookworm"
	if nightly() {
		versions["trixie"], suite = "13.", "trixie"
	}
	l, err := Up(t.Context(), Options{Base: BaseSpec{Suite: suite}, Progress: logProgress(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d, err := l.Domain(t.Context(), DomainOptions{Population: Population{Users: 3}})
	if err != nil {
		t.Fatal(err)
	}
	for release, version := range versions {
		box := d.StartBox(t, release, BoxOptions{Suite: release, UseDNS: true, Krb5Conf: true})
		if got := must(t, box.Machine, "cat", "/etc/debian_version"); !strings.HasPrefix(got, version) {
			t.Errorf("Debian of the box %s: got %s, want %s", release, got, version)
		}
		if got := kinit(t, box, UserName(1)+"@contoso.test", UserPassword(1), "-E"); !got.Ok() {
			t.Errorf("kinit in the box %s: %s", release, got)
		}
	}
}

// TestLargeDomain makes the size that plans are made for.
func TestLargeDomain(t *testing.T) {
	size := Population{Users: 1600, Groups: 1}
	if nightly() {
		size = Population{Users: 100000, Groups: 10000}
	}
	d := Start(t, DomainOptions{Population: size})
	found, err := d.Search(t.Context(), d.UsersDN(), "(sAMAccountName=everyone-big)", "member")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(found[0].Attrs["member"]); got != size.Users {
		t.Errorf("members of everyone-big: got %d, want %d", got, size.Users)
	}
}
