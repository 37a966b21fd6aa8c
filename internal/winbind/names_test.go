// SPDX-License-Identifier: Apache-2.0

package winbind_test

import (
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

func TestNames(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	for _, tt := range []struct {
		domain, name string
		sid          string
		kind         wire.NameType
	}{
		{"EXAMPLE", "alice", sid(1104).String(), wire.TypeUser},
		{"example", "ALICE", sid(1104).String(), wire.TypeUser},
		{"example.test", "alice", sid(1104).String(), wire.TypeUser},
		{"", "alice", sid(1104).String(), wire.TypeUser},
		{"", `EXAMPLE\alice`, sid(1104).String(), wire.TypeUser},
		{"", "alice@contoso.test", sid(1104).String(), wire.TypeUser},
		{"contoso.test", "alice", sid(1104).String(), wire.TypeUser},
		{"EXAMPLE", "root", sid(1105).String(), wire.TypeUser},
		{"EXAMPLE", "Domain Users", sid(513).String(), wire.TypeGroup},
		{"EXAMPLE", "staff one", sid(1200).String(), wire.TypeAlias},
		{"EXAMPLE", "", domainSID.String(), wire.TypeDomain},
		{"builtin", "", "S-1-5-32", wire.TypeDomain},
		{"BUILTIN", "administrators", "S-1-5-32-544", wire.TypeAlias},
		{"NT AUTHORITY", "Authenticated Users", "S-1-5-11", wire.TypeWellKnown},
		{"", "everyone", "S-1-1-0", wire.TypeWellKnown},
	} {
		a := c.ask(wire.LookupName, func(q *wire.Request) { q.SetLookupName(tt.domain, tt.name) })
		if got, kind := a.SID(); !a.Succeeded() || got != tt.sid || kind != tt.kind {
			t.Errorf("LOOKUPNAME %q %q: %t %s %d, want %s %d", tt.domain, tt.name, a.Succeeded(), got, kind, tt.sid, tt.kind)
		}
	}
	for _, tt := range [][2]string{{"EXAMPLE", "nobody"}, {"OTHER", "alice"}, {"other.test", "alice"}, {"NAS1", "alice"}, {"", "root"}, {"BUILTIN", "alice"}, {"", ""}} {
		a := c.ask(wire.LookupName, func(q *wire.Request) { q.SetLookupName(tt[0], tt[1]) })
		if _, kind := a.SID(); a.Succeeded() || kind != wire.TypeUnknown {
			t.Errorf("LOOKUPNAME %q: %t, type %d, want unknown", tt, a.Succeeded(), kind)
		}
	}
	for _, tt := range []struct {
		sid, domain, name string
		kind              wire.NameType
	}{
		{sid(1104).String(), "EXAMPLE", "alice", wire.TypeUser},
		{alice.PastSIDs[0].String(), "EXAMPLE", "alice", wire.TypeUser},
		{sid(1105).String(), "EXAMPLE", "root", wire.TypeUser},
		{sid(1106).String(), "EXAMPLE", "a:b", wire.TypeUser},
		{sid(1200).String(), "EXAMPLE", "staff one", wire.TypeAlias},
		{domainSID.String(), "EXAMPLE", "", wire.TypeDomain},
		{"S-1-5-32", "BUILTIN", "", wire.TypeDomain},
		{"S-1-5-32-545", "BUILTIN", "Users", wire.TypeAlias},
		{"S-1-1-0", "", "Everyone", wire.TypeWellKnown},
	} {
		a := c.ask(wire.LookupSID, text(tt.sid))
		if d, n, kind := a.Name(); !a.Succeeded() || d != tt.domain || n != tt.name || kind != tt.kind {
			t.Errorf("LOOKUPSID %s: %t %q %q %d", tt.sid, a.Succeeded(), d, n, kind)
		}
	}
	for _, s := range []string{sid(99).String(), "S-1-5-21-1-2-3-4", "nonsense", ""} {
		if a := c.ask(wire.LookupSID, text(s)); a.Succeeded() {
			t.Errorf("LOOKUPSID %q succeeded", s)
		}
	}
}

// One item that means nothing does not cost the others.
func TestBatches(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	for _, tt := range []struct {
		cmd  wire.Command
		text string
		in   string
		out  string
	}{
		{wire.SIDsToXIDs, "", sid(1104).String() + "\n" + sid(99).String() + "\nnonsense\n" + sid(513).String() + "\nS-1-5-32-545\nS-1-18-1\n\x00", "U100001104\n\n\nG100000513\nG199999998\n\n\x00"},
		{wire.SIDsToXIDs, "", alice.PastSIDs[0].String() + "\n\x00", "U100001104\n\x00"},
		{wire.SIDsToXIDs, "", sid(1104).String(), "U100001104\n\x00"}, // without any end
		{wire.SIDsToXIDs, "", "\x00", "\x00"},
		{wire.SIDsToXIDs, "", "", "\x00"},
		{wire.XIDsToSIDs, "", "U100001104\nG65534\nU0\nG100000513\nX1\nU\nU-1\nG100001104\n\x00", sid(1104).String() + "\n-\n-\n" + sid(513).String() + "\n-\n-\n-\n-\n\x00"},
		{wire.LookupRIDs, domainSID.String(), "1104\n99\n513\n1200\n\x00", "1 alice\n8 \n2 domain users\n4 staff one\n\x00"},
		{wire.LookupRIDs, "S-1-5-32", "544\n\x00", "4 Administrators\n\x00"},
		{wire.LookupSIDs, "", sid(1104).String() + "\nS-1-1-0\n" + sid(513).String() + "\n" + sid(99).String() + "\nS-1-5-21-1-2-3-4\n\x00",
			"3\n" + domainSID.String() + " EXAMPLE\nS-1-1-0 \nS-1-5-21-1-2-3 UNKNOWN\n5\n0 1 alice\n1 5 Everyone\n0 2 domain users\n0 8 00000063\n2 8 00000004\n\x00"},
		{wire.GetUserSIDs, sid(1104).String(), "", sid(1104).String() + "\n" + sid(513).String() + "\n" + sid(1200).String() + "\n\x00"},
		{wire.GetUserDomainGroups, sid(1105).String(), "", sid(1105).String() + "\n" + sid(513).String() + "\n\x00"},
		{wire.GetSIDAliases, domainSID.String(), sid(1104).String() + "\n" + sid(513).String() + "\nS-1-1-0\n\x00", sid(1200).String() + "\n\x00"},
		{wire.GetSIDAliases, "S-1-5-32", sid(1104).String() + "\n\x00", "\x00"},
	} {
		for range 2 { // found, and then remembered
			a := c.ask(tt.cmd, text(tt.text), extra(tt.in))
			if !a.Succeeded() || string(a.Extra()) != tt.out {
				t.Errorf("%s %q: %t\n got %q\nwant %q", tt.cmd, tt.in, a.Succeeded(), a.Extra(), tt.out)
			}
		}
	}
	for _, tt := range []struct {
		cmd      wire.Command
		text, in string
	}{
		{wire.LookupRIDs, "S-1-5-21-1-2-3", "1104\n\x00"}, {wire.LookupRIDs, "nonsense", "1104\n\x00"}, {wire.LookupRIDs, domainSID.String(), "x\n\x00"},
		{wire.GetUserSIDs, sid(99).String(), ""}, {wire.GetUserSIDs, sid(513).String(), ""}, {wire.GetUserSIDs, "", ""},
	} {
		if a := c.ask(tt.cmd, text(tt.text), extra(tt.in)); a.Succeeded() || len(a.Extra()) != 0 {
			t.Errorf("%s %q %q succeeded: %q", tt.cmd, tt.text, tt.in, a.Extra())
		}
	}
}

// A token of 900 groups, and the longest request that there is.
func TestLongBatches(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	var in, out strings.Builder
	for i := range 900 {
		in.WriteString(sid(uint32(20000+i)).String() + "\n")
		out.WriteString("\n")
	}
	in.WriteString(sid(513).String() + "\n\x00")
	out.WriteString("G100000513\n\x00")
	for range 2 {
		if a := c.ask(wire.SIDsToXIDs, extra(in.String())); string(a.Extra()) != out.String() {
			t.Errorf("a token of 901 SIDs: %d bytes", len(a.Extra()))
		}
	}
	longest := strings.Repeat("\n", wire.MaxExtra)
	if a := c.ask(wire.SIDsToXIDs, extra(longest)); string(a.Extra()) != longest+"\x00" {
		t.Errorf("128 KiB of empty lines: %d bytes", len(a.Extra()))
	}
}

// What is remembered is forgotten as soon as anything changes.
func TestNothingIsOld(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	ask := func() string {
		return string(c.ask(wire.SIDsToXIDs, extra(sid(1104).String()+"\n\x00")).Extra())
	}
	ask()
	before := r.ids.count()
	ask()
	if r.ids.count() != before {
		t.Error("asked again, though nothing changed")
	}
	changed := alice
	changed.Gecos = "Alice the Second"
	r.memory.PutUser(changed)
	ask()
	if r.ids.count() != before+1 {
		t.Error("not asked again after a change")
	}
	if a := c.ask(wire.GetPwNam, text("alice")); a.Passwd().Gecos != "Alice the Second" {
		t.Errorf("GETPWNAM: %+v", a.Passwd())
	}
	if a := c.ask(wire.GetPwNam, text("late")); a.Succeeded() {
		t.Error("found somebody who is not there yet")
	}
	late := alice
	late.Row, late.Name, late.UID = 50, "late", 100009999
	r.memory.PutUser(late)
	if a := c.ask(wire.GetPwNam, text("late")); !a.Succeeded() {
		t.Error("that there was nobody is remembered too long")
	}
}
