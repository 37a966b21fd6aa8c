// SPDX-License-Identifier: Apache-2.0

package winbind_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/winbind"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

func TestGreetings(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	if a := c.ask(wire.InterfaceVersion); !a.Succeeded() || a.Number() != 32 {
		t.Errorf("INTERFACE_VERSION: %t %d", a.Succeeded(), a.Number())
	}
	if a := c.ask(wire.PrivilegedPipeDir); !a.Succeeded() || string(a.Extra()) != filepath.Join(r.dir, "privileged")+"\x00" {
		t.Errorf("PRIV_PIPE_DIR: %q", a.Extra())
	}
	if a := c.ask(wire.Ping); !a.Succeeded() {
		t.Error("PING failed")
	}
	a := c.ask(wire.Info)
	if sep, release := a.Info(); !a.Succeeded() || sep != '\\' || release != "4.17.12-Debian" {
		t.Errorf("INFO: %c %q", sep, release)
	}
	if a := c.ask(wire.NetBIOSName); !a.Succeeded() || a.Text() != "NAS1" {
		t.Errorf("NETBIOS_NAME: %q", a.Text())
	}
	if a := c.ask(wire.DomainName); !a.Succeeded() || a.Text() != "EXAMPLE" {
		t.Errorf("DOMAIN_NAME: %q", a.Text())
	}
	want := wire.Domain{NetBIOS: "EXAMPLE", DNS: "example.test", SID: domainSID.String(), Native: true, ActiveDirectory: true, Primary: true}
	for _, name := range []string{"EXAMPLE", "example", "Example.Test", "example.test."} {
		if a := c.ask(wire.DomainInfo, domain(name)); !a.Succeeded() || a.Domain() != want {
			t.Errorf("DOMAIN_INFO %s: %+v", name, a.Domain())
		}
	}
	if a := c.ask(wire.DomainInfo, domain("BUILTIN")); !a.Succeeded() || a.Domain() != (wire.Domain{NetBIOS: "BUILTIN", SID: "S-1-5-32"}) {
		t.Errorf("DOMAIN_INFO BUILTIN: %+v", a.Domain())
	}
	if a := c.ask(wire.DomainInfo, domain("OTHER")); a.Succeeded() {
		t.Error("DOMAIN_INFO of another domain succeeded")
	}
}

// Each client is answered in its own version's numbers.
func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		machine, client wire.Version
		served          bool
	}{
		{wire.V31, wire.V31, true}, {wire.V32, wire.V32, true}, {wire.V33, wire.V33, true},
		{wire.V32, wire.V31, true}, {wire.V33, wire.V31, true}, // told by its length
		{wire.V31, wire.V32, false}, // longer than any of that version
	} {
		r := newRig(t, func(c *winbind.Config) {
			c.Samba = func(context.Context) (winbind.Samba, error) { return winbind.Samba{Interface: tt.machine}, nil }
		})
		c := r.pipe()
		c.version = tt.client
		if _, err := c.Write(c.request(wire.InterfaceVersion).Append(nil)); err != nil {
			t.Fatal(err)
		}
		a, err := c.answer()
		if (err == nil) != tt.served {
			t.Errorf("machine %d, client %d: %v, want served: %t", tt.machine, tt.client, err, tt.served)
		}
		if err != nil {
			continue
		}
		if a.Number() != uint32(tt.client) {
			t.Errorf("machine %d, client %d: answered %d", tt.machine, tt.client, a.Number())
		}
		if a := c.ask(wire.NetBIOSName); a.Text() != "NAS1" { // of another number in 33
			t.Errorf("machine %d, client %d: NETBIOS_NAME %q", tt.machine, tt.client, a.Text())
		}
		if a := c.ask(wire.SIDsToXIDs, extra(sid(1104).String()+"\n\x00")); string(a.Extra()) != "U100001104\n\x00" {
			t.Errorf("machine %d, client %d: SIDS_TO_XIDS %q", tt.machine, tt.client, a.Extra())
		}
	}
}

// A Samba that is not known is refused, and the log says so once.
func TestUnknownSamba(t *testing.T) {
	r := newRig(t, func(c *winbind.Config) {
		c.Samba = func(context.Context) (winbind.Samba, error) {
			return winbind.Samba{Release: "4.25.0"}, fault.WithRemedy(fault.New(fault.Conflict, "the interface version of Samba 4.25 is not known"), "update latchkey")
		}
	})
	for range 3 {
		c := r.pipe()
		if _, err := c.Write(c.request(wire.InterfaceVersion).Append(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.answer(); err == nil {
			t.Error("served, with a Samba that is not known")
		}
	}
	log := r.logged.String()
	if n := strings.Count(log, "serve nobody"); n != 1 || !strings.Contains(log, "update latchkey") || !strings.Contains(log, "level=ERROR") {
		t.Errorf("told %d times, want once, as an error, with what to do:\n%s", n, log)
	}
}

func TestPasswdAndGroup(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	want := wire.Passwd{Name: "alice", Password: "*", UID: 100001104, GID: 100000513, Gecos: "Alice", Home: "/home/alice", Shell: "/bin/sh"}
	for _, name := range []string{"alice", "ALICE", `example\alice`, `EXAMPLE\Alice`, "alice@contoso.test", `EXAMPLE\alice@contoso.test`} {
		if a := c.ask(wire.GetPwNam, text(name)); !a.Succeeded() || a.Passwd() != want {
			t.Errorf("GETPWNAM %s: %t %+v", name, a.Succeeded(), a.Passwd())
		}
	}
	if a := c.ask(wire.GetPwUID, id(100001104)); !a.Succeeded() || a.Passwd() != want {
		t.Errorf("GETPWUID: %+v", a.Passwd())
	}
	if a := c.ask(wire.GetPwSID, text(sid(1104).String())); !a.Succeeded() || a.Passwd() != want {
		t.Errorf("GETPWSID: %+v", a.Passwd())
	}
	if a := c.ask(wire.GetPwNam, text(`example\root`)); !a.Succeeded() || a.Passwd().Name != `EXAMPLE\root` {
		t.Errorf("a row without a short name: %+v", a.Passwd())
	}
	for _, name := range []string{"root", "nobody", "", "a:b", "staff one", `OTHER\alice@contoso.test`, strings.Repeat("x", 255), "a\xffb"} {
		if a := c.ask(wire.GetPwNam, text(name)); a.Succeeded() {
			t.Errorf("GETPWNAM %q found %+v", name, a.Passwd())
		}
	}
	for _, uid := range []uint32{0, 1000, 100000513, 100001106, 1<<32 - 1} {
		if a := c.ask(wire.GetPwUID, id(uid)); a.Succeeded() {
			t.Errorf("GETPWUID %d found %+v", uid, a.Passwd())
		}
	}
	group := wire.Group{Name: "staff one", Password: "*", GID: 100001200}
	if a := c.ask(wire.GetGrNam, text("Staff One")); !a.Succeeded() || a.Group() != group || string(a.Extra()) != "\x00" {
		t.Errorf("GETGRNAM: %+v %q", a.Group(), a.Extra())
	}
	if a := c.ask(wire.GetGrGID, id(100001200)); !a.Succeeded() || a.Group() != group {
		t.Errorf("GETGRGID: %+v", a.Group())
	}
	for _, name := range []string{"paper", "alice", "none"} {
		if a := c.ask(wire.GetGrNam, text(name)); a.Succeeded() {
			t.Errorf("GETGRNAM %s found %+v", name, a.Group())
		}
	}
	a := c.ask(wire.GetGroups, text("alice"))
	var gids []uint32
	for i := range a.Number() {
		gids = append(gids, binary.LittleEndian.Uint32(a.Extra()[4*i:]))
	}
	if !a.Succeeded() || !slices.Equal(gids, []uint32{100000513, 100000013, 100001200}) || len(a.Extra()) != 12 {
		t.Errorf("GETGROUPS: %v, want the primary one first", gids)
	}
	if a := c.ask(wire.GetGroups, text("nobody")); a.Succeeded() {
		t.Error("GETGROUPS of nobody succeeded")
	}
}

func TestEnumeration(t *testing.T) {
	r := newRig(t)
	for i := range uint32(700) {
		u := alice
		u.Row, u.Name, u.UID, u.SID = identity.RowID(1000+i), "user"+strconv.Itoa(int(i)), identity.UID(100010000+i), sid(10000+i)
		r.memory.PutUser(u)
	}
	c := r.pipe()
	if a := c.ask(wire.SetPwEnt); !a.Succeeded() {
		t.Error("SETPWENT failed")
	}
	var names []string
	for {
		a := c.ask(wire.GetPwEnt, id(250))
		if !a.Succeeded() {
			break
		}
		if n := a.Number(); n == 0 || n > 250 || len(a.Extra()) != int(n)*wire.PasswdSize {
			t.Fatalf("GETPWENT: %d entries in %d bytes", n, len(a.Extra()))
		}
		for i := range int(a.Number()) {
			names = append(names, a.PasswdAt(i).Name)
		}
	}
	if len(names) != 702 || !slices.Contains(names, "alice") || !slices.Contains(names, `EXAMPLE\root`) || len(slices.Compact(slices.Sorted(slices.Values(names)))) != 702 {
		t.Errorf("%d users were listed, want 702, each once", len(names))
	}
	if a := c.ask(wire.GetPwEnt, id(250)); a.Succeeded() {
		t.Error("after the end there is more")
	}
	c.ask(wire.EndPwEnt)
	if a := c.ask(wire.GetPwEnt, id(1)); !a.Succeeded() || a.Number() != 1 {
		t.Error("ENDPWENT does not begin afresh")
	}
	other := r.pipe()
	if a := other.ask(wire.GetPwEnt, id(10000)); a.Number() != 500 {
		t.Errorf("another connection, with a greedy question: %d entries, want 500", a.Number())
	}
	c.ask(wire.SetGrEnt)
	a := c.ask(wire.GetGrEnt, id(250))
	if a.Number() != 2 || len(a.Extra()) != 2*wire.GroupSize+1 || a.GroupAt(0).Name != "domain users" || a.GroupAt(1).Name != "staff one" {
		t.Errorf("GETGRENT: %d entries in %d bytes", a.Number(), len(a.Extra()))
	}
	if a := c.ask(wire.GetGrEnt, id(250)); a.Succeeded() || len(a.Extra()) != 0 {
		t.Error("GETGRENT does not end")
	}
	c.ask(wire.EndGrEnt)
	a = c.ask(wire.ListUsers)
	if list := strings.Split(strings.TrimSuffix(string(a.Extra()), "\x00"), ","); !a.Succeeded() || len(list) != 702 || int(a.Number()) != 702 {
		t.Errorf("LIST_USERS: %d names, says %d", len(list), a.Number())
	}
	if a := c.ask(wire.ListGroups, domain("example")); string(a.Extra()) != "domain users,staff one\x00" || a.Number() != 2 {
		t.Errorf("LIST_GROUPS: %q", a.Extra())
	}
	if a := c.ask(wire.ListUsers, domain("OTHER")); a.Succeeded() {
		t.Error("LIST_USERS of another domain succeeded")
	}
}

func TestEnumerationSwitchedOff(t *testing.T) {
	r := newRig(t, func(c *winbind.Config) { c.Enumerate = func() bool { return false } })
	c := r.pipe()
	c.ask(wire.SetPwEnt)
	if a := c.ask(wire.GetPwEnt, id(250)); a.Succeeded() {
		t.Error("users are listed")
	}
	if a := c.ask(wire.GetGrEnt, id(250)); a.Succeeded() {
		t.Error("groups are listed")
	}
	if a := c.ask(wire.GetPwNam, text("alice")); !a.Succeeded() {
		t.Error("a name is not found")
	}
}

// Until the mirror is complete nobody is said not to exist, and nothing is
// remembered of that time.
func TestMirrorNotComplete(t *testing.T) {
	r := newRig(t)
	r.memory.SetComplete(false)
	r.ids.mu.Lock()
	r.ids.fail = fault.New(fault.Unreachable, "not yet")
	r.ids.mu.Unlock()
	c := r.pipe()
	if a := c.ask(wire.GetPwNam, text("late")); a.Succeeded() {
		t.Error("found nobody")
	}
	if a := c.ask(wire.SIDsToXIDs, extra(sid(1104).String()+"\n\x00")); a.Succeeded() {
		t.Error("answered, without knowing")
	}
	r.ids.mu.Lock()
	r.ids.fail = nil
	r.ids.mu.Unlock()
	if a := c.ask(wire.SIDsToXIDs, extra(sid(1104).String()+"\n\x00")); string(a.Extra()) != "U100001104\n\x00" {
		t.Errorf("afterwards: %q", a.Extra())
	}
}

func TestDomainControllers(t *testing.T) {
	r := newRig(t)
	c := r.pipe()
	if a := c.ask(wire.GetDCName, domain("EXAMPLE")); a.Text() != "dc1.example.test" {
		t.Errorf("GETDCNAME: %q", a.Text())
	}
	if a := c.ask(wire.DCInfo, domain("EXAMPLE")); string(a.Extra()) != "dc1.example.test\n192.0.2.1\n\x00" || a.Number() != 1 {
		t.Errorf("DC_INFO: %q", a.Extra())
	}
	want := wire.DC{UNC: `\\dc1.example.test`, Address: `\\192.0.2.1`, AddressType: 1, DomainGUID: "g", Domain: "example.test", Forest: "example.test", Flags: 5, DCSite: "A", ClientSite: "B"}
	if a := c.ask(wire.DsGetDCName, text("example.test")); a.DC() != want {
		t.Errorf("DSGETDCNAME: %+v", a.DC())
	}
	if a := c.ask(wire.PingDC, domain("EXAMPLE")); !a.Succeeded() || string(a.Extra()) != "dc1.example.test\x00" {
		t.Errorf("PING_DC: %q", a.Extra())
	}
	if a := c.ask(wire.CheckMachineAccount); !a.Succeeded() {
		t.Error("CHECK_MACHACC failed")
	}
	trusted := func(state string) string {
		return `BUILTIN\\S-1-5-32\Local\Yes\No\No\Online` + "\n" + `EXAMPLE\example.test\` + domainSID.String() + `\Workstation\Yes\No\Yes\` + state + "\x00"
	}
	if a := c.ask(wire.ListTrustedDomains); string(a.Extra()) != trusted("Online") || a.Number() != 2 {
		t.Errorf("LIST_TRUSTDOM: %q", a.Extra())
	}
	for _, cmd := range []wire.Command{wire.GetDCName, wire.DCInfo, wire.PingDC, wire.CheckMachineAccount} {
		if a := c.ask(cmd, domain("OTHER")); a.Succeeded() {
			t.Errorf("%s of another domain succeeded", cmd)
		}
	}
	r.set(func() { r.up.gone, r.up.err = true, fault.New(fault.Unreachable, "gone") })
	if a := c.ask(wire.ListTrustedDomains); string(a.Extra()) != trusted("Offline") {
		t.Errorf("LIST_TRUSTDOM without a DC: %q", a.Extra())
	}
	if a := c.ask(wire.GetDCName); a.Succeeded() {
		t.Error("GETDCNAME without a DC succeeded")
	}
	a := c.ask(wire.CheckMachineAccount)
	if auth, err := a.Auth(); a.Succeeded() || err != nil || auth.Status != 0xC000005E || auth.StatusName != "NT_STATUS_NO_LOGON_SERVERS" {
		t.Errorf("CHECK_MACHACC without a DC: %+v %v", auth, err)
	}
	r.set(func() { r.up = nil })
	if a := c.ask(wire.PingDC); a.Succeeded() {
		t.Error("PING_DC with nobody to ask succeeded")
	}
}

// What would change something, and what nobody needs, is refused in good order.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	for _, c := range []*client{r.pipe(), r.privileged()} {
		for _, cmd := range []wire.Command{wire.AllocateUID, wire.AllocateGID, wire.CacheNTLMAuth, wire.CacheSave, wire.WINSByIP, wire.WINSByName,
			wire.GetGrList, wire.ShowSequence, wire.PAMChangePassword, wire.PAMChangePasswordCrap, wire.PAMLogoff, wire.ChangeMachineAccount} {
			a := c.ask(cmd, text("alice"))
			if a.Succeeded() || len(a.Extra()) != 0 {
				t.Errorf("%s succeeded", cmd)
			}
		}
		a := c.ask(wire.PAMChangePassword, text("alice"))
		if auth, err := a.Auth(); err != nil || auth.Status != 0xC00000BB || auth.Message == "" {
			t.Errorf("PAM_CHAUTHTOK: %+v %v", auth, err)
		}
		b := c.request(wire.Ping).Append(nil)
		binary.LittleEndian.PutUint32(b[4:], 60000)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if a, err := c.answer(); err != nil || a.Succeeded() {
			t.Errorf("a number that means nothing: %v", err)
		}
		if a := c.ask(wire.Ping); !a.Succeeded() {
			t.Error("the connection does not go on")
		}
	}
}

func TestNoDomain(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.member = nil })
	c := r.privileged()
	for _, cmd := range []wire.Command{wire.DomainName, wire.NetBIOSName, wire.DomainInfo, wire.LookupName, wire.ListUsers, wire.PingDC, wire.ListTrustedDomains} {
		if a := c.ask(cmd, domain("EXAMPLE")); a.Succeeded() {
			t.Errorf("%s succeeded in no domain", cmd)
		}
	}
	r.login.set(func(f *fakeLogin) { f.err = fault.New(fault.NotFound, "in no domain") })
	a := c.ask(wire.PAMAuthCrap, func(q *wire.Request) { q.SetAuthCrap(&wire.AuthCrap{User: "alice", NT: make([]byte, 60)}) })
	if auth, _ := a.Auth(); auth.Status != 0xC000005E || !auth.Authoritative {
		t.Errorf("NTLM in no domain: %+v", auth)
	}
}
