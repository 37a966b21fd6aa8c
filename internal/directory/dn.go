// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"strings"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Names of the organizational units that Entra Domain Services makes.
const (
	syncedOU    = "OU=AADDC Users"
	computersOU = "OU=AADDC Computers"
)

// Reference names another object, as a value of member does. DN is always
// set; GUID and SID where the DC gave them, and they are what to match by: a
// DN changes with every rename. A foreign principal has the SID of its own
// domain.
type Reference struct {
	DN   string
	GUID identity.GUID
	SID  identity.SID
}

// ParseReference reads a DN, or an extended DN "<GUID=…>;<SID=…>;dn" (MS-ADTS
// 3.1.1.3.4.1.5). What is not of that form is all DN. It never fails.
func ParseReference(s string) Reference {
	var r Reference
	rest := s
	for strings.HasPrefix(rest, "<") {
		part, after, ok := strings.Cut(rest, ">;")
		if !ok {
			return Reference{DN: s}
		}
		name, value, _ := strings.Cut(part[1:], "=")
		var err error
		switch strings.ToUpper(name) {
		case "GUID":
			r.GUID, err = identity.ParseGUID(value)
		case "SID":
			r.SID, err = identity.ParseSID(value)
		}
		if err != nil {
			return Reference{DN: s}
		}
		rest = after
	}
	r.DN = rest
	return r
}

// String returns the extended form, or the DN alone where there is no id.
func (r Reference) String() string {
	var s strings.Builder
	if !r.GUID.IsZero() {
		s.WriteString("<GUID=" + r.GUID.String() + ">;")
	}
	if !r.SID.IsZero() {
		s.WriteString("<SID=" + r.SID.String() + ">;")
	}
	s.WriteString(r.DN)
	return s.String()
}

// splitDN splits a DN at its commas (RFC 4514), not at escaped ones, into RDNs
// as they are written; false for what is no DN.
func splitDN(dn string) (rdns []string, ok bool) {
	start := 0
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			if i++; i == len(dn) {
				return nil, false
			}
		case '"':
			return nil, false // the form of RFC 1779, which no DC of today writes
		case ',':
			rdns = append(rdns, dn[start:i])
			start = i + 1
		}
	}
	rdns = append(rdns, dn[start:])
	for _, r := range rdns {
		if at := strings.IndexByte(r, '='); at < 1 {
			return nil, false
		}
	}
	return rdns, true
}

// under reports whether dn lies below the object whose RDNs are given, case
// aside. Comparing text would be fooled by an object whose own name ends in
// an escaped comma and the name of the OU.
func under(dn string, parent []string) bool {
	rdns, ok := splitDN(dn)
	if !ok || len(rdns) <= len(parent) {
		return false
	}
	for i, r := range rdns[len(rdns)-len(parent):] {
		if !strings.EqualFold(r, parent[i]) {
			return false
		}
	}
	return true
}

// domainOf returns the DNS name of a domain by its DN, "" when it is none.
func domainOf(dn string) string {
	rdns, ok := splitDN(dn)
	if !ok {
		return ""
	}
	labels := make([]string, len(rdns))
	for i, r := range rdns {
		if len(r) < 4 || !strings.EqualFold(r[:3], "DC=") {
			return ""
		}
		labels[i] = r[3:]
	}
	return hostName(strings.Join(labels, "."))
}
