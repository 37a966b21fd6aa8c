// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/journal/journaltest"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/resolve/memorytest"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// asChild is what this binary does in place of tests when a variable is set.
var asChild = map[string]func(value string){"GRPCAPI_TEST_SERVE": func(dir string) {
	if err := serveBench(dir); err != nil {
		fmt.Println(err)
	}
}}

func TestMain(m *testing.M) {
	for variable, run := range asChild {
		if value := os.Getenv(variable); value != "" {
			run(value)
			return
		}
	}
	os.Exit(m.Run())
}

const adminGroup = 990

// The callers that tests play.
var (
	root     = peer.Caller{UID: 0}
	admin    = peer.Caller{UID: 1000, GID: 1000, Groups: []identity.GID{4, adminGroup}}
	user     = peer.Caller{UID: 1001, GID: 1001, Groups: []identity.GID{27}}
	stranger = peer.Caller{UID: 65534, GID: 65534} // from another user namespace
)

// box is a server with its two sockets, a memory to fill, and a log to read.
type box struct {
	machine *keeper
	events  *events
	setter  *setter

	t      testing.TB
	dir    string
	memory *memorytest.Memory
	work   *work
	signer *signer
	// sessions plays the work behind SsoService, policy says who is who.
	sessions *sessions
	policy   *peer.Policy
	server   *grpcapi.Server
	log      *journaltest.Buffer
	clients  atomic.Int64
}

var (
	domainSID = identity.MustParseSID("S-1-5-21-1-2-3")
	domain    = identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST", SID: domainSID}
)

func person(n int, name string) identity.User {
	return identity.User{
		Common: identity.Common{
			Row: identity.RowID(n), OID: identity.GUID{14: byte(n >> 8), 15: byte(n)}, ObjectGUID: identity.GUID{0: 1, 14: byte(n >> 8), 15: byte(n)},
			SID: domainSID.WithRID(uint32(1000 + n)), Name: name, Account: name, DisplayName: "Person " + name,
			Aliases: []string{`contoso\` + name, name + "@aadds.contoso.test"},
			Created: time.Unix(1700000000, 0), Changed: time.Unix(1700000001, 0),
		},
		UPN: name + "@contoso.test", UID: identity.UID(100000 + n), GID: 100513,
	}
}

func group(n int, name string) identity.Group {
	return identity.Group{Common: identity.Common{Row: identity.RowID(n), SID: domainSID.WithRID(uint32(1000 + n)), Name: name, Account: name},
		GID: identity.GID(100000 + n), Security: true, Scope: identity.ScopeGlobal}
}

// open starts a server. alice (1) and bob (2) are in staff (50), alice in board (51).
func open(t testing.TB, limits peer.Limits, more ...func(*grpcapi.Config)) *box {
	t.Helper()
	m := memorytest.New()
	m.PutUser(person(1, "alice"), person(2, "bob"))
	m.PutGroup(group(50, "staff"), 1, 2)
	m.PutGroup(group(51, "board"), 1)
	return openOver(t, limits, m, resolve.New(m, resolve.Presentation{Domain: domain}), more...)
}

func openOver(t testing.TB, limits peer.Limits, m *memorytest.Memory, d grpcapi.Directory, more ...func(*grpcapi.Config)) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dir: dir, memory: m, work: &work{}, machine: &keeper{}, events: &events{}, setter: &setter{}, signer: &signer{}, log: &journaltest.Buffer{}, sessions: &sessions{}, policy: peer.NewPolicy(peer.Members{AdminGroups: []identity.GID{adminGroup}})}
	config := grpcapi.Config{
		Log:       slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Policy:    b.policy,
		Limits:    limits,
		Directory: d,
		Admin:     grpcapi.Admin{Joiner: b.work, Leaver: b.work, Syncer: b.work, Statuser: b.work, Configurer: b.work},
		Login:     b.signer,
		Machine:   b.machine,
		Sso:       b.sessions,
		SsoSetter: b.setter,
		Audit:     b.events,
		Identify:  whoByAddress,
	}
	for _, change := range more {
		change(&config)
	}
	b.server = grpcapi.New(config)
	var served sync.WaitGroup
	for _, name := range []peer.Name{peer.API, peer.Admin} {
		ln, err := peer.Open(peer.Socket{Name: name, Path: b.path(name), Mode: 0o600, GID: ownGID(), DirMode: 0o755})
		if err != nil {
			t.Fatal(err)
		}
		served.Go(func() {
			if err := b.server.Serve(ln); err != nil {
				t.Errorf("serve %s: %v", name, err)
			}
		})
	}
	t.Cleanup(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		b.server.Stop(over)
		served.Wait()
		_ = os.RemoveAll(dir)
	})
	return b
}

func (b *box) path(name peer.Name) string { return filepath.Join(b.dir, string(name)) }

// whoByAddress believes a client's own address, as only a test may: "uid-gid-group-….n".
func whoByAddress(c *net.UnixConn) (peer.Caller, error) {
	var caller peer.Caller
	text, _, _ := strings.Cut(filepath.Base(c.RemoteAddr().String()), ".")
	for i, part := range strings.Split(text, "-") {
		var n uint32
		if _, err := fmt.Sscan(part, &n); err != nil {
			return caller, fault.Errorf(fault.Internal, "who is %q", text)
		}
		switch i {
		case 0:
			caller.UID = identity.UID(n)
		case 1:
			caller.GID = identity.GID(n)
		default:
			caller.Groups = append(caller.Groups, identity.GID(n))
		}
	}
	return caller, nil
}

// dialRaw connects as somebody.
func (b *box) dialRaw(name peer.Name, as peer.Caller) (net.Conn, error) {
	parts := []string{fmt.Sprint(as.UID), fmt.Sprint(as.GID)}
	for _, g := range as.Groups {
		parts = append(parts, fmt.Sprint(g))
	}
	own := filepath.Join(b.dir, fmt.Sprintf("%s.%d", strings.Join(parts, "-"), b.clients.Add(1)))
	d := net.Dialer{LocalAddr: &net.UnixAddr{Name: own, Net: "unix"}}
	return d.Dial("unix", b.path(name))
}

// dial returns a gRPC client that is somebody.
func (b *box) dial(name peer.Name, as peer.Caller, o ...grpc.DialOption) *grpc.ClientConn {
	b.t.Helper()
	cc, err := grpc.NewClient("passthrough:///box", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return b.dialRaw(name, as) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)),
	}, o...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func (b *box) identity(as peer.Caller) latchkeyv1.IdentityServiceClient {
	b.t.Helper()
	return latchkeyv1.NewIdentityServiceClient(b.dial(peer.API, as))
}

func (b *box) admin() latchkeyv1.AdminServiceClient {
	b.t.Helper()
	return latchkeyv1.NewAdminServiceClient(b.dial(peer.Admin, admin))
}

func byName(n string) *latchkeyv1.Key { return &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: n}} }

// bg is a context with a limit that only a hanging test reaches.
func bg(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// want checks the code and the reason of an error.
func want(t testing.TB, what string, err error, code codes.Code, reason string) *status.Status {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code || reasonOf(st) != reason {
		t.Errorf("%s: %v %q (%v), want %v %q", what, st.Code(), reasonOf(st), err, code, reason)
	}
	return st
}

func reasonOf(st *status.Status) string {
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "latchkey" {
			return info.GetReason()
		}
	}
	return ""
}

func remedyOf(st *status.Status) string {
	for _, d := range st.Details() {
		if help, ok := d.(*errdetails.Help); ok {
			return help.GetLinks()[0].GetDescription()
		}
	}
	return ""
}

// work stands for what the daemon does for administrators.
type work struct {
	join   func(ctx context.Context, req grpcapi.JoinRequest, tell grpcapi.Progress) (*latchkeyv1.JoinResponse_Membership, error)
	leave  func(ctx context.Context, req grpcapi.LeaveRequest, tell grpcapi.Progress) error
	sync   func(ctx context.Context, req grpcapi.SyncRequest, tell grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error)
	status func() (*latchkeyv1.Status, error)
	config func(key, value string) error
}

var errIdle = errors.New("this test has no work")

func (w *work) Join(ctx context.Context, req grpcapi.JoinRequest, tell grpcapi.Progress) (*latchkeyv1.JoinResponse_Membership, error) {
	if w.join == nil {
		return nil, errIdle
	}
	return w.join(ctx, req, tell)
}

func (w *work) Leave(ctx context.Context, req grpcapi.LeaveRequest, tell grpcapi.Progress) error {
	if w.leave == nil {
		return errIdle
	}
	return w.leave(ctx, req, tell)
}

func (w *work) Sync(ctx context.Context, req grpcapi.SyncRequest, tell grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
	if w.sync == nil {
		return nil, errIdle
	}
	return w.sync(ctx, req, tell)
}

func (w *work) Status(context.Context) (*latchkeyv1.Status, error) {
	if w.status == nil {
		return &latchkeyv1.Status{}, nil
	}
	return w.status()
}

func (w *work) SetConfig(_ context.Context, key, value string) error {
	if w.config == nil {
		return errIdle
	}
	return w.config(key, value)
}

func ownGID() identity.GID { return identity.GID(os.Getegid()) }
