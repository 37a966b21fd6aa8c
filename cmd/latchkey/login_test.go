// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (f *fake) Authenticate(_ context.Context, r *latchkeyv1.AuthenticateRequest) (*latchkeyv1.AuthenticateResponse, error) {
	switch {
	case r.GetName() == "nobody":
		return nil, fault.New(fault.NotFound, "nobody has this name")
	case string(r.GetPassword()) != "secret Passw0rd!":
		return nil, fault.New(fault.BadCredential, "sign in to the domain: KDC_ERR_PREAUTH_FAILED, wrong password")
	case r.GetService() != "sshd":
		return nil, fault.WithRemedy(fault.Errorf(fault.Denied, "%s is closed to every domain user until a rule allows it", r.GetService()),
			"`latchkey access list` shows the rules")
	}
	return &latchkeyv1.AuthenticateResponse{Session: &latchkeyv1.Session{
		User: &latchkeyv1.User{Username: "alice", Uid: 100001104, Gid: 100000513, Sid: "S-1-5-21-1-2-3-1104"},
		Gids: []uint32{100000513, 100001201}, GroupSids: []string{"S-1-5-21-1-2-3-513", "S-1-5-21-1-2-3-1201"},
		How: latchkeyv1.Session_HOW_OFFLINE, Warnings: []string{"The domain cannot be reached."}, AuditId: "0123456789abcdef"}}, nil
}

func (f *fake) Explain(_ context.Context, r *latchkeyv1.ExplainRequest) (*latchkeyv1.ExplainResponse, error) {
	type step = latchkeyv1.ExplainResponse_Step
	const (
		ok      = latchkeyv1.ExplainResponse_Step_VERDICT_OK
		refused = latchkeyv1.ExplainResponse_Step_VERDICT_REFUSED
		unknown = latchkeyv1.ExplainResponse_Step_VERDICT_UNKNOWN
		warning = latchkeyv1.ExplainResponse_Step_VERDICT_WARNING
	)
	kdc := &step{Topic: latchkeyv1.ExplainResponse_Step_TOPIC_KDC, Verdict: unknown, Text: "no domain controller answers", Remedy: "`latchkey doctor` says what cannot be reached"}
	if r.GetName() == "nobody" {
		return &latchkeyv1.ExplainResponse{Steps: []*step{{Topic: latchkeyv1.ExplainResponse_Step_TOPIC_NAME, Verdict: refused, Text: "nobody of the domain is called nobody"}, kdc}}, nil
	}
	resp := &latchkeyv1.ExplainResponse{Steps: []*step{{Topic: latchkeyv1.ExplainResponse_Step_TOPIC_NAME, Verdict: ok, Text: "alice is Alice of CONTOSO, uid 100001104"},
		{Topic: latchkeyv1.ExplainResponse_Step_TOPIC_ACCESS, Verdict: ok, Text: "a rule allows it: allow sshd *"},
		{Topic: latchkeyv1.ExplainResponse_Step_TOPIC_BUDGET, Verdict: warning, Text: "3 wrong passwords lately", Remedy: "wait two minutes and try again"},
		kdc, {Topic: latchkeyv1.ExplainResponse_Step_TOPIC_NTLM, Verdict: ok, Text: "not in use on this machine"}}}
	if r.GetService() != "sshd" {
		resp.Steps[1].Verdict, resp.Steps[1].Text, resp.Steps[1].Remedy = refused, r.GetService()+" is closed to every domain user until a rule allows it", "`latchkey access list` shows the rules"
		return resp, nil
	}
	resp.Session = &latchkeyv1.Session{User: &latchkeyv1.User{Username: "alice"}, How: latchkeyv1.Session_HOW_ACCOUNT}
	return resp, nil
}

func (f *fake) ListAccessRules(_ context.Context, r *latchkeyv1.ListAccessRulesRequest) (*latchkeyv1.ListAccessRulesResponse, error) {
	if r.GetService() == "none" || f.noRules {
		return &latchkeyv1.ListAccessRulesResponse{}, nil
	}
	return &latchkeyv1.ListAccessRulesResponse{Rules: []*latchkeyv1.AccessRule{
		{Service: "sshd", Effect: latchkeyv1.AccessRule_EFFECT_DENY, Who: "bob", Resource: "users/2", CreateTime: ago(0)},
		{Service: "sshd", Effect: latchkeyv1.AccessRule_EFFECT_ALLOW, Who: "*", CreateTime: ago(0)}}}, nil
}

func (f *fake) SetAccessRules(_ context.Context, r *latchkeyv1.SetAccessRulesRequest) (*latchkeyv1.SetAccessRulesResponse, error) {
	resp := &latchkeyv1.SetAccessRulesResponse{}
	for _, w := range r.GetWho() {
		if w == "nobody" {
			return nil, fault.WithRemedy(fault.Errorf(fault.NotFound, "%q is nobody of the domain", w), "a group is written %NAME")
		}
		resp.Rules = append(resp.Rules, &latchkeyv1.AccessRule{Service: r.GetService(), Effect: r.GetEffect(), Who: w, CreateTime: ago(0)})
	}
	return resp, nil
}

// The last request of a change of rules is what was typed.
func TestAccessAsks(t *testing.T) {
	for verb, effect := range map[string]latchkeyv1.AccessRule_Effect{"allow": latchkeyv1.AccessRule_EFFECT_ALLOW,
		"deny": latchkeyv1.AccessRule_EFFECT_DENY, "remove": latchkeyv1.AccessRule_EFFECT_UNSPECIFIED} {
		b := newBench(t)
		b.run("access", verb, "sshd", "alice", "%staff")
		got, ok := b.daemon.last.(*latchkeyv1.SetAccessRulesRequest)
		if !ok || got.GetEffect() != effect || got.GetService() != "sshd" || strings.Join(got.GetWho(), " ") != "alice %staff" {
			t.Errorf("%s asks %v", verb, b.daemon.last)
		}
	}
}
