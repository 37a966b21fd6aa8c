// SPDX-License-Identifier: Apache-2.0

package winbind_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/journal/journaltest"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/winbind"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

var domainSID = identity.MustParseSID("S-1-5-21-10-20-30")

func sid(rid uint32) identity.SID { return domainSID.WithRID(rid) }

var alice = identity.User{Common: identity.Common{Row: 1, SID: sid(1104), Name: "alice", Account: "Alice", Aliases: []string{`example\alice`, "alice@contoso.test"},
	DisplayName: "Alice ☺", PastSIDs: []identity.SID{identity.MustParseSID("S-1-5-21-1-1-1-77")}},
	UPN: "alice@contoso.test", UID: 100001104, GID: 100000513, PrimaryGroup: sid(513), Gecos: "Alice", Home: "/home/alice", Shell: "/bin/sh"}

// root cannot be published bare.
var odd = identity.User{Common: identity.Common{Row: 2, SID: sid(1105), Name: `EXAMPLE\root`, Account: "root", Aliases: []string{`example\root`}},
	UID: 100001105, GID: 100000513, PrimaryGroup: sid(513)}

// nobody may sign in as, or be shown as, a row without a name.
var nameless = identity.User{Common: identity.Common{Row: 3, SID: sid(1106), Account: "a:b", Aliases: []string{"a:b"}}, UID: 100001106, GID: 100000513, PrimaryGroup: sid(513)}

var (
	users = identity.Group{Common: identity.Common{Row: 10, SID: sid(513), Name: "domain users", Account: "Domain Users", Aliases: []string{`example\domain users`}}, GID: 100000513, Scope: identity.ScopeGlobal, Security: true}
	staff = identity.Group{Common: identity.Common{Row: 11, SID: sid(1200), Name: "staff one", Account: "staff one", Aliases: []string{`example\staff one`}}, GID: 100001200, Scope: identity.ScopeDomainLocal, Security: true}
	paper = identity.Group{Common: identity.Common{Row: 12, SID: sid(1201), Name: "paper", Account: "paper"}, Scope: identity.ScopeGlobal}
)

// rig is a server on two pipes, as root's two directories would have them.
type rig struct {
	t      *testing.T
	memory *memorytest.Memory
	ids    *ids
	login  *fakeLogin
	server *winbind.Server
	dir    string

	mu     sync.Mutex
	caller peer.Caller
	member *winbind.Membership
	up     *upstream
	logged *journaltest.Buffer
}

func newRig(t *testing.T, change ...func(*winbind.Config)) *rig {
	t.Helper()
	r := &rig{t: t, memory: memorytest.New(), ids: &ids{}, login: &fakeLogin{}, dir: t.TempDir(), logged: &journaltest.Buffer{},
		member: &winbind.Membership{Domain: identity.Domain{NetBIOS: "EXAMPLE", DNS: "example.test", Realm: "EXAMPLE.TEST", SID: domainSID}, Computer: "NAS1"},
		up:     &upstream{dc: winbind.DC{Host: "dc1.example.test", Computer: "DC1", Addr: netip.MustParseAddr("192.0.2.1"), Site: "A", ClientSite: "B", Forest: "example.test", DomainGUID: "g", Flags: 5}}}
	r.memory.PutUser(alice, odd, nameless)
	r.memory.PutGroup(users, 1, 2, 3)
	r.memory.PutGroup(staff, 1)
	r.memory.PutGroup(paper, 1)
	cfg := winbind.Config{Log: slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Directory: resolve.New(r.memory, resolve.Presentation{}), IDs: r.ids, Login: r.login,
		Upstream: func() winbind.Upstream {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.up == nil {
				return nil
			}
			return r.up
		},
		Membership: func() *winbind.Membership { r.mu.Lock(); defer r.mu.Unlock(); return r.member },
		Enumerate:  func() bool { return true },
		Samba: func(context.Context) (winbind.Samba, error) {
			return winbind.Samba{Release: "4.17.12-Debian", Interface: wire.V32}, nil
		},
		PrivilegedDir: filepath.Join(r.dir, "privileged"),
		Identify:      func(*net.UnixConn) (peer.Caller, error) { r.mu.Lock(); defer r.mu.Unlock(); return r.caller, nil }}
	for _, c := range change {
		c(&cfg)
	}
	r.server = winbind.New(cfg)
	for file, name := range map[string]peer.Name{"pipe": peer.Winbind, "priv": peer.WinbindPriv} {
		ln, err := net.Listen("unix", filepath.Join(r.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := r.server.Serve(ln, name); err != nil {
				t.Errorf("serve %s: %v", name, err)
			}
		}()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r.server.Stop(ctx)
		if ctx.Err() != nil {
			t.Error("connections outlived the end")
		}
	})
	return r
}

func (r *rig) set(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn()
}

// pipe is a client of the public pipe.
func (r *rig) pipe() *client { return r.dial("pipe") }

// privileged is one of the other.
func (r *rig) privileged() *client { return r.dial("priv") }

func (r *rig) dial(file string) *client {
	r.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(r.dir, file))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: r.t, Conn: conn, version: wire.V32}
}

// client asks as Samba's library does.
type client struct {
	net.Conn
	t       *testing.T
	version wire.Version
}

func (c *client) request(cmd wire.Command, fill ...func(*wire.Request)) *wire.Request {
	c.t.Helper()
	req, err := wire.NewRequest(c.version, cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	req.SetClient("test")
	for _, f := range fill {
		f(req)
	}
	return req
}

// ask sends a request and reads the answer.
func (c *client) ask(cmd wire.Command, fill ...func(*wire.Request)) *wire.Response {
	c.t.Helper()
	if _, err := c.Write(c.request(cmd, fill...).Append(nil)); err != nil {
		c.t.Fatalf("%s: send: %v", cmd, err)
	}
	resp, err := c.answer()
	if err != nil {
		c.t.Fatalf("%s: %v", cmd, err)
	}
	return resp
}

func (c *client) answer() (*wire.Response, error) {
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, wire.ResponseSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	rest := make([]byte, int(binary.LittleEndian.Uint32(b))-len(b))
	if _, err := io.ReadFull(c, rest); err != nil {
		return nil, err
	}
	return wire.ReadResponse(append(b, rest...))
}

func text(s string) func(*wire.Request)   { return func(r *wire.Request) { r.SetText(s) } }
func domain(s string) func(*wire.Request) { return func(r *wire.Request) { r.SetDomain(s) } }
func id(n uint32) func(*wire.Request)     { return func(r *wire.Request) { r.SetID(n) } }
func extra(s string) func(*wire.Request) {
	return func(r *wire.Request) { r.SetExtra([]byte(s)) }
}

// ids answers from the rows above, and counts how often it was asked.
type ids struct {
	mu    sync.Mutex
	asked int
	fail  error
}

func (i *ids) called() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	return i.fail
}

func (i *ids) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

var numbers = map[identity.SID]winbind.ID{
	sid(1104):                             {Kind: identity.KindUser, Number: 100001104},
	sid(513):                              {Kind: identity.KindGroup, Number: 100000513},
	alice.PastSIDs[0]:                     {Kind: identity.KindUser, Number: 100001104},
	identity.MustParseSID("S-1-5-32-545"): {Kind: identity.KindGroup, Number: 199999998},
}

func (i *ids) IDsOfSIDs(_ context.Context, sids []identity.SID) ([]winbind.ID, error) {
	out := make([]winbind.ID, len(sids))
	for n, s := range sids {
		out[n] = numbers[s]
	}
	return out, i.called()
}

func (i *ids) SIDsOfIDs(_ context.Context, all []winbind.ID) ([]identity.SID, error) {
	out := make([]identity.SID, len(all))
	for n, want := range all {
		for s, have := range numbers {
			if have == want && s != alice.PastSIDs[0] {
				out[n] = s
			}
		}
	}
	return out, i.called()
}

func (i *ids) GIDs(_ context.Context, row identity.RowID) ([]identity.GID, error) {
	if row != 1 {
		return []identity.GID{100000513}, nil
	}
	return []identity.GID{100000013, 100000513, 100001200}, nil
}

// upstream is a domain controller.
type upstream struct {
	dc   winbind.DC
	gone bool
	err  error
}

func (u *upstream) DC() (winbind.DC, bool) { return u.dc, !u.gone }

func (u *upstream) Check(context.Context) (string, error) { return u.dc.Host, u.err }

// fakeLogin lets in who knows the word.
type fakeLogin struct {
	mu       sync.Mutex
	requests []login.Request
	ntlm     []login.NTLMRequest
	pacs     [][]byte
	err      error
	hang     bool
	result   func() *login.Result
	valid    *login.Validation
	pac      *login.PAC
}

func (f *fakeLogin) set(change func(*fakeLogin)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// questions are what was asked so far.
type questions struct {
	requests []login.Request
	ntlm     []login.NTLMRequest
	pacs     [][]byte
}

func (f *fakeLogin) asked() questions {
	f.mu.Lock()
	defer f.mu.Unlock()
	return questions{slices.Clone(f.requests), slices.Clone(f.ntlm), slices.Clone(f.pacs)}
}

const goodPassword = "right one"

func (f *fakeLogin) outcome(ctx context.Context) (*login.Result, error) {
	f.mu.Lock()
	hang, err, result := f.hang, f.err, f.result
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if result != nil {
		return result(), nil
	}
	a := alice
	return &login.Result{User: &a, Groups: []*identity.Group{&users, &staff, &paper}}, nil
}

func (f *fakeLogin) Authenticate(ctx context.Context, req login.Request, password secret.Bytes) (*login.Result, error) {
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	r, err := f.outcome(ctx)
	if err == nil && !password.Equal(secret.FromString(goodPassword)) {
		return nil, fault.New(fault.BadCredential, "no")
	}
	return r, err
}

func (f *fakeLogin) VerifyNTLM(ctx context.Context, req login.NTLMRequest) (*login.NTLMResult, error) {
	f.mu.Lock()
	req.NT, req.LM = append([]byte(nil), req.NT...), append([]byte(nil), req.LM...)
	f.ntlm = append(f.ntlm, req)
	valid := f.valid
	f.mu.Unlock()
	r, err := f.outcome(ctx)
	if err != nil {
		return nil, err
	}
	v := *valid
	v.SessionKey = valid.SessionKey.Clone()
	return &login.NTLMResult{Result: r, Validation: &v}, nil
}

func (f *fakeLogin) AcceptPAC(ctx context.Context, req login.Request, raw []byte) (*login.PACResult, error) {
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.pacs = append(f.pacs, append([]byte(nil), raw...))
	pac := f.pac
	f.mu.Unlock()
	r, err := f.outcome(ctx)
	if err != nil {
		return nil, err
	}
	return &login.PACResult{Result: r, PAC: pac}, nil
}
