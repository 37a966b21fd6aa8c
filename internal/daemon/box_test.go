// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/journal"
	"github.com/latchkey-nas/latchkey/internal/journal/journaltest"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

var contoso = identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST",
	SID: identity.MustParseSID("S-1-5-21-1-2-3")}

// root plays the monitor.
type root struct {
	mu    sync.Mutex
	asked []string
	fail  error
	ready chan struct{}

	atReady func() // before the daemon is taken for ready; may be nil
}

func (r *root) Call(_ context.Context, m control.Message, _ *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, m.Verb().String())
	return r.fail
}
func (r *root) Ready() error {
	if r.atReady != nil {
		r.atReady()
	}
	close(r.ready)
	return nil
}
func (r *root) Welcome() control.Welcome {
	return control.Welcome{Started: time.Unix(1795000000, 0), Restarts: 3}
}

func (r *root) has(verb string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.asked, verb)
}

// box is a machine with a daemon on it, none of it root's.
type box struct {
	t    *testing.T
	dir  string
	root *root
	log  *journaltest.Buffer
	opt  Options
	// pipes opens winbind's as well, as run/pipe and run/priv.
	pipes bool
	// atReady looks at the daemon when it says that it is ready; nil: nobody does.
	atReady func(*Daemon)
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &box{t: t, dir: dir, log: &journaltest.Buffer{}}
	for _, d := range []string{"etc", "state"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nnasadmin:x:1000:1000::/:/bin/sh\n")
	// The tests are not root's; whoever runs them is the administrator here.
	b.write("etc/group", fmt.Sprintf("root:x:0:\nlatchkey-admin:x:%d:\nlatchkey-login:x:902:\nshadow:x:42:\n", os.Getegid()))
	b.write("etc/latchkey.toml", "version = 1\n")
	level := &slog.LevelVar{}
	b.opt = Options{ConfigFile: dir + "/etc/latchkey.toml", ConfigFolder: dir + "/state/conf.d", StoreFile: dir + "/state/latchkey.db", AuditFile: dir + "/audit.jsonl",
		KeytabFile: dir + "/state/krb5.keytab", Accounts: accounts.Source{Dir: dir + "/etc", Poll: 20 * time.Millisecond},
		Log: slog.New(journal.New(b.log, level, "text", true)), Level: level}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", b.log)
		}
	})
	return b
}

func (b *box) write(name, text string) {
	b.t.Helper()
	next := filepath.Join(b.dir, name+".new")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

// start runs a daemon until stop or the end of the test.
func (b *box) start() (d *Daemon, admin, api *client.Conn, stop func()) {
	b.t.Helper()
	b.opt.Listeners = peer.Listeners{}
	for _, s := range peer.Standard(b.dir+"/run", identity.GID(os.Getegid())) {
		if s.Name != peer.API && s.Name != peer.Admin {
			continue
		}
		s.GID, s.DirGID = identity.GID(os.Getegid()), identity.GID(os.Getegid())
		ln, err := peer.Open(s)
		if err != nil {
			b.t.Fatal(err)
		}
		b.opt.Listeners[s.Name] = []*peer.Listener{ln}
	}
	if b.pipes {
		for name, file := range map[peer.Name]string{peer.Winbind: "/run/pipe", peer.WinbindPriv: "/run/priv"} {
			ln, err := peer.Open(peer.Socket{Name: name, Path: b.dir + file, Mode: 0o777, GID: identity.GID(os.Getegid())})
			if err != nil {
				b.t.Fatal(err)
			}
			b.opt.Listeners[name] = []*peer.Listener{ln}
		}
	}
	b.root = &root{ready: make(chan struct{})}
	b.opt.Monitor = b.root
	ctx, cancel := context.WithCancel(context.Background())
	d, err := New(ctx, b.opt)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.atReady != nil {
		b.root.atReady = func() { b.atReady(d) }
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	<-b.root.ready
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the daemon ended with %v", err)
		}
		_ = b.opt.Listeners.Close()
	})
	b.t.Cleanup(stop)
	if admin, err = client.DialAdmin(ctx, b.dir+"/run/admin.sock"); err != nil {
		b.t.Fatal(err)
	}
	if api, err = client.DialAPI(ctx, b.dir+"/run/api.sock"); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = admin.Close(); _ = api.Close() })
	return d, admin, api, stop
}

func (b *box) waitFor(what string, condition func() bool) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return
		}
	}
	b.t.Fatalf("waited in vain: %s", what)
}

// joined puts a membership and two people into the store, of a domain whose
// controller is a port of this machine on which nobody listens.
func (b *box) joined() {
	b.t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, b.opt.StoreFile, store.Options{Log: b.opt.Log})
	if err != nil {
		b.t.Fatal(err)
	}
	ids, err := idmap.New(idmap.Config{}, contoso.SID)
	if err != nil {
		b.t.Fatal(err)
	}
	person := func(n byte, account string) *store.Row {
		r := store.NewUser()
		r.User.OID, r.User.ObjectGUID = identity.GUID{1, n}, identity.GUID{2, n}
		r.User.SID, r.User.PrimaryGroup = contoso.SID.WithRID(1000+uint32(n)), contoso.SID.WithRID(513)
		r.User.Account, r.User.UPN, r.User.DisplayName = account, account+"@contoso.com", strings.ToUpper(account)
		return r
	}
	everyone := store.NewGroup()
	everyone.Group.ObjectGUID, everyone.Group.SID = identity.GUID{3}, contoso.SID.WithRID(513)
	everyone.Group.Account, everyone.Group.Scope, everyone.Group.Security = "Domain Users", identity.ScopeGlobal, true
	err = errors.Join(
		s.PutMachine(ctx, &store.Machine{Domain: contoso, ComputerAccount: "NAS$", FQDN: "nas.aadds.contoso.test", Password: secret.FromString("machine password"),
			KVNO: 2, DomainControllers: []string{"127.0.0.9"}, DNSServers: []string{"127.0.0.9"}, People: store.PeopleHybrid}),
		s.SetPolicy(ctx, store.Policy{Domain: contoso, IDs: ids}),
		s.Update(ctx, func(tx *store.Tx) error {
			return errors.Join(tx.Put(everyone), tx.Put(person(1, "alice")), tx.Put(person(2, "bob")), tx.SetSync(store.Sync{Complete: true, DC: "dc1"}))
		}),
		s.Close())
	if err != nil {
		b.t.Fatal(err)
	}
}

func status(t *testing.T, c *client.Conn) *latchkeyv1.Status {
	t.Helper()
	st, err := c.Admin.GetStatus(t.Context(), &latchkeyv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func problem(st *latchkeyv1.Status, id string) *latchkeyv1.Problem {
	for _, p := range st.GetProblems() {
		if p.GetId() == id {
			return p
		}
	}
	return nil
}

func byName(name string) *latchkeyv1.GetUserRequest {
	return &latchkeyv1.GetUserRequest{Key: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: name}}}
}
