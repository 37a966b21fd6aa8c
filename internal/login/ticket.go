// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// PACResult is somebody who is let in by a ticket that another program of this
// machine accepted.
type PACResult struct {
	*Result
	PAC *PAC // as the ticket brought it; it may be as old as a ticket may be
}

// AcceptPAC takes the PAC of a ticket that another program (smbd) accepted, and
// asks the policy whether its owner may use the service: one attempt, one event.
// The server signature is checked with this machine's own keys. The row is found
// by the live SID; what the PAC says of groups never changes the row, for it may
// be hours old. An empty Service is samba.
//
// fault.BadCredential: the PAC was not made for this machine. ErrOtherDomain: the
// user is of a domain that is not ours.
func (l *Login) AcceptPAC(ctx context.Context, req Request, raw []byte) (*PACResult, error) {
	if req.Service == "" {
		req.Service = serviceSamba
	}
	a := l.begin(req, audit.SignIn)
	a.event.How = string(ByTicket)
	r, err := l.acceptPAC(ctx, a, raw)
	return r, a.end(err)
}

func (l *Login) acceptPAC(ctx context.Context, a *attempt, raw []byte) (*PACResult, error) {
	d, err := l.membership(ctx)
	if err != nil {
		return nil, err
	}
	pac, err := l.openPAC(d, raw)
	if err != nil {
		return nil, err
	}
	a.event.Principal = pac.Domain + `\` + pac.Account
	if a.event.Asked == "" {
		a.event.Asked = a.event.Principal
	}
	p, err := l.proven(ctx, a, d, pac.User)
	if err != nil {
		return nil, err
	}
	r, err := l.admit(ctx, a, p, ByTicket)
	if err != nil {
		return nil, err
	}
	r.PasswordExpires = pac.MustChange
	l.warnOfExpiry(r)
	return &PACResult{Result: r, PAC: pac}, nil
}

// openPAC checks a PAC with the keys of this machine. The keytab is read anew,
// and once more when none of its keys fits: a rotation may be under way.
func (l *Login) openPAC(d *Domain, raw []byte) (pac *PAC, err error) {
	for range 2 {
		keys, missing := kerberos.ReadKeytab(d.Keytab)
		if missing != nil {
			return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "read this machine's own keys", missing), "see `latchkey doctor`")
		}
		pac, err = kerberos.CheckPAC(raw, keys)
		keys.Wipe()
		if err == nil || fault.Is(err, fault.Malformed) {
			break
		}
	}
	if fault.Is(err, fault.Conflict) {
		return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "check the ticket's PAC", err), "this machine's keys are not the domain's: see `latchkey doctor`")
	}
	return pac, err
}
