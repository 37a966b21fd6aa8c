// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// A method that the table does not name would be refused, and a row that no
// service has is a mistake: both lists must be the same.
func TestTheTableNamesEveryMethodThatIsServed(t *testing.T) {
	b := open(t, peer.Limits{})
	api, admin := b.server.Methods(peer.API), b.server.Methods(peer.Admin)
	served := slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(api), admin...))))
	if table := peer.Methods(); !slices.Equal(served, table) {
		t.Errorf("served: %q\ntable:  %q", served, table)
	}
	for _, m := range api {
		if peer.Whose(peer.API, m) == peer.Nobody || strings.Contains(m, "AdminService") || strings.Contains(m, "AccessService") || strings.Contains(m, "MachineService") {
			t.Errorf("api.sock serves %s, which nobody may call there", m)
		}
	}
	for _, m := range admin {
		if peer.Whose(peer.Admin, m) != peer.Administrators {
			t.Errorf("on admin.sock %s is for %s", m, peer.Whose(peer.Admin, m))
		}
	}
}

// call makes a bare call of any method, unary or streaming, with an empty
// request, and returns how it ended.
func call(t *testing.T, cc *grpc.ClientConn, method string) error {
	s, err := cc.NewStream(bg(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil {
		return s.RecvMsg(&emptypb.Empty{})
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return s.RecvMsg(&emptypb.Empty{})
}

func TestWhoMayCallWhatOverRealSockets(t *testing.T) {
	b := open(t, peer.Limits{})
	app, bringer := peer.Caller{UID: 33, GID: 33}, peer.Caller{UID: 34, GID: 34}
	b.policy.Set(peer.Members{AdminGroups: []identity.GID{adminGroup}, AppUIDs: []identity.UID{33}, AuthenticatorUIDs: []identity.UID{34}})
	callers := map[string]peer.Caller{"root": root, "admin": admin, "user": user, "stranger": stranger, "app": app, "bringer": bringer}
	allowed := map[peer.Name]map[string][]string{
		peer.API: {"root": {"Identity", "LoginService", "SsoService", "Health", "Reflection"}, "admin": {"Identity", "Health", "Reflection"},
			"user": {"Identity", "Health", "Reflection"}, "stranger": {"Identity", "Health", "Reflection"},
			"app": {"Identity", "SsoService", "Health", "Reflection"}, "bringer": {"Identity", "LoginService", "SsoService", "Health", "Reflection"}},
		peer.Admin: {"root": {"Identity", "Admin", "LoginService", "AccessService", "MachineService", "SsoService", "Health", "Reflection"},
			"admin": {"Identity", "Admin", "LoginService", "AccessService", "MachineService", "SsoService", "Health", "Reflection"},
			"user":  nil, "stranger": nil, "app": nil, "bringer": nil},
	}
	methods := append(peer.Methods(), "/latchkey.v1.AdminService/NoSuch", "/no.such.Service/Method")
	for door, byCaller := range allowed {
		for who, services := range byCaller {
			cc := b.dial(door, callers[who])
			for _, m := range methods {
				err := call(t, cc, m)
				refused := status.Code(err) == codes.PermissionDenied
				may := slices.ContainsFunc(services, func(s string) bool { return strings.Contains(m, s) }) && slices.Contains(peer.Methods(), m)
				if refused == may {
					t.Errorf("%s calls %s through %s: %v, want allowed = %v", who, m, door, err, may)
				}
				if refused && reasonOf(status.Convert(err)) != "DENIED" {
					t.Errorf("%s calls %s through %s: %v lacks the reason DENIED", who, m, door, err)
				}
			}
		}
	}
}

// What a container's root gets when api.sock is mounted into the container.
func TestContainersRootIsRefusedEveryAdminMethodOnAPI(t *testing.T) {
	b := open(t, peer.Limits{})
	cc := b.dial(peer.API, root)
	n := 0
	for _, m := range peer.Methods() {
		if strings.Contains(m, "AdminService") || strings.Contains(m, "AccessService") || strings.Contains(m, "MachineService") {
			n++
			st := want(t, m, call(t, cc, m), codes.PermissionDenied, "DENIED")
			if st.Message() != "not allowed" {
				t.Errorf("%s: a stranger is told %q", m, st.Message())
			}
		}
	}
	if n != 15 {
		t.Errorf("%d admin methods, want 15", n)
	}
}

func TestReflectionOnTheSocketForEverybodyHidesNothingThatIsThere(t *testing.T) {
	b := open(t, peer.Limits{})
	if got := services(t, b.dial(peer.API, user)); !slices.Equal(got, []string{"grpc.health.v1.Health",
		"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "latchkey.v1.IdentityService", "latchkey.v1.LoginService", "latchkey.v1.SsoService"}) {
		t.Errorf("api.sock lists %q", got)
	}
	if got := services(t, b.dial(peer.Admin, admin)); !slices.Contains(got, "latchkey.v1.AdminService") {
		t.Errorf("admin.sock lists %q", got)
	}
}

func services(t *testing.T, cc *grpc.ClientConn) (names []string) {
	t.Helper()
	s, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(bg(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range resp.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names
}

func TestHealthSaysWhetherAnswersCanBeHad(t *testing.T) {
	b := open(t, peer.Limits{})
	health := healthpb.NewHealthClient(b.dial(peer.API, user))
	for _, serving := range []bool{false, true, false} {
		b.server.SetServing(serving)
		for _, service := range []string{"", "latchkey.v1.IdentityService"} {
			resp, err := health.Check(bg(t), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || (resp.GetStatus() == healthpb.HealthCheckResponse_SERVING) != serving {
				t.Errorf("%q: %v, %v, want serving = %v", service, resp.GetStatus(), err, serving)
			}
		}
	}
}

// A refusal says what would help: who may call, or why this person may not in.
// Its reason is in the trailers, too, where every language finds it.
func TestARefusalSaysWhatWouldHelp(t *testing.T) {
	b := open(t, peer.Limits{})
	b.policy.Set(peer.Members{AuthenticatorUIDs: []identity.UID{34}, AppUIDs: []identity.UID{33}})
	bringer, app := peer.Caller{UID: 34, GID: 34}, peer.Caller{UID: 33, GID: 33}
	b.signer.err = fault.New(fault.Denied, "a rule")
	for _, tc := range []struct {
		what   string
		who    peer.Caller
		method string
		req    any
		remedy string
	}{
		{"who brings no passwords", user, latchkeyv1.LoginService_Authenticate_FullMethodName, &latchkeyv1.AuthenticateRequest{}, "[api] authenticators"},
		{"whom the rules keep out", bringer, latchkeyv1.LoginService_CheckAccess_FullMethodName,
			&latchkeyv1.CheckAccessRequest{Name: "alice", Service: "photos"}, "`latchkey login NAME --service SERVICE`"},
		{"who is no app", user, latchkeyv1.SsoService_GetSession_FullMethodName, &latchkeyv1.GetSessionRequest{}, "[[sso.app]]"},
		{"another app", bringer, latchkeyv1.SsoService_GetSession_FullMethodName, &latchkeyv1.GetSessionRequest{App: "photos"}, "[[sso.app]]"},
		{"an app's person", app, latchkeyv1.SsoService_GetSession_FullMethodName, &latchkeyv1.GetSessionRequest{App: "photos", SessionToken: "good"}, "`latchkey login NAME --service SERVICE`"},
		{"a container's root", root, latchkeyv1.AdminService_GetStatus_FullMethodName, &latchkeyv1.GetStatusRequest{}, "admin.sock"},
		{"a misspelt method", root, "/latchkey.v1.AdminService/GetStatsu", &latchkeyv1.GetStatusRequest{}, ""},
	} {
		b.sessions.err = fault.New(fault.Denied, "a rule")
		var trailer metadata.MD
		err := b.dial(peer.API, tc.who).Invoke(bg(t), tc.method, tc.req, &emptypb.Empty{}, grpc.Trailer(&trailer))
		st := want(t, tc.what, err, codes.PermissionDenied, "DENIED")
		if got := remedyOf(st); tc.remedy == "" && got != "" || !strings.Contains(got, tc.remedy) {
			t.Errorf("%s reads %q, want it to say %q", tc.what, got, tc.remedy)
		}
		if got := trailer.Get("latchkey-reason"); !slices.Equal(got, []string{"DENIED"}) {
			t.Errorf("%s: the trailer says %q", tc.what, got)
		}
	}
	watch, err := latchkeyv1.NewIdentityServiceClient(b.dial(peer.API, user)).WatchIdentities(bg(t), &latchkeyv1.WatchIdentitiesRequest{ResumeToken: "?"})
	if err == nil {
		_, err = watch.Recv()
	}
	if got := watch.Trailer().Get("latchkey-reason"); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, []string{"MALFORMED"}) {
		t.Errorf("a stream: %v, trailer %q", err, got)
	}
}
