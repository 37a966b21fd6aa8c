// SPDX-License-Identifier: Apache-2.0

package krb5conf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Settings are what the files say.
type Settings struct {
	Realm  string   // "AADDS.CONTOSO.TEST"
	Domain string   // "aadds.contoso.test"
	KDCs   []string // addresses or host names; empty: DNS finds them
}

// maxKDCs is far above what a realm needs in a file.
const maxKDCs = 32

// check refuses whatever could be more than one word in the file. The settings
// come from a process with fewer rights than the one that writes.
func (s Settings) check() error {
	if !hostName(s.Realm) || s.Realm != strings.ToUpper(s.Realm) {
		return fault.Errorf(fault.Malformed, "not a realm: %.200q", s.Realm)
	}
	if !hostName(s.Domain) || s.Domain != strings.ToLower(s.Domain) {
		return fault.Errorf(fault.Malformed, "not a domain name: %.200q", s.Domain)
	}
	if len(s.KDCs) > maxKDCs {
		return fault.Errorf(fault.Malformed, "more than %d domain controllers", maxKDCs)
	}
	for _, k := range s.KDCs {
		if a, err := netip.ParseAddr(k); !hostName(k) && (err != nil || a.Zone() != "") {
			return fault.Errorf(fault.Malformed, "not a host name or address: %.200q", k)
		}
	}
	return nil
}

// hostName reports whether s is a DNS name of letters, digits and dashes
// (RFC 1123 2.1); an IPv4 address is one as well.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// enctypes are the AES types of RFC 3962, which Active Directory speaks, and
// those of RFC 8009, so that realms of another kind keep theirs.
const enctypes = "aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128"

// placeholders are default realms that came with a package and mean nobody's.
var placeholders = []string{"ATHENA.MIT.EDU", "EXAMPLE.COM"}

func placeholder(realm string) bool {
	for _, p := range placeholders {
		if realm == p {
			return true
		}
	}
	return false
}

// relations returns what our file says in a machine whose other files say p
// (nil: there are none), and notes on what of theirs stays or is overruled.
//
// A machine that has a default realm of its own keeps it, and every setting
// that it made: ours are added where they say nothing. Otherwise ours hold,
// because without them sign-in to the domain fails (reverse DNS, RC4, UDP).
func (s Settings) relations(p *profile) (ours []relation, notes []string) {
	keep := false
	if p != nil {
		if r, ok := p.first("libdefaults", "default_realm"); ok && r.value != s.Realm && !placeholder(r.value) {
			keep = true
			notes = append(notes, fmt.Sprintf("default_realm stays %s (%s, line %d): commands have to name the realm, as kinit user@%s", r.value, r.file, r.line, s.Realm))
		}
	}
	add := func(section, key, value string) {
		if p == nil {
			ours = append(ours, relation{section: section, key: key, value: value})
			return
		}
		r, ok := p.first(section, key)
		switch {
		case ok && keep && r.value != value:
			notes = append(notes, fmt.Sprintf("%s stays %q (%s, line %d); the domain would want %q", key, r.value, r.file, r.line, value))
			return
		case ok && r.value != value:
			notes = append(notes, fmt.Sprintf("%s = %s (%s, line %d) is overruled: %s", key, r.value, r.file, r.line, value))
		}
		ours = append(ours, relation{section: section, key: key, value: value})
	}
	if !keep {
		add("libdefaults", "default_realm", s.Realm)
	}
	add("libdefaults", "dns_lookup_realm", "false")
	add("libdefaults", "dns_lookup_kdc", "true")
	add("libdefaults", "rdns", "false")
	add("libdefaults", "udp_preference_limit", "1")
	if !keep {
		add("libdefaults", "permitted_enctypes", enctypes)
		for _, key := range []string{"default_tkt_enctypes", "default_tgs_enctypes"} {
			if p == nil {
				continue
			}
			if r, ok := p.first("libdefaults", key); ok && !strings.Contains(r.value, "aes") {
				add("libdefaults", key, enctypes)
			}
		}
	}
	for _, k := range s.KDCs {
		if a, err := netip.ParseAddr(k); err == nil && a.Is6() {
			k = "[" + k + "]"
		}
		// Several values of these keys are all read: nothing is overruled.
		// master_kdc spares MIT's library two questions to a DNS that does not
		// know the domain, 5 s each, and a second try of a wrong password.
		for _, key := range []string{"kdc", "master_kdc", "kpasswd_server"} {
			ours = append(ours, relation{section: "realms/" + s.Realm, key: key, value: k})
		}
	}
	add("domain_realm", "."+s.Domain, s.Realm)
	add("domain_realm", s.Domain, s.Realm)
	return ours, notes
}

const (
	ownHead = "# Made by latchkey: \"latchkey leave\" takes this file away again. Settings of your\n" +
		"# own belong in another file: the next join writes this one anew.\n"
	ownDirMade = "# The directory was made by latchkey as well.\n"
	ownSum     = "# sha256 of what follows: "
)

// render prints our file. dirMade is remembered in it for Remove.
func render(ours []relation, dirMade bool) []byte {
	var body strings.Builder
	var section, realm string
	for _, r := range ours {
		top, inner, _ := strings.Cut(r.section, "/")
		if realm != "" && inner != realm {
			body.WriteString("    }\n")
		}
		if top != section {
			if section != "" {
				body.WriteString("\n")
			}
			fmt.Fprintf(&body, "[%s]\n", top)
		}
		indent := "    "
		if inner != "" {
			if inner != realm {
				fmt.Fprintf(&body, "    %s = {\n", inner)
			}
			indent = "        "
		}
		fmt.Fprintf(&body, "%s%s = %s\n", indent, r.key, r.value)
		section, realm = top, inner
	}
	if realm != "" {
		body.WriteString("    }\n")
	}
	head := ownHead
	if dirMade {
		head += ownDirMade
	}
	sum := sha256.Sum256([]byte(body.String()))
	return []byte(head + ownSum + hex.EncodeToString(sum[:]) + "\n" + body.String())
}

// readOwn says of the text of our file whether we made it, whether somebody
// changed it since, and whether we made the directory.
func readOwn(text []byte) (made, changed, dirMade bool) {
	rest, made := strings.CutPrefix(string(text), ownHead)
	if !made {
		return false, false, false
	}
	rest, dirMade = strings.CutPrefix(rest, ownDirMade)
	sum, body, _ := strings.Cut(rest, "\n")
	got := sha256.Sum256([]byte(body))
	return true, sum != ownSum+hex.EncodeToString(got[:]), dirMade
}
