// SPDX-License-Identifier: Apache-2.0

package join

import (
	"net/netip"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// People says where the passwords of the tenant come from. The numbers are
// those of the admin API.
type People uint8

// The kinds of tenant.
const (
	PeopleUnknown   People = 0
	PeopleCloudOnly People = 1
	PeopleHybrid    People = 2
)

// Request asks for a join. Every text comes as the administrator typed it;
// Check and Join refuse what cannot be meant with fault.Malformed.
type Request struct {
	Domain   string       // DNS name of the managed domain
	User     string       // account name, DOMAIN\name, or UPN of any suffix
	Password secret.Bytes `json:"-"` // wiped by Join and Check

	DomainControllers []string // host names or addresses; none: found by DNS
	DNSServers        []string // addresses, with a port where it is not 53; none: the machine's own
	OU                string   // DN; empty: OU=AADDC Computers, or where the domain puts computers
	Hostname          string   // short name, at most 15 characters; empty: the machine's own
	TenantID          string   // Entra tenant id; may be empty
	People            People
	NoDNSUpdate       bool
}

// LeaveRequest asks for the end of the membership.
type LeaveRequest struct {
	User        string       // who may delete the computer account; may be empty
	Password    secret.Bytes `json:"-"` // wiped by Leave
	KeepAccount bool
}

// Limits of what an administrator may ask; all far above what is real.
const (
	maxServers = 16
	maxDN      = 4096 // bytes
	// maxHostname is what a NetBIOS name may have (MS-ADTS 3.1.1.5.1.2 by way
	// of sAMAccountName: 15 and the "$").
	maxHostname = 15
)

// plan is a request understood.
type plan struct {
	domain string // lower case
	user   userName
	dcs    []string
	dns    []netip.AddrPort
	ou     string
	short  string // of the machine, lower case
	tenant identity.GUID
}

func (p *plan) realm() string   { return strings.ToUpper(p.domain) }
func (p *plan) fqdn() string    { return p.short + "." + p.domain }
func (p *plan) account() string { return strings.ToUpper(p.short) + "$" }

// understand reads everything of a request but the host name, which has a
// step of its own. A user is demanded unless it is only a check.
func (r *Request) understand(check bool) (*plan, error) {
	p := &plan{ou: strings.TrimSpace(r.OU)}
	var err error
	if p.domain, err = parseDomain(r.Domain); err != nil {
		return nil, err
	}
	if r.User != "" || !check {
		if p.user, err = parseUser(r.User); err != nil {
			return nil, err
		}
		if r.Password.Len() == 0 && !check {
			return nil, fault.WithRemedy(fault.New(fault.Malformed, "the password is empty"), "type the password of "+p.user.String()+", or give it with --password-stdin")
		}
	}
	if len(r.DomainControllers) > maxServers || len(r.DNSServers) > maxServers {
		return nil, fault.Errorf(fault.Malformed, "more than %d servers of one kind", maxServers)
	}
	for _, dc := range r.DomainControllers {
		dc = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(dc), "."))
		if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(dc, "["), "]")); err == nil { // IPv6 as in a URL
			dc = a.Unmap().String()
		} else if !validHost(dc) {
			return nil, fault.WithRemedy(fault.Errorf(fault.Malformed, "not a domain controller: %.200q", dc), "give --dc a host name or an address, without a port")
		}
		p.dcs = append(p.dcs, dc)
	}
	for _, server := range r.DNSServers {
		a, err := parseServer(strings.TrimSpace(server))
		if err != nil {
			return nil, fault.WithRemedy(fault.Errorf(fault.Malformed, "not the address of a DNS server: %.200q", server),
				"give --dns an address: the \"IP address on virtual network\" of the managed domain's properties")
		}
		p.dns = append(p.dns, a)
	}
	if len(p.ou) > maxDN || (p.ou != "" && !looksLikeDN(p.ou)) {
		return nil, fault.WithRemedy(fault.Errorf(fault.Malformed, "not a distinguished name: %.200q", p.ou),
			"give --ou the whole name, as \"OU=NAS,"+baseDN(p.domain)+"\"")
	}
	if t := strings.TrimSpace(r.TenantID); t != "" {
		if p.tenant, err = identity.ParseGUID(t); err != nil || p.tenant.IsZero() {
			return nil, fault.WithRemedy(fault.Errorf(fault.Malformed, "not a tenant id: %.200q", t),
				"give --tenant the 36 characters of \"Tenant ID\" in the overview of Entra ID")
		}
	}
	if r.People > PeopleHybrid {
		return nil, fault.Errorf(fault.Malformed, "no such kind of tenant: %d", r.People)
	}
	return p, nil
}

// parseDomain reads the DNS name of a domain.
func parseDomain(s string) (string, error) {
	d := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), "."))
	const remedy = "give the DNS name of the managed domain, as aadds.contoso.com: it is the first line of its overview in the Entra admin center"
	switch _, err := netip.ParseAddr(d); {
	case d == "":
		return "", fault.WithRemedy(fault.New(fault.Malformed, "no domain is named"), remedy)
	case err == nil:
		return "", fault.WithRemedy(fault.Errorf(fault.Malformed, "%s is an address, not a domain", d), remedy)
	case !validHost(d):
		return "", fault.WithRemedy(fault.Errorf(fault.Malformed, "not a domain name: %.200q", s), remedy)
	case !strings.Contains(d, "."):
		return "", fault.WithRemedy(fault.Errorf(fault.Malformed, "%.200q is a short name, not the DNS name of a domain", s), remedy)
	}
	return d, nil
}

// validHost reports whether s is a DNS name of letters, digits and dashes
// (RFC 1123 2.1).
func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notHostRune) {
			return false
		}
	}
	return true
}

func notHostRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
}

func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 53), nil
	}
	return netip.ParseAddrPort(s)
}

// looksLikeDN is a first look; the directory has the last word.
func looksLikeDN(s string) bool {
	first, rest, ok := strings.Cut(s, ",")
	kind, _, eq := strings.Cut(first, "=")
	return ok && eq && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) &&
		(strings.EqualFold(kind, "OU") || strings.EqualFold(kind, "CN")) && strings.Contains(strings.ToUpper(rest), "DC=")
}

// baseDN is the distinguished name of a domain.
func baseDN(domain string) string {
	return "DC=" + strings.ReplaceAll(domain, ".", ",DC=")
}

// userName is a user as typed.
type userName struct {
	domain string // before the backslash; empty otherwise
	name   string // with "@" a UPN
}

// String returns what the administrator typed.
func (u userName) String() string {
	if u.domain != "" {
		return u.domain + `\` + u.name
	}
	return u.name
}

func parseUser(s string) (userName, error) {
	s = strings.TrimSpace(s)
	const remedy = `give any user of the domain, as alice, CONTOSO\alice or alice@contoso.com`
	if s == "" {
		return userName{}, fault.WithRemedy(fault.New(fault.Malformed, "no user is named"), remedy)
	}
	if err := identity.CheckAsked(s); err != nil {
		return userName{}, fault.WithRemedy(err, remedy)
	}
	u := userName{name: s}
	if d, n, ok := strings.Cut(s, `\`); ok {
		u = userName{domain: d, name: n}
		if d == "" || strings.ContainsAny(n, `\@`) {
			u.name = ""
		}
	}
	if at := strings.LastIndexByte(u.name, '@'); u.name == "" || at == 0 || at == len(u.name)-1 || strings.ContainsAny(u.name, `"/[]:;|=,+*?<>`) {
		return userName{}, fault.WithRemedy(fault.Errorf(fault.Malformed, "not a user name: %.200q", s), remedy)
	}
	return u, nil
}

// principal is the user's Kerberos name in the domain that dc serves. A UPN is
// an enterprise name, whatever its suffix: it need not be the realm.
func (u userName) principal(dc directory.DC) (kerberos.Principal, error) {
	if strings.Contains(u.name, "@") {
		return kerberos.Enterprise(u.name, dc.Realm()), nil
	}
	if u.domain != "" && !strings.EqualFold(u.domain, dc.NetBIOS) && !strings.EqualFold(u.domain, dc.DNSDomain) {
		return kerberos.Principal{}, fault.WithRemedy(fault.Errorf(fault.Malformed, "%s is not a user of this domain, whose short name is %s", u, dc.NetBIOS),
			"give a user of "+dc.DNSDomain+", as "+dc.NetBIOS+`\`+u.name)
	}
	return kerberos.Account(u.name, dc.Realm()), nil
}

// parseHostname finds the machine's short name. given is what the
// administrator typed; empty means own, the machine's host name.
func parseHostname(given, own, domain string) (string, error) {
	name, remedy := strings.TrimSpace(given), "give --hostname a name of at most 15 letters, digits and dashes"
	if name == "" {
		// A host name may be an FQDN; what is typed may not: the domain part
		// is not the administrator's to choose.
		name, _, _ = strings.Cut(own, ".")
		remedy = "choose one with --hostname: at most 15 letters, digits and dashes"
	}
	label, _, _ := strings.Cut(domain, ".")
	bad := func(format string, args ...any) (string, error) {
		return "", fault.WithRemedy(fault.Errorf(fault.Malformed, format, args...), remedy)
	}
	switch {
	case name == "":
		return bad("the machine has no host name")
	case strings.Contains(name, "."):
		return bad("the host name %.200q has a dot: give the short name", name)
	case !validHost(name):
		return bad("the host name %.200q has characters other than letters, digits and dashes, or begins or ends with a dash", name)
	case len(name) > maxHostname:
		return bad("the host name %s has %d characters; a computer account may have %d", name, len(name), maxHostname)
	case strings.Trim(name, "0123456789") == "":
		return bad("the host name %s is a number", name)
	case strings.EqualFold(name, "localhost"):
		return bad("the host name is localhost")
	case strings.EqualFold(name, label):
		return bad("the host name %s is the domain's own name", name)
	}
	return strings.ToLower(name), nil
}
