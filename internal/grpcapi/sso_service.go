// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/session"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Sso keeps who is signed in by a browser; *session.Sessions does.
type Sso interface {
	CheckApp(app string, c session.Caller) error
	Request(c session.Caller, app, redirect, state string) (string, error)
	Exchange(ctx context.Context, c session.Caller, app, redirect, code string) (*session.Finished, *session.Person, error)
	Get(ctx context.Context, token, app string) (*session.Session, *session.Person, error)
	List(f session.Filter) []*session.Session
	End(ctx context.Context, token, app string) (int, error)
	Revoke(ctx context.Context, id string, f session.Filter) error
	RevokeAll(ctx context.Context, f session.Filter) (int, error)
}

// SsoSetter sets up the sign-in with Entra ID. It wipes no secret of the request.
type SsoSetter interface {
	SetSso(ctx context.Context, req *latchkeyv1.SetSsoRequest) (*latchkeyv1.SetSsoResponse, error)
	TestSso(ctx context.Context) (*latchkeyv1.TestSsoResponse, error)
	GetSso(ctx context.Context) (*latchkeyv1.GetSsoResponse, error)
}

// errNoSso is what a daemon without a store answers.
var errNoSso = fault.WithRemedy(fault.New(fault.Unreachable, "there are no sessions while the store cannot be opened"), "see `latchkey status`")

// maxListed is how many sessions one answer has.
const maxListed = 1000

type ssoService struct {
	latchkeyv1.UnimplementedSsoServiceServer
	sso       Sso // may be nil
	directory Directory
	door      peer.Name
	changes   changes
}

// caller is who calls, as package session has it.
func caller(ctx context.Context) session.Caller {
	c := callOf(ctx)
	if c == nil {
		return session.Caller{UID: ^identity.UID(0)}
	}
	who := c.conn.Caller()
	return session.Caller{UID: who.UID, GIDs: append([]identity.GID{who.GID}, who.Groups...)}
}

// asApp refuses a caller of the socket for everybody who is not the app.
func (s *ssoService) asApp(ctx context.Context, app string) error {
	switch {
	case s.sso == nil:
		return errNoSso
	case len(app) > 64:
		return bad("app", "is longer than 64 bytes")
	case app == "" && s.door != peer.Admin:
		return bad("app", "is empty")
	case s.door == peer.Admin:
		return nil
	}
	err := s.sso.CheckApp(app, caller(ctx))
	if fault.Is(err, fault.Denied) {
		return refusal{err}
	}
	return toApp(err)
}

// toApp gives the author of an app the error's own words where they are about
// what the app sent: who calls is trusted with sign-ins.
func toApp(err error) error {
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Malformed) {
		return rpcfault.ForAdministrator(err, "").Err()
	}
	return err
}

func checkLength(field, text string, most int) error {
	if len(text) > most {
		return bad(field, "is longer than %d bytes", most)
	}
	return nil
}

func (s *ssoService) BeginSignIn(ctx context.Context, req *latchkeyv1.BeginSignInRequest) (*latchkeyv1.BeginSignInResponse, error) {
	if err := s.asApp(ctx, req.GetApp()); err != nil {
		return nil, err
	}
	if err := checkLength("redirect_uri", req.GetRedirectUri(), 2048); err != nil {
		return nil, err
	}
	if err := checkLength("state", req.GetState(), 512); err != nil {
		return nil, err
	}
	url, err := s.sso.Request(caller(ctx), req.GetApp(), req.GetRedirectUri(), req.GetState())
	if err != nil {
		return nil, toApp(err)
	}
	return &latchkeyv1.BeginSignInResponse{Url: url}, nil
}

func (s *ssoService) ExchangeCode(ctx context.Context, req *latchkeyv1.ExchangeCodeRequest) (*latchkeyv1.ExchangeCodeResponse, error) {
	if err := s.asApp(ctx, req.GetApp()); err != nil {
		return nil, err
	}
	done, p, err := s.sso.Exchange(ctx, caller(ctx), req.GetApp(), req.GetRedirectUri(), req.GetCode())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.ExchangeCodeResponse{SessionToken: done.Token, Session: toWebSession(done.Session), Person: s.person(p)}, nil
}

func (s *ssoService) GetSession(ctx context.Context, req *latchkeyv1.GetSessionRequest) (*latchkeyv1.GetSessionResponse, error) {
	if err := s.asApp(ctx, req.GetApp()); err != nil {
		return nil, err
	}
	in, p, err := s.sso.Get(ctx, req.GetSessionToken(), req.GetApp())
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.GetSessionResponse{Session: toWebSession(in), Person: s.person(p)}, nil
}

// filter reads whose sessions are meant.
func (s *ssoService) filter(ctx context.Context, app string, user *latchkeyv1.Key, local string) (f session.Filter, err error) {
	if err := s.asApp(ctx, app); err != nil {
		return f, err
	}
	if app != "" {
		f.App = &app
	}
	switch {
	case user != nil && local != "":
		return f, bad("local_account", "is given together with user")
	case local != "":
		if err := checkText("local_account", local, true); err != nil {
			return f, err
		}
		f.Local = local
	case user != nil:
		key, err := parseKey("user", user, identity.KindUser)
		if err != nil {
			return f, err
		}
		e, err := s.directory.User(ctx, key)
		if err != nil {
			return f, err
		}
		f.Row = e.User.Row
	}
	return f, nil
}

func (s *ssoService) ListSessions(ctx context.Context, req *latchkeyv1.ListSessionsRequest) (*latchkeyv1.ListSessionsResponse, error) {
	f, err := s.filter(ctx, req.GetApp(), req.GetUser(), req.GetLocalAccount())
	if err != nil {
		return nil, err
	}
	all := s.sso.List(f)
	resp := &latchkeyv1.ListSessionsResponse{Total: uint32(len(all))}
	for _, in := range all[:min(len(all), maxListed)] {
		resp.Sessions = append(resp.Sessions, toWebSession(in))
	}
	return resp, nil
}

func (s *ssoService) RevokeSession(ctx context.Context, req *latchkeyv1.RevokeSessionRequest) (*latchkeyv1.RevokeSessionResponse, error) {
	var user *latchkeyv1.Key
	local, all := "", true
	switch which := req.GetWhich().(type) {
	case *latchkeyv1.RevokeSessionRequest_User:
		user = which.User
	case *latchkeyv1.RevokeSessionRequest_LocalAccount:
		if local = which.LocalAccount; local == "" {
			return nil, bad("local_account", "is empty")
		}
	default:
		all = false
	}
	f, err := s.filter(ctx, req.GetApp(), user, local)
	if err != nil {
		return nil, err
	}
	n, event := 1, audit.Event{Row: f.Row, Name: local}
	switch which := req.GetWhich().(type) {
	case *latchkeyv1.RevokeSessionRequest_SessionToken:
		event.Asked = "a session's token"
		n, err = s.sso.End(ctx, which.SessionToken, req.GetApp())
	case *latchkeyv1.RevokeSessionRequest_SessionId:
		event.Asked = which.SessionId
		err = s.sso.Revoke(ctx, which.SessionId, f)
	default:
		if !all || user == nil && local == "" {
			return nil, bad("which", "names no session and nobody")
		}
		event.Asked = user.GetName()
		n, err = s.sso.RevokeAll(ctx, f)
	}
	if s.door == peer.Admin { // an app that ends its people's sessions is their sign-out
		what := ""
		if err == nil {
			what = fmt.Sprintf("%d ended", n)
		}
		s.changes.record(ctx, latchkeyv1.SsoService_RevokeSession_FullMethodName, event, what, err)
	}
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.RevokeSessionResponse{Revoked: uint32(n)}, nil
}

func toWebSession(in *session.Session) *latchkeyv1.WebSession {
	w := &latchkeyv1.WebSession{SessionId: in.ID, App: in.App, Username: in.Shown, How: in.How, CreateTime: timestamppb.New(in.Created),
		UseTime: timestamppb.New(in.Used), ExpireTime: timestamppb.New(in.Ends), IdleExpireTime: timestamppb.New(in.IdleEnds),
		RemoteHost: in.RemoteHost, UserAgent: in.Agent, AuditId: in.Audit}
	if in.Who.Row != 0 {
		w.Resource = resource(identity.KindUser, in.Who.Row)
	}
	return w
}

func (s *ssoService) person(p *session.Person) *latchkeyv1.WebPerson {
	w := &latchkeyv1.WebPerson{Username: p.Name(), Uid: uint32(p.UID()), Groups: p.GroupNames()}
	for _, g := range p.GIDs() {
		w.Gids = append(w.Gids, uint32(g))
	}
	if p.User != nil {
		w.User = shown(s.directory, p.User)
	}
	if p.Local != nil {
		w.LocalAdmin = p.Local.Admin
	}
	return w
}

// ssoAdminService is served on admin.sock only.
type ssoAdminService struct {
	latchkeyv1.UnimplementedSsoAdminServiceServer
	setter  SsoSetter // may be nil
	changes changes
}

func (s *ssoAdminService) SetSso(ctx context.Context, req *latchkeyv1.SetSsoRequest) (*latchkeyv1.SetSsoResponse, error) {
	defer secret.Wipe(req.GetSecret())
	defer secret.Wipe(req.GetCertificate())
	if s.setter == nil {
		return nil, errNoSso
	}
	resp, err := s.setter.SetSso(ctx, req)
	if !req.GetDryRun() {
		what := "" // of what was refused: a secret may have been pasted into the wrong field
		if err == nil {
			what = "tenant " + resp.GetSettings().GetTenant() + ", client " + resp.GetSettings().GetClient()
		}
		s.changes.record(ctx, latchkeyv1.SsoAdminService_SetSso_FullMethodName, audit.Event{}, what, err)
	}
	return resp, err
}

func (s *ssoAdminService) TestSso(ctx context.Context, _ *latchkeyv1.TestSsoRequest) (*latchkeyv1.TestSsoResponse, error) {
	if s.setter == nil {
		return nil, errNoSso
	}
	return s.setter.TestSso(ctx)
}

func (s *ssoAdminService) GetSso(ctx context.Context, _ *latchkeyv1.GetSsoRequest) (*latchkeyv1.GetSsoResponse, error) {
	if s.setter == nil {
		return nil, errNoSso
	}
	return s.setter.GetSso(ctx)
}
