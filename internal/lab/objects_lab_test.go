// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// entry reads one object as the directory has it.
func entry(t *testing.T, d *Domain, name string, attrs ...string) Entry {
	t.Helper()
	found, err := d.Search(t.Context(), d.BaseDN(), "(sAMAccountName="+escapeFilter(name)+")", attrs...)
	if err != nil {
		t.Fatal(err)
	}
	found = slices.DeleteFunc(found, func(e Entry) bool { return !strings.HasPrefix(e.DN, "CN=") })
	if len(found) != 1 {
		t.Fatalf("%d objects have the name %s", len(found), name)
	}
	return found[0]
}

func TestPeopleChange(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{Population: Population{Users: 6, Groups: 2}})
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("added", func(t *testing.T) {
		alice, err := d.AddUser(ctx, User{Name: "alice", Display: "Alice", OID: "11111111-2222-3333-4444-555555555555", Password: "A-good-0ne"})
		do(err)
		if alice.OID != "11111111-2222-3333-4444-555555555555" || alice.SID.IsZero() || alice.GUID == (identity.GUID{}) {
			t.Errorf("added user: got %+v", alice)
		}
		if got := kinit(t, box, "alice@contoso.test", "A-good-0ne", "-E"); !got.Ok() {
			t.Error(got)
		}
		if _, err := d.AddUser(ctx, User{Name: "alice", CN: "Another Alice"}); err == nil {
			t.Error("a second account with the same name was accepted")
		}
	})
	t.Run("renamed and swapped", func(t *testing.T) {
		one, err := d.Find(ctx, UserName(1))
		do(err)
		do(d.Rename(ctx, UserName(1), "renamed"))
		again, err := d.Find(ctx, "renamed")
		do(err)
		if again.SID != one.SID || again.OID != one.OID {
			t.Errorf("after the rename: got %+v, want the SID and oid of %+v", again, one)
		}
		two, err := d.Find(ctx, UserName(2))
		do(err)
		do(d.SwapNames(ctx, "renamed", UserName(2)))
		swapped, err := d.Find(ctx, UserName(2))
		do(err)
		if swapped.SID != one.SID || swapped.SID == two.SID {
			t.Errorf("after the swap %s has SID %s, want %s", UserName(2), swapped.SID, one.SID)
		}
	})
	t.Run("moved", func(t *testing.T) {
		ou, err := d.AddOU(ctx, "Local Staff")
		do(err)
		before, err := d.Find(ctx, UserName(3))
		do(err)
		do(d.Move(ctx, UserName(3), ou))
		after, err := d.Find(ctx, UserName(3))
		do(err)
		if !strings.HasSuffix(after.DN, ou) || after.GUID != before.GUID {
			t.Errorf("after the move: got %+v", after)
		}
	})
	t.Run("disabled", func(t *testing.T) {
		do(d.Disable(ctx, UserName(4), true))
		if got := kinit(t, box, UserName(4), UserPassword(4)); got.Ok() || !strings.Contains(got.Stderr, "revoked") {
			t.Errorf("disabled: got %s", got)
		}
		do(d.Disable(ctx, UserName(4), false))
		if got := kinit(t, box, UserName(4), UserPassword(4)); !got.Ok() {
			t.Errorf("enabled again: got %s", got)
		}
	})
	t.Run("password states", func(t *testing.T) {
		do(d.SetPassword(ctx, UserName(4), "Another-0ne"))
		if got := kinit(t, box, UserName(4), "Another-0ne"); !got.Ok() {
			t.Errorf("new password: got %s", got)
		}
		do(d.Lock(ctx, UserName(4)))
		if got := kinit(t, box, UserName(4), "Another-0ne"); !strings.Contains(got.Stderr, "revoked") {
			t.Errorf("locked: got %s", got)
		}
		do(d.Unlock(ctx, UserName(4)))
		do(d.Expire(ctx, UserName(4), time.Now().Add(-time.Hour)))
		if got := kinit(t, box, UserName(4), "Another-0ne"); !strings.Contains(got.Stderr, "revoked") {
			t.Errorf("expired account: got %s", got)
		}
		do(d.Expire(ctx, UserName(4), time.Time{}))
		// A password that never expires need not be changed either.
		do(d.SetAttr(ctx, UserName(4), "userAccountControl", []byte("512")))
		do(d.MustChange(ctx, UserName(4)))
		if got := kinit(t, box, UserName(4), "Another-0ne"); !strings.Contains(got.Stdout, "Password expired") {
			t.Errorf("must change: got %s", got)
		}
	})
	t.Run("random NT hash", func(t *testing.T) {
		ntlm := func() *Result {
			got, err := box.Run(ctx, "smbclient", "-U", "AADDSCONTOSO/"+UserName(5)+"%"+UserPassword(5), "--use-kerberos=off", "//"+d.DC.IP()+"/sysvol", "-c", "ls")
			do(err)
			return got
		}
		if got := ntlm(); !got.Ok() {
			t.Fatalf("NTLM before: got %s", got)
		}
		do(d.RandomNTHash(ctx, UserName(5)))
		if got := ntlm(); got.Ok() || !strings.Contains(got.Stdout, "NT_STATUS_LOGON_FAILURE") {
			t.Errorf("NTLM after: got %s, want a refusal", got)
		}
		if got := kinit(t, box, UserName(5), UserPassword(5)); !got.Ok() {
			t.Errorf("Kerberos after: got %s", got)
		}
	})
	t.Run("deleted and created again", func(t *testing.T) {
		before, err := d.Find(ctx, UserName(0))
		do(err)
		after, err := d.Recreate(ctx, UserName(0), UserPassword(0))
		do(err)
		if after.OID != before.OID || after.SID == before.SID || after.GUID == before.GUID || after.DN != before.DN {
			t.Errorf("created again: got %+v, before %+v", after, before)
		}
		if got := len(entry(t, d, UserName(0), "memberOf").Attrs["memberOf"]); got != 3 {
			t.Errorf("memberships: got %d, want 2 groups and everyone-big", got)
		}
		if got := kinit(t, box, UserName(0), UserPassword(0)); !got.Ok() {
			t.Error(got)
		}
		do(d.Delete(ctx, UserName(0)))
		if _, err := d.Find(ctx, UserName(0)); err == nil {
			t.Error("found after it was deleted")
		}
	})
}

func TestGroupsChange(t *testing.T) {
	ctx := t.Context()
	d := Start(t, DomainOptions{Population: Population{Users: 4}})
	foreign := identity.MustParseSID("S-1-5-21-111111111-222222222-333333333-1234")
	for _, group := range []Group{
		{Name: "Local", Type: DomainLocalGroup}, {Name: "Universal", Type: UniversalGroup}, {Name: "Global"},
		{Name: "Letters", Distribution: true}, {Name: "Straße & 日本", CN: "Straße, \"quoted\" + <odd>; # 日本 "},
	} {
		if _, err := d.AddGroup(ctx, group); err != nil {
			t.Errorf("adding %q: %v", group.Name, err)
		}
	}
	if got := entry(t, d, "Letters", "groupType").Get("groupType"); got != "2" {
		t.Errorf("distribution group: got type %s, want 2", got)
	}
	if err := d.SetMembers(ctx, "Local", UserName(1), "Global", foreign.String()); err != nil {
		t.Fatal(err)
	}
	if err := d.AddMembers(ctx, "Local", UserName(2)); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveMembers(ctx, "Local", UserName(1)); err != nil {
		t.Fatal(err)
	}
	members := string(bytes.Join(entry(t, d, "Local", "member").Attrs["member"], []byte("\n")))
	for _, want := range []string{UserName(2), "CN=Global,", "CN=" + foreign.String() + ",CN=ForeignSecurityPrincipals,"} {
		if !strings.Contains(members, want) {
			t.Errorf("members: got %s, want %s in it", members, want)
		}
	}
	if strings.Contains(members, UserName(1)) {
		t.Errorf("members: got %s, want no %s", members, UserName(1))
	}
	if err := d.SetPrimaryGroup(ctx, UserName(3), "Universal"); err != nil {
		t.Fatal(err)
	}
	universal, err := d.Find(ctx, "Universal")
	if err != nil {
		t.Fatal(err)
	}
	if rid, _ := universal.SID.RID(); entry(t, d, UserName(3), "primaryGroupID").Get("primaryGroupID") != itoa(rid) {
		t.Errorf("primary group of %s is not %d", UserName(3), rid)
	}
	if err := d.SetSIDHistory(ctx, UserName(3), foreign); err != nil {
		t.Fatal(err)
	}
	if got := entry(t, d, UserName(3), "sIDHistory").Attrs["sIDHistory"]; len(got) != 1 || !bytes.Equal(got[0], foreign.Bytes()) {
		t.Errorf("sIDHistory: got %x, want %x", got, foreign.Bytes())
	}
}

func TestHostileBytes(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{})
	kinit(t, box, JoinUser, JoinPassword)
	// The directory takes odd account names, and refuses some.
	for name, want := range map[string]bool{
		"root": true, "wheel": true, "12345": true, "-rf": true, "日本語": true, "Ünïcödé": true, "spa ce": true,
		"a:b": false, "a,b": false, "+plus": false, "x\ty": false,
	} {
		_, err := d.AddUser(ctx, User{Name: name, CN: "odd " + escapeFilter(name), UPN: "-"})
		var refused *ChangeError
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		if got := err == nil; got != want {
			t.Errorf("account name %q: accepted %v, %v, want %v", name, got, err, want)
		}
	}
	hostile := []byte("a\x00b\xff\xfe:\n\r\x1b[2J\u202e/../..\\")
	for _, attr := range []string{"displayName", "givenName", "title", "mail", "userPrincipalName", "msDS-AzureADMailNickname", "msDS-aadObjectId", "sAMAccountName"} {
		object, err := d.AddUser(ctx, User{Name: "h" + attr[:min(len(attr), 15)]})
		if err != nil {
			t.Fatal(err)
		}
		before := entry(t, d, object.Name, "uSNChanged").Get("uSNChanged")
		if err := d.SetRaw(ctx, object.Name, attr, hostile); err != nil {
			t.Errorf("%s: %v", attr, err)
			continue
		}
		// What counts is that it comes over the wire like that.
		got := ldap(t, box, d, "", "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", object.DN, attr, "uSNChanged")
		if want := attr + ":: " + base64.StdEncoding.EncodeToString(hostile) + "\n"; !strings.Contains(got.Stdout, want) {
			t.Errorf("%s over LDAP: got %s, want %q", attr, got, want)
		}
		if strings.Contains(got.Stdout, "uSNChanged: "+before+"\n") {
			t.Errorf("%s: uSNChanged did not move", attr)
		}
	}
}
