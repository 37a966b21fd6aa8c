// SPDX-License-Identifier: Apache-2.0

package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Topic is what a step of an explanation is about.
type Topic string

// The topics, in the order in which a sign-in takes them.
const (
	TopicName     Topic = "name"
	TopicAccount  Topic = "account"
	TopicAccess   Topic = "access"
	TopicPassword Topic = "password"
	TopicBudget   Topic = "budget"
	TopicKDC      Topic = "kdc"
	TopicOffline  Topic = "offline"
	TopicNTLM     Topic = "ntlm"
	TopicSignIn   Topic = "sign-in"
)

// Verdict is what a step means for the sign-in.
type Verdict string

// The verdicts.
const (
	VerdictOK      Verdict = "ok"
	VerdictWarning Verdict = "warning" // worth knowing; a sign-in may work
	VerdictRefused Verdict = "refused" // no sign-in will work
	VerdictUnknown Verdict = "unknown" // could not be found out
	VerdictSkipped Verdict = "skipped" // not looked at, because of an earlier step
)

// ExplainStep is one thing that a sign-in depends on.
type ExplainStep struct {
	Topic        Topic
	Verdict      Verdict
	Text, Remedy string
}

// Explanation is what would come of a sign-in, and what came of it.
type Explanation struct {
	Steps []ExplainStep
	// Result is who would be let in, or was; nil where they are not. Wipe it.
	Result *Result
	// Proved: a password was given, and it is known to be right.
	Proved bool
}

func (e *Explanation) add(topic Topic, verdict Verdict, remedy, format string, args ...any) {
	e.Steps = append(e.Steps, ExplainStep{topic, verdict, fmt.Sprintf(format, args...), remedy})
}

// refused says whether a step stands in the way.
func (e *Explanation) refused() bool {
	for _, s := range e.Steps {
		if s.Verdict == VerdictRefused {
			return true
		}
	}
	return false
}

// Explain says step by step what a sign-in depends on, as it is now. A password,
// where one is given, is tried once, as Authenticate does, with its event; without
// one, the question itself is the event. The caller wipes the password. The steps
// are the truth: they are for administrators, and for who proved the password.
func (l *Login) Explain(ctx context.Context, req Request, password secret.Bytes) (*Explanation, error) {
	a := l.begin(req, audit.Account)
	a.event.How = "explain"
	e := &Explanation{}
	p, err := l.explain(ctx, a, e)
	if err != nil {
		return nil, a.end(err)
	}
	if password.Len() > 0 {
		r, err := l.Authenticate(ctx, req, password)
		l.explainOutcome(e, r, err)
		return e, nil
	}
	var refusal error
	if e.refused() {
		refusal = fault.New(fault.Denied, "a sign-in would be refused")
	}
	_ = a.end(refusal)
	if p != nil && !e.refused() {
		e.Result = p.result(ByAccount, a.event.ID)
	}
	return e, nil
}

// explain fills in what can be known without a password. Only a fault of ours is
// an error; the person is nil where there is none.
func (l *Login) explain(ctx context.Context, a *attempt, e *Explanation) (*person, error) {
	d, err := l.membership(ctx)
	switch {
	case fault.Is(err, fault.Internal):
		return nil, err
	case err != nil:
		e.add(TopicName, VerdictRefused, cmp.Or(fault.Remedy(err), "`latchkey join` joins a domain"), "nobody of a domain can sign in: %v", err)
		return nil, nil
	}
	p, err := l.find(ctx, a)
	switch {
	case fault.Is(err, fault.NotFound):
		e.add(TopicName, VerdictRefused, cmp.Or(fault.Remedy(err), "see `latchkey search`; a new person needs up to an hour from Entra ID to the domain"),
			"nobody of the domain is called %s: %v", printable(a.req.Name), err)
	case fault.Is(err, fault.Internal):
		return nil, err
	case err != nil:
		e.add(TopicName, VerdictUnknown, fault.Remedy(err), "%v", err)
	default:
		e.add(TopicName, VerdictOK, "", "%s is %s of %s, uid %d", printable(a.req.Name), printable(p.user.Account), d.Names.NetBIOS, p.user.UID)
	}
	if err == nil {
		p = l.explainAccount(ctx, d, e, p)
		l.explainAccess(ctx, a, e, p)
		l.explainPassword(e, p)
		l.explainBudget(a, e, p)
	}
	l.explainKDC(ctx, d, e)
	if err != nil {
		return nil, nil
	}
	l.explainOffline(ctx, e, p)
	l.explainNTLM(e, p)
	return p, nil
}

func (l *Login) explainAccount(ctx context.Context, d *Domain, e *Explanation, p *person) *person {
	asOf := ", as the directory says now"
	if now, err := l.renew(ctx, d, p); err != nil {
		e.add(TopicAccount, VerdictRefused, fault.Remedy(err), "%v", err)
		return p
	} else if p = now; !l.mayAsk() {
		asOf = ", as of the last synchronisation: the directory does not answer"
	}
	if err := l.state(p.user); err != nil {
		e.add(TopicAccount, VerdictRefused, fault.Remedy(err), "%v%s", err, asOf)
		return p
	}
	switch s := p.user.State; {
	case s.Has(identity.LockedOut):
		e.add(TopicAccount, VerdictWarning, "it ends by itself after the domain's time (30 minutes in Entra Domain Services); an administrator of the domain can unlock it sooner",
			"the domain may have locked the account for wrong passwords%s", asOf)
	default:
		e.add(TopicAccount, VerdictOK, "", "the account is in order%s; %d groups", asOf, len(p.rows))
	}
	return p
}

func (l *Login) explainAccess(ctx context.Context, a *attempt, e *Explanation, p *person) {
	policy, err := l.Policy(ctx)
	if err != nil {
		e.add(TopicAccess, VerdictUnknown, "see `latchkey doctor`", "the access rules cannot be read: %v", err)
		return
	}
	if d := policy.Decide(a.req.Service, p.user.Row, p.rows); d.Allowed {
		e.add(TopicAccess, VerdictOK, "", "%s", d.Why)
	} else {
		remedy := "`latchkey access allow " + printable(a.req.Service) + " NAME` opens the service"
		if d.Rule != nil && d.Rule.Effect == access.Deny { // no other rule helps against it
			remedy = fmt.Sprintf("`latchkey access remove '%s' '%s'` takes the rule away", d.Rule.Service, printable(d.Rule.Who()))
		}
		e.add(TopicAccess, VerdictRefused, "`latchkey access list` shows the rules; "+remedy, "%s", d.Why)
	}
}

func (l *Login) explainPassword(e *Explanation, p *person) {
	u := p.user
	if h := l.hint(u, nil); h != nil {
		verdict := VerdictWarning
		if h.Certain {
			verdict = VerdictRefused
		}
		e.add(TopicPassword, verdict, h.Remedy, "%s", h.Text)
		return
	}
	if u.State.Has(identity.MustChange) {
		e.add(TopicPassword, VerdictWarning, l.whereToChange(u), "the password must be changed at the next sign-in")
		return
	}
	set := "at a time that is not known"
	if !u.PasswordLastSet.IsZero() {
		set = u.PasswordLastSet.UTC().Format("2006-01-02 15:04 MST")
	}
	if u.State.Has(identity.PasswordExpired) {
		e.add(TopicPassword, VerdictWarning, l.whereToChange(u), "the domain says that the password, set %s, has expired", set)
		return
	}
	e.add(TopicPassword, VerdictOK, "", "the domain has a password, set %s", set)
}

// whereToChange is the remedy of a password that has to be changed.
func (l *Login) whereToChange(u *identity.User) string {
	if synced(u) {
		return elsewhere(l.c.Settings().PasswordURL)
	}
	return "change it with passwd"
}

func (l *Login) explainBudget(a *attempt, e *Explanation, p *person) {
	all, mine := l.budget.spent(p.user.Row, a.req.source())
	text := fmt.Sprintf("%d wrong passwords lately, %d of them from here", all, mine)
	switch err := l.budget.open(p.user.Row, a.req.source()); {
	case err != nil:
		e.add(TopicBudget, VerdictWarning, fault.Remedy(err), "%s: the domain is not asked about others for now, so that it does not lock the account", text)
	default:
		e.add(TopicBudget, VerdictOK, "", "%s; the domain locks after %s", text, l.budget.describe())
	}
}

func (l *Login) explainKDC(ctx context.Context, d *Domain, e *Explanation) {
	ctx, cancel := context.WithTimeout(ctx, kdcTime)
	defer cancel()
	_, skew, err := d.KDC.Time(ctx)
	switch {
	case err != nil:
		e.add(TopicKDC, VerdictUnknown, "`latchkey doctor` says what cannot be reached", "no domain controller answers: %v", err)
	case skew.Abs() >= 5*time.Minute:
		e.add(TopicKDC, VerdictRefused, "let an NTP client set this machine's clock", "our clock is %s from the domain controller's, and five minutes are the limit", skew.Round(time.Second))
	default:
		e.add(TopicKDC, VerdictOK, "", "a domain controller answers; the clocks are %s apart", skew.Abs().Round(10*time.Millisecond))
	}
}

func (l *Login) explainOffline(ctx context.Context, e *Explanation, p *person) {
	s := l.c.Settings()
	if !s.Offline {
		e.add(TopicOffline, VerdictOK, "", "switched off: without a domain controller nobody signs in by password")
		return
	}
	v := l.verifierOf(ctx, p.user)
	if v == nil {
		e.add(TopicOffline, VerdictOK, "", "without a domain controller this person cannot sign in: nothing here vouches for the password")
		return
	}
	limit := s.OfflineAge
	if limit == 0 {
		limit = defaultOfflineAge
	}
	e.add(TopicOffline, VerdictOK, "", "without a domain controller the password of %s counts until %s",
		v.At.UTC().Format("2006-01-02 15:04 MST"), v.At.Add(limit).UTC().Format("2006-01-02 15:04 MST"))
}

func (l *Login) explainNTLM(e *Explanation, p *person) {
	switch seen := l.evidence.of(p.user); {
	case l.c.authority() == nil:
		e.add(TopicNTLM, VerdictOK, "", "not in use on this machine")
	case seen.ntlmUnsynced():
		e.add(TopicNTLM, VerdictWarning, RemedyNTLM, "Kerberos takes the password and NTLM does not: the domain seems to have no NTLM hash of it")
	case !seen.NTLM.IsZero():
		e.add(TopicNTLM, VerdictOK, "", "the domain took an NTLM response of this password %s", seen.NTLM.UTC().Format("2006-01-02 15:04 MST"))
	default:
		e.add(TopicNTLM, VerdictOK, "", "not tried with this password yet")
	}
}

// explainOutcome says what came of the password.
func (l *Login) explainOutcome(e *Explanation, r *Result, err error) {
	var known *proved
	e.Proved = err == nil || errors.As(err, &known)
	if err == nil {
		e.Result = r
		text := "the domain took the password, and proved itself"
		if r.How == ByOffline {
			text = "no domain controller answers; this machine remembers the password"
		}
		e.add(TopicSignIn, VerdictOK, "", "%s: %s may sign in", text, r.User.Name)
		return
	}
	verdict, remedy := VerdictRefused, fault.Remedy(err)
	if fault.Is(err, fault.Unreachable) {
		verdict = VerdictUnknown
	}
	e.add(TopicSignIn, verdict, remedy, "%v", err)
}
