// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func TestNotJoined(t *testing.T) {
	b := newBox(t)
	_, admin, api, stop := b.start()
	st := status(t, admin)
	if st.GetHealth() != latchkeyv1.Status_HEALTH_NOT_JOINED || st.GetWorkerRestarts() != 3 || st.GetStartTime().GetSeconds() != 1795000000 {
		t.Errorf("status: got %v", st)
	}
	if _, err := api.Identity.GetUser(t.Context(), byName("alice")); !fault.Is(err, fault.Unreachable) || client.NotReachable(err) {
		t.Errorf("user of nowhere: got %v, want unreachable, said by the daemon", err)
	}
	sync, err := admin.Admin.Sync(t.Context(), &latchkeyv1.SyncRequest{})
	if err == nil {
		_, err = sync.Recv()
	}
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Remedy(err), "latchkey join") {
		t.Errorf("sync: got %v, want a conflict with the remedy", err)
	}
	leave, err := admin.Admin.Leave(t.Context(), &latchkeyv1.LeaveRequest{})
	if err == nil {
		_, err = leave.Recv()
	}
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("leave: got %v, want a conflict", err)
	}
	stop()
}

// People are answered from disk as soon as the doors are open, whatever the
// network does, and shown as the configuration wants.
func TestServesFromDisk(t *testing.T) {
	b := newBox(t)
	b.joined()
	b.write("etc/latchkey.toml", "version = 1\n[nss]\nhome = \"/tank/%d/%u\"\nshell = \"/bin/zsh\"\n")
	_, admin, api, _ := b.start()
	u, err := api.Identity.GetUser(t.Context(), byName(`CONTOSO\ALICE`))
	if err != nil {
		t.Fatal(err)
	}
	if u.GetUsername() != "alice" || u.GetUid() != 100001002 || u.GetQualifiedName() != `CONTOSO\alice` {
		t.Errorf("got %v", u)
	}
	b.waitFor("the look of people is settled", func() bool {
		u, err := api.Identity.GetUser(t.Context(), byName("alice"))
		return err == nil && u.GetHome() == "/tank/aadds.contoso.test/alice" && u.GetShell() == "/bin/zsh" && u.GetGecos() == "ALICE"
	})
	b.waitFor("the names are published", func() bool { return b.root.has("publish-snapshot") })
	b.waitFor("status says that no domain controller answers", func() bool { return problem(status(t, admin), "dc-unreachable") != nil })
	st := status(t, admin)
	if st.GetHealth() != latchkeyv1.Status_HEALTH_DEGRADED || !st.GetMirrorComplete() || st.GetUsers() != 2 || st.GetDomain() != contoso.DNS ||
		st.GetPeople() != latchkeyv1.People_PEOPLE_HYBRID || st.GetKeyVersion() != 2 || st.GetUnreachableSince() == nil {
		t.Errorf("status: got %v", st)
	}
	if strings.Contains(b.log.String(), "machine password") {
		t.Error("the log shows the machine's password")
	}
}

// A local account that appears takes the bare name back, and gives it again.
func TestLocalAccounts(t *testing.T) {
	b := newBox(t)
	b.joined()
	passwd, err := os.ReadFile(b.dir + "/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	_, _, api, _ := b.start()
	name := func() string {
		u, err := api.Identity.GetUser(t.Context(), &latchkeyv1.GetUserRequest{Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Uid{Uid: 100001003}}})
		if err != nil {
			t.Fatal(err)
		}
		return u.GetUsername()
	}
	if got := name(); got != "bob" {
		t.Fatalf("got %q, want bob", got)
	}
	b.write("etc/passwd", string(passwd)+"bob:x:1001:1001::/:/bin/sh\n")
	b.waitFor("bob is a local account", func() bool { return name() == `CONTOSO\bob` })
	b.write("etc/passwd", string(passwd))
	b.waitFor("bob is nobody's any more", func() bool { return name() == "bob" })
}

func TestSettings(t *testing.T) {
	b := newBox(t)
	b.joined()
	b.write("etc/latchkey.toml", "version = 1\n[locked]\nkeys = [\"idmap\"]\n")
	d, admin, api, stop := b.start()
	set := func(key, value string) error {
		_, err := admin.Admin.SetConfig(t.Context(), &latchkeyv1.SetConfigRequest{Key: key, Value: value})
		return err
	}
	for _, err := range []error{set("nss.shell", "/bin/fish"), set("directory.people", "cloud-only"),
		set("directory.tenant", "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b"), set("names.reserved", `["alice"]`), set("log.level", "debug")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	u, err := api.Identity.GetUser(t.Context(), byName(`CONTOSO\alice`))
	if err != nil || u.GetUsername() != `CONTOSO\alice` || u.GetShell() != "/bin/fish" || u.GetUnpublishedReason() != "privileged" {
		t.Errorf("after the settings: got %v %v", u, err)
	}
	if st := status(t, admin); st.GetPeople() != latchkeyv1.People_PEOPLE_CLOUD_ONLY || st.GetTenantId() != "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b" {
		t.Errorf("status: got %v %v", st.GetPeople(), st.GetTenantId())
	}
	if !b.root.has("reconfigured") || b.opt.Level.Level() != slog.LevelDebug {
		t.Errorf("the monitor was asked for %q, the log level is %v", b.root.asked, b.opt.Level)
	}
	for _, bad := range []struct {
		key, value string
		kind       fault.Kind
	}{{"idmap.base", "5000", fault.Denied}, {"nss.shell", "fish", fault.Malformed}, {"nss.shel", "/bin/sh", fault.Malformed}} {
		if err := set(bad.key, bad.value); !fault.Is(err, bad.kind) {
			t.Errorf("set %s %s: got %v, want %v", bad.key, bad.value, err, bad.kind)
		}
	}

	// A bad file: the old configuration stays, and status says why.
	b.write("etc/latchkey.toml", "version = 1\n[nss]\nshel = \"/bin/evil\"\n")
	d.Reload()
	p := problem(status(t, admin), "config")
	if p == nil || !strings.Contains(p.GetSummary(), "latchkey.toml:3: unknown key") || p.GetRemedy() == "" || p.GetSince() == nil {
		t.Errorf("problem: got %v", p)
	}
	if u, err := api.Identity.GetUser(t.Context(), byName("bob")); err != nil || u.GetShell() != "/bin/fish" {
		t.Errorf("with a bad file: got %v %v", u, err)
	}
	// A worker that is started anew meanwhile goes on with the same.
	stop()
	_, admin, api, _ = b.start()
	b.waitFor("the old settings count", func() bool {
		u, err := api.Identity.GetUser(t.Context(), byName("bob"))
		return err == nil && u.GetShell() == "/bin/fish"
	})
	if problem(status(t, admin), "config") == nil {
		t.Error("after a restart the bad file is forgotten")
	}
}

func TestBrokenStore(t *testing.T) {
	b := newBox(t)
	b.write("state/latchkey.db", strings.Repeat("this is no database\n", 4096))
	_, admin, api, _ := b.start()
	st := status(t, admin)
	if p := problem(st, "store"); st.GetHealth() != latchkeyv1.Status_HEALTH_FAILED || p == nil || p.GetRemedy() == "" {
		t.Errorf("status: got %v", st)
	}
	if _, err := api.Identity.GetUser(t.Context(), byName("alice")); !fault.Is(err, fault.Unreachable) {
		t.Errorf("lookup: got %v, want unreachable", err)
	}
	join, err := admin.Admin.Join(t.Context(), &latchkeyv1.JoinRequest{Domain: "aadds.contoso.test", User: "alice"})
	if err == nil {
		_, err = join.Recv()
	}
	if err == nil || fault.Is(err, fault.Unreachable) {
		t.Errorf("join: got %v, want why the store cannot be opened", err)
	}
	text, err := os.ReadFile(b.dir + "/state/latchkey.db")
	if err != nil || !strings.HasPrefix(string(text), "this is no database\n") {
		t.Errorf("the file was overwritten: %v", err)
	}
}

// A stop ends watches that are open, and waits for nobody.
func TestCleanStop(t *testing.T) {
	b := newBox(t)
	b.joined()
	_, _, api, stop := b.start()
	watch, err := api.Identity.WatchIdentities(t.Context(), &latchkeyv1.WatchIdentitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		ev, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if ev.GetEvent() == latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED {
			break
		}
	}
	stop()
	for err == nil {
		_, err = watch.Recv()
	}
	if !fault.Is(err, fault.Unreachable) {
		t.Errorf("watch: got %v, want unreachable", err)
	}
	s, err := store.Open(context.Background(), b.opt.StoreFile, store.Options{LockTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatalf("the store is still held: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMembers(t *testing.T) {
	b := newBox(t)
	b.write("etc/latchkey.toml", "version = 1\n[api]\nauthenticators = [\"uid:33\", \"gid:44\", \"nasadmin\", \"%shadow\", \"nobodyhere\", \"%nogroup\"]\n"+
		"[[sso.app]]\nname = \"photos\"\nuser = \"nasadmin\"\nredirect = \"https://photos.test/cb\"\n[[sso.app]]\nname = \"files\"\nuser = \"%shadow\"\nredirect = \"https://files.test/cb\"\n"+
		"[[sso.app]]\nname = \"gone\"\nuser = \"removed\"\nredirect = \"https://gone.test/cb\"\n")
	b.write("etc/group", "latchkey-admin:x:901:\nlatchkey-login:x:902:\nshadow:x:42:\n")
	b.opt.Monitor = &root{}
	d, err := New(t.Context(), b.opt)
	if err != nil {
		t.Fatal(err)
	}
	defer d.store.Close()
	m := d.members()
	if !slices.Equal(m.AdminGroups, []identity.GID{901}) || !slices.Equal(m.LoginGroups, []identity.GID{902}) ||
		!slices.Equal(m.AuthenticatorUIDs, []identity.UID{33, 1000}) || !slices.Equal(m.AuthenticatorGIDs, []identity.GID{44, 42}) ||
		!slices.Equal(m.AppUIDs, []identity.UID{1000}) || !slices.Equal(m.AppGIDs, []identity.GID{42}) {
		t.Errorf("got %+v", m)
	}
	if log := b.log.String(); !strings.Contains(log, "name=nobodyhere") || !strings.Contains(log, "name=%nogroup") || !strings.Contains(log, "key=sso.app name=removed") {
		t.Errorf("names of nobody are not told:\n%s", log)
	}
}
