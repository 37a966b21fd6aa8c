// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
)

// What doors may name without knowing where it comes from.
type (
	Validation = netlogon.Validation
	PAC        = kerberos.PAC
)

// NTStatus returns the NTSTATUS that a domain controller refused with; false
// where err carries none.
func NTStatus(err error) (uint32, bool) {
	if status, ok := netlogon.StatusOf(err); ok {
		return status, true
	}
	var refusal *kerberos.Error
	if errors.As(err, &refusal) && refusal.Status != 0 {
		return uint32(refusal.Status), true
	}
	return 0, false
}

// Reasons that a door tells apart beside the fault's kind; found by errors.Is.
var (
	// ErrOtherDomain (fault.NotFound): the account is said to be of a domain that
	// is not ours. Another authority may know it; we never will.
	ErrOtherDomain = errors.New("the account is of another domain")
	// ErrNoDomain (fault.NotFound): this machine is in no domain.
	ErrNoDomain = errors.New("this machine is in no domain")
	// ErrOtherTenant (fault.Denied): the token is of a tenant that is not ours.
	ErrOtherTenant = errors.New("the person is of another Entra tenant")
	// ErrNotSynced (fault.NotFound): Entra ID knows the person, the domain does
	// not, or not yet: synchronisation may take an hour.
	ErrNotSynced = errors.New("the domain does not know this person of Entra ID")
	// ErrTwoRows (fault.Denied): two live objects claim to be the person.
	ErrTwoRows = errors.New("two objects of the domain claim to be this person")
)

// admit lets somebody in who has proved to be p, by whatever means: the state of
// the account, then the access rules. p is as fresh as the caller could have it.
func (l *Login) admit(ctx context.Context, a *attempt, p *person, how How) (*Result, error) {
	a.event.How = string(how)
	a.proved = true
	a.found(p.user)
	if err := l.state(p.user); err != nil {
		return nil, err
	}
	if err := l.permit(ctx, a, p.user, p.rows); err != nil {
		return nil, err
	}
	return p.result(how, a.event.ID), nil
}

// proven finds the row of a SID that was proved, fresh from the directory where
// that answers, or read from it within latelyTime. Former SIDs of a row find nobody.
func (l *Login) proven(ctx context.Context, a *attempt, d *Domain, sid identity.SID) (*person, error) {
	if !sid.In(d.Names.SID) {
		return nil, fault.Wrap(fault.NotFound, "find "+sid.String(), ErrOtherDomain)
	}
	p, err := l.findKey(ctx, a, d, identity.Key{Kind: identity.BySID, SID: sid})
	if err != nil {
		return nil, err
	}
	if begun := l.c.Now(); p.user.State&^identity.Guest != 0 || !l.lately.has(p.user.Row, begun) {
		if p, err = l.renew(ctx, d, p); err != nil {
			return nil, err
		}
		if l.mayAsk() {
			l.lately.note(p.user.Row, begun)
		}
	}
	if p.user.SID != sid {
		return nil, fault.WithRemedy(fault.Errorf(fault.NotFound, "%s is a former SID of %s", sid, p.user.Account),
			"the account was made anew: the ticket is of the one before; get new tickets")
	}
	return p, nil
}
