// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// noon is the time of the tests.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(noon.Add(-d)) }

// fake is a daemon that knows two people and three groups, and fails as told.
type fake struct {
	latchkeyv1.UnimplementedIdentityServiceServer
	latchkeyv1.UnimplementedAdminServiceServer
	latchkeyv1.UnimplementedLoginServiceServer
	latchkeyv1.UnimplementedAccessServiceServer
	latchkeyv1.UnimplementedMachineServiceServer
	latchkeyv1.UnimplementedSsoServiceServer
	latchkeyv1.UnimplementedSsoAdminServiceServer

	mu      sync.Mutex
	called  map[string]bool
	last    proto.Message // the last request
	status  *latchkeyv1.Status
	fail    error // what the next long task ends with
	noRules bool
	files   []string // what was said of changed files, one line each
}

// serve starts the fake on both sockets.
func serve(t *testing.T) (*fake, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{called: map[string]bool{}, status: servingStatus()}
	server := grpc.NewServer(grpc.UnaryInterceptor(f.note), grpc.StreamInterceptor(f.noteStream))
	latchkeyv1.RegisterIdentityServiceServer(server, f)
	latchkeyv1.RegisterAdminServiceServer(server, f)
	latchkeyv1.RegisterLoginServiceServer(server, f)
	latchkeyv1.RegisterAccessServiceServer(server, f)
	latchkeyv1.RegisterMachineServiceServer(server, f)
	latchkeyv1.RegisterSsoServiceServer(server, f)
	latchkeyv1.RegisterSsoAdminServiceServer(server, f)
	for _, s := range sockets {
		ln, err := net.Listen("unix", dir+"/"+s.name+".sock")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+"/"+s.name+".sock", s.mode); err != nil {
			t.Fatal(err)
		}
		go func() { _ = server.Serve(ln) }()
	}
	t.Cleanup(func() { server.Stop(); _ = os.RemoveAll(dir) })
	return f, dir
}

func (f *fake) seen(method string, req any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called[method] = true
	if m, ok := req.(proto.Message); ok && method != latchkeyv1.MachineService_RecordFiles_FullMethodName { // which follows others
		f.last = proto.Clone(m)
	}
}

func (f *fake) note(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f.seen(info.FullMethod, req)
	resp, err := handle(ctx, req)
	return resp, wire(err)
}

func (f *fake) noteStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	f.seen(info.FullMethod, nil)
	return wire(handle(srv, s))
}

func wire(err error) error {
	if err == nil {
		return nil
	}
	return rpcfault.ForAdministrator(err, "").Err()
}

func servingStatus() *latchkeyv1.Status {
	return &latchkeyv1.Status{
		Health: latchkeyv1.Status_HEALTH_SERVING, Version: "1.0", StartTime: ago(26 * time.Hour),
		Domain: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST", NetbiosName: "AADDSCONTOSO",
		DomainSid: "S-1-5-21-1-2-3", ComputerAccount: "NAS$", ComputerDn: "CN=NAS,OU=AADDC Computers,DC=aadds,DC=contoso,DC=test",
		TenantId: "8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b", People: latchkeyv1.People_PEOPLE_CLOUD_ONLY,
		DomainController: "dc1.aadds.contoso.test", DomainControllerAddress: "10.77.0.10", DomainControllerReachable: true,
		LastSyncTime: ago(12 * time.Second), LastFullSyncTime: ago(3 * time.Hour), LastSyncDuration: durationpb.New(45 * time.Millisecond),
		MirrorComplete: true, Users: 5002, Groups: 500, DisabledUsers: 2, Guests: 1, UnpublishedUsers: 2, UnpublishedGroups: 1,
		UnpublishedReasons: map[string]int64{"privileged": 2, "digits": 1},
		KeyVersion:         2, KeyTime: ago(72 * time.Hour), IdMethod: "rid", SnapshotGeneration: 17, SnapshotTime: ago(5 * time.Minute),
	}
}

func users() []*latchkeyv1.User {
	return []*latchkeyv1.User{{
		Name: "users/1", Username: "alice", Uid: 100001104, Gid: 100000514, Sid: "S-1-5-21-1-2-3-1103", Oid: "11111111-2222-3333-4444-555555555555",
		ObjectGuid: "99999999-2222-3333-4444-555555555555", UserPrincipalName: "Alice@contoso.test", AccountName: "Alice", QualifiedName: `AADDSCONTOSO\Alice`,
		Aliases: []string{`aaddscontoso\alice`, "alice@contoso.test"}, DisplayName: "Alice Ångström <it>", Mail: "alice@contoso.test",
		Gecos: "Alice Ångström", Home: "/home/AADDSCONTOSO/alice", Shell: "/bin/bash", DistinguishedName: "CN=Alice,OU=AADDC Users,DC=aadds,DC=contoso,DC=test",
		PastSids: []string{"S-1-5-21-9-9-9-1103"}, PasswordSetTime: ago(240 * time.Hour), CreateTime: ago(300 * time.Hour),
	}, {
		Name: "users/2", Username: `AADDSCONTOSO\wheel`, Uid: 100001105, Gid: 100000514, Sid: "S-1-5-21-1-2-3-1104", AccountName: "wheel", QualifiedName: `AADDSCONTOSO\wheel`,
		DisplayName: "Evil \x1b[2J\nTwin", UserPrincipalName: "wheel@contoso.test", UnpublishedReason: "privileged",
		States: []latchkeyv1.AccountState{latchkeyv1.AccountState_ACCOUNT_STATE_DISABLED, latchkeyv1.AccountState_ACCOUNT_STATE_MUST_CHANGE_PASSWORD},
	}}
}

func groups() []*latchkeyv1.Group {
	return []*latchkeyv1.Group{
		{Name: "groups/3", Groupname: "domain users", Gid: 100000514, Sid: "S-1-5-21-1-2-3-513", QualifiedName: `AADDSCONTOSO\Domain Users`, AccountName: "Domain Users",
			Scope: latchkeyv1.GroupScope_GROUP_SCOPE_GLOBAL, Security: true, MemberCount: 2},
		{Name: "groups/4", Groupname: "designers", Gid: 100001201, Sid: "S-1-5-21-1-2-3-1200", QualifiedName: `AADDSCONTOSO\Designers`, AccountName: "Designers", DisplayName: "Designers",
			Scope: latchkeyv1.GroupScope_GROUP_SCOPE_UNIVERSAL, Security: true, MemberCount: 1, Oid: "aaaaaaaa-2222-3333-4444-555555555555"},
		{Name: "groups/5", Sid: "S-1-5-21-1-2-3-1201", QualifiedName: `AADDSCONTOSO\news`, AccountName: "news", DisplayName: "Newsletter",
			Scope: latchkeyv1.GroupScope_GROUP_SCOPE_UNIVERSAL, UnpublishedReason: "distribution"},
	}
}

var nobody = fault.New(fault.NotFound, "no such user or group")

func (f *fake) user(k *latchkeyv1.Key) (*latchkeyv1.User, error) {
	for _, u := range users() {
		if strings.EqualFold(k.GetName(), u.GetAccountName()) || k.GetUid() == u.GetUid() || k.GetSid() == u.GetSid() ||
			(k.GetOid() != "" && k.GetOid() == u.GetOid()) || (k.GetObjectGuid() != "" && k.GetObjectGuid() == u.GetObjectGuid()) ||
			k.GetResource() == u.GetName() || strings.EqualFold(k.GetName(), u.GetUserPrincipalName()) {
			return u, nil
		}
	}
	if k.GetName() == "nobodyknows" {
		return nil, fault.WithRemedy(fault.New(fault.Unreachable, "the mirror has never been complete"), "wait for the first sync")
	}
	return nil, nobody
}

func (f *fake) group(k *latchkeyv1.Key) (*latchkeyv1.Group, error) {
	for _, g := range groups() {
		if strings.EqualFold(k.GetName(), g.GetAccountName()) || (k.GetGid() != 0 && k.GetGid() == g.GetGid()) || k.GetSid() == g.GetSid() || k.GetResource() == g.GetName() {
			return g, nil
		}
	}
	return nil, nobody
}

func (f *fake) GetUser(_ context.Context, r *latchkeyv1.GetUserRequest) (*latchkeyv1.User, error) {
	return f.user(r.GetKey())
}

func (f *fake) GetGroup(_ context.Context, r *latchkeyv1.GetGroupRequest) (*latchkeyv1.Group, error) {
	return f.group(r.GetKey())
}

func (f *fake) ResolveIdentities(_ context.Context, r *latchkeyv1.ResolveIdentitiesRequest) (*latchkeyv1.ResolveIdentitiesResponse, error) {
	resp := &latchkeyv1.ResolveIdentitiesResponse{}
	for _, k := range r.GetKeys() {
		one := &latchkeyv1.ResolvedIdentity{Result: &latchkeyv1.ResolvedIdentity_Error{Error: &latchkeyv1.Failure{Code: 5, Reason: "NOT_FOUND", Message: "no such user or group"}}}
		if u, err := f.user(k); err == nil {
			one.Result = &latchkeyv1.ResolvedIdentity_User{User: u}
		} else if g, err := f.group(k); err == nil {
			one.Result = &latchkeyv1.ResolvedIdentity_Group{Group: g}
		}
		resp.Identities = append(resp.Identities, one)
	}
	return resp, nil
}

// Lists come one row to a page, so that paging is gone through.
func (f *fake) ListUsers(_ context.Context, r *latchkeyv1.ListUsersRequest) (*latchkeyv1.ListUsersResponse, error) {
	if r.GetFilter() == "zzz" {
		return &latchkeyv1.ListUsersResponse{}, nil
	}
	all := users()
	if r.GetPublication() == latchkeyv1.Publication_PUBLICATION_UNPUBLISHED {
		all = all[1:]
	}
	if r.GetPageToken() == "" && len(all) > 1 {
		return &latchkeyv1.ListUsersResponse{Users: all[:1], NextPageToken: "more"}, nil
	}
	return &latchkeyv1.ListUsersResponse{Users: all[len(all)-1:]}, nil
}

func (f *fake) ListGroups(_ context.Context, r *latchkeyv1.ListGroupsRequest) (*latchkeyv1.ListGroupsResponse, error) {
	if r.GetFilter() == "zzz" {
		return &latchkeyv1.ListGroupsResponse{}, nil
	}
	all := groups()
	if r.GetPublication() == latchkeyv1.Publication_PUBLICATION_UNPUBLISHED {
		all = all[2:]
	}
	return &latchkeyv1.ListGroupsResponse{Groups: all}, nil
}

func (f *fake) ListUserGroups(_ context.Context, r *latchkeyv1.ListUserGroupsRequest) (*latchkeyv1.ListUserGroupsResponse, error) {
	if _, err := f.user(r.GetUser()); err != nil {
		return nil, err
	}
	return &latchkeyv1.ListUserGroupsResponse{Groups: groups()}, nil
}

func (f *fake) ListGroupMembers(_ context.Context, r *latchkeyv1.ListGroupMembersRequest) (*latchkeyv1.ListGroupMembersResponse, error) {
	members := []*latchkeyv1.Identity{{Identity: &latchkeyv1.Identity_User{User: users()[0]}}}
	if r.GetDirect() {
		members = append(members, &latchkeyv1.Identity{Identity: &latchkeyv1.Identity_Group{Group: groups()[1]}})
	}
	return &latchkeyv1.ListGroupMembersResponse{Members: members}, nil
}

func (f *fake) SearchIdentities(_ context.Context, r *latchkeyv1.SearchIdentitiesRequest) (*latchkeyv1.SearchIdentitiesResponse, error) {
	if r.GetPrefix() == "zzz" {
		return &latchkeyv1.SearchIdentitiesResponse{}, nil
	}
	return &latchkeyv1.SearchIdentitiesResponse{Truncated: true, Identities: []*latchkeyv1.Identity{
		{Identity: &latchkeyv1.Identity_User{User: users()[0]}}, {Identity: &latchkeyv1.Identity_Group{Group: groups()[1]}}}}, nil
}

func (f *fake) CheckMembership(_ context.Context, r *latchkeyv1.CheckMembershipRequest) (*latchkeyv1.CheckMembershipResponse, error) {
	if _, err := f.user(r.GetUser()); err != nil {
		return nil, err
	}
	resp := &latchkeyv1.CheckMembershipResponse{}
	for _, k := range r.GetGroups() {
		m := &latchkeyv1.Membership{}
		if g, err := f.group(k); err != nil {
			m.Error = &latchkeyv1.Failure{Code: 5, Reason: "NOT_FOUND", Message: "no such group"}
		} else {
			m.Member = g.GetGid() == 100001201
		}
		resp.Memberships = append(resp.Memberships, m)
	}
	return resp, nil
}

func (f *fake) WatchIdentities(r *latchkeyv1.WatchIdentitiesRequest, s grpc.ServerStreamingServer[latchkeyv1.WatchIdentitiesResponse]) error {
	f.seen("", r)
	user := &latchkeyv1.Identity{Identity: &latchkeyv1.Identity_User{User: users()[0]}}
	group := &latchkeyv1.Identity{Identity: &latchkeyv1.Identity_Group{Group: groups()[1]}}
	for _, ev := range []*latchkeyv1.WatchIdentitiesResponse{
		{Event: latchkeyv1.WatchIdentitiesResponse_EVENT_UPSERT, Identity: user, ResumeToken: "t1"},
		{Event: latchkeyv1.WatchIdentitiesResponse_EVENT_SYNCED, ResumeToken: "t2"},
		{Event: latchkeyv1.WatchIdentitiesResponse_EVENT_HEARTBEAT, ResumeToken: "t2"},
		{Event: latchkeyv1.WatchIdentitiesResponse_EVENT_UPSERT, Identity: group, MembershipChanged: true, ResumeToken: "t3"},
		{Event: latchkeyv1.WatchIdentitiesResponse_EVENT_DELETE, Identity: user, ResumeToken: "t4"},
	} {
		if err := s.Send(ev); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Join(r *latchkeyv1.JoinRequest, s grpc.ServerStreamingServer[latchkeyv1.JoinResponse]) error {
	f.seen("", r)
	steps := []*latchkeyv1.Step{
		{Id: "dns", Title: "Ask the DNS servers", State: latchkeyv1.Step_STATE_RUNNING, Percent: 5},
		{Id: "dns", Title: "Ask the DNS servers", State: latchkeyv1.Step_STATE_DONE, Detail: "10.77.0.10 answers", Percent: 10},
		{Id: "clock", Title: "Compare the clocks", State: latchkeyv1.Step_STATE_WARNING, Detail: "40 s apart", Remedy: "run an NTP client", Percent: 20},
	}
	for _, step := range steps {
		if err := s.Send(&latchkeyv1.JoinResponse{Step: step}); err != nil {
			return err
		}
	}
	if f.fail != nil {
		step := &latchkeyv1.Step{Id: "sign-in", Title: "Sign in", State: latchkeyv1.Step_STATE_FAILED, Detail: f.fail.Error(), Remedy: fault.Remedy(f.fail), Percent: 40}
		if err := s.Send(&latchkeyv1.JoinResponse{Step: step}); err != nil {
			return err
		}
		return f.fail
	}
	if r.GetCheckOnly() {
		return nil
	}
	return s.Send(&latchkeyv1.JoinResponse{Membership: &latchkeyv1.JoinResponse_Membership{Domain: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST",
		NetbiosName: "AADDSCONTOSO", ComputerAccount: "NAS$", Fqdn: "nas.aadds.contoso.test", DomainController: "dc1.aadds.contoso.test", KeyVersion: 2, Kdcs: []string{"10.77.0.10"}}})
}

func (f *fake) Leave(r *latchkeyv1.LeaveRequest, s grpc.ServerStreamingServer[latchkeyv1.LeaveResponse]) error {
	f.seen("", r)
	return s.Send(&latchkeyv1.LeaveResponse{Step: &latchkeyv1.Step{Id: "forget", Title: "Forget the membership", State: latchkeyv1.Step_STATE_DONE, Percent: 100}})
}

func (f *fake) GetStatus(context.Context, *latchkeyv1.GetStatusRequest) (*latchkeyv1.Status, error) {
	return f.status, nil
}

func (f *fake) Sync(r *latchkeyv1.SyncRequest, s grpc.ServerStreamingServer[latchkeyv1.SyncResponse]) error {
	f.seen("", r)
	if f.fail != nil {
		return f.fail
	}
	if err := s.Send(&latchkeyv1.SyncResponse{Step: &latchkeyv1.Step{Id: "read", Title: "Read the directory", State: latchkeyv1.Step_STATE_RUNNING, Detail: "500 of 5502", Percent: 9}}); err != nil {
		return err
	}
	return s.Send(&latchkeyv1.SyncResponse{Result: &latchkeyv1.SyncResponse_Result{Full: r.GetFull(), Read: 5502, Added: 1, Changed: 2, Removed: 3, Held: 40,
		Duration: durationpb.New(1400 * time.Millisecond), DomainController: "dc1.aadds.contoso.test"}})
}

func (f *fake) SetConfig(_ context.Context, r *latchkeyv1.SetConfigRequest) (*latchkeyv1.SetConfigResponse, error) {
	if r.GetKey() == "idmap.base" {
		return nil, &fault.Error{Kind: fault.Denied, Op: "set idmap.base: only latchkey.toml may set it", Remedy: "edit /etc/latchkey/latchkey.toml"}
	}
	return &latchkeyv1.SetConfigResponse{}, nil
}
