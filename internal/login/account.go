// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Account says whether the person may use the service, however they proved who
// they are: by a password a moment ago, by a key, by a ticket. The row is read
// afresh. fault.NotFound: not one of ours. fault.MustChange: the password has to
// be changed first, and can be changed in the domain.
func (l *Login) Account(ctx context.Context, req Request) (*Result, error) {
	a := l.begin(req, audit.Account)
	a.event.How = string(ByAccount)
	r, err := l.account(ctx, a)
	return r, a.end(err)
}

func (l *Login) account(ctx context.Context, a *attempt) (*Result, error) {
	p, err := l.find(ctx, a)
	if err != nil {
		return nil, err
	}
	d := l.c.Domain()
	if d == nil {
		return nil, fault.New(fault.Unreachable, "this machine leaves its domain")
	}
	if p, err = l.renew(ctx, d, p); err != nil {
		return nil, err
	}
	a.found(p.user)
	if err := l.state(p.user); err != nil {
		return nil, err
	}
	if err := l.permit(ctx, a, p.user, p.rows); err != nil {
		return nil, err
	}
	r := p.result(ByAccount, a.event.ID)
	if p.user.State.Has(identity.MustChange) || l.owes(p.user.Row) {
		if !synced(p.user) {
			return nil, fault.WithRemedy(fault.New(fault.MustChange, "the password must be changed"), "change it with passwd")
		}
		if url := l.c.Settings().PasswordURL; url != "" {
			r.Warnings = append(r.Warnings, "Your password must be changed at "+printable(url))
		}
	}
	return r, nil
}

// permit asks the access policy.
func (l *Login) permit(ctx context.Context, a *attempt, u *identity.User, groups []identity.RowID) error {
	policy, err := l.Policy(ctx)
	if err != nil {
		return fault.Wrap(fault.Internal, "read the access rules", err)
	}
	d := policy.Decide(a.req.Service, u.Row, groups)
	if d.Rule != nil {
		a.event.Rule = d.Rule.String()
	} else {
		a.event.Rule = "default"
	}
	if d.Allowed {
		return nil
	}
	return fault.WithRemedy(fault.New(fault.Denied, d.Why), "`latchkey access list` shows the rules; `latchkey access allow "+printable(a.req.Service)+" NAME` opens the service")
}

// topicAccess and rulesKey say where the rules are kept.
const (
	topicAccess = "access"
	rulesKey    = "rules"
)

// Policy returns the access rules in force.
func (l *Login) Policy(ctx context.Context) (access.Policy, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.policy(ctx)
}

func (l *Login) policy(ctx context.Context) (access.Policy, error) {
	if l.rulesRead {
		return l.rules, nil
	}
	text, err := l.c.Store.Note(ctx, topicAccess, rulesKey)
	if err != nil {
		return access.Policy{}, err
	}
	var rules []access.Rule
	if text != nil {
		if err := json.Unmarshal(text, &rules); err != nil {
			return access.Policy{}, err
		}
	}
	l.rules, l.rulesRead = access.New(rules...), true
	return l.rules, nil
}

// SetRules makes one rule for each who, durably, all or none. who is "*" for
// every domain user, "%group", a SID, or a user by any form of name. It returns
// the rules. fault.NotFound: a who is nobody. effect 0 takes the rules away.
//
// Each rule that is made or taken away is an event of the audit; of a call that
// fails, one.
func (l *Login) SetRules(ctx context.Context, caller, service string, effect access.Effect, who ...string) ([]access.Rule, error) {
	made, err := l.setRules(ctx, service, effect, who)
	if err != nil {
		outcome, reason := audit.Of(err)
		l.c.Audit.Record(audit.Event{Action: audit.Rule, Outcome: outcome, Reason: reason, Detail: err.Error(), Service: service, Asked: strings.Join(who, ", "), Caller: caller})
		return nil, err
	}
	for _, r := range made {
		what := r.String()
		if effect == 0 {
			what = "remove " + r.Service + " " + r.Who()
		}
		l.c.Audit.Record(audit.Event{Action: audit.Rule, Outcome: audit.Allowed, Service: r.Service, Row: r.Row, Name: r.Name, Caller: caller, Rule: what})
	}
	return made, nil
}

func (l *Login) setRules(ctx context.Context, service string, effect access.Effect, who []string) ([]access.Rule, error) {
	if err := access.CheckService(service, effect); err != nil {
		return nil, err
	}
	if len(who) == 0 {
		return nil, fault.New(fault.Malformed, "nobody is named")
	}
	var made []access.Rule
	for _, w := range who {
		r, err := l.resolveWho(ctx, w)
		if err != nil {
			return nil, err
		}
		r.Service, r.Effect, r.Made = access.Fold(service), effect, l.c.Now().UTC()
		made = append(made, r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.policy(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read the access rules", err)
	}
	for _, r := range made {
		if effect != 0 {
			p = p.With(r)
			continue
		}
		had := false
		if p, had = p.Without(r.Service, r.Row); !had {
			return nil, fault.WithRemedy(fault.Errorf(fault.NotFound, "there is no rule for %s and %s", r.Service, r.Who()), "`latchkey access list` shows the rules")
		}
	}
	text, err := json.Marshal(p.Rules())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "write the access rules", err)
	}
	if err := l.c.Store.SetNotes(ctx, topicAccess, map[string][]byte{rulesKey: text}); err != nil {
		return nil, err
	}
	l.rules = p
	return made, nil
}

// resolveWho finds the row of a WHO.
func (l *Login) resolveWho(ctx context.Context, who string) (access.Rule, error) {
	if who == "*" {
		return access.Rule{}, nil
	}
	name, kind := who, identity.KindUser
	if len(who) > 0 && who[0] == '%' {
		name, kind = who[1:], identity.KindGroup
	}
	key := identity.Key{Kind: identity.ByName, Name: name}
	if sid, err := identity.ParseSID(name); err == nil {
		key = identity.Key{Kind: identity.BySID, SID: sid}
		if kind == identity.KindUser {
			kind = 0
		}
	} else if err := identity.CheckAsked(name); err != nil {
		return access.Rule{}, err
	}
	var r access.Rule
	err := l.c.Store.View(ctx, func(v *store.View) error {
		e, err := v.Get(key, kind)
		if err != nil {
			if fault.Is(err, fault.NotFound) && !v.Complete() {
				return fault.New(fault.Unreachable, "the people of the domain are not known yet")
			}
			if fault.Is(err, fault.NotFound) {
				return fault.WithRemedy(fault.Errorf(fault.NotFound, "%q is nobody of the domain", who), "a group is written %NAME; every domain user is \"*\"; see `latchkey search`")
			}
			return err
		}
		c := e.Common()
		if key.Kind == identity.BySID && c.SID != key.SID {
			return fault.Errorf(fault.NotFound, "%s is a former SID of %s", who, c.Account)
		}
		r = access.Rule{Row: c.Row, Kind: e.Kind(), Name: c.Name}
		if r.Name == "" {
			r.Name = c.Account
		}
		return nil
	})
	return r, err
}
