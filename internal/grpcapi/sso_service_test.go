// SPDX-License-Identifier: Apache-2.0

package grpcapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/session"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// sessions plays the work behind SsoService: one app, photos, of uid 33.
type sessions struct {
	caller session.Caller
	asked  []string
	filter session.Filter
	many   int
	err    error
}

func (s *sessions) CheckApp(app string, c session.Caller) error {
	s.caller = c
	switch {
	case app != "photos":
		return fault.New(fault.NotFound, "there is no app")
	case c.UID != 33 && c.UID != 0:
		return fault.New(fault.Denied, "not that app")
	}
	return nil
}

func (s *sessions) Request(c session.Caller, app, redirect, state string) (string, error) {
	s.caller, s.asked = c, []string{app, redirect, state}
	return "https://nas.test/auth/begin?request=x", s.err
}

func (s *sessions) one() *session.Session {
	at := time.Unix(1_800_000_000, 0)
	return &session.Session{ID: "0a1b", Who: session.Who{Row: 1}, App: "photos", How: "oidc", Created: at, Used: at, Ends: at, IdleEnds: at, RemoteHost: "192.0.2.1", Shown: "alice"}
}

func (s *sessions) Exchange(_ context.Context, c session.Caller, app, redirect, code string) (*session.Finished, *session.Person, error) {
	s.caller, s.asked = c, []string{app, redirect, code}
	if s.err != nil {
		return nil, nil, s.err
	}
	return &session.Finished{Token: "the-token", Session: s.one()}, &session.Person{Local: &session.Local{Admin: true}}, nil
}

func (s *sessions) Get(_ context.Context, token, app string) (*session.Session, *session.Person, error) {
	s.asked = []string{app, token}
	if token != "good" {
		return nil, nil, session.ErrNone
	}
	u := person(1, "alice")
	return s.one(), &session.Person{User: &u}, s.err
}

func (s *sessions) List(f session.Filter) (all []*session.Session) {
	s.filter = f
	for range max(s.many, 1) {
		all = append(all, s.one())
	}
	return all
}

func (s *sessions) End(_ context.Context, token, app string) (int, error) {
	s.asked = []string{"end", token, app}
	return 1, s.err
}

func (s *sessions) Revoke(_ context.Context, id string, f session.Filter) error {
	s.asked, s.filter = []string{"revoke", id}, f
	return s.err
}

func (s *sessions) RevokeAll(_ context.Context, f session.Filter) (int, error) {
	s.asked, s.filter = []string{"revoke all"}, f
	return 7, s.err
}

// Only the app itself may act as it on the socket for everybody; the kernel's word
// for who calls is what counts.
func TestSsoIsForTheAppItself(t *testing.T) {
	b := open(t, peer.Limits{})
	b.policy.Set(peer.Members{AdminGroups: []identity.GID{adminGroup}, AppUIDs: []identity.UID{33}, AuthenticatorUIDs: []identity.UID{34}})
	www, other := peer.Caller{UID: 33, GID: 33, Groups: []identity.GID{44}}, peer.Caller{UID: 34, GID: 34}
	c := latchkeyv1.NewSsoServiceClient(b.dial(peer.API, www))
	begun, err := c.BeginSignIn(bg(t), &latchkeyv1.BeginSignInRequest{App: "photos", RedirectUri: "https://photos.test/cb", State: "s"})
	if err != nil || !strings.HasPrefix(begun.GetUrl(), "https://nas.test/") || b.sessions.caller.UID != 33 || !slices.Equal(b.sessions.caller.GIDs, []identity.GID{33, 44}) {
		t.Errorf("begin: %v, %v, asked by %+v", begun, err, b.sessions.caller)
	}
	got, err := c.ExchangeCode(bg(t), &latchkeyv1.ExchangeCodeRequest{App: "photos", RedirectUri: "https://photos.test/cb", Code: "abc"})
	if err != nil || got.GetSessionToken() != "the-token" || got.GetSession().GetSessionId() != "0a1b" || got.GetSession().GetResource() != "users/1" || !got.GetPerson().GetLocalAdmin() ||
		fmt.Sprint(b.sessions.asked) != "[photos https://photos.test/cb abc]" {
		t.Errorf("exchange: %v, %v, asked %q", got, err, b.sessions.asked)
	}
	in, err := c.GetSession(bg(t), &latchkeyv1.GetSessionRequest{App: "photos", SessionToken: "good"})
	if err != nil || in.GetPerson().GetUser().GetUsername() != "alice" || in.GetSession().GetHow() != "oidc" {
		t.Errorf("get: %v, %v", in, err)
	}
	_, err = c.GetSession(bg(t), &latchkeyv1.GetSessionRequest{App: "photos", SessionToken: "bad"})
	want(t, "a bad token", err, codes.Unauthenticated, "BAD_CREDENTIAL")

	b.sessions.err = fault.New(fault.Malformed, "it is no redirect URI of photos")
	_, err = c.BeginSignIn(bg(t), &latchkeyv1.BeginSignInRequest{App: "photos", RedirectUri: "https://photos.test/other"})
	if st := want(t, "another redirect URI", err, codes.InvalidArgument, "MALFORMED"); !strings.Contains(st.Message(), "no redirect URI") {
		t.Errorf("another redirect URI: %q", st.Message())
	}
	b.sessions.err = nil

	key := &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: "alice"}}
	calls := map[string]func(c latchkeyv1.SsoServiceClient, app string) error{
		"begin": func(c latchkeyv1.SsoServiceClient, app string) error {
			_, err := c.BeginSignIn(bg(t), &latchkeyv1.BeginSignInRequest{App: app})
			return err
		},
		"exchange": func(c latchkeyv1.SsoServiceClient, app string) error {
			_, err := c.ExchangeCode(bg(t), &latchkeyv1.ExchangeCodeRequest{App: app, Code: "x"})
			return err
		},
		"get": func(c latchkeyv1.SsoServiceClient, app string) error {
			_, err := c.GetSession(bg(t), &latchkeyv1.GetSessionRequest{App: app, SessionToken: "good"})
			return err
		},
		"list": func(c latchkeyv1.SsoServiceClient, app string) error {
			_, err := c.ListSessions(bg(t), &latchkeyv1.ListSessionsRequest{App: app, User: key})
			return err
		},
		"revoke": func(c latchkeyv1.SsoServiceClient, app string) error {
			_, err := c.RevokeSession(bg(t), &latchkeyv1.RevokeSessionRequest{App: app, Which: &latchkeyv1.RevokeSessionRequest_User{User: key}})
			return err
		},
	}
	for name, call := range calls {
		b.sessions.asked, b.sessions.filter = nil, session.Filter{}
		st := want(t, name+" by another app", call(latchkeyv1.NewSsoServiceClient(b.dial(peer.API, other)), "photos"), codes.PermissionDenied, "DENIED")
		if !strings.Contains(remedyOf(st), "[[sso.app]]") {
			t.Errorf("%s by another app: the remedy is %q", name, remedyOf(st))
		}
		st = want(t, name+" as an app that is none", call(c, "another"), codes.NotFound, "NOT_FOUND")
		if !strings.Contains(st.Message(), "no app") {
			t.Errorf("%s as an app that is none: %q", name, st.Message())
		}
		if err := call(c, ""); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s without an app: %v", name, err)
		}
		if b.sessions.asked != nil || b.sessions.filter.Row != 0 {
			t.Errorf("%s: the work was asked %q", name, b.sessions.asked)
		}
		if err := call(c, "photos"); err != nil {
			t.Errorf("%s by the app: %v", name, err)
		}
		// An app sees and ends its own sessions only, whatever it names.
		if f := b.sessions.filter; (name == "list" || name == "revoke") && (f.App == nil || *f.App != "photos" || f.Row != 1) {
			t.Errorf("%s: filter: %+v", name, f)
		}
	}
}

func TestAdministratorsSeeAndEndEverySession(t *testing.T) {
	b := open(t, peer.Limits{})
	c := latchkeyv1.NewSsoServiceClient(b.dial(peer.Admin, admin))
	b.sessions.many = 1500
	list, err := c.ListSessions(bg(t), &latchkeyv1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 1000 || list.GetTotal() != 1500 || b.sessions.filter != (session.Filter{}) {
		t.Errorf("list: %d of %d, %v, %+v", len(list.GetSessions()), list.GetTotal(), err, b.sessions.filter)
	}
	for name, tc := range map[string]struct {
		req   *latchkeyv1.RevokeSessionRequest
		asked string
		code  codes.Code
	}{
		"by id":    {&latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_SessionId{SessionId: "0a1b"}}, "[revoke 0a1b]", codes.OK},
		"by token": {&latchkeyv1.RevokeSessionRequest{App: "photos", Which: &latchkeyv1.RevokeSessionRequest_SessionToken{SessionToken: "x"}}, "[end x photos]", codes.OK},
		"a person": {&latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_User{User: &latchkeyv1.Key{Key: &latchkeyv1.Key_Uid{Uid: 100002}}}}, "[revoke all]", codes.OK},
		"account":  {&latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_LocalAccount{LocalAccount: "admin"}}, "[revoke all]", codes.OK},
		"nobody":   {&latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_User{User: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: "ghost"}}}}, "[]", codes.NotFound},
		// Nothing named must never mean everybody.
		"nothing":       {&latchkeyv1.RevokeSessionRequest{}, "[]", codes.InvalidArgument},
		"no account":    {&latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_LocalAccount{}}, "[]", codes.InvalidArgument},
		"an empty user": {&latchkeyv1.RevokeSessionRequest{Which: &latchkeyv1.RevokeSessionRequest_User{}}, "[]", codes.InvalidArgument},
	} {
		b.sessions.asked = nil
		_, err := c.RevokeSession(bg(t), tc.req)
		if status.Code(err) != tc.code || fmt.Sprint(b.sessions.asked) != tc.asked {
			t.Errorf("%s: %v, asked %q", name, err, b.sessions.asked)
		}
		if f := b.sessions.filter; tc.asked == "[revoke all]" && f.Row == 0 && f.Local == "" {
			t.Errorf("%s: filter: %+v", name, f)
		}
	}
	_, err = c.ListSessions(bg(t), &latchkeyv1.ListSessionsRequest{LocalAccount: "x", User: &latchkeyv1.Key{Key: &latchkeyv1.Key_Name{Name: "alice"}}})
	want(t, "both", err, codes.InvalidArgument, "MALFORMED")
	b = open(t, peer.Limits{}, func(c *grpcapi.Config) { c.SsoSetter, c.Sso = nil, nil })
	_, err = latchkeyv1.NewSsoServiceClient(b.dial(peer.Admin, admin)).ListSessions(bg(t), &latchkeyv1.ListSessionsRequest{})
	want(t, "sessions without a store", err, codes.Unavailable, "UNREACHABLE")
	_, err = latchkeyv1.NewSsoAdminServiceClient(b.dial(peer.Admin, admin)).GetSso(bg(t), &latchkeyv1.GetSsoRequest{})
	want(t, "a daemon without a store", err, codes.Unavailable, "UNREACHABLE")
}
