// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

var testSynced, _ = splitDN("OU=AADDC Users," + testBase)

const testOID = "0a0b0c0d-0001-0002-0003-000000000001"

func sidBytes(s string) []byte { return identity.MustParseSID(s).Bytes() }

func goodUser() Entry {
	return Entry{DN: "<GUID=" + testGUID.String() + ">;<SID=S-1-5-21-1-2-3-1104>;CN=Alice,OU=AADDC Users," + testBase, Attributes: []Attribute{
		Text("objectClass", "top", "person", "organizationalPerson", "user"),
		{"objectGUID", [][]byte{testGUID.Bytes()}}, {"objectSid", [][]byte{sidBytes("S-1-5-21-1-2-3-1104")}},
		Text("msDS-aadObjectId", testOID), Text("sAMAccountName", "alice"), Text("userPrincipalName", "Alice@contoso.test"),
		Text("displayName", "Alice Müller"), Text("givenName", "Alice"), Text("sn", "Müller"), Text("mail", "a@contoso.test"),
		Text("msDS-AzureADMailNickname", "alice"), Text("userAccountControl", "66050"), Text("primaryGroupID", "513"),
		Text("pwdLastSet", "134054031920000000"), Text("accountExpires", "9223372036854775807"), Text("lockoutTime", "0"),
		{"sIDHistory", [][]byte{sidBytes("S-1-5-21-9-9-9-500")}}, Text("uSNChanged", "4711"), Text("whenCreated", "20261122030632.0Z")}}
}

func TestDecodeUser(t *testing.T) {
	o, ok := decode(goodUser(), testSynced)
	want := Object{DN: "CN=Alice,OU=AADDC Users," + testBase, ObjectGUID: testGUID, SID: identity.MustParseSID("S-1-5-21-1-2-3-1104"), Class: ClassUser,
		UnderSyncedOU: true, SAMAccountName: "alice", UPN: "Alice@contoso.test", DisplayName: "Alice Müller", GivenName: "Alice", Surname: "Müller",
		Mail: "a@contoso.test", MailNickname: "alice", UserAccountControl: UACNormal | UACDisabled | UACDontExpire, PrimaryGroupID: 513,
		PwdLastSet: time.Date(2025, 10, 20, 3, 6, 32, 0, time.UTC), SIDHistory: []identity.SID{identity.MustParseSID("S-1-5-21-9-9-9-500")},
		USNChanged: 4711, WhenCreated: time.Date(2026, 11, 22, 3, 6, 32, 0, time.UTC)}
	want.OID, _ = identity.ParseGUID(testOID)
	if !ok || fmt.Sprintf("%+v", o) != fmt.Sprintf("%+v", want) {
		t.Errorf("decode = %+v, %v\nwant %+v", o, ok, want)
	}
}

func TestDecodeGroup(t *testing.T) {
	e := Entry{DN: "CN=staff,OU=Own," + testBase, Attributes: []Attribute{Text("objectClass", "top", "group"), {"objectGUID", [][]byte{testGUID.Bytes()}},
		Text("groupType", "-2147483646"), {"msDS-AzureADObjectId", [][]byte{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}},
		Text("member", "<GUID="+testGUID.String()+">;<SID=S-1-5-21-1-2-3-1104>;CN=Alice", "CN=S-1-5-21-9-9-9-500,CN=ForeignSecurityPrincipals")}}
	o, ok := decode(e, testSynced)
	if !ok || o.Class != ClassGroup || o.GroupType != GroupSecurity|GroupGlobal || o.UnderSyncedOU || len(o.Members) != 2 || len(o.Defects) != 0 {
		t.Fatalf("decode = %+v, %v", o, ok)
	}
	if o.OID.String() != "04030201-0605-0807-090a-0b0c0d0e0f10" || o.Members[0].GUID != testGUID || o.Members[1].DN != "CN=S-1-5-21-9-9-9-500,CN=ForeignSecurityPrincipals" {
		t.Errorf("oid %v, members %+v", o.OID, o.Members)
	}
}

func TestDecodeHostileBytes(t *testing.T) {
	set := func(name string, values ...string) func(*Entry) {
		return func(e *Entry) {
			e.Attributes = slices.DeleteFunc(e.Attributes, func(a Attribute) bool { return a.Name == name })
			e.Attributes = append(e.Attributes, Text(name, values...))
		}
	}
	for name, tc := range map[string]struct {
		bend   func(*Entry)
		defect string
		check  func(Object) bool
	}{
		"SID cut":              {set("objectSid", "\x01\x05\x00"), "objectSid", func(o Object) bool { return o.SID.IsZero() && o.SAMAccountName == "alice" }},
		"oid is dashes":        {set("msDS-aadObjectId", strings.Repeat("-", 36)), "msDS-aadObjectId", func(o Object) bool { return o.OID.IsZero() }},
		"two oids":             {set("msDS-AzureADObjectId", "0a0b0c0d-0001-0002-0003-000000000002"), "msDS-AzureADObjectId", func(o Object) bool { return o.OID.IsZero() }},
		"the same oid twice":   {set("msDS-AzureADObjectId", strings.ToUpper(testOID)), "", func(o Object) bool { return o.OID.String() == testOID }},
		"name not UTF-8":       {set("sAMAccountName", "al\xffice"), "sAMAccountName", func(o Object) bool { return o.SAMAccountName == "" }},
		"name with newline":    {set("displayName", "Alice\nroot:x:0"), "displayName", func(o Object) bool { return o.DisplayName == "" }},
		"name with NUL":        {set("sAMAccountName", "alice\x00root"), "sAMAccountName", func(o Object) bool { return o.SAMAccountName == "" }},
		"name endless":         {set("displayName", strings.Repeat("x", maxText+1)), "displayName", func(o Object) bool { return o.DisplayName == "" }},
		"two names":            {set("sAMAccountName", "alice", "root"), "sAMAccountName", func(o Object) bool { return o.SAMAccountName == "" }},
		"control not a number": {set("userAccountControl", "lots"), "userAccountControl", func(o Object) bool { return o.UserAccountControl == 0 }},
		"control too large":    {set("userAccountControl", "99999999999"), "userAccountControl", func(o Object) bool { return o.UserAccountControl == 0 }},
		"time not a number":    {set("pwdLastSet", "yesterday"), "pwdLastSet", func(o Object) bool { return o.PwdLastSet.IsZero() && !o.MustChange }},
		"must change":          {set("pwdLastSet", "0"), "", func(o Object) bool { return o.MustChange && o.PwdLastSet.IsZero() }},
		"password just set":    {set("pwdLastSet", "-1"), "", func(o Object) bool { return !o.MustChange }},
		"expires":              {set("accountExpires", "134054031920000000"), "", func(o Object) bool { return o.AccountExpires.Year() == 2025 }},
		"locked":               {set("lockoutTime", "134054031920000000"), "", func(o Object) bool { return !o.LockoutTime.IsZero() }},
		"history broken":       {set("sIDHistory", "\x01", string(sidBytes("S-1-5-21-9-9-9-500"))), "sIDHistory", func(o Object) bool { return len(o.SIDHistory) == 1 }},
		"USN negative":         {set("uSNChanged", "-5"), "uSNChanged", func(o Object) bool { return o.USNChanged == 0 }},
		"born in no time":      {set("whenCreated", "99999999999999.0Z"), "whenCreated", func(o Object) bool { return o.WhenCreated.IsZero() }},
		"a computer":           {set("objectClass", "top", "user", "computer"), "", func(o Object) bool { return o.Class == ClassOther }},
		"of no class":          {set("objectClass"), "", func(o Object) bool { return o.Class == ClassOther }},
		"DN not UTF-8":         {func(e *Entry) { e.DN = "CN=\xff,OU=AADDC Users," + testBase }, "distinguishedName", func(o Object) bool { return o.DN == "" && !o.UnderSyncedOU }},
		"DN that pretends":     {func(e *Entry) { e.DN = `CN=x\,OU=AADDC Users,` + testBase }, "", func(o Object) bool { return !o.UnderSyncedOU }},
	} {
		e := goodUser()
		tc.bend(&e)
		o, ok := decode(e, testSynced)
		if !ok || !tc.check(o) {
			t.Errorf("%s: %+v, %v", name, o, ok)
		}
		if tc.defect == "" && len(o.Defects) != 0 || tc.defect != "" && (len(o.Defects) != 1 || !strings.HasPrefix(o.Defects[0], tc.defect+": ")) {
			t.Errorf("%s: defects %q, want one of %q", name, o.Defects, tc.defect)
		}
	}
	for _, guid := range []string{"", "short", strings.Repeat("\x00", 16), strings.Repeat("x", 17)} {
		e := goodUser()
		set("objectGUID", guid)(&e)
		if o, ok := decode(e, testSynced); ok {
			t.Errorf("objectGUID %q was taken: %+v", guid, o)
		}
	}
}

func TestIntervals(t *testing.T) {
	for s, want := range map[string]time.Duration{"-18000000000": 30 * time.Minute, "0": 0, "-9223372036854775808": 0, "": 0, "5": 0, "-9223372036854775807": 1<<63 - 1} {
		if got := interval(s); got != want {
			t.Errorf("interval(%q) = %v, want %v", s, got, want)
		}
	}
	if got := fromFileTime(116444736000000000); !got.Equal(time.Unix(0, 0)) {
		t.Errorf("the FILETIME of 1970 is %v", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, a := range goodUser().Attributes {
		f.Add("CN=x,OU=AADDC Users,"+testBase, a.Name, a.Values[0], []byte("group"))
	}
	f.Add("<GUID=>;<SID=", "member", []byte("<GUID=x>;"), []byte("group"))
	f.Fuzz(func(t *testing.T, dn, name string, value, class []byte) {
		e := Entry{DN: dn, Attributes: []Attribute{{"objectGUID", [][]byte{testGUID.Bytes()}}, {"objectClass", [][]byte{class}}, {name, [][]byte{value, value}}, {name + "2", [][]byte{value}}}}
		if name != "objectGUID" {
			e.Attributes = append([]Attribute{{name, [][]byte{value}}}, e.Attributes...)
		}
		o, ok := decode(e, testSynced)
		if !ok {
			return
		}
		for _, s := range []string{o.DN, o.SAMAccountName, o.UPN, o.DisplayName, o.GivenName, o.Surname, o.Mail, o.MailNickname} {
			if !utf8.ValidString(s) {
				t.Errorf("not UTF-8: %q", s)
			}
		}
		for _, s := range []string{o.SAMAccountName, o.UPN, o.DisplayName, o.GivenName, o.Surname, o.Mail, o.MailNickname} {
			if strings.ContainsAny(s, "\x00\n\r\x1b") {
				t.Errorf("control characters: %q", s)
			}
		}
	})
}
