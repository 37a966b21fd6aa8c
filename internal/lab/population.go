// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"
)

// A Population says who lives in a domain. The same population of the same
// domain is the same people with the same object ids.
type Population struct {
	// Users makes user00000 and so on. The first 50 have the password that
	// UserPassword tells, the others have none, as people who have not changed
	// theirs since the managed domain exists.
	Users int `json:"users,omitempty"`
	// Groups makes group0000 and so on, of 20 random users each. user00000 is
	// in the first 200; group0201 to group0204 are nested in one another; the
	// group everyone-big holds all users.
	Groups int `json:"groups,omitempty"`
	// Demo adds about a hundred people with names, departments and nested
	// groups, as in a company.
	Demo bool `json:"demo,omitempty"`
}

// passwordUsers is how many of user00000.. can sign in.
const passwordUsers = 50

// UserName is the account name of the user with a number.
func UserName(number int) string { return fmt.Sprintf("user%05d", number) }

// UserPassword is the password of one of the first 50 users.
func UserPassword(number int) string { return fmt.Sprintf("Passw0rd!%05d", number) }

// GroupName is the name of the group with a number.
func GroupName(number int) string { return fmt.Sprintf("group%04d", number) }

func (p Population) String() string {
	var parts []string
	if p.Users > 0 || p.Groups > 0 {
		parts = append(parts, fmt.Sprintf("%d users, %d groups", p.Users, p.Groups))
	}
	if p.Demo {
		parts = append(parts, "the people of the demo")
	}
	return strings.Join(parts, " and ")
}

func (p Population) expect() time.Duration {
	expect := 2*time.Second + time.Duration(p.Users)*3*time.Millisecond + time.Duration(p.Groups)*8*time.Millisecond
	if p.Demo {
		expect += 3 * time.Second
	}
	return expect
}

// A User is a person's object. Name is the only field that must be set.
type User struct {
	Name     string // sAMAccountName
	CN       string // Name when empty
	UPN      string // Name@suffix when empty; "-" for none
	Display  string
	Given    string
	Surname  string
	Mail     string // the UPN when empty
	Nick     string // mailNickname; Name when empty
	OID      string // Entra object id; none when empty
	Password string // none when empty: cannot sign in
	Disabled bool
	Parent   string              // DN of the container; AADDC Users when empty
	Attrs    map[string][][]byte // added to the above, or instead of it
}

// A Group is a group's object. Name is the only field that must be set.
type Group struct {
	Name         string
	CN           string // Name when empty
	OID          string
	Members      []string // DNs
	Type         int32    // groupType of MS-ADTS section 2.2.12; global security when 0
	Distribution bool     // no security group
	Parent       string
	Attrs        map[string][][]byte
}

// Group types of MS-ADTS section 2.2.12, all of security groups.
const (
	GlobalGroup      int32 = -2147483646
	DomainLocalGroup int32 = -2147483644
	UniversalGroup   int32 = -2147483640
)

// oid derives an Entra object id from a name.
func (o DomainOptions) oid(kind, name string) string {
	return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(kind+name+"."+o.UPNSuffix)).String()
}

// UserDN is where AddUser puts a user with this name.
func (o DomainOptions) UserDN(cn string) string { return "CN=" + escapeRDN(cn) + "," + o.UsersDN() }

func addUser(o DomainOptions, u User) Change {
	parent, cn, upn, nick := u.Parent, u.CN, u.UPN, u.Nick
	if parent == "" {
		parent = o.UsersDN()
	}
	if cn == "" {
		cn = u.Name
	}
	if nick == "" {
		nick = u.Name
	}
	if upn == "" {
		upn = strings.ReplaceAll(u.Name, " ", ".") + "@" + o.UPNSuffix
	}
	const normal, disabled, noExpiry, notRequired = 0x200, 0x2, 0x10000, 0x20
	control := normal | noExpiry
	set := map[string][][]byte{"objectClass": Text("user"), "sAMAccountName": Text(u.Name)}
	if upn != "-" {
		set["userPrincipalName"] = Text(upn)
		set["mail"] = Text(upn)
	}
	if u.Mail != "" {
		set["mail"] = Text(u.Mail)
	}
	for attr, value := range map[string]string{
		"displayName": u.Display, "givenName": u.Given, "sn": u.Surname,
		"msDS-aadObjectId": u.OID, "msDS-AzureADMailNickname": nick,
	} {
		if value != "" {
			set[attr] = Text(value)
		}
	}
	if u.Password == "" {
		control |= notRequired
	} else {
		set["unicodePwd"] = [][]byte{quotedPassword(u.Password)}
	}
	if u.Disabled {
		control |= disabled
	}
	set["userAccountControl"] = Text(fmt.Sprint(control))
	for attr, values := range u.Attrs {
		set[attr] = values
	}
	return Change{Op: "add", DN: "CN=" + escapeRDN(cn) + "," + parent, Set: set}
}

func addGroup(o DomainOptions, g Group) Change {
	parent, cn, kind := g.Parent, g.CN, g.Type
	if parent == "" {
		parent = o.UsersDN()
	}
	if cn == "" {
		cn = g.Name
	}
	if kind == 0 {
		kind = GlobalGroup
	}
	if g.Distribution {
		kind &= 0x7fffffff
	}
	set := map[string][][]byte{"objectClass": Text("group"), "sAMAccountName": Text(g.Name), "groupType": Text(fmt.Sprint(kind)), "displayName": Text(g.Name)}
	if g.OID != "" {
		set["msDS-AzureADObjectId"] = Text(g.OID)
	}
	if len(g.Members) > 0 {
		set["member"] = Text(g.Members...)
	}
	for attr, values := range g.Attrs {
		set[attr] = values
	}
	return Change{Op: "add", DN: "CN=" + escapeRDN(cn) + "," + parent, Set: set}
}

// quotedPassword is a password as the attribute unicodePwd takes it: between
// quotes, in UTF-16 (MS-ADTS section 3.1.1.3.1.5).
func quotedPassword(password string) []byte {
	var encoded []byte
	for _, unit := range utf16.Encode([]rune(`"` + password + `"`)) {
		encoded = binary.LittleEndian.AppendUint16(encoded, unit)
	}
	return encoded
}

// escapeRDN escapes a value for a distinguished name, RFC 4514 section 2.4.
func escapeRDN(value string) string {
	var out strings.Builder
	for i, r := range value {
		switch {
		case strings.ContainsRune(`,+"\<>;=`, r), i == 0 && (r == '#' || r == ' '), i == len(value)-1 && r == ' ':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < ' ':
			fmt.Fprintf(&out, `\%02X`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// changes lists everybody as additions to the directory, people first.
func (p Population) changes(o DomainOptions) (users, groups []Change) {
	for i := range p.Users {
		u := User{
			Name: UserName(i), Display: fmt.Sprintf("User %d", i), Given: "User", Surname: fmt.Sprint(i), OID: o.oid("user", fmt.Sprint(i)),
		}
		if i < passwordUsers {
			u.Password = UserPassword(i)
		}
		users = append(users, addUser(o, u))
	}
	random := rand.New(rand.NewPCG(1, 1))
	for g := range p.Groups {
		chosen := map[int]bool{}
		var members []string
		add := func(i int) {
			if !chosen[i] {
				chosen[i] = true
				members = append(members, o.UserDN(UserName(i)))
			}
		}
		for range min(20, p.Users) {
			add(random.IntN(p.Users))
		}
		if g < 200 && p.Users > 0 {
			add(0)
		}
		if 200 < g && g < 205 {
			members = append(members, o.UserDN(GroupName(g-1)))
		}
		groups = append(groups, addGroup(o, Group{Name: GroupName(g), OID: o.oid("group", fmt.Sprint(g)), Members: members}))
	}
	if p.Groups > 0 && p.Users > 0 {
		everyone := make([]string, p.Users)
		for i := range everyone {
			everyone[i] = o.UserDN(UserName(i))
		}
		groups = append(groups, addGroup(o, Group{Name: "everyone-big", OID: o.oid("group", "everyone"), Members: everyone}))
	}
	if p.Demo {
		people, teams := demo(o)
		users, groups = append(users, people...), append(groups, teams...)
	}
	if o.Variant != "" {
		// A rebuilt domain meets its people in another order, so that they
		// get each other's RIDs.
		seed := o.identity("order")
		order := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed), binary.LittleEndian.Uint64(seed[8:])))
		order.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	}
	return users, groups
}

// apply adds everybody to the domain, thousands per transaction.
func (p Population) apply(ctx context.Context, o DomainOptions, db *samdb) error {
	users, groups := p.changes(o)
	all := append(users, groups...)
	for len(all) > 0 {
		size := min(len(all), 5000)
		if _, err := db.do(ctx, Change{Op: "batch", All: all[:size], Bulk: true}); err != nil {
			return err
		}
		all = all[size:]
	}
	return nil
}

// Populate adds a population to a domain that is running. Populations given in
// DomainOptions are kept in the cache; this one is made anew each time.
func (d *Domain) Populate(ctx context.Context, p Population) error {
	return d.lab.progress.step("filling the domain: "+p.String(), p.expect(), func() error {
		return p.apply(ctx, d.DomainOptions, d.db)
	})
}
