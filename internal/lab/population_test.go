// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

func attr(change Change, name string) string {
	if values := change.Set[name]; len(values) > 0 {
		return string(values[0])
	}
	return ""
}

func TestPopulationIsTheSameEachTime(t *testing.T) {
	o := DomainOptions{}.withDefaults()
	p := Population{Users: 300, Groups: 210, Demo: true}
	users, groups := p.changes(o)
	againUsers, againGroups := p.changes(o)
	if !reflect.DeepEqual(users, againUsers) || !reflect.DeepEqual(groups, againGroups) {
		t.Error("two calls gave different people")
	}
	inGroups := 0
	for _, group := range groups {
		members := string(strings.Join(texts(group.Set["member"]), "\n"))
		if strings.Contains(members, o.UserDN(UserName(0))) {
			inGroups++
		}
	}
	if inGroups < 201 {
		t.Errorf("user00000 is in %d groups, want 200 and everyone-big at least", inGroups)
	}
	for i, want := range map[int]bool{201: true, 204: true, 205: false} {
		nested := strings.Contains(strings.Join(texts(groups[i].Set["member"]), "\n"), o.UserDN(GroupName(i-1)))
		if nested != want {
			t.Errorf("%s in %s: got %v, want %v", GroupName(i-1), GroupName(i), nested, want)
		}
	}
}

func texts(values [][]byte) []string {
	all := make([]string, len(values))
	for i, value := range values {
		all[i] = string(value)
	}
	return all
}

func TestVariantIsAnotherDomainWithTheSamePeople(t *testing.T) {
	o := DomainOptions{}.withDefaults()
	rebuilt := o
	rebuilt.Variant = "rebuilt"
	if o.SID() == rebuilt.SID() || o.guid("domain") == rebuilt.guid("domain") {
		t.Error("the variant has the same SID or GUID")
	}
	if _, err := identity.ParseSID(o.SID()); err != nil {
		t.Errorf("SID %s: %v", o.SID(), err)
	}
	p := Population{Users: 50}
	users, _ := p.changes(o)
	others, _ := p.changes(rebuilt)
	moved := 0
	oids := map[string]string{}
	for i := range users {
		oids[users[i].DN] = attr(users[i], "msDS-aadObjectId")
		if users[i].DN != others[i].DN {
			moved++
		}
	}
	for _, other := range others {
		if got, want := attr(other, "msDS-aadObjectId"), oids[other.DN]; got != want {
			t.Errorf("%s: got object id %s, want %s", other.DN, got, want)
		}
	}
	if moved < 40 {
		t.Errorf("only %d of 50 people are made in another order", moved)
	}
}

func TestDemoPeopleAreACompany(t *testing.T) {
	o := DomainOptions{}.withDefaults()
	users, groups := demo(o)
	seen := map[string]string{}
	once := func(what, value, who string) {
		t.Helper()
		if value == "" {
			t.Errorf("%s has no %s", who, what)
		}
		if other, taken := seen[what+strings.ToLower(value)]; taken {
			t.Errorf("%s and %s have the same %s %q", who, other, what, value)
		}
		seen[what+strings.ToLower(value)] = who
	}
	long, ascii, disabled, silent := 0, 0, 0, 0
	for _, user := range users {
		name := attr(user, "sAMAccountName")
		once("account name", name, user.DN)
		once("DN", user.DN, user.DN)
		once("UPN", attr(user, "userPrincipalName"), user.DN)
		once("object id", attr(user, "msDS-aadObjectId"), user.DN)
		if utf8.RuneCountInString(name) > 20 {
			t.Errorf("account name %q is over 20 characters", name)
		}
		if prefix, _, _ := strings.Cut(attr(user, "userPrincipalName"), "@"); utf8.RuneCountInString(prefix) > 20 {
			long++
		}
		if display := attr(user, "displayName"); len(display) == utf8.RuneCountInString(display) {
			ascii++
		}
		if control := attr(user, "userAccountControl"); control == "66050" {
			disabled++
		}
		if len(user.Set["unicodePwd"]) == 0 {
			silent++
		}
	}
	if len(users) != 101 || long < 3 || ascii > 40 || disabled != 1 || silent != 2 {
		t.Errorf("got %d people, %d with a long UPN, %d with plain names, %d disabled, %d without a password", len(users), long, ascii, disabled, silent)
	}
	for _, group := range groups {
		once("account name", attr(group, "sAMAccountName"), group.DN)
		for _, member := range texts(group.Set["member"]) {
			if seen["DN"+strings.ToLower(member)] == "" && seen["account name"+strings.ToLower(strings.TrimPrefix(strings.SplitN(member, ",", 2)[0], "CN="))] == "" {
				t.Errorf("%s has a member that is nobody: %q", group.DN, member)
			}
		}
	}
}

func TestEscaping(t *testing.T) {
	for value, want := range map[string]string{
		"plain": "plain", "O'Brien, Pat": `O'Brien\, Pat`, "#1": `\#1`, " x ": `\ x\ `, `a\b"c`: `a\\b\"c`, "a\nb": `a\0Ab`, "日本": "日本",
	} {
		if got := escapeRDN(value); got != want {
			t.Errorf("RDN of %q: got %q, want %q", value, got, want)
		}
		rdn, parent := splitDN("CN=" + escapeRDN(value) + ",OU=x,DC=y")
		if rdn != "CN="+want || parent != "OU=x,DC=y" {
			t.Errorf("splitting the DN of %q: got %q and %q", value, rdn, parent)
		}
	}
	if got, want := escapeFilter("a*(b)\\é\x00"), `a\2a\28b\29\5c\c3\a9\00`; got != want {
		t.Errorf("filter: got %q, want %q", got, want)
	}
	if got, want := quotedPassword("é"), []byte{'"', 0, 0xe9, 0, '"', 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("password: got %x, want %x", got, want)
	}
}
