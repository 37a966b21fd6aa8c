// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
)

const hintNTLM = "ntlm-hash"

// NTLMAuthority asks the domain about an answered challenge; *netlogon.Pool does.
type NTLMAuthority interface {
	SamLogon(ctx context.Context, l netlogon.Logon) (*netlogon.Validation, error)
}

// NTLMRequest is one answered challenge. Name and Domain are as the client sent
// them: the response is a hash over them. An empty Service is samba.
type NTLMRequest struct {
	Request
	Domain      string // NetBIOS or DNS name; may be empty
	Workstation string // that the client says it is
	Challenge   [8]byte
	NT, LM      []byte
	Parameters  uint32 // ParameterControl, MS-NRPC 2.2.1.4.15
}

// NTLMResult is somebody who is let in by NTLM. Wipe it.
type NTLMResult struct {
	*Result
	Validation *Validation // what the domain controller says, with the session key
}

// Wipe overwrites the keys. Safe on nil.
func (r *NTLMResult) Wipe() {
	if r != nil {
		r.Result.Wipe()
		r.Validation.Wipe()
	}
}

// VerifyNTLM asks the domain whether a challenge was answered rightly, and the
// policy whether the person may use the service: one attempt, one event. Every
// attempt is counted in the budget until it has succeeded, for a response cannot
// be recognised as a right one beforehand. Nobody is let in while no domain
// controller answers.
//
// ErrOtherDomain: Domain is none of ours. fault.Unreachable: nobody could decide.
// NTStatus tells what the domain controller refused with.
func (l *Login) VerifyNTLM(ctx context.Context, req NTLMRequest) (*NTLMResult, error) {
	if req.Service == "" {
		req.Service = serviceSamba
	}
	a := l.begin(req.Request, audit.SignIn)
	a.event.How = string(ByNTLM)
	if a.event.RemoteHost == "" {
		a.event.RemoteHost = req.Workstation
	}
	if a.event.Asked = req.Name; req.Domain != "" {
		a.event.Asked = req.Domain + `\` + req.Name
	}
	begun := l.c.Now()
	r, err := l.ntlm(ctx, a, &req)
	l.even(ctx, a, &l.ntlmPace, begun, err)
	return r, a.end(err)
}

func (l *Login) ntlm(ctx context.Context, a *attempt, req *NTLMRequest) (*NTLMResult, error) {
	d, err := l.membership(ctx)
	if err != nil {
		return nil, err
	}
	name, err := ntlmName(d, req.Domain, req.Name)
	if err != nil {
		return nil, err
	}
	p, err := l.findKey(ctx, a, d, identity.Key{Kind: identity.ByName, Name: name})
	if err != nil {
		return nil, err
	}
	if p.user.State.Has(identity.Conflicted) {
		return nil, l.state(p.user)
	}
	authority := l.c.authority()
	if authority == nil {
		return nil, fault.WithRemedy(fault.New(fault.Unreachable, "this machine has no secure channel to the domain"), "see `latchkey doctor`")
	}
	source := req.RemoteHost
	if source == "" {
		source = "ntlm:" + strings.ToLower(req.Workstation)
	}
	settle, err := l.budget.take(ctx, p.user.Row, source)
	if err != nil {
		return nil, err
	}
	defer settle(false)

	a.event.Sent = true
	counted, cancel := lasting(ctx)
	defer cancel()
	v, err := authority.SamLogon(counted, netlogon.Logon{Domain: req.Domain, User: req.Name, Workstation: req.Workstation,
		Challenge: req.Challenge, NT: req.NT, LM: req.LM, Parameters: req.Parameters})
	l.learnNTLM(p.user, err)
	if fault.Is(err, fault.BadCredential) && l.evidence.of(p.user).ntlmUnsynced() {
		a.event.Hint = hintNTLM
		err = fault.WithRemedy(err, RemedyNTLM)
	}
	switch {
	case fault.Is(err, fault.BadCredential):
		settle(true)
		l.afterwards(func() { l.budget.keep(p.user.Row) })
		return nil, err
	case fault.Is(err, fault.MustChange):
		a.proved = true
		return nil, err
	case err != nil:
		return nil, err
	}
	settle(false)
	now, renewed := p, error(nil)
	if !vouched(p, v) {
		now, renewed = l.renew(ctx, d, p)
	}
	r, err := l.validated(ctx, a, p, now, v, renewed)
	if err != nil {
		v.Wipe()
		return nil, err
	}
	return r, nil
}

// validated lets in whom the domain controller vouches for.
func (l *Login) validated(ctx context.Context, a *attempt, asked, now *person, v *netlogon.Validation, renewed error) (*NTLMResult, error) {
	a.event.Principal = v.LogonDomain + `\` + v.EffectiveName
	if v.SID() != asked.user.SID {
		return nil, fault.WithRemedy(fault.Errorf(fault.Denied, "%s proved itself, and it is not the row that was asked for", a.event.Principal),
			"`latchkey sync --full` reads the domain anew; two accounts may have changed their names")
	}
	if l.budget.forgive(asked.user.Row) {
		l.afterwards(func() { l.budget.keep(asked.user.Row) })
	}
	a.proved = true
	if renewed != nil {
		return nil, renewed
	}
	if now.user.SID != asked.user.SID {
		return nil, fault.New(fault.Denied, "the account was made anew in the middle of the sign-in")
	}
	r, err := l.admit(ctx, a, now, ByNTLM)
	if err != nil {
		return nil, err
	}
	r.PasswordExpires = v.PasswordMustChange
	l.warnOfExpiry(r)
	return &NTLMResult{Result: r, Validation: v}, nil
}

// ntlmName is how the store is asked for an account as an NTLM client names it.
func ntlmName(d *Domain, domain, user string) (string, error) {
	if strings.ContainsRune(user, '@') && (domain == "" || d.names(domain)) {
		return user, nil
	}
	if domain != "" && !d.names(domain) {
		return "", fault.Wrap(fault.NotFound, "read the name of the domain", ErrOtherDomain)
	}
	if user == "" || strings.ContainsRune(user, '\\') {
		return "", fault.Wrap(fault.NotFound, "read the name", errors.New("it is no name of an account"))
	}
	return d.Names.NetBIOS + `\` + user, nil
}

// names says whether s is a name of the domain.
func (d *Domain) names(s string) bool {
	s = identity.Fold(strings.TrimSuffix(s, "."))
	return s != "" && (s == identity.Fold(d.Names.NetBIOS) || s == identity.Fold(d.Names.DNS) || s == identity.Fold(d.Realm))
}
