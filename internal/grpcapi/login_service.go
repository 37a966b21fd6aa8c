// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Login decides who may in; *login.Login does.
type Login interface {
	Authenticate(ctx context.Context, req login.Request, password secret.Bytes) (*login.Result, error)
	Account(ctx context.Context, req login.Request) (*login.Result, error)
	ChangePassword(ctx context.Context, req login.Request, old, new secret.Bytes) (texts []string, err error)
	Converse(req login.Request) Conversation
	Explain(ctx context.Context, req login.Request, password secret.Bytes) (*login.Explanation, error)
	VerifyNTLM(ctx context.Context, req login.NTLMRequest) (*login.NTLMResult, error)
	AcceptNegotiate(ctx context.Context, req login.Request, token []byte) (*login.NegotiateResult, error)
	Policy(ctx context.Context) (access.Policy, error)
	SetRules(ctx context.Context, caller, service string, effect access.Effect, who ...string) ([]access.Rule, error)
}

// errNoLogin is what a daemon without a store answers.
var errNoLogin = fault.WithRemedy(fault.New(fault.Unreachable, "nobody can be signed in while the store cannot be opened"), "see `latchkey status`")

type loginService struct {
	latchkeyv1.UnimplementedLoginServiceServer
	login     Login // may be nil
	directory Directory
	door      peer.Name
	wrong     *throttle
}

// told is what this door's callers may know of an error. Those of admin.sock
// are told the truth.
func (s *loginService) told(err error) error {
	if errors.Is(err, login.ErrNoDomain) { // nobody can be asked, whatever the name
		return fault.WithRemedy(fault.Wrap(fault.Unreachable, "sign in", login.ErrNoDomain), fault.Remedy(err))
	}
	if s.door == peer.Admin {
		return err
	}
	return login.ForStranger(err)
}

// request checks what every request says besides its proof, and adds who calls.
func (s *loginService) request(ctx context.Context, r login.Request) (login.Request, error) {
	if s.login == nil {
		return r, errNoLogin
	}
	if err := access.CheckService(r.Service, access.Allow); err != nil {
		return r, bad("service", "%v", err)
	}
	switch {
	case len(r.RemoteHost) > 255:
		return r, bad("remote_host", "is longer than 255 bytes")
	case len(r.TTY) > 255:
		return r, bad("tty", "is longer than 255 bytes")
	}
	r.Door, r.Caller = "grpc", callerOf(ctx)
	return r, nil
}

// named is request for a method that is about a name.
func (s *loginService) named(ctx context.Context, r login.Request) (login.Request, error) {
	switch {
	case r.Name == "":
		return r, bad("name", "is empty")
	case len(r.Name) > identity.MaxNameLength:
		return r, bad("name", "is longer than %d bytes", identity.MaxNameLength)
	}
	return s.request(ctx, r)
}

// settle ends an attempt: it counts what came of it, once, and returns what the
// caller may know of it.
type settle func(error) error

// attempt is named for a method that tries a proof: what callers of api.sock may
// get wrong is bounded.
func (s *loginService) attempt(ctx context.Context, r login.Request) (login.Request, settle, error) {
	r, err := s.named(ctx, r)
	if err != nil {
		return r, nil, err
	}
	count := func(error) {}
	if s.door != peer.Admin {
		if count, err = s.wrong.take(uidOf(ctx), identity.Fold(r.Name)); err != nil {
			return r, nil, err
		}
	}
	return r, func(err error) error {
		count(err)
		return s.told(err)
	}, nil
}

// callerOf says who calls, for the audit.
func callerOf(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.conn.Caller().String()
	}
	return "unknown"
}

// uidOf says which user calls, for what is counted by caller.
func uidOf(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return strconv.FormatUint(uint64(c.conn.Caller().UID), 10)
	}
	return "unknown"
}

func (s *loginService) Authenticate(ctx context.Context, req *latchkeyv1.AuthenticateRequest) (*latchkeyv1.AuthenticateResponse, error) {
	password := secret.Own(req.GetPassword())
	defer password.Wipe()
	r, settle, err := s.attempt(ctx, login.Request{Name: req.GetName(), Service: req.GetService(), RemoteHost: req.GetRemoteHost()})
	if err != nil {
		return nil, err
	}
	in, err := s.login.Authenticate(ctx, r, password)
	if err = settle(err); err != nil {
		return nil, err
	}
	defer in.Wipe()
	return &latchkeyv1.AuthenticateResponse{Session: s.session(in)}, nil
}

func (s *loginService) CheckAccess(ctx context.Context, req *latchkeyv1.CheckAccessRequest) (*latchkeyv1.CheckAccessResponse, error) {
	r, err := s.named(ctx, login.Request{Name: req.GetName(), Service: req.GetService(), RemoteHost: req.GetRemoteHost()})
	if err != nil {
		return nil, err
	}
	in, err := s.login.Account(ctx, r)
	if err != nil {
		return nil, err
	}
	defer in.Wipe()
	return &latchkeyv1.CheckAccessResponse{Session: s.session(in)}, nil
}

func (s *loginService) ChangePassword(ctx context.Context, req *latchkeyv1.ChangePasswordRequest) (*latchkeyv1.ChangePasswordResponse, error) {
	old, replacement := secret.Own(req.GetOldPassword()), secret.Own(req.GetNewPassword())
	defer old.Wipe()
	defer replacement.Wipe()
	r, settle, err := s.attempt(ctx, login.Request{Name: req.GetName(), Service: "passwd", RemoteHost: req.GetRemoteHost()})
	if err != nil {
		return nil, err
	}
	texts, err := s.login.ChangePassword(ctx, r, old, replacement)
	if err = settle(err); err != nil {
		return nil, s.withTexts(err, texts)
	}
	return &latchkeyv1.ChangePasswordResponse{Texts: texts}, nil
}

// withTexts adds to a refusal what the person is to read about it, as
// google.rpc.LocalizedMessage.
func (s *loginService) withTexts(err error, texts []string) error {
	if len(texts) == 0 {
		return err
	}
	st := rpcfault.ForStranger(err, "")
	if s.door == peer.Admin {
		st = rpcfault.ForAdministrator(err, "")
	}
	if more, failed := st.WithDetails(&errdetails.LocalizedMessage{Locale: "en", Message: strings.Join(texts, "\n")}); failed == nil {
		st = more
	}
	return st.Err()
}

var hows = map[login.How]latchkeyv1.Session_How{
	login.ByKerberos: latchkeyv1.Session_HOW_KERBEROS,
	login.ByOffline:  latchkeyv1.Session_HOW_OFFLINE,
	login.ByAccount:  latchkeyv1.Session_HOW_ACCOUNT,

	login.ByNTLM:      latchkeyv1.Session_HOW_NTLM,
	login.ByTicket:    latchkeyv1.Session_HOW_TICKET,
	login.ByNegotiate: latchkeyv1.Session_HOW_NEGOTIATE,
	login.ByFederated: latchkeyv1.Session_HOW_FEDERATED,
}

func (s *loginService) session(r *login.Result) *latchkeyv1.Session {
	in := &latchkeyv1.Session{User: shown(s.directory, r.User), How: hows[r.How], PasswordExpireTime: toTime(r.PasswordExpires),
		Warnings: r.Warnings, AuditId: r.Session}
	for _, g := range r.GIDs {
		in.Gids = append(in.Gids, uint32(g))
	}
	for _, g := range r.Groups {
		in.GroupSids = append(in.GroupSids, g.SID.String())
	}
	return in
}

// accessService is served on admin.sock only.
type accessService struct {
	latchkeyv1.UnimplementedAccessServiceServer
	login Login
}

func (s *accessService) ListAccessRules(ctx context.Context, req *latchkeyv1.ListAccessRulesRequest) (*latchkeyv1.ListAccessRulesResponse, error) {
	if s.login == nil {
		return nil, errNoLogin
	}
	p, err := s.login.Policy(ctx)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ListAccessRulesResponse{}
	for _, r := range p.Rules() {
		if want := access.Fold(req.GetService()); want == "" || want == r.Service || r.Service == access.EveryService { // it keeps people out of that one, too
			resp.Rules = append(resp.Rules, toRule(r))
		}
	}
	return resp, nil
}

func (s *accessService) SetAccessRules(ctx context.Context, req *latchkeyv1.SetAccessRulesRequest) (*latchkeyv1.SetAccessRulesResponse, error) {
	if s.login == nil {
		return nil, errNoLogin
	}
	if len(req.GetWho()) == 0 {
		return nil, bad("who", "names nobody")
	}
	if err := checkCount("who", len(req.GetWho())); err != nil {
		return nil, err
	}
	effects := map[latchkeyv1.AccessRule_Effect]access.Effect{latchkeyv1.AccessRule_EFFECT_UNSPECIFIED: 0,
		latchkeyv1.AccessRule_EFFECT_ALLOW: access.Allow, latchkeyv1.AccessRule_EFFECT_DENY: access.Deny}
	effect, ok := effects[req.GetEffect()]
	if !ok {
		return nil, bad("effect", "is not known")
	}
	made, err := s.login.SetRules(ctx, callerOf(ctx), req.GetService(), effect, req.GetWho()...)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.SetAccessRulesResponse{}
	for _, r := range made {
		resp.Rules = append(resp.Rules, toRule(r))
	}
	return resp, nil
}

func toRule(r access.Rule) *latchkeyv1.AccessRule {
	rule := &latchkeyv1.AccessRule{Service: r.Service, Effect: latchkeyv1.AccessRule_Effect(r.Effect), Who: r.Who(), CreateTime: timestamppb.New(r.Made)}
	if r.Row != 0 {
		rule.Resource = resource(r.Kind, r.Row)
	}
	return rule
}
