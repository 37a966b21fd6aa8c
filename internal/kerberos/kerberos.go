// SPDX-License-Identifier: Apache-2.0

// Package kerberos speaks Kerberos 5 with the KDCs of an Active Directory
// domain: sign-in by password or keytab (AS), service tickets (TGS), proof that
// a KDC is not forged (Verify), password changes (kpasswd), keytab and
// credential cache files, and the GSS-API tokens that LDAP and DNS updates are
// sealed and signed with.
//
// Messages and crypto come from gokrb5; its client is not used, because it
// turns errors into text, loses NTSTATUS, knows no context and refuses
// enterprise names. Only AES is spoken (etypes 18 and 17), only over TCP.
//
// The package never reads krb5.conf, never uses RC4 or DES, never writes a
// password or key anywhere but into a keytab that it was told to write, and
// never decides whether somebody may sign in.
package kerberos

import "strings"

// Name types of RFC 4120 6.2 and RFC 6806 5.
const (
	NTPrincipal  int32 = 1  // an account: user, NAS$
	NTService    int32 = 2  // krbtgt and other services with an instance
	NTEnterprise int32 = 10 // a UPN, resolved by the KDC
)

// Principal is a Kerberos name. The zero value is no principal.
type Principal struct {
	Type  int32
	Name  []string // components: {"host", "nas.example.com"}
	Realm string   // upper case in Active Directory
}

// Account is the principal of an account by sAMAccountName; a computer's ends
// in "$".
func Account(sam, realm string) Principal {
	return Principal{Type: NTPrincipal, Name: []string{sam}, Realm: strings.ToUpper(realm)}
}

// Enterprise is the principal of an account by UPN, whatever its suffix; the
// KDC of realm answers with the canonical name (RFC 6806 5).
func Enterprise(upn, realm string) Principal {
	return Principal{Type: NTEnterprise, Name: []string{upn}, Realm: strings.ToUpper(realm)}
}

// Service is a service principal, as Service("ldap", "dc1.example.com", realm).
func Service(class, host, realm string) Principal {
	return Principal{Type: NTService, Name: []string{class, host}, Realm: strings.ToUpper(realm)}
}

var escape = strings.NewReplacer(`\`, `\\`, "/", `\/`, "@", `\@`, "\n", `\n`, "\t", `\t`, "\b", `\b`, "\x00", `\0`)

// String returns "name@REALM" or "class/host@REALM" as MIT prints it, with
// backslash escapes.
func (p Principal) String() string {
	parts := make([]string, len(p.Name))
	for i, n := range p.Name {
		parts[i] = escape.Replace(n)
	}
	s := strings.Join(parts, "/")
	if p.Realm != "" {
		s += "@" + escape.Replace(p.Realm)
	}
	return s
}

// Equal compares names and realm, without case, as Active Directory does, and
// without the name type, as RFC 4120 6.2 asks.
func (p Principal) Equal(o Principal) bool {
	if len(p.Name) != len(o.Name) || !strings.EqualFold(p.Realm, o.Realm) {
		return false
	}
	for i := range p.Name {
		if !strings.EqualFold(p.Name[i], o.Name[i]) {
			return false
		}
	}
	return true
}

// IsZero reports whether this is no principal.
func (p Principal) IsZero() bool { return len(p.Name) == 0 }
