// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// AcceptFederated takes the tenant and the object id of a token that the caller
// has checked, and asks the policy whether that person may use the service: one
// attempt, one event. Nothing but the object id finds the row: a mail address or
// a UPN can become another's. An empty Service is web; an empty Name is the oid,
// for the audit.
//
// ErrOtherTenant, ErrNotSynced and ErrTwoRows say why there is not exactly one
// row.
func (l *Login) AcceptFederated(ctx context.Context, req Request, tenant, oid string) (*Result, error) {
	if req.Service == "" {
		req.Service = serviceWeb
	}
	if req.Name == "" {
		req.Name = oid
	}
	a := l.begin(req, audit.SignIn)
	a.event.How = string(ByFederated)
	r, err := l.acceptFederated(ctx, a, tenant, oid)
	return r, a.end(err)
}

func (l *Login) acceptFederated(ctx context.Context, a *attempt, tenant, oid string) (*Result, error) {
	tid, err := identity.ParseGUID(tenant)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "read the tenant of the token", err)
	}
	id, err := identity.ParseGUID(oid)
	if err != nil || id.IsZero() {
		return nil, fault.Wrap(fault.Malformed, "read the object id of the token", fault.Errorf(fault.Malformed, "%.100q is no object id", oid))
	}
	a.event.Principal = id.String() + "@" + tid.String()
	d, err := l.membership(ctx)
	if err != nil {
		return nil, err
	}
	if !d.Tenant.IsZero() && d.Tenant != tid {
		return nil, fault.Wrap(fault.Denied, "find the person of a token", ErrOtherTenant)
	}
	p, err := l.findKey(ctx, a, d, identity.Key{Kind: identity.ByOID, GUID: id})
	if err == nil {
		p, err = l.renew(ctx, d, p)
	}
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, fault.WithRemedy(fault.Wrap(fault.NotFound, "find object id "+id.String(), ErrNotSynced),
			"synchronisation into the domain can take an hour; is the person in its scope? `latchkey sync` reads the domain anew")
	case fault.Is(err, fault.Conflict):
		l.c.Log.Warn("nobody can say who this person is: two objects have one object id", "oid", id, "error", err)
		return nil, fault.WithRemedy(fault.Wrap(fault.Denied, "find object id "+id.String(), ErrTwoRows), fault.Remedy(err))
	case err != nil:
		return nil, err
	case p.user.OID != id:
		return nil, fault.New(fault.Denied, "the account was made anew in the middle of the sign-in")
	case p.user.State.Has(identity.Conflicted):
		return nil, fault.Wrap(fault.Denied, "find object id "+id.String(), ErrTwoRows)
	}
	return l.admit(ctx, a, p, ByFederated)
}
