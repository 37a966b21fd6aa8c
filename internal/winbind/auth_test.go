// SPDX-License-Identifier: Apache-2.0

package winbind_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/winbind"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// captured reads an exchange of smbd 4.17.12 with winbindd.
func captured(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("wire/testdata/captured/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send sends bytes as they are and reads the answer.
func (c *client) send(b []byte) *wire.Response {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
	a, err := c.answer()
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func auth(t *testing.T, a *wire.Response) *wire.Auth {
	t.Helper()
	got, err := a.Auth()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// validation is what the domain controller said of the captured sign-in.
func validation(t *testing.T) *login.Validation {
	t.Helper()
	resp, err := wire.ReadResponse(captured(t, "auth-crap-ntlmv2-ok.resp"))
	if err != nil {
		t.Fatal(err)
	}
	a := auth(t, resp)
	v := &login.Validation{LogonTime: a.Info.Logon, PasswordLastSet: a.Info.PasswordSet, PasswordCanChange: a.Info.CanChange,
		EffectiveName: a.Info.Account, FullName: a.Info.FullName, LogonCount: uint16(a.Info.LogonCount), UserRID: a.Info.UserRID, PrimaryGroupRID: a.Info.GroupRID,
		UserFlags: a.Info.UserFlags, UserAccountControl: a.Info.AccountFlags, DomainSID: a.Info.DomainSID, LogonServer: a.Info.LogonServer, LogonDomain: a.Info.LogonDomain,
		DNSDomain: a.Info.DNSDomain, UPN: a.Info.UPN, SessionKey: secret.Own(bytes.Clone(a.SessionKey[:])), PasswordMustChange: a.Info.MustChange,
		LogoffTime: a.Info.Logoff, KickOffTime: a.Info.Kickoff}
	for _, g := range a.Info.Groups {
		v.Groups = append(v.Groups, netlogon.Group(g))
	}
	return v
}

// The captured request of smbd gets the captured answer of winbindd, byte for
// byte, but for the sentence for people and an address of winbindd's memory.
func TestNTLMAsWinbinddAnswered(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	raw := captured(t, "auth-crap-ntlmv2-ok.req")
	a := r.privileged().send(raw)
	want := captured(t, "auth-crap-ntlmv2-ok.resp")
	clear(want[4000:4008])
	got := a.Finish()
	if !bytes.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("differs at byte %d (of %d, %d)", i, len(got), len(want))
			}
		}
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
	asked := r.login.asked().ntlm[0]
	if asked.Name != "user00001" || asked.Domain != "AADDSCONTOSO" || asked.Workstation != "NASD" || asked.Parameters != 0x820 || len(asked.NT) != 330 || len(asked.LM) != 24 ||
		asked.Challenge != [8]byte{0x2d, 0xc9, 0x43, 0x4d, 0x76, 0x8c, 0x74, 0x44} || asked.Service != access.SMB || asked.Door != "winbind" || !strings.Contains(asked.Caller, "smbd") {
		t.Errorf("asked: %+v", asked.Request)
	}
	if asked.NT[0] != 0xa5 || asked.NT[329] != raw[len(raw)-1] {
		t.Error("the response did not arrive as it was")
	}
}

// The same for a response that has room in the structure, and for refusals.
func TestNTLMShortAndRefused(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	c := r.privileged()
	if a := auth(t, c.send(captured(t, "auth-crap-short-ntlm-ok.req"))); a.Status != 0 || a.SessionKey == [16]byte{} || !bytes.Equal(a.LMKey[:], a.SessionKey[:8]) {
		t.Errorf("short: %+v", a)
	}
	if n := len(r.login.asked().ntlm[0].NT); n != 88 {
		t.Errorf("NT response of %d bytes, want 88", n)
	}
	for name, err := range map[string]error{
		"auth-crap-ntlmv2-wrong-password": fault.New(fault.BadCredential, "wrong password"),
		"auth-crap-ntlmv2-no-such-user":   fault.New(fault.NotFound, "nobody"),
		"auth-crap-short-wrong-password":  fault.Wrap(fault.BadCredential, "ask", &netlogon.Status{Code: netlogon.StatusWrongPassword}),
	} {
		r.login.set(func(f *fakeLogin) { f.err = err })
		got := c.send(captured(t, name+".req")).Finish()
		want := captured(t, name+".resp")
		clear(want[268:524]) // the sentence for people is ours
		clear(got[268:524])
		if !bytes.Equal(got, want) {
			t.Errorf("%s: not as winbindd answered", name)
		}
	}
}

// A ticket's PAC: the keys are the ticket's own, so there are none here, and
// resource groups stand where smbd looks.
func TestPAC(t *testing.T) {
	r := newRig(t)
	pac := &login.PAC{User: sid(1104), PrimaryGroup: sid(513), Account: "alice", FullName: "Alice", Domain: "EXAMPLE", DNSDomain: "EXAMPLE.TEST", UPN: "alice@contoso.test",
		LogonServer: "DC1", AccountControl: 0x10, LogonTime: time.Unix(1700000000, 0)}
	d := reflect.ValueOf(&pac.Detail).Elem()
	pac.Detail.UserFlags = 0x200
	groups := d.FieldByName("Groups")
	groups.Set(reflect.Append(groups, newGroup(groups.Type().Elem(), 513, 7), newGroup(groups.Type().Elem(), 1300, 0x10)))
	resource := d.FieldByName("ResourceGroups")
	resource.Set(reflect.Append(resource, newGroup(resource.Type().Elem(), 1200, 0x20000007)))
	pac.Detail.ResourceDomain = domainSID
	r.login.set(func(f *fakeLogin) { f.pac = pac })
	raw := captured(t, "auth-crap-pac-ok.req")
	a := r.privileged().send(raw)
	if !bytes.Equal(r.login.asked().pacs[0], raw[2136:]) {
		t.Error("the PAC did not arrive as it was")
	}
	got := auth(t, a)
	want := &wire.Auth{StatusName: "NT_STATUS_OK", Message: "The operation completed successfully.", Authoritative: true, ValidationLevel: 6,
		Info: &wire.Info3{Logon: time.Unix(1700000000, 0), UserRID: 1104, GroupRID: 513, UserFlags: 0x20, AccountFlags: 0x10, DomainSID: domainSID, Account: "alice", FullName: "Alice",
			LogonServer: "DC1", LogonDomain: "EXAMPLE", DNSDomain: "EXAMPLE.TEST", UPN: "alice@contoso.test",
			Groups: []wire.RIDAttributes{{RID: 513, Attributes: 7}}, Others: []wire.SIDAttributes{{SID: sid(1200), Attributes: 0x20000007}}}}
	if !a.Succeeded() || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v %+v\nwant %+v %+v", got, got.Info, want, want.Info)
	}
	if req := r.login.asked().requests[0]; req.Name != "" || req.Service != access.SMB || req.Door != "winbind" {
		t.Errorf("asked: %+v", req)
	}
	r.login.set(func(f *fakeLogin) { f.err = fault.New(fault.BadCredential, "forged") })
	if a := r.privileged().send(raw); a.Succeeded() || auth(t, a).Info != nil {
		t.Error("a PAC that is not ours was taken")
	}
}

// newGroup makes a group of a PAC, whose type this layer cannot name.
func newGroup(of reflect.Type, rid, attributes uint64) reflect.Value {
	g := reflect.New(of).Elem()
	g.FieldByName("RID").SetUint(rid)
	g.FieldByName("Attributes").SetUint(attributes)
	return g
}

// On the public pipe nobody may bring a challenge-response or a PAC, whatever
// else they say of themselves.
func TestCrapOnThePublicPipe(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	for _, name := range []string{"auth-crap-ntlmv2-ok.req", "auth-crap-pac-ok.req"} {
		c := r.pipe()
		a := c.send(captured(t, name))
		if got := auth(t, a); a.Succeeded() || got.Status != 0xC0000022 || got.SessionKey != [16]byte{} || len(a.Extra()) != 0 {
			t.Errorf("%s on the public pipe: %+v", name, got)
		}
	}
	if len(r.login.asked().ntlm)+len(r.login.asked().pacs) != 0 {
		t.Error("login was asked")
	}
}

func password(user, word string, flags uint32) func(*wire.Request) {
	return func(q *wire.Request) { q.SetPassword(user, word); q.SetFlags(flags) }
}

func TestPassword(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	a := c.ask(wire.PAMAuth, password(`EXAMPLE\alice`, goodPassword, wire.FlagInfo3Text|wire.FlagUserSessionKey|wire.FlagUnixName))
	got := auth(t, a)
	if !a.Succeeded() || got.Status != 0 || got.UnixName != "alice" || got.SessionKey != [16]byte{} || got.Info.Account != "Alice" || got.Info.UserRID != 1104 || got.Info.GroupRID != 513 ||
		got.Info.LogonServer != "DC1" || got.Info.LogonDomain != "EXAMPLE" ||
		!reflect.DeepEqual(got.Info.Groups, []wire.RIDAttributes{{RID: 513, Attributes: 7}}) || !reflect.DeepEqual(got.Info.Others, []wire.SIDAttributes{{SID: sid(1200), Attributes: 0x20000007}}) {
		t.Errorf("got %+v %+v", got, got.Info)
	}
	if req := r.login.asked().requests[0]; req.Name != `EXAMPLE\alice` || req.Service != access.SMB {
		t.Errorf("asked: %+v", req)
	}
	// ntlm_auth puts the domain before a UPN.
	if a := c.ask(wire.PAMAuth, password(`example\alice@contoso.test`, goodPassword, 0)); !a.Succeeded() || r.login.asked().requests[1].Name != "alice@contoso.test" {
		t.Errorf("a UPN behind a domain: asked %+v", r.login.asked().requests[1:])
	}
	if a := c.ask(wire.PAMAuth, password("alice", goodPassword, 0)); !a.Succeeded() || len(a.Extra()) != 0 {
		t.Errorf("without flags: %t, %d bytes of extra data", a.Succeeded(), len(a.Extra()))
	}
	a = c.ask(wire.PAMAuth, password("alice", "wrong one", 0))
	if got := auth(t, a); a.Succeeded() || got.Status != 0xC000006A || got.StatusName != "NT_STATUS_WRONG_PASSWORD" || got.PAMError != 7 || !got.Authoritative {
		t.Errorf("wrong: %+v", got)
	}
	a = c.ask(wire.PAMAuth, password("alice", "wrong one", wire.FlagSquashStatus))
	if got := auth(t, a); got.Status != 0xC000006D {
		t.Errorf("wrong, told no more than that: %#x", got.Status)
	}
	// A caller that is no UTF-8 is nobody, and the daemon lives.
	if a := c.ask(wire.PAMAuth, password("\xff\xfe", "wrong one", 0)); a.Succeeded() {
		t.Error("bytes that are no name were let in")
	}
}

func TestMembershipThatIsWanted(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	own := r.login.valid.DomainSID
	c := r.privileged()
	for _, tt := range []struct {
		list string
		in   bool
	}{
		{"", true}, {own.WithRID(513).String(), true}, {own.WithRID(1104).String(), true}, {own.WithRID(99).String(), false}, {"S-1-1-0", false}, {"nonsense", false},
		{own.WithRID(99).String() + "," + own.WithRID(513).String(), true},
	} {
		a := c.ask(wire.PAMAuthCrap, func(q *wire.Request) {
			q.SetAuthCrap(&wire.AuthCrap{User: "u", NT: make([]byte, 60), Membership: tt.list, Flags: wire.FlagUserSessionKey})
		})
		got := auth(t, a)
		if a.Succeeded() != tt.in || !tt.in && (got.Status != 0xC000006D || got.SessionKey != [16]byte{}) {
			t.Errorf("membership %q: %t %#x, want %t", tt.list, a.Succeeded(), got.Status, tt.in)
		}
	}
}

// Every way to fail has its status, and only a domain that is not ours leaves
// smbd to its own accounts.
func TestOutcomes(t *testing.T) {
	want := map[fault.Kind]uint32{
		fault.Unknown: 0xC00000E5, fault.NotFound: 0xC0000064, fault.BadCredential: 0xC000006A, fault.Locked: 0xC0000234, fault.Disabled: 0xC0000072,
		fault.Expired: 0xC0000193, fault.MustChange: 0xC0000224, fault.Denied: 0xC0000022, fault.Unreachable: 0xC000005E, fault.Malformed: 0xC000000D,
		fault.Conflict: 0xC000005E, fault.Exhausted: 0xC0000044, fault.Internal: 0xC00000E5,
	}
	r := newRig(t)
	c := r.privileged()
	ask := func(err error) *wire.Auth {
		r.login.set(func(f *fakeLogin) { f.err = err })
		return auth(t, c.ask(wire.PAMAuthCrap, func(q *wire.Request) { q.SetAuthCrap(&wire.AuthCrap{User: "u", NT: make([]byte, 60)}) }))
	}
	for _, kind := range fault.Kinds() {
		status, ok := want[kind]
		if !ok {
			t.Errorf("%s has no status", kind)
		}
		got := ask(fault.New(kind, "test"))
		if got.Status != status || !got.Authoritative || got.PAMError == 0 || !strings.HasPrefix(got.StatusName, "NT_STATUS_") {
			t.Errorf("%s: %#x %s, PAM %d, authoritative %t; want %#x", kind, got.Status, got.StatusName, got.PAMError, got.Authoritative, status)
		}
	}
	for _, tt := range []struct {
		err           error
		status        uint32
		authoritative bool
	}{
		{fault.Wrap(fault.NotFound, "find", login.ErrOtherDomain), 0xC0000064, false},
		{fault.Wrap(fault.Denied, "ask", &netlogon.Status{Code: netlogon.StatusInvalidLogonHours}), 0xC000006F, true},
		{fault.Wrap(fault.Expired, "ask", &netlogon.Status{Code: netlogon.StatusPasswordExpired}), 0xC0000071, true},
		{fault.Wrap(fault.Unreachable, "ask", &netlogon.Status{Code: netlogon.StatusNoTrustSAMAccount}), 0xC000005E, true},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), 0xC000005E, true},
		{fmt.Errorf("ask: %w", context.Canceled), 0xC000005E, true},
		{errors.New("strange"), 0xC00000E5, true},
	} {
		if got := ask(tt.err); got.Status != tt.status || got.Authoritative != tt.authoritative {
			t.Errorf("%v: %#x, authoritative %t; want %#x, %t", tt.err, got.Status, got.Authoritative, tt.status, tt.authoritative)
		}
	}
}

// A domain controller that does not answer costs one client its time, and the
// time is bounded.
func TestAnswersInTime(t *testing.T) {
	r := newRig(t, func(c *winbind.Config) { c.AnswerTime = 50 * time.Millisecond })
	r.login.set(func(f *fakeLogin) { f.hang = true })
	c := r.privileged()
	got := auth(t, c.ask(wire.PAMAuthCrap, func(q *wire.Request) { q.SetAuthCrap(&wire.AuthCrap{User: "u", NT: make([]byte, 60)}) }))
	if got.Status != 0xC000005E {
		t.Errorf("status %#x, want NO_LOGON_SERVERS", got.Status)
	}
	if a := c.ask(wire.Ping); !a.Succeeded() {
		t.Error("the connection does not go on")
	}
}

// Who guesses on the public pipe is slowed down; root, behind which services
// stand, and other users are not.
func TestGuessing(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.caller.UID = 1000 })
	c := r.pipe()
	refused := 0
	for range 40 {
		got := auth(t, c.ask(wire.PAMAuth, password("alice", "wrong one", 0)))
		switch got.Status {
		case 0xC000006A:
		case 0xC0000044:
			refused++
		default:
			t.Errorf("status %#x", got.Status)
		}
	}
	if asked := len(r.login.asked().requests); asked < 5 || asked > 15 || refused != 40-asked {
		t.Errorf("%d of 40 guesses were tried, %d refused", asked, refused)
	}
	if got := auth(t, c.ask(wire.PAMAuth, password("alice", goodPassword, 0))); got.Status != 0xC0000044 {
		t.Errorf("the right one amid guesses: %#x, want a refusal that says nothing", got.Status)
	}
	if a := r.pipe().ask(wire.PAMAuth, password("alice", goodPassword, 0)); a.Succeeded() {
		t.Error("another connection of the same user goes round it")
	}
	r.set(func() { r.caller.UID = 1001 })
	for range 30 { // no failure, no limit
		if a := r.pipe().ask(wire.PAMAuth, password("alice", goodPassword, 0)); !a.Succeeded() {
			t.Fatal("another user is refused")
		}
	}
	r.set(func() { r.caller.UID = 0 })
	for range 30 {
		if got := auth(t, r.pipe().ask(wire.PAMAuth, password("alice", "wrong one", 0))); got.Status != 0xC000006A {
			t.Fatalf("root: %#x", got.Status)
		}
	}
}

// Nothing that was typed is in the log, or in the memory that the next client's
// answer is built in.
func TestSecretsAreGone(t *testing.T) {
	r := newRig(t)
	r.login.set(func(f *fakeLogin) { f.valid = validation(t) })
	c := r.pipe()
	c.ask(wire.PAMAuth, password("alice", "hunter2-hunter2", 0))
	p := r.privileged()
	p.send(captured(t, "auth-crap-ntlmv2-ok.req"))
	if strings.Contains(r.logged.String(), "hunter2") {
		t.Error("the password is in the log")
	}
	for range 20 {
		a := c.ask(wire.Ping)
		if i := bytes.IndexFunc(a.Finish()[8:], func(b rune) bool { return b != 0 }); i >= 0 {
			t.Fatalf("an answer to PING has something at byte %d", i+8)
		}
	}
}
