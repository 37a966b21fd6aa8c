// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

func TestMain(m *testing.M) {
	if os.Getenv("PEER_TEST_CHILD") != "" {
		inheritingChild()
		return
	}
	os.Exit(m.Run())
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// pair returns both ends of a connection through a Unix socket in a directory
// of its own.
func pair(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.UnixConn), s.(*net.UnixConn)
}

func TestCallerOfIsWhoConnected(t *testing.T) {
	_, server := pair(t)
	c, err := CallerOf(server)
	if err != nil {
		t.Fatal(err)
	}
	if int(c.PID) != os.Getpid() || int(c.UID) != os.Geteuid() || int(c.GID) != os.Getegid() {
		t.Errorf("caller = %v gid %d, want uid %d gid %d pid %d", c, c.GID, os.Geteuid(), os.Getegid(), os.Getpid())
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if !c.In(identity.GID(g)) {
			t.Errorf("caller's groups %v lack %d", c.Groups, g)
		}
	}
	if !c.In(identity.GID(os.Getegid())) || c.In(4242424) {
		t.Error("In does not know the primary group, or knows too many")
	}
}

func TestCallerOfAClosedConnectionIsAnError(t *testing.T) {
	_, server := pair(t)
	_ = server.Close()
	if c, err := CallerOf(server); !fault.Is(err, fault.Internal) {
		t.Errorf("CallerOf = %v, %v, want an internal error", c, err)
	}
}

func TestNoClassOpensAnAdminMethodOnTheSocketForEverybody(t *testing.T) {
	everything := Members{AdminGroups: []identity.GID{1000}, LoginGroups: []identity.GID{1000},
		AuthenticatorUIDs: []identity.UID{1000}, AuthenticatorGIDs: []identity.GID{1000}, AppUIDs: []identity.UID{1000}, AppGIDs: []identity.GID{1000}}
	p := NewPolicy(everything)
	n := 0
	for _, m := range Methods() {
		if !strings.Contains(m, "AdminService") {
			continue
		}
		n++
		for _, c := range []Caller{{UID: 0}, {UID: 0, GID: 1000}, {UID: 1000, GID: 1000, Groups: []identity.GID{0, 1000}}} {
			if err := p.Check(API, m, c); !fault.Is(err, fault.Denied) {
				t.Errorf("%v may call %s through api.sock: %v", c, m, err)
			}
		}
	}
	if n < 5 {
		t.Fatalf("the table names %d admin methods", n)
	}
}

func TestPolicy(t *testing.T) {
	const (
		join   = "/latchkey.v1.AdminService/Join"
		lookup = "/latchkey.v1.IdentityService/GetUser"
	)
	root, containersNobody := Caller{UID: 0, GID: 0}, Caller{UID: nobody, GID: nobody}
	admin := Caller{UID: 1000, GID: 1000, Groups: []identity.GID{4, 990}}
	primary := Caller{UID: 1001, GID: 990}
	other := Caller{UID: 1002, GID: 1002, Groups: []identity.GID{0, 27}}
	p := NewPolicy(Members{AdminGroups: []identity.GID{990}})
	for _, tc := range []struct {
		door   Name
		method string
		caller Caller
		want   bool
	}{
		{API, lookup, other, true}, {API, lookup, root, true}, {API, lookup, containersNobody, true},
		{API, join, root, false}, {API, join, admin, false},
		{Admin, join, root, true}, {Admin, join, admin, true}, {Admin, join, primary, true}, {Admin, join, other, false},
		{Admin, lookup, admin, true}, {Admin, lookup, other, false},
		{Admin, join, containersNobody, false},
		{API, "/latchkey.v1.IdentityService/NoSuch", root, false}, {Admin, "/x/y", root, false}, {Admin, "", root, false},
		{Web, lookup, root, false}, {ShimRoot, join, root, false}, {"", lookup, root, false},
	} {
		err := p.Check(tc.door, tc.method, tc.caller)
		if got := err == nil; got != tc.want {
			t.Errorf("%v calls %s through %q: %v, want allowed = %v", tc.caller, tc.method, tc.door, err, tc.want)
		}
		if err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%v calls %s: %v is not Denied", tc.caller, tc.method, err)
		}
	}
}

func TestPolicyWithoutMembersKnowsRootOnly(t *testing.T) {
	for name, p := range map[string]*Policy{"zero": {}, "no groups": NewPolicy(Members{}),
		"root's group and nobody's by mistake": NewPolicy(Members{AdminGroups: []identity.GID{0, nobody},
			AuthenticatorUIDs: []identity.UID{nobody}, AuthenticatorGIDs: []identity.GID{0, nobody}, AppUIDs: []identity.UID{nobody}, AppGIDs: []identity.GID{0, nobody}})} {
		for _, who := range []Who{Administrators, Authenticators, Apps} {
			for _, c := range []Caller{{UID: 1000, GID: 0, Groups: []identity.GID{0}}, {UID: nobody, GID: nobody}, {UID: 5, GID: nobody}} {
				if p.is(c, who) {
					t.Errorf("%s: %v is one of the %s", name, c, who)
				}
			}
			if !p.is(Caller{}, who) {
				t.Errorf("%s: root is none of the %s", name, who)
			}
		}
		if p.is(Caller{}, Nobody) {
			t.Errorf("%s: root is Nobody", name)
		}
	}
}

func TestPolicySetReplacesMembers(t *testing.T) {
	p := NewPolicy(Members{})
	bringer := Caller{UID: 33, GID: 33}
	p.Set(Members{AuthenticatorUIDs: []identity.UID{33}})
	if !p.is(bringer, Authenticators) || p.is(bringer, Administrators) {
		t.Error("uid 33 must be an authenticator and no more")
	}
	p.Set(Members{LoginGroups: []identity.GID{33}})
	if !p.is(bringer, Authenticators) {
		t.Error("a member of the login group is an authenticator")
	}
	p.Set(Members{AppUIDs: []identity.UID{33}})
	if p.is(bringer, Authenticators) || p.is(bringer, Administrators) || !p.is(bringer, Apps) {
		t.Error("uid 33 must be an app and no more")
	}
	p.Set(Members{AppGIDs: []identity.GID{33}})
	if p.is(bringer, Authenticators) || !p.is(bringer, Apps) {
		t.Error("gid 33 must be an app and no more")
	}
	p.Set(Members{})
	if p.is(bringer, Apps) || p.is(bringer, Authenticators) {
		t.Error("uid 33 is an authenticator still")
	}
}

func TestNames(t *testing.T) {
	want := []Name{"api", "admin", "shim-root", "winbind", "winbind-priv", "web", "auth", "metrics"}
	if got := Names(); !slices.Equal(got, want) {
		t.Errorf("Names = %v, want %v", got, want)
	}
	if Name("").Known() || Name("API").Known() || !Web.Known() {
		t.Error("Known is wrong")
	}
}

func TestLimitsDefaults(t *testing.T) {
	if got := (Limits{}).OrDefault(); got != DefaultLimits() {
		t.Errorf("OrDefault of nothing = %+v", got)
	}
	if got := (Limits{Connections: 3}).OrDefault(); got.Connections != 3 || got.RequestBytes != DefaultLimits().RequestBytes {
		t.Errorf("OrDefault = %+v", got)
	}
}
