// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"strings"
	"testing"
)

func TestTwoDomainControllers(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{DCs: 2, Population: Population{Users: 5}})
	if len(d.DCs) != 2 || d.DCs[0].IP() == d.DCs[1].IP() {
		t.Fatalf("got %d domain controllers, want 2", len(d.DCs))
	}
	for _, service := range []string{"_ldap._tcp.dc._msdcs.", "_kerberos._tcp.", "_kpasswd._tcp."} {
		for _, dc := range d.DCs {
			got := must(t, box.Machine, "dig", "+short", "@"+dc.IP(), "SRV", service+d.DNS)
			if strings.Count(got, "\n") != 1 || !strings.Contains(got, "dc1.") || !strings.Contains(got, "dc2.") {
				t.Errorf("%s asked at %s: got %q, want both", service, dc.Name(), got)
			}
		}
	}
	// Each learns what the other was told.
	second := d.At(d.DCs[1])
	if _, err := d.AddUser(ctx, User{Name: "told.dc1", Password: "A-good-0ne"}); err != nil {
		t.Fatal(err)
	}
	if _, err := second.AddUser(ctx, User{Name: "told.dc2", Password: "A-good-0ne"}); err != nil {
		t.Fatal(err)
	}
	if err := d.WaitReplicated(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Find(ctx, "told.dc1"); err != nil {
		t.Error(err)
	}
	if _, err := d.Find(ctx, "told.dc2"); err != nil {
		t.Error(err)
	}
	// One is enough.
	for i, name := range []string{"told.dc2", "told.dc1"} {
		if err := d.DCs[i].Kill(ctx); err != nil {
			t.Fatal(err)
		}
		if got := kinit(t, box, name, "A-good-0ne"); !got.Ok() {
			t.Errorf("kinit without %s: %s", d.DCs[i].Name(), got)
		}
		if got := ldap(t, box, &Domain{DomainOptions: d.DomainOptions, DC: d.DCs[1-i]}, "", "ldapwhoami"); got.Stderr != "" && strings.Contains(got.Stderr, "contact") {
			t.Errorf("LDAP without %s: %s", d.DCs[i].Name(), got)
		}
		if err := d.DCs[i].Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDomainControllersComeAndGo(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{})
	dc, err := d.AddDC(ctx, "X7Q2-MZ4K9")
	if err != nil {
		t.Fatal(err)
	}
	srv := func() string { return must(t, box.Machine, "dig", "+short", "SRV", "_ldap._tcp.dc._msdcs."+d.DNS) }
	if got := srv(); !strings.Contains(strings.ToLower(got), "x7q2-mz4k9.") {
		t.Errorf("SRV records: got %q, want the new one in them", got)
	}
	again, err := d.Lab().OpenDomain()
	if err != nil || len(again.DCs) != 2 || again.DCs[1].IP() != dc.IP() {
		t.Errorf("opened again: got %+v, %v", again, err)
	}
	if err := d.RemoveDC(ctx, dc); err != nil {
		t.Fatal(err)
	}
	if got := srv(); strings.Contains(strings.ToLower(got), "x7q2") || !strings.Contains(got, "dc1.") {
		t.Errorf("SRV records after it was removed: got %q", got)
	}
	if err := d.RemoveDC(ctx, d.DCs[0]); err == nil {
		t.Error("the first domain controller was removed")
	}
}
