// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// events is an audit to look at.
type events struct {
	mu  sync.Mutex
	all []audit.Event
}

func (e *events) Record(one audit.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, one)
}

// take returns what was recorded, one line each, and forgets it.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for _, one := range e.all {
		lines = append(lines, fmt.Sprintf("%s %s %q %q row %d %q %q door %s by %s", one.Action, one.Outcome, one.Reason, one.Detail, one.Row, one.Asked, one.Name, one.Door, one.Caller))
	}
	e.all = nil
	return lines
}

// setter plays the work behind SsoAdminService.
type setter struct{ err error }

func (s *setter) SetSso(_ context.Context, req *latchkeyv1.SetSsoRequest) (*latchkeyv1.SetSsoResponse, error) {
	if s.err != nil {
		return nil, s.err
	}
	return &latchkeyv1.SetSsoResponse{Settings: &latchkeyv1.SsoSettings{Tenant: req.GetTenant(), Client: req.GetClient()}}, nil
}

func (s *setter) TestSso(context.Context) (*latchkeyv1.TestSsoResponse, error) {
	return &latchkeyv1.TestSsoResponse{}, s.err
}

func (s *setter) GetSso(context.Context) (*latchkeyv1.GetSsoResponse, error) {
	return &latchkeyv1.GetSsoResponse{}, s.err
}

// drained reads a stream of steps to its end.
func drained[T any](stream interface{ Recv() (T, error) }, err error) error {
	for err == nil {
		_, err = stream.Recv()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// Whatever an administrator changes is one event, with who did it and what came
// of it; what changes nothing is none, and no secret is in any.
func TestEveryChangeIsOneEvent(t *testing.T) {
	b := open(t, peer.Limits{})
	conn := b.dial(peer.Admin, admin)
	adm, machine := latchkeyv1.NewAdminServiceClient(conn), latchkeyv1.NewMachineServiceClient(conn)
	sso, set := latchkeyv1.NewSsoServiceClient(conn), latchkeyv1.NewSsoAdminServiceClient(conn)
	b.policy.Set(peer.Members{AdminGroups: []identity.GID{adminGroup}, AuthenticatorUIDs: []identity.UID{33}})
	app := latchkeyv1.NewSsoServiceClient(b.dial(peer.API, peer.Caller{UID: 33, GID: 33}))
	failure := error(nil)
	b.work.config = func(string, string) error { return failure }
	b.work.join = func(context.Context, grpcapi.JoinRequest, grpcapi.Progress) (*latchkeyv1.JoinResponse_Membership, error) {
		return nil, failure
	}
	b.work.sync = func(context.Context, grpcapi.SyncRequest, grpcapi.Progress) (*latchkeyv1.SyncResponse_Result, error) {
		if failure != nil {
			return nil, failure
		}
		return &latchkeyv1.SyncResponse_Result{Removed: 12}, nil
	}
	b.work.leave = func(context.Context, grpcapi.LeaveRequest, grpcapi.Progress) error { return failure }

	alice := &latchkeyv1.RevokeSessionRequest_User{User: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: "alice"}}}
	imported := func(dry bool) error {
		s, err := machine.ImportIds(bg(t))
		if err != nil {
			return err
		}
		if err := s.Send(&latchkeyv1.ImportIdsRequest{Header: &latchkeyv1.IdsHeader{}, DryRun: dry, Entries: []*latchkeyv1.IdEntry{{Id: 1}}}); err != nil {
			return err
		}
		_, err = s.CloseAndRecv()
		return err
	}
	const secret = "s3cret~value"
	for _, tc := range []struct {
		what       string
		call       func() error
		good, evil string // empty: no event
	}{
		{"config set", func() error {
			_, err := adm.SetConfig(bg(t), &latchkeyv1.SetConfigRequest{Key: "samba.pipes", Value: secret})
			return err
		}, `config-set allowed "" "samba.pipes = ` + secret + `" row 0 "" ""`, `config-set refused "malformed" "samba.pipes" row 0 "" ""`},
		{"config set KEY ''", func() error {
			_, err := adm.SetConfig(bg(t), &latchkeyv1.SetConfigRequest{Key: "samba.pipes"})
			return err
		}, `config-set allowed "" "samba.pipes unset" row 0 "" ""`, `config-set refused "malformed" "samba.pipes" row 0 "" ""`},
		{"sso set", func() error {
			_, err := set.SetSso(bg(t), &latchkeyv1.SetSsoRequest{Tenant: "the-tenant", Client: "the-client", Secret: []byte(secret)})
			return err
		}, `sso-set allowed "" "tenant the-tenant, client the-client" row 0 "" ""`, `sso-set refused "malformed" "" row 0 "" ""`},
		{"sso set, tried only", func() error {
			_, err := set.SetSso(bg(t), &latchkeyv1.SetSsoRequest{Tenant: "the-tenant", Client: "the-client", DryRun: true})
			return err
		}, "", ""},
		{"sso status", func() error { _, err := set.GetSso(bg(t), &latchkeyv1.GetSsoRequest{}); return err }, "", ""},
		{"session revoke --user", func() error {
			_, err := sso.RevokeSession(bg(t), &latchkeyv1.RevokeSessionRequest{Which: alice})
			return err
		}, `session-revoke allowed "" "7 ended" row 1 "alice" ""`, `session-revoke refused "malformed" "" row 1 "alice" ""`},
		{"session revoke --local", func() error {
			_, err := sso.RevokeSession(bg(t), &latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_LocalAccount{LocalAccount: "boss"}})
			return err
		}, `session-revoke allowed "" "7 ended" row 0 "" "boss"`, `session-revoke refused "malformed" "" row 0 "" "boss"`},
		{"session revoke ID", func() error {
			_, err := sso.RevokeSession(bg(t), &latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_SessionId{SessionId: "0a1b"}})
			return err
		}, `session-revoke allowed "" "1 ended" row 0 "0a1b" ""`, `session-revoke refused "malformed" "" row 0 "0a1b" ""`},
		{"a token", func() error {
			_, err := sso.RevokeSession(bg(t), &latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_SessionToken{SessionToken: secret}})
			return err
		}, `session-revoke allowed "" "1 ended" row 0 "a session's token" ""`, `session-revoke refused "malformed" "" row 0 "a session's token" ""`},
		{"an app's sign-out", func() error {
			_, err := app.RevokeSession(bg(t), &latchkeyv1.RevokeSessionRequest{App: "photos", Which: alice})
			return err
		}, "", ""},
		{"session list", func() error { _, err := sso.ListSessions(bg(t), &latchkeyv1.ListSessionsRequest{}); return err }, "", ""},
		{"machine rotate", func() error { return drained(machine.RotateMachineKey(bg(t), &latchkeyv1.RotateMachineKeyRequest{})) },
			`machine-rotate allowed "" "key version 3" row 0 "" ""`, `machine-rotate refused "malformed" "" row 0 "" ""`},
		{"sync --accept-deletions", func() error {
			return drained(adm.Sync(bg(t), &latchkeyv1.SyncRequest{AcceptDeletions: true}))
		}, `accept-deletions allowed "" "12 removed" row 0 "" ""`, `accept-deletions refused "malformed" "" row 0 "" ""`},
		{"sync --full", func() error { return drained(adm.Sync(bg(t), &latchkeyv1.SyncRequest{Full: true})) }, "", ""},
		{"ids import", func() error { return imported(false) }, `ids-import allowed "" "1 entries" row 0 "" ""`, `ids-import refused "malformed" "1 entries" row 0 "" ""`},
		{"ids import --dry-run", func() error { return imported(true) }, "", ""},
		{"join", func() error {
			return drained(adm.Join(bg(t), &latchkeyv1.JoinRequest{Domain: "aadds.contoso.test", User: "joiner", Password: []byte(secret)}))
		}, `join allowed "" "aadds.contoso.test, by joiner" row 0 "" ""`, `join refused "malformed" "aadds.contoso.test, by joiner" row 0 "" ""`},
		{"join --check", func() error {
			return drained(adm.Join(bg(t), &latchkeyv1.JoinRequest{Domain: "aadds.contoso.test", CheckOnly: true}))
		}, "", ""},
		{"leave", func() error { return drained(adm.Leave(bg(t), &latchkeyv1.LeaveRequest{User: "joiner"})) },
			`leave allowed "" "" row 0 "" ""`, `leave refused "malformed" "" row 0 "" ""`},
	} {
		for _, failing := range []bool{false, true} {
			failure, b.machine.fail, b.sessions.err, b.setter.err = nil, nil, nil, nil
			line := tc.good
			if failing {
				err := fault.New(fault.Malformed, "no")
				failure, b.machine.fail, b.sessions.err, b.setter.err, line = err, err, err, err, tc.evil
			}
			b.events.take()
			if err := tc.call(); err != nil && !failing {
				t.Errorf("%s: %v", tc.what, err)
			}
			got, wanted := b.events.take(), []string(nil)
			if line != "" {
				wanted = []string{line + " door grpc by uid 1000, pid 0"}
			}
			if !slices.Equal(got, wanted) {
				t.Errorf("%s, failing %v: recorded\n%s, want\n%s", tc.what, failing, strings.Join(got, "\n"), strings.Join(wanted, "\n"))
			}
			if tc.what != "config set" && strings.Contains(strings.Join(got, ""), secret) || failing && strings.Contains(strings.Join(got, ""), secret) {
				t.Errorf("%s: a secret is in the audit: %s", tc.what, got)
			}
		}
	}

	failure = fault.New(fault.Unreachable, "no domain controller")
	_ = drained(adm.Leave(bg(t), &latchkeyv1.LeaveRequest{}))
	if got := b.events.take(); len(got) != 1 || !strings.HasPrefix(got[0], `leave failed "unreachable"`) {
		t.Errorf("a leave that could not be done: %q", got)
	}
}

// The command line tells which files it changed, and the event says who it was;
// what is no list of files is not written down.
func TestRecordFiles(t *testing.T) {
	b := open(t, peer.Limits{})
	long := strings.Repeat("x", 257)
	for _, tc := range []struct {
		as    peer.Caller
		what  string
		files []string
		code  codes.Code
		line  string
	}{
		{root, "samba enable", []string{"/etc/samba/latchkey.conf", "/etc/samba/smb.conf"}, codes.OK,
			`etc-files allowed "" "samba enable: /etc/samba/latchkey.conf, /etc/samba/smb.conf" row 0 "" "" door grpc by uid 0, pid 0`},
		{user, "samba enable", []string{"/etc/passwd"}, codes.PermissionDenied,
			`admin-call refused "denied" "MachineService/RecordFiles on admin.sock" row 0 "" "" door grpc by uid 1001, pid 0`},
		{root, "samba enable", nil, codes.InvalidArgument, ""},
		{root, "", []string{"/etc/passwd"}, codes.InvalidArgument, ""},
		{root, "join", []string{long}, codes.InvalidArgument, ""},
		{root, "join", slices.Repeat([]string{"/etc/x"}, 33), codes.InvalidArgument, ""},
	} {
		b.events.take()
		_, err := latchkeyv1.NewMachineServiceClient(b.dial(peer.Admin, tc.as)).RecordFiles(bg(t), &latchkeyv1.RecordFilesRequest{What: tc.what, Files: tc.files})
		if status.Code(err) != tc.code {
			t.Errorf("%s, %.40q: %v, want %v", tc.as, tc.files, err, tc.code)
		}
		if got := strings.Join(b.events.take(), "\n"); got != tc.line {
			t.Errorf("%s, %.40q: recorded %q, want %q", tc.as, tc.files, got, tc.line)
		}
	}
}

// Who asks for what is the administrators' is an event of the audit: each call
// one, up to ten a minute of a user, so that nobody fills the disk.
func TestCallsThatAreRefusedAreRecorded(t *testing.T) {
	b := open(t, peer.Limits{})
	status := func(door peer.Name, as peer.Caller) {
		if _, err := latchkeyv1.NewAdminServiceClient(b.dial(door, as)).GetStatus(bg(t), &latchkeyv1.GetStatusRequest{}); err == nil {
			t.Fatalf("%s may ask on %s", as, door)
		}
	}
	lookup := func(door peer.Name, as peer.Caller) error {
		_, err := latchkeyv1.NewIdentityServiceClient(b.dial(door, as)).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
		return err
	}
	b.events.take()
	status(peer.API, root) // a container's
	status(peer.Admin, user)
	if lookup(peer.API, user) != nil || lookup(peer.Admin, user) == nil {
		t.Error("lookups")
	}
	_, _ = latchkeyv1.NewLoginServiceClient(b.dial(peer.API, user)).CheckAccess(bg(t), &latchkeyv1.CheckAccessRequest{}) // an app's, not an administrator's
	const line = `admin-call refused "denied" %q row 0 "" "" door grpc by %s`
	want := []string{fmt.Sprintf(line, "AdminService/GetStatus on api.sock", "uid 0, pid 0"), fmt.Sprintf(line, "AdminService/GetStatus on admin.sock", "uid 1001, pid 0"),
		fmt.Sprintf(line, "IdentityService/GetUser on admin.sock", "uid 1001, pid 0")}
	if got := b.events.take(); !slices.Equal(got, want) {
		t.Errorf("recorded\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for range 30 {
		status(peer.API, stranger)
	}
	if got := b.events.take(); len(got) != 10 || !strings.Contains(got[9], "more of this minute are not recorded") || strings.Contains(got[8], "more of this") {
		t.Errorf("of 30 calls of one user: %q", got)
	}
	status(peer.API, user)
	if got := b.events.take(); len(got) != 1 {
		t.Errorf("of another user after that: %q", got)
	}
}

// A method for administrators either only looks, or is recorded.
func TestMethodsThatChangeAreRecorded(t *testing.T) {
	looks := []string{"AdminService/GetStatus", "MachineService/ExportIds", "MachineService/ReadAudit",
		"SsoAdminService/GetSso", "SsoAdminService/TestSso", "AccessService/ListAccessRules",
		"AccessService/SetAccessRules"} // which package login records
	for _, m := range peer.Methods() {
		short := strings.TrimPrefix(m, "/latchkey.v1.")
		if peer.Whose(peer.API, m) == peer.Nobody && grpcapi.Recorded(m) == slices.Contains(looks, short) {
			t.Errorf("%s: recorded %v, only looks %v", short, grpcapi.Recorded(m), slices.Contains(looks, short))
		}
	}
}
