// SPDX-License-Identifier: Apache-2.0

package join

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Values of a computer object.
const (
	passwordLength = 120  // characters of 64: 720 bits; Active Directory allows 256
	aesOnly        = "24" // msDS-SupportedEncryptionTypes: AES128 and AES256 (MS-KILE 2.2.7)

	uacDisabled        uint32 = 0x0002
	uacWorkstation     uint32 = 0x1000 // WORKSTATION_TRUST_ACCOUNT
	uacServer          uint32 = 0x2000 // SERVER_TRUST_ACCOUNT: a domain controller
	uacPartial         uint32 = 0x04000000
	uacForDelegation   uint32 = 0x00080000
	uacPasswordNotReqd uint32 = 0x0020
	computersWellKnown        = "AA312825768811D1ADED00C04FD8D5CD" // GUID_COMPUTERS_CONTAINER_W (MS-ADTS 6.1.1.4)
	alphabet                  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

var computerAttributes = []string{"objectClass", "objectSid", "sAMAccountName", "userAccountControl", "dNSHostName",
	"servicePrincipalName", "msDS-SupportedEncryptionTypes", "msDS-KeyVersionNumber", "mS-DS-CreatorSID", "pwdLastSet"}

// computer is a computer object as the directory has it.
type computer struct {
	dn         string
	sid        identity.SID
	uac        uint32
	dnsHost    string
	spns       []string
	encTypes   string
	kvno       uint32
	creator    identity.SID
	passwordAt time.Time
}

// newPassword makes a machine password: ASCII that needs no quoting anywhere.
func newPassword() secret.Bytes {
	b := make([]byte, passwordLength)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	for i, c := range b {
		b[i] = alphabet[c&63]
	}
	// Whatever the dice say, all kinds of character that a policy asks for.
	copy(b, "Aa0-")
	return secret.Own(b)
}

// spns are the names that tickets for this machine are asked by.
func spns(short, fqdn string) []string {
	var all []string
	for _, class := range []string{"host", "HTTP", "cifs", "RestrictedKrbHost"} {
		all = append(all, class+"/"+fqdn, class+"/"+short)
	}
	return all
}

// container finds where a new account goes.
func container(ctx context.Context, t tree, d directory.Domain, ou string) (string, error) {
	if ou != "" {
		e, err := t.Get(ctx, ou, "objectClass")
		switch {
		case ldapCode(err) == ldapInvalidDN:
			return "", fault.WithRemedy(fault.Wrap(fault.Malformed, fmt.Sprintf("not a distinguished name: %s", ou), err), "give --ou the whole name, as \"OU=NAS,"+d.DN+"\"")
		case fault.Is(err, fault.NotFound):
			return "", fault.WithRemedy(fault.Wrap(fault.NotFound, fmt.Sprintf("there is no %s", ou), err),
				"check --ou, or leave it out: the account then goes to "+cmp.Or(d.ComputersOU, "the domain's own container for computers"))
		case err != nil:
			return "", fault.Wrap(fault.Unknown, "look at "+ou, err)
		}
		holds := func(class string) bool {
			return slices.ContainsFunc(e.Values("objectClass"), func(v []byte) bool { return strings.EqualFold(string(v), class) })
		}
		if !holds("organizationalUnit") && !holds("container") {
			return "", fault.WithRemedy(fault.Errorf(fault.Malformed, "%s is no organizational unit", e.DN), "name an organizational unit with --ou")
		}
		return e.DN, nil
	}
	if d.ComputersOU != "" {
		return d.ComputersOU, nil
	}
	e, err := t.Get(ctx, d.DN, "wellKnownObjects")
	if err != nil {
		return "", fault.Wrap(fault.Unknown, "read where the domain puts computers", err)
	}
	for _, v := range e.Values("wellKnownObjects") {
		if guid, dn, ok := cutWellKnown(string(v)); ok && strings.EqualFold(guid, computersWellKnown) {
			return dn, nil
		}
	}
	return "", fault.WithRemedy(fault.New(fault.NotFound, "the domain does not say where it puts computers"), "name an organizational unit with --ou")
}

// cutWellKnown splits a value of wellKnownObjects, "B:32:guid:DN" (DN-Binary,
// MS-ADTS 3.1.1.2.2.2.5); the GUID is in the order of the wire.
func cutWellKnown(s string) (guid, dn string, ok bool) {
	rest, ok := strings.CutPrefix(s, "B:32:")
	if !ok || len(rest) < 34 || rest[32] != ':' {
		return "", "", false
	}
	return rest[:32], rest[33:], true
}

// findComputer returns the account of that name; fault.NotFound when there is
// none, fault.Conflict when it is no plain member.
func findComputer(ctx context.Context, t tree, d directory.Domain, account string) (*computer, error) {
	var found *computer
	err := t.Search(ctx, directory.Query{Base: d.DN, Scope: directory.Subtree, Attributes: computerAttributes,
		Filter: "(sAMAccountName=" + directory.EscapeFilter(account) + ")"}, func(e directory.Entry) (err error) {
		found, err = readComputer(e)
		return err
	})
	if err == nil && found == nil {
		err = fault.Errorf(fault.NotFound, "there is no account %s", account)
	}
	return found, err
}

func readComputer(e directory.Entry) (*computer, error) {
	c := &computer{dn: e.DN, dnsHost: e.First("dNSHostName"), encTypes: e.First("msDS-SupportedEncryptionTypes")}
	for _, v := range e.Values("servicePrincipalName") {
		c.spns = append(c.spns, string(v))
	}
	c.uac = uint32(number(e.First("userAccountControl")))
	c.kvno = uint32(number(e.First("msDS-KeyVersionNumber")))
	if v := e.Values("objectSid"); len(v) == 1 {
		c.sid, _ = identity.SIDFromBytes(v[0])
	}
	if v := e.Values("mS-DS-CreatorSID"); len(v) == 1 {
		c.creator, _ = identity.SIDFromBytes(v[0])
	}
	// FILETIME: 100 ns since 1601 (MS-DTYP 2.3.3).
	if n := number(e.First("pwdLastSet")); n > 116444736000000000 {
		c.passwordAt = time.Unix(0, (n-116444736000000000)*100)
	}
	isComputer := slices.ContainsFunc(e.Values("objectClass"), func(v []byte) bool { return strings.EqualFold(string(v), "computer") })
	if !isComputer || c.uac&(uacServer|uacPartial) != 0 {
		what := "is no computer account"
		if isComputer {
			what = "is a domain controller"
		}
		return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "the name is taken: %s %s", e.DN, what), "choose another name with --hostname")
	}
	return c, nil
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// account is the machine's account being made.
type account struct {
	plan     *plan
	tree     tree // as the joining user
	domain   directory.Domain
	user     string
	userSID  identity.SID
	where    string
	password secret.Bytes
	system   [2]string // operatingSystem, operatingSystemVersion
}

// take creates the account, or takes an existing one of ours back.
func (a *account) take(ctx context.Context, s *Step) (rejoined bool, err error) {
	old, err := findComputer(ctx, a.tree, a.domain, a.plan.account())
	switch {
	case fault.Is(err, fault.NotFound):
		if err := a.unused(ctx, ""); err != nil {
			return false, err
		}
		if err := a.create(ctx); err != nil {
			return false, err
		}
		s.Detail = fmt.Sprintf("made CN=%s,%s", strings.ToUpper(a.plan.short), a.where)
		return false, nil
	case err != nil:
		return false, fault.Wrap(fault.Unknown, "look for "+a.plan.account(), err)
	}
	if err := a.unused(ctx, old.dn); err != nil {
		return true, err
	}
	if err := a.reset(ctx, old); err != nil {
		return true, err
	}
	s.Detail = "took " + old.dn + " back"
	if !old.passwordAt.IsZero() {
		s.Detail += "; its password was last set on " + old.passwordAt.UTC().Format(time.DateOnly)
	}
	if !strings.HasSuffix(strings.ToLower(old.dn), ","+strings.ToLower(a.where)) && a.plan.ou != "" {
		s.warn(s.Detail, "it was not moved to "+a.where+": an administrator can do that")
	}
	return true, nil
}

// unused makes sure that no other object has our names: the directory would
// refuse them with a number, or worse, hand out tickets for somebody else.
func (a *account) unused(ctx context.Context, own string) error {
	var filter strings.Builder
	for _, spn := range spns(a.plan.short, a.plan.fqdn()) {
		filter.WriteString("(servicePrincipalName=" + directory.EscapeFilter(spn) + ")")
	}
	filter.WriteString("(dNSHostName=" + directory.EscapeFilter(a.plan.fqdn()) + ")")
	var taken string
	var what string
	err := a.tree.Search(ctx, directory.Query{Base: a.domain.DN, Scope: directory.Subtree, Filter: "(|" + filter.String() + ")",
		Attributes: []string{"servicePrincipalName", "dNSHostName"}}, func(e directory.Entry) error {
		if !strings.EqualFold(e.DN, own) && taken == "" {
			taken, what = e.DN, "the DNS name "+a.plan.fqdn()
			for _, v := range e.Values("servicePrincipalName") {
				if slices.ContainsFunc(spns(a.plan.short, a.plan.fqdn()), func(n string) bool { return strings.EqualFold(n, string(v)) }) {
					what = "the service name " + string(v)
				}
			}
		}
		return nil
	})
	if err != nil {
		return fault.Wrap(fault.Unknown, "look for other objects with this machine's names", err)
	}
	if taken != "" {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "%s belongs to %s already", what, taken), "choose another name with --hostname, or take the name from that object")
	}
	return nil
}

// create adds the computer object. Where the domain lets a creator set only
// what a join cannot do without (MS-ADTS 3.1.1.5.2.2, and KB5008383), the
// rest is left to the machine itself.
func (a *account) create(ctx context.Context) error {
	p := a.plan
	pwd := directory.UnicodePwd(a.password)
	defer secret.Wipe(pwd)
	dn := "CN=" + directory.EscapeRDN(strings.ToUpper(p.short)) + "," + a.where
	object := func(spns ...string) []directory.Attribute {
		return []directory.Attribute{
			directory.Text("objectClass", "top", "person", "organizationalPerson", "user", "computer"),
			directory.Text("sAMAccountName", p.account()),
			directory.Text("userAccountControl", strconv.Itoa(int(uacWorkstation))),
			directory.Text("dNSHostName", p.fqdn()),
			directory.Text("servicePrincipalName", spns...),
			{Name: "unicodePwd", Values: [][]byte{pwd}},
		}
	}
	least := object("HOST/"+p.fqdn(), "HOST/"+strings.ToUpper(p.short), "RestrictedKrbHost/"+p.fqdn(), "RestrictedKrbHost/"+strings.ToUpper(p.short))
	all := append(object(spns(p.short, p.fqdn())...), directory.Text("msDS-SupportedEncryptionTypes", aesOnly))
	for i, name := range []string{"operatingSystem", "operatingSystemVersion"} {
		if a.system[i] != "" {
			all = append(all, directory.Text(name, a.system[i]))
		}
	}
	err := a.tree.Add(ctx, dn, all)
	if code := ldapCode(err); code == ldapDenied || code == ldapConstraint || code == ldapUnwilling {
		err = a.tree.Add(ctx, dn, least)
	}
	switch code := ldapCode(err); {
	case err == nil:
		return nil
	case code == ldapDenied:
		return fault.WithRemedy(fault.Wrap(fault.Denied, fmt.Sprintf("%s may not create computers in %s", a.user, a.where), err),
			a.rights())
	case code == ldapAlreadyExists:
		return fault.WithRemedy(fault.Wrap(fault.Conflict, fmt.Sprintf("there is another object %s", dn), err), "choose another name with --hostname, or remove that object")
	case code == ldapUnwilling:
		return fault.WithRemedy(fault.Wrap(fault.Denied, fmt.Sprintf("the domain does not let %s create %s", a.user, dn), err),
			"the user may have used up its quota of computers: use another user, or a member of AAD DC Administrators")
	}
	return fault.Wrap(fault.Unknown, "create "+dn, err)
}

// rights is the remedy for missing rights in a container.
func (a *account) rights() string {
	if a.domain.ComputersOU != "" && !strings.EqualFold(a.where, a.domain.ComputersOU) {
		return "leave --ou out: every user may join into " + a.domain.ComputersOU + "; or use a user who has rights in " + a.where
	}
	return "use a member of AAD DC Administrators, or name an OU with --ou in which the user may create computers"
}

// reset gives an existing account a new password, which only its owner, or
// somebody with the right over it, may do.
func (a *account) reset(ctx context.Context, old *computer) error {
	pwd := directory.UnicodePwd(a.password)
	defer secret.Wipe(pwd)
	changes := []directory.Change{{Op: directory.Replace, Attribute: directory.Attribute{Name: "unicodePwd", Values: [][]byte{pwd}}}}
	if old.uac&uacWorkstation == 0 || old.uac&(uacDisabled|uacForDelegation|uacPasswordNotReqd) != 0 {
		changes = append(changes, directory.Change{Op: directory.Replace, Attribute: directory.Text("userAccountControl", strconv.Itoa(int(uacWorkstation)))})
	}
	err := a.tree.Modify(ctx, old.dn, changes)
	if ldapCode(err) == ldapDenied {
		return fault.WithRemedy(fault.Wrap(fault.Conflict, fmt.Sprintf("the account %s exists and %s", old.dn, a.owned(ctx, old)), err),
			"choose another name with --hostname; or join as the user who made the account, or as a member of AAD DC Administrators; or have it deleted first")
	}
	return fault.Wrap(fault.Unknown, "take "+old.dn+" back", err)
}

// owned says whose an account is, as far as it can be told.
func (a *account) owned(ctx context.Context, old *computer) string {
	owner := old.creator
	if owner.IsZero() {
		owner = ownerOf(ctx, a.tree, old.dn)
	}
	if owner.IsZero() {
		return "belongs to somebody else than " + a.user
	}
	if owner == a.userSID {
		return "was made by " + a.user + ", who may no longer change it"
	}
	name := owner.String()
	if e, err := a.tree.Get(ctx, "<SID="+name+">", "sAMAccountName"); err == nil && e.First("sAMAccountName") != "" {
		name = e.First("sAMAccountName")
	}
	return "belongs to " + name + ", not to " + a.user
}
