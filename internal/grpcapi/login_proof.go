// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"cmp"
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// maxProof bounds an NTLM response and a SPNEGO token: a PAC of 900 groups fits several times.
const maxProof = 64 << 10

func (s *loginService) VerifyNTLM(ctx context.Context, req *latchkeyv1.VerifyNTLMRequest) (*latchkeyv1.VerifyNTLMResponse, error) {
	nt, lm := secret.Own(req.GetNtResponse()), secret.Own(req.GetLmResponse())
	defer nt.Wipe()
	defer lm.Wipe()
	switch {
	case len(req.GetChallenge()) != 8:
		return nil, bad("challenge", "is not 8 bytes long")
	case nt.Len() == 0:
		return nil, bad("nt_response", "is empty")
	case nt.Len() > maxProof || lm.Len() > maxProof:
		return nil, bad("nt_response", "is longer than %d bytes", maxProof)
	case len(req.GetDomain()) > 255:
		return nil, bad("domain", "is longer than 255 bytes")
	case len(req.GetWorkstation()) > 255:
		return nil, bad("workstation", "is longer than 255 bytes")
	}
	r, settle, err := s.attempt(ctx, login.Request{Name: req.GetName(), Service: cmp.Or(req.GetService(), "samba"), RemoteHost: req.GetRemoteHost()})
	if err != nil {
		return nil, err
	}
	ask := login.NTLMRequest{Request: r, Domain: req.GetDomain(), Workstation: req.GetWorkstation(), Challenge: [8]byte(req.GetChallenge()),
		NT: nt.Reveal(), LM: lm.Reveal(), Parameters: req.GetParameters()}
	in, err := s.login.VerifyNTLM(ctx, ask)
	if err = settle(err); err != nil {
		return nil, err
	}
	defer in.Wipe()
	resp := &latchkeyv1.VerifyNTLMResponse{Session: s.session(in.Result)}
	if in.Validation != nil {
		resp.SessionKey = in.Validation.SessionKey.Clone().Reveal()
	}
	return resp, nil
}

func (s *loginService) AcceptNegotiate(ctx context.Context, req *latchkeyv1.AcceptNegotiateRequest) (*latchkeyv1.AcceptNegotiateResponse, error) {
	token := secret.Own(req.GetToken())
	defer token.Wipe()
	switch {
	case token.Len() == 0:
		return nil, bad("token", "is empty")
	case token.Len() > maxProof:
		return nil, bad("token", "is longer than %d bytes", maxProof)
	}
	r, err := s.request(ctx, login.Request{Service: cmp.Or(req.GetService(), "web"), RemoteHost: req.GetRemoteHost()})
	if err != nil {
		return nil, err
	}
	in, err := s.login.AcceptNegotiate(ctx, r, token.Reveal())
	defer in.Wipe()
	if err != nil {
		return nil, s.told(err)
	}
	return &latchkeyv1.AcceptNegotiateResponse{Session: s.session(in.Result), Reply: in.Reply, Mechanism: in.Mechanism, ServicePrincipal: in.SPN,
		KeyVersion: in.KVNO, EncryptionType: in.EType, ClockSkew: durationpb.New(in.Skew)}, nil
}

func (s *loginService) Explain(ctx context.Context, req *latchkeyv1.ExplainRequest) (*latchkeyv1.ExplainResponse, error) {
	password := secret.Own(req.GetPassword())
	defer password.Wipe()
	r, settle, err := s.attempt(ctx, login.Request{Name: req.GetName(), Service: req.GetService(), RemoteHost: req.GetRemoteHost()})
	if err != nil {
		return nil, err
	}
	e, err := s.login.Explain(ctx, r, password)
	if err != nil {
		return nil, settle(err)
	}
	defer e.Result.Wipe()
	if s.door != peer.Admin && !e.Proved {
		_ = settle(login.ForStranger(fault.New(fault.NotFound, "not proved")))
		return &latchkeyv1.ExplainResponse{Steps: []*latchkeyv1.ExplainResponse_Step{{Topic: latchkeyv1.ExplainResponse_Step_TOPIC_SIGN_IN,
			Verdict: latchkeyv1.ExplainResponse_Step_VERDICT_UNKNOWN, Text: "the name or the password is wrong, or none was given",
			Remedy: "`latchkey login` tells an administrator more"}}}, nil
	}
	_ = settle(nil)
	resp := &latchkeyv1.ExplainResponse{}
	for _, step := range e.Steps {
		resp.Steps = append(resp.Steps, &latchkeyv1.ExplainResponse_Step{Topic: topics[step.Topic], Verdict: verdicts[step.Verdict],
			Text: step.Text, Remedy: step.Remedy})
	}
	if e.Result != nil {
		resp.Session = s.session(e.Result)
	}
	return resp, nil
}

var topics = map[login.Topic]latchkeyv1.ExplainResponse_Step_Topic{
	login.TopicName:     latchkeyv1.ExplainResponse_Step_TOPIC_NAME,
	login.TopicAccount:  latchkeyv1.ExplainResponse_Step_TOPIC_ACCOUNT,
	login.TopicAccess:   latchkeyv1.ExplainResponse_Step_TOPIC_ACCESS,
	login.TopicPassword: latchkeyv1.ExplainResponse_Step_TOPIC_PASSWORD,
	login.TopicBudget:   latchkeyv1.ExplainResponse_Step_TOPIC_BUDGET,
	login.TopicKDC:      latchkeyv1.ExplainResponse_Step_TOPIC_KDC,
	login.TopicOffline:  latchkeyv1.ExplainResponse_Step_TOPIC_OFFLINE,
	login.TopicNTLM:     latchkeyv1.ExplainResponse_Step_TOPIC_NTLM,
	login.TopicSignIn:   latchkeyv1.ExplainResponse_Step_TOPIC_SIGN_IN,
}

var verdicts = map[login.Verdict]latchkeyv1.ExplainResponse_Step_Verdict{
	login.VerdictOK:      latchkeyv1.ExplainResponse_Step_VERDICT_OK,
	login.VerdictWarning: latchkeyv1.ExplainResponse_Step_VERDICT_WARNING,
	login.VerdictRefused: latchkeyv1.ExplainResponse_Step_VERDICT_REFUSED,
	login.VerdictUnknown: latchkeyv1.ExplainResponse_Step_VERDICT_UNKNOWN,
	login.VerdictSkipped: latchkeyv1.ExplainResponse_Step_VERDICT_SKIPPED,
}
