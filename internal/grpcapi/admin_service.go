// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Admin does what administrators ask for. The texts of requests are as typed:
// the work checks them and names what is wrong. progress may be called from any
// goroutine; after the method returned it does nothing. The context of a task
// ends when its client goes away or the daemon stops; work that must not be
// left half done detaches from it.
type Admin struct {
	Joiner     Joiner
	Leaver     Leaver
	Syncer     Syncer
	Statuser   Statuser
	Configurer Configurer
}

// Progress is told of each step.
type Progress func(*latchkeyv1.Step)

// Joiner joins the machine to a domain, or only checks whether it could: then
// the membership is nil.
type Joiner interface {
	Join(ctx context.Context, req JoinRequest, progress Progress) (*latchkeyv1.JoinResponse_Membership, error)
}

// JoinRequest is what `latchkey join` was told. The door wipes Password when
// Join returns.
type JoinRequest struct {
	Domain             string
	User               string
	Password           secret.Bytes
	DomainControllers  []string
	DNSServers         []string
	OrganizationalUnit string
	Hostname           string
	TenantID           string
	People             latchkeyv1.People
	CheckOnly          bool
	NoDNSUpdate        bool
}

// Leaver ends the membership.
type Leaver interface {
	Leave(ctx context.Context, req LeaveRequest, progress Progress) error
}

// LeaveRequest is what `latchkey leave` was told. The door wipes Password when
// Leave returns.
type LeaveRequest struct {
	User        string
	Password    secret.Bytes
	KeepAccount bool
}

// Syncer brings the mirror up to date.
type Syncer interface {
	Sync(ctx context.Context, req SyncRequest, progress Progress) (*latchkeyv1.SyncResponse_Result, error)
}

// SyncRequest is what `latchkey sync` was told.
type SyncRequest struct {
	Full            bool
	AcceptDeletions bool
}

// Statuser says how the daemon is.
type Statuser interface {
	Status(ctx context.Context) (*latchkeyv1.Status, error)
}

// Configurer changes one setting for good and applies it.
type Configurer interface {
	SetConfig(ctx context.Context, key, value string) error
}

type adminService struct {
	latchkeyv1.UnimplementedAdminServiceServer
	admin   Admin
	changes changes
}

func (s *adminService) Join(req *latchkeyv1.JoinRequest, ss grpc.ServerStreamingServer[latchkeyv1.JoinResponse]) error {
	password := secret.Own(req.GetPassword())
	defer password.Wipe()
	p := newProgress(func(step *latchkeyv1.Step) { _ = ss.Send(&latchkeyv1.JoinResponse{Step: step}) })
	defer p.end()
	made, err := s.admin.Joiner.Join(ss.Context(), JoinRequest{
		Domain: req.GetDomain(), User: req.GetUser(), Password: password,
		DomainControllers: req.GetDomainControllers(), DNSServers: req.GetDnsServers(),
		OrganizationalUnit: req.GetOrganizationalUnit(), Hostname: req.GetHostname(), TenantID: req.GetTenantId(),
		People: req.GetPeople(), CheckOnly: req.GetCheckOnly(), NoDNSUpdate: req.GetNoDnsUpdate(),
	}, p.tell)
	p.end()
	if !req.GetCheckOnly() {
		s.changes.record(ss.Context(), latchkeyv1.AdminService_Join_FullMethodName, audit.Event{}, req.GetDomain()+", by "+req.GetUser(), err)
	}
	if err != nil || made == nil {
		return err
	}
	return ss.Send(&latchkeyv1.JoinResponse{Membership: made})
}

func (s *adminService) Leave(req *latchkeyv1.LeaveRequest, ss grpc.ServerStreamingServer[latchkeyv1.LeaveResponse]) error {
	password := secret.Own(req.GetPassword())
	defer password.Wipe()
	p := newProgress(func(step *latchkeyv1.Step) { _ = ss.Send(&latchkeyv1.LeaveResponse{Step: step}) })
	defer p.end()
	err := s.admin.Leaver.Leave(ss.Context(), LeaveRequest{
		User: req.GetUser(), Password: password, KeepAccount: req.GetKeepAccount()}, p.tell)
	s.changes.record(ss.Context(), latchkeyv1.AdminService_Leave_FullMethodName, audit.Event{}, "", err)
	return err
}

func (s *adminService) Sync(req *latchkeyv1.SyncRequest, ss grpc.ServerStreamingServer[latchkeyv1.SyncResponse]) error {
	p := newProgress(func(step *latchkeyv1.Step) { _ = ss.Send(&latchkeyv1.SyncResponse{Step: step}) })
	defer p.end()
	result, err := s.admin.Syncer.Sync(ss.Context(), SyncRequest{
		Full: req.GetFull(), AcceptDeletions: req.GetAcceptDeletions()}, p.tell)
	p.end()
	if req.GetAcceptDeletions() {
		s.changes.record(ss.Context(), latchkeyv1.AdminService_Sync_FullMethodName, audit.Event{}, removed(result), err)
	}
	if err != nil {
		return err
	}
	return ss.Send(&latchkeyv1.SyncResponse{Result: result})
}

// removed says what a pass let go.
func removed(r *latchkeyv1.SyncResponse_Result) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%d removed", r.GetRemoved())
}

func (s *adminService) GetStatus(ctx context.Context, _ *latchkeyv1.GetStatusRequest) (*latchkeyv1.Status, error) {
	return s.admin.Statuser.Status(ctx)
}

func (s *adminService) SetConfig(ctx context.Context, req *latchkeyv1.SetConfigRequest) (*latchkeyv1.SetConfigResponse, error) {
	if req.GetKey() == "" {
		return nil, bad("key", "is empty")
	}
	err := s.admin.Configurer.SetConfig(ctx, req.GetKey(), req.GetValue())
	what := req.GetKey()
	switch {
	case err != nil:
	case req.GetValue() == "":
		what += " unset"
	default: // what was taken is a setting, and no secret: anybody may read conf.d
		what += " = " + req.GetValue()
	}
	s.changes.record(ctx, latchkeyv1.AdminService_SetConfig_FullMethodName, audit.Event{}, what, err)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.SetConfigResponse{}, nil
}

// progress hands steps to a stream, one at a time, until it is ended: nothing
// may be sent on a stream whose method has returned. A step that cannot be sent
// is dropped; the stream's context tells the work that nobody listens.
type progress struct {
	mu   sync.Mutex
	over bool
	send func(*latchkeyv1.Step)
}

func newProgress(send func(*latchkeyv1.Step)) *progress { return &progress{send: send} }

func (p *progress) tell(step *latchkeyv1.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over && step != nil {
		p.send(step)
	}
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}
