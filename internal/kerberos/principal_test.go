// SPDX-License-Identifier: Apache-2.0

package kerberos

import "testing"

func TestPrincipalsPrintAsMITPrintsThem(t *testing.T) {
	for want, p := range map[string]Principal{
		"alice@EXAMPLE.TEST":               Account("alice", "example.test"),
		`alice\@contoso.test@EXAMPLE.TEST`: Enterprise("alice@contoso.test", "EXAMPLE.TEST"),
		"host/nas.example.test@R":          Service("host", "nas.example.test", "r"),
		"host/nas.example.test":            {Name: []string{"host", "nas.example.test"}},
		`a\/b\\c/d\n@R`:                    {Name: []string{`a/b\c`, "d\n"}, Realm: "R"},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v prints %q, want %q", p.Name, got, want)
		}
	}
}

func TestMachineSalt(t *testing.T) {
	// MS-KILE 3.1.1.2, as a KDC answers for such accounts.
	if got, want := MachineSalt("NAS-01$", "aadds.Contoso.test"), "AADDS.CONTOSO.TESThostnas-01.aadds.contoso.test"; got != want {
		t.Errorf("MachineSalt = %q, want %q", got, want)
	}
}
