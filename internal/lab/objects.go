// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// An Object is what a test wants to know of a user, group or computer.
type Object struct {
	DN   string
	Name string // sAMAccountName
	SID  identity.SID
	GUID identity.GUID
	OID  string // Entra object id, or ""
}

// Find returns the object with a sAMAccountName.
func (d *Domain) Find(ctx context.Context, name string) (Object, error) {
	found, err := d.Search(ctx, d.BaseDN(), "(sAMAccountName="+escapeFilter(name)+")",
		"sAMAccountName", "objectSid", "objectGUID", "msDS-aadObjectId", "msDS-AzureADObjectId")
	if err != nil {
		return Object{}, err
	}
	found = slices.DeleteFunc(found, func(e Entry) bool { return len(e.Attrs["objectSid"]) == 0 })
	if len(found) != 1 {
		return Object{}, fmt.Errorf("%d objects of the domain have the account name %q", len(found), name)
	}
	object := Object{DN: found[0].DN, Name: found[0].Get("sAMAccountName"), OID: found[0].Get("msDS-aadObjectId")}
	if object.OID == "" {
		object.OID = found[0].Get("msDS-AzureADObjectId")
	}
	if object.SID, err = identity.SIDFromBytes(found[0].Attrs["objectSid"][0]); err != nil {
		return Object{}, err
	}
	object.GUID, err = identity.GUIDFromAttribute(found[0].Attrs["objectGUID"][0])
	return object, err
}

// AddUser adds a person.
func (d *Domain) AddUser(ctx context.Context, user User) (Object, error) {
	if _, err := d.Apply(ctx, addUser(d.DomainOptions, user)); err != nil {
		return Object{}, err
	}
	return d.Find(ctx, user.Name)
}

// AddGroup adds a group.
func (d *Domain) AddGroup(ctx context.Context, group Group) (Object, error) {
	if _, err := d.Apply(ctx, addGroup(d.DomainOptions, group)); err != nil {
		return Object{}, err
	}
	return d.Find(ctx, group.Name)
}

// AddUsers adds many people in one transaction.
func (d *Domain) AddUsers(ctx context.Context, users []User) error {
	changes := make([]Change, len(users))
	for i, user := range users {
		changes[i] = addUser(d.DomainOptions, user)
	}
	_, err := d.Apply(ctx, Change{Op: "batch", All: changes, Bulk: true})
	return err
}

// AddGroups adds many groups in one transaction.
func (d *Domain) AddGroups(ctx context.Context, groups []Group) error {
	changes := make([]Change, len(groups))
	for i, group := range groups {
		changes[i] = addGroup(d.DomainOptions, group)
	}
	_, err := d.Apply(ctx, Change{Op: "batch", All: changes, Bulk: true})
	return err
}

// AddOU adds an organisational unit at the top of the domain, as members of
// AAD DC Administrators may, and returns its DN.
func (d *Domain) AddOU(ctx context.Context, name string) (string, error) {
	dn := "OU=" + escapeRDN(name) + "," + d.BaseDN()
	_, err := d.Apply(ctx, Change{Op: "add", DN: dn, Set: map[string][][]byte{"objectClass": Text("organizationalUnit")}})
	return dn, err
}

// SetAttr replaces the values of an attribute of an account. Without values
// the attribute is removed.
func (d *Domain) SetAttr(ctx context.Context, name, attr string, values ...[]byte) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	if values == nil {
		values = [][]byte{}
	}
	_, err = d.Apply(ctx, Change{Op: "modify", DN: object.DN, Set: map[string][][]byte{attr: values}})
	return err
}

// SetMembers makes exactly these accounts the members of a group.
func (d *Domain) SetMembers(ctx context.Context, group string, members ...string) error {
	dns, err := d.dnsOf(ctx, members)
	if err != nil {
		return err
	}
	return d.SetAttr(ctx, group, "member", Text(dns...)...)
}

// AddMembers adds accounts to a group.
func (d *Domain) AddMembers(ctx context.Context, group string, members ...string) error {
	return d.changeMembers(ctx, group, members, func(change *Change, values map[string][][]byte) { change.Add = values })
}

// RemoveMembers takes accounts out of a group.
func (d *Domain) RemoveMembers(ctx context.Context, group string, members ...string) error {
	return d.changeMembers(ctx, group, members, func(change *Change, values map[string][][]byte) { change.Del = values })
}

func (d *Domain) changeMembers(ctx context.Context, group string, members []string, put func(*Change, map[string][][]byte)) error {
	object, err := d.Find(ctx, group)
	if err != nil {
		return err
	}
	dns, err := d.dnsOf(ctx, members)
	if err != nil {
		return err
	}
	change := Change{Op: "modify", DN: object.DN}
	put(&change, map[string][][]byte{"member": Text(dns...)})
	_, err = d.Apply(ctx, change)
	return err
}

// dnsOf finds the DNs of accounts. A SID of another domain stays a SID; the
// directory makes a foreign security principal of it.
func (d *Domain) dnsOf(ctx context.Context, names []string) ([]string, error) {
	dns := make([]string, len(names))
	for i, name := range names {
		if strings.HasPrefix(name, "S-1-") {
			dns[i] = "<SID=" + name + ">"
			continue
		}
		object, err := d.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		dns[i] = object.DN
	}
	return dns, nil
}

// Rename gives an account another sAMAccountName, and a person another UPN and
// mailNickname of the same spelling. The object stays where it is.
func (d *Domain) Rename(ctx context.Context, name, to string) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	return d.ApplyAll(ctx, []Change{d.renaming(object, to)})
}

func (d *Domain) renaming(object Object, to string) Change {
	set := map[string][][]byte{"sAMAccountName": Text(to), "msDS-AzureADMailNickname": Text(to)}
	if strings.HasPrefix(object.DN, "CN="+escapeRDN(object.Name)+",") {
		set["displayName"] = Text(to)
	}
	return Change{Op: "modify", DN: object.DN, Set: set}
}

// SwapNames lets two accounts have each other's name from one moment on.
func (d *Domain) SwapNames(ctx context.Context, one, other string) error {
	first, err := d.Find(ctx, one)
	if err != nil {
		return err
	}
	second, err := d.Find(ctx, other)
	if err != nil {
		return err
	}
	return d.ApplyAll(ctx, []Change{
		d.renaming(first, "swap-"+rand.Text()[:8]), d.renaming(second, one), d.renaming(first, other),
	})
}

// SetUPN gives a person another userPrincipalName.
func (d *Domain) SetUPN(ctx context.Context, name, upn string) error {
	return d.SetAttr(ctx, name, "userPrincipalName", []byte(upn))
}

// Move puts an account into another container.
func (d *Domain) Move(ctx context.Context, name, parent string) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	rdn, _ := splitDN(object.DN)
	_, err = d.Apply(ctx, Change{Op: "rename", DN: object.DN, To: rdn + "," + parent})
	return err
}

// Delete deletes an account. Only a tombstone is left.
func (d *Domain) Delete(ctx context.Context, name string) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	_, err = d.Apply(ctx, Change{Op: "delete", DN: object.DN, Tree: true})
	return err
}

// Recreate deletes a person or group and makes it again with the same name,
// Entra object id, members and memberships: a resynchronisation. SID and
// objectGUID are new, a password is gone unless one is given.
func (d *Domain) Recreate(ctx context.Context, name, password string) (Object, error) {
	old, err := d.Find(ctx, name)
	if err != nil {
		return Object{}, err
	}
	copied := []string{"objectClass", "sAMAccountName", "userPrincipalName", "mail", "displayName", "givenName", "sn", "department", "title",
		"company", "msDS-aadObjectId", "msDS-AzureADObjectId", "msDS-AzureADMailNickname", "userAccountControl", "groupType", "member"}
	found, err := d.db.do(ctx, Change{Op: "search", Base: old.DN, Scope: "base", Attrs: append([]string{"memberOf"}, copied...)})
	if err != nil {
		return Object{}, err
	}
	if len(found) != 1 {
		return Object{}, fmt.Errorf("object %s is gone", old.DN)
	}
	set := map[string][][]byte{}
	for _, attr := range copied {
		if values := found[0].Attrs[attr]; len(values) > 0 {
			set[attr] = values
		}
	}
	if password != "" {
		set["unicodePwd"] = [][]byte{quotedPassword(password)}
	}
	changes := []Change{{Op: "delete", DN: old.DN}, {Op: "add", DN: old.DN, Set: set}}
	for _, group := range found[0].Attrs["memberOf"] {
		changes = append(changes, Change{Op: "modify", DN: string(group), Add: map[string][][]byte{"member": Text(old.DN)}})
	}
	if err := d.ApplyAll(ctx, changes); err != nil {
		return Object{}, err
	}
	return d.Find(ctx, name)
}

// Disable sets or clears the account's disabled bit.
func (d *Domain) Disable(ctx context.Context, name string, disabled bool) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	found, err := d.db.do(ctx, Change{Op: "search", Base: object.DN, Scope: "base", Attrs: []string{"userAccountControl"}})
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("object %s is gone", object.DN)
	}
	var control int
	if _, err := fmt.Sscan(found[0].Get("userAccountControl"), &control); err != nil {
		return fmt.Errorf("userAccountControl of %s: %w", name, err)
	}
	control &^= 0x2
	if disabled {
		control |= 0x2
	}
	return d.SetAttr(ctx, name, "userAccountControl", []byte(fmt.Sprint(control)))
}

// SetPassword sets a password as an administrator would. It also ends a lockout
// of the account, as Samba's and Windows' tools do.
func (d *Domain) SetPassword(ctx context.Context, name, password string) error {
	return errors.Join(
		d.SetAttr(ctx, name, "unicodePwd", quotedPassword(password)),
		d.SetAttr(ctx, name, "lockoutTime", []byte("0")))
}

// MustChange makes the password good only for being changed.
func (d *Domain) MustChange(ctx context.Context, name string) error {
	return d.SetAttr(ctx, name, "pwdLastSet", []byte("0"))
}

// Lock locks the account out, as five bad passwords do, until Unlock.
func (d *Domain) Lock(ctx context.Context, name string) error {
	return d.SetAttr(ctx, name, "lockoutTime", []byte(fmt.Sprint(filetime(time.Now()))))
}

// Unlock ends a lockout.
func (d *Domain) Unlock(ctx context.Context, name string) error {
	return d.SetAttr(ctx, name, "lockoutTime", []byte("0"))
}

// Expire lets the account end at a time; the zero time is never.
func (d *Domain) Expire(ctx context.Context, name string, at time.Time) error {
	value := int64(0)
	if !at.IsZero() {
		value = filetime(at)
	}
	return d.SetAttr(ctx, name, "accountExpires", []byte(fmt.Sprint(value)))
}

// RandomNTHash replaces the NT hash by noise and keeps the Kerberos keys, as
// Entra Connect does where NTLM hashes are not synchronised.
func (d *Domain) RandomNTHash(ctx context.Context, name string) error {
	object, err := d.Find(ctx, name)
	if err != nil {
		return err
	}
	noise := make([]byte, 16)
	rand.Read(noise)
	// Samba's DSDB_CONTROL_BYPASS_PASSWORD_HASH: store the hash as it is.
	_, err = d.Apply(ctx, Change{Op: "modify", DN: object.DN, Set: map[string][][]byte{"unicodePwd": {noise}},
		Controls: []string{"local_oid:1.3.6.1.4.1.7165.4.3.12:0"}})
	return err
}

// SetSIDHistory sets the SIDs that an account had elsewhere.
func (d *Domain) SetSIDHistory(ctx context.Context, name string, sids ...identity.SID) error {
	values := make([][]byte, len(sids))
	for i, sid := range sids {
		values[i] = sid.Bytes()
	}
	return d.SetAttr(ctx, name, "sIDHistory", values...)
}

// SetPrimaryGroup makes a group the primary group of a person, who becomes a
// member of it first, as the directory demands.
func (d *Domain) SetPrimaryGroup(ctx context.Context, name, group string) error {
	object, err := d.Find(ctx, group)
	if err != nil {
		return err
	}
	rid, ok := object.SID.RID()
	if !ok {
		return fmt.Errorf("group %s has no RID", group)
	}
	err = d.AddMembers(ctx, group, name)
	var refused *ChangeError
	const entryAlreadyExists = 68
	if err != nil && !(errors.As(err, &refused) && refused.Code == entryAlreadyExists) {
		return err
	}
	return d.SetAttr(ctx, name, "primaryGroupID", []byte(fmt.Sprint(rid)))
}

// filetime is a time as the directory stores it: 100 ns since 1601.
func filetime(t time.Time) int64 { return t.UnixNano()/100 + 116444736000000000 }

// splitDN parts a DN after its first component.
func splitDN(dn string) (rdn, parent string) {
	for i := 0; i < len(dn); i++ {
		switch dn[i] {
		case '\\':
			i++
		case ',':
			return dn[:i], dn[i+1:]
		}
	}
	return dn, ""
}

// escapeFilter escapes a value for a search filter, RFC 4515 section 3.
func escapeFilter(value string) string {
	var out strings.Builder
	for i := range len(value) {
		switch c := value[i]; {
		case c == '*' || c == '(' || c == ')' || c == '\\' || c < ' ' || c >= 0x7f:
			fmt.Fprintf(&out, `\%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}
