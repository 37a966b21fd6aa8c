// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// signer plays the work behind LoginService.
type signer struct {
	asked    login.Request
	password string
	err      error
	policy   access.Policy
	talk     *talk
	closed   atomic.Int64
	ntlm     login.NTLMRequest
}

func (s *signer) result() *login.Result {
	u := person(1, "alice")
	g := group(50, "staff")
	return &login.Result{User: &u, Groups: []*identity.Group{&g}, GIDs: []identity.GID{100050, 100513}, How: login.ByKerberos,
		CCache: secret.FromString("tickets"), Warnings: []string{"soon"}, Session: "0123"}
}

func (s *signer) Authenticate(_ context.Context, r login.Request, p secret.Bytes) (*login.Result, error) {
	s.asked, s.password = r, string(p.Reveal())
	if s.err != nil {
		return nil, s.err
	}
	return s.result(), nil
}

func (s *signer) Account(_ context.Context, r login.Request) (*login.Result, error) {
	s.asked = r
	if s.err != nil {
		return nil, s.err
	}
	return s.result(), nil
}

func (s *signer) ChangePassword(_ context.Context, r login.Request, old, new secret.Bytes) ([]string, error) {
	s.asked, s.password = r, string(old.Reveal())+">"+string(new.Reveal())
	return []string{"changed"}, s.err
}

func (s *signer) Policy(context.Context) (access.Policy, error) { return s.policy, s.err }

func (s *signer) SetRules(_ context.Context, _, service string, e access.Effect, who ...string) ([]access.Rule, error) {
	if s.err != nil {
		return nil, s.err
	}
	r := access.Rule{Service: service, Effect: e, Row: 7, Kind: identity.KindGroup, Name: strings.TrimPrefix(who[0], "%")}
	s.policy = s.policy.With(r)
	return []access.Rule{r}, nil
}

func TestSignInOverBothDoors(t *testing.T) {
	b := open(t, peer.Limits{})
	for _, door := range []peer.Name{peer.API, peer.Admin} {
		c := latchkeyv1.NewLoginServiceClient(b.dial(door, root))
		got, err := c.Authenticate(bg(t), &latchkeyv1.AuthenticateRequest{Name: "Alice", Password: []byte("pw"), Service: "sshd", RemoteHost: "192.0.2.1"})
		if err != nil {
			t.Fatalf("%s: %v", door, err)
		}
		in := got.GetSession()
		if in.GetUser().GetUsername() != "alice" || len(in.GetGids()) != 2 || len(in.GetGroupSids()) != 1 || in.GetHow() != latchkeyv1.Session_HOW_KERBEROS || in.GetAuditId() != "0123" {
			t.Errorf("%s: %v", door, in)
		}
		asked := b.signer.asked
		if b.signer.password != "pw" || asked.Name != "Alice" || asked.Service != "sshd" || asked.RemoteHost != "192.0.2.1" || !strings.Contains(asked.Caller, "uid 0") {
			t.Errorf("%s: the work was asked %+v", door, asked)
		}
		if _, err := c.CheckAccess(bg(t), &latchkeyv1.CheckAccessRequest{Name: "bob", Service: "smb"}); err != nil || b.signer.asked.Name != "bob" {
			t.Errorf("%s: check access: %v, %+v", door, err, b.signer.asked)
		}
		texts, err := c.ChangePassword(bg(t), &latchkeyv1.ChangePasswordRequest{Name: "bob", OldPassword: []byte("a"), NewPassword: []byte("b")})
		if err != nil || b.signer.password != "a>b" || len(texts.GetTexts()) != 1 {
			t.Errorf("%s: change password: %v, %v", door, err, texts)
		}
	}
}

// Whoever tells of a person tells the same of them.
func TestAPersonIsTheSameInEveryAnswer(t *testing.T) {
	b := open(t, peer.Limits{})
	cc := b.dial(peer.API, root)
	want, err := latchkeyv1.NewIdentityServiceClient(cc).GetUser(bg(t), &latchkeyv1.GetUserRequest{Key: byName("alice")})
	if err != nil || want.GetQualifiedName() == "" {
		t.Fatalf("%v, %v", want, err)
	}
	in, err := latchkeyv1.NewLoginServiceClient(cc).Authenticate(bg(t), &latchkeyv1.AuthenticateRequest{Name: "alice", Password: []byte("pw"), Service: "sshd"})
	if got := in.GetSession().GetUser(); err != nil || !proto.Equal(got, want) {
		t.Errorf("signed in: %v, %v\nwant %v", got, err, want)
	}
	web, err := latchkeyv1.NewSsoServiceClient(cc).GetSession(bg(t), &latchkeyv1.GetSessionRequest{App: "photos", SessionToken: "good"})
	if got := web.GetPerson().GetUser(); err != nil || !proto.Equal(got, want) {
		t.Errorf("by a browser: %v, %v\nwant %v", got, err, want)
	}
}

// Who is told what: strangers at api.sock see a wrong password wherever the
// truth would tell them about an account; administrators see the truth.
func TestStrangersAndAdministratorsAreToldOfARefusal(t *testing.T) {
	b := open(t, peer.Limits{})
	api, admin := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root)), latchkeyv1.NewLoginServiceClient(b.dial(peer.Admin, root))
	for kind, tc := range map[fault.Kind]struct {
		code   codes.Code
		reason string
		truth  codes.Code
	}{
		fault.NotFound:      {codes.Unauthenticated, "BAD_CREDENTIAL", codes.NotFound},
		fault.BadCredential: {codes.Unauthenticated, "BAD_CREDENTIAL", codes.Unauthenticated},
		fault.Locked:        {codes.Unauthenticated, "BAD_CREDENTIAL", codes.FailedPrecondition},
		fault.Disabled:      {codes.Unauthenticated, "BAD_CREDENTIAL", codes.FailedPrecondition},
		fault.Expired:       {codes.Unauthenticated, "BAD_CREDENTIAL", codes.FailedPrecondition},
		fault.MustChange:    {codes.Unauthenticated, "BAD_CREDENTIAL", codes.FailedPrecondition},
		fault.Denied:        {codes.Unauthenticated, "BAD_CREDENTIAL", codes.PermissionDenied},
		fault.Conflict:      {codes.Unauthenticated, "BAD_CREDENTIAL", codes.FailedPrecondition},
		fault.Exhausted:     {codes.Unauthenticated, "BAD_CREDENTIAL", codes.ResourceExhausted},
		fault.Unreachable:   {codes.Unavailable, "UNREACHABLE", codes.Unavailable},
	} {
		b.signer.err = fault.New(kind, "the truth of it")
		req := &latchkeyv1.AuthenticateRequest{Name: "alice", Password: []byte("pw"), Service: "sshd"}
		_, err := api.Authenticate(bg(t), req)
		if st := want(t, "api, "+kind.String(), err, tc.code, tc.reason); strings.Contains(st.Message(), "truth") {
			t.Errorf("%v: a stranger reads %q", kind, st.Message())
		}
		_, err = admin.Authenticate(bg(t), req)
		if st := status.Convert(err); st.Code() != tc.truth || !strings.Contains(st.Message(), "truth") {
			t.Errorf("%v: an administrator reads %v", kind, st)
		}
	}
}

func TestSignInRequestsThatMakeNoSense(t *testing.T) {
	b := open(t, peer.Limits{})
	c := latchkeyv1.NewLoginServiceClient(b.dial(peer.API, root))
	for what, req := range map[string]*latchkeyv1.AuthenticateRequest{
		"no name":    {Service: "sshd"},
		"no service": {Name: "alice"},
		"a path":     {Name: "alice", Service: "../sshd"},
		"everything": {Name: "alice", Service: "*"},
		"long name":  {Name: strings.Repeat("x", 2000), Service: "sshd"},
		"long host":  {Name: "alice", Service: "sshd", RemoteHost: strings.Repeat("x", 300)},
	} {
		if _, err := c.Authenticate(bg(t), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want it refused", what, err)
		}
	}
	if b.signer.asked.Name != "" {
		t.Errorf("the work was asked %+v", b.signer.asked)
	}
}

func TestAccessRules(t *testing.T) {
	b := open(t, peer.Limits{})
	c := latchkeyv1.NewAccessServiceClient(b.dial(peer.Admin, admin))
	set, err := c.SetAccessRules(bg(t), &latchkeyv1.SetAccessRulesRequest{Service: "sshd", Effect: latchkeyv1.AccessRule_EFFECT_ALLOW, Who: []string{"%staff"}})
	if err != nil || len(set.GetRules()) != 1 || set.GetRules()[0].GetWho() != "%staff" || set.GetRules()[0].GetResource() != "groups/7" {
		t.Fatalf("set: %v, %v", set, err)
	}
	list, err := c.ListAccessRules(bg(t), &latchkeyv1.ListAccessRulesRequest{Service: "SSHD"})
	if err != nil || len(list.GetRules()) != 1 || list.GetRules()[0].GetEffect() != latchkeyv1.AccessRule_EFFECT_ALLOW {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, err = c.ListAccessRules(bg(t), &latchkeyv1.ListAccessRulesRequest{Service: "sudo"}); err != nil || len(list.GetRules()) != 0 {
		t.Errorf("list of another service: %v, %v", list, err)
	}
	if _, err := c.SetAccessRules(bg(t), &latchkeyv1.SetAccessRulesRequest{Service: "*", Effect: latchkeyv1.AccessRule_EFFECT_DENY, Who: []string{"%staff"}}); err != nil {
		t.Errorf("deny everywhere: %v", err)
	}
	if list, err = c.ListAccessRules(bg(t), &latchkeyv1.ListAccessRulesRequest{Service: "sudo"}); err != nil || len(list.GetRules()) != 1 || list.GetRules()[0].GetService() != "*" {
		t.Errorf("a rule for every service in the list of one: %v, %v", list, err)
	}
	for what, req := range map[string]*latchkeyv1.SetAccessRulesRequest{
		"nobody": {Service: "sshd", Effect: latchkeyv1.AccessRule_EFFECT_DENY}, "another effect": {Service: "sshd", Effect: 9, Who: []string{"*"}},
	} {
		if _, err := c.SetAccessRules(bg(t), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What a person is to read of a refusal comes with it, for both kinds of caller.
func TestRefusedChangeOfAPasswordSaysWhatToRead(t *testing.T) {
	b := open(t, peer.Limits{})
	b.signer.err = fault.New(fault.Denied, "the truth of it")
	for _, door := range []peer.Name{peer.API, peer.Admin} {
		_, err := latchkeyv1.NewLoginServiceClient(b.dial(door, root)).ChangePassword(bg(t), &latchkeyv1.ChangePasswordRequest{Name: "bob", OldPassword: []byte("a"), NewPassword: []byte("b")})
		text := ""
		for _, d := range status.Convert(err).Details() {
			if m, ok := d.(*errdetails.LocalizedMessage); ok {
				text = m.GetMessage()
			}
		}
		if text != "changed" || reasonOf(status.Convert(err)) == "" || strings.Contains(err.Error(), "truth") != (door == peer.Admin) {
			t.Errorf("%s: %v with %q", door, err, text)
		}
	}
}

func TestMachineInNoDomainIsNobodysWrongPassword(t *testing.T) {
	b := open(t, peer.Limits{})
	b.signer.err = fault.Wrap(fault.NotFound, "find the domain", login.ErrNoDomain)
	for _, door := range []peer.Name{peer.API, peer.Admin} {
		_, err := latchkeyv1.NewLoginServiceClient(b.dial(door, root)).Authenticate(bg(t), &latchkeyv1.AuthenticateRequest{Name: "bob", Password: []byte("a"), Service: "sshd"})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", door, err)
		}
	}
}
