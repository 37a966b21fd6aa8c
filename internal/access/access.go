// SPDX-License-Identifier: Apache-2.0

// Package access decides which person may use which service of this machine:
// the administrator's rules and the defaults, as arithmetic over keys of rows.
//
// A rule names a row, never a name: somebody else who gets the name later does
// not inherit it, and a rename does not lose it. The package asks nothing,
// remembers nothing, and knows neither passwords nor whether an account is
// disabled: that is package login's.
package access

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Services that are open to every domain user until a rule says otherwise.
// Every other one, listed here or not, is closed to everybody: it may give a
// shell.
const (
	SMB = "samba" // smbd's own name for itself in PAM; "smb" is taken as well
	Web = "web"
)

// EveryService stands for all services in a rule that denies. No rule that
// allows may have it.
const EveryService = "*"

// Effect is what a rule does.
type Effect uint8

// The effects. The zero value is none.
const (
	Allow Effect = 1
	Deny  Effect = 2
)

// String returns "allow" or "deny".
func (e Effect) String() string {
	switch e {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	}
	return "none"
}

// Rule is one rule. Row 0 is every domain user.
type Rule struct {
	Service string
	Effect  Effect
	Row     identity.RowID
	Kind    identity.Kind // of the row; 0 for everybody
	// Name is what the row was called when the rule was made: a comment.
	Name string
	Made time.Time
}

// String returns the rule as `latchkey access` has it: "allow sshd %staff".
func (r Rule) String() string { return r.Effect.String() + " " + r.Service + " " + r.Who() }

// Who returns whom the rule is about, as WHO of `latchkey access`.
func (r Rule) Who() string {
	switch {
	case r.Row == 0:
		return "*"
	case r.Kind == identity.KindGroup:
		return "%" + r.Name
	}
	return r.Name
}

// key tells rules apart: for one service and one who there is one rule.
func (r Rule) same(o Rule) bool { return r.Service == o.Service && r.Row == o.Row }

// CheckService refuses a name that no PAM service can have, and every service
// for a rule that allows: fault.Malformed. Names are PAM's: letters, digits and
// "-_.@+", at most 64 bytes; they are compared in lower case.
func CheckService(service string, effect Effect) error {
	if service == EveryService {
		if effect == Allow {
			return fault.WithRemedy(fault.New(fault.Malformed, "no rule opens every service"), "name the services one by one: sshd, login, sudo")
		}
		return nil
	}
	if service == "" || len(service) > 64 || strings.Trim(service, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@+") != "" {
		return fault.WithRemedy(fault.Errorf(fault.Malformed, "%.80q is no name of a service", service), "services are called as in /etc/pam.d: sshd, login, sudo; or samba, web")
	}
	return nil
}

// Fold returns the form in which services are compared.
func Fold(service string) string {
	switch service = strings.ToLower(service); service {
	case "smb":
		return SMB
	case "latchkey-web": // the name that the web sign-in's password form has in PAM
		return Web
	}
	return service
}

// Policy is the rules. The zero value has none: the defaults hold.
type Policy struct{ rules []Rule }

// New returns a policy of rules, in a fixed order. Of two rules for the same
// service and who the later one counts.
func New(rules ...Rule) Policy {
	var p Policy
	for _, r := range rules {
		p = p.With(r)
	}
	return p
}

// With returns a policy with r, in the place of a rule of the same service and
// who.
func (p Policy) With(r Rule) Policy {
	r.Service = Fold(r.Service)
	rules := slices.DeleteFunc(slices.Clone(p.rules), r.same)
	rules = append(rules, r)
	slices.SortFunc(rules, func(a, b Rule) int {
		if c := strings.Compare(a.Service, b.Service); c != 0 {
			return c
		}
		if a.Effect != b.Effect {
			return int(b.Effect) - int(a.Effect) // denials first: they decide
		}
		if c := strings.Compare(a.Who(), b.Who()); c != 0 {
			return c
		}
		return int(min(max(int64(a.Row)-int64(b.Row), -1), 1))
	})
	return Policy{rules}
}

// Without returns a policy without the rule for the service and row, and
// whether there was one.
func (p Policy) Without(service string, row identity.RowID) (Policy, bool) {
	gone := Rule{Service: Fold(service), Row: row}
	rules := slices.DeleteFunc(slices.Clone(p.rules), gone.same)
	return Policy{rules}, len(rules) < len(p.rules)
}

// Rules returns the rules in a fixed order: by service, denials first.
func (p Policy) Rules() []Rule { return slices.Clone(p.rules) }

// Decision is the answer, with the rule that it comes from.
type Decision struct {
	Allowed bool
	Rule    *Rule // nil: the default of the service
	Why     string
}

// Decide says whether the user may use the service. groups are the user's
// effective groups, in any order. A rule that denies beats every one that
// allows; a service with a rule that allows is open to those it names only.
func (p Policy) Decide(service string, user identity.RowID, groups []identity.RowID) Decision {
	service = Fold(service)
	meant := func(r Rule) bool {
		return r.Row == 0 && r.Kind == 0 || r.Row == user && r.Kind == identity.KindUser ||
			r.Kind == identity.KindGroup && slices.Contains(groups, r.Row)
	}
	var allowed *Rule
	listed := false
	for i := range p.rules {
		r := &p.rules[i]
		if r.Service != service && r.Service != EveryService {
			continue
		}
		switch r.Effect {
		case Deny:
			if meant(*r) {
				return Decision{Rule: r, Why: "a rule denies it: " + r.String()}
			}
		case Allow:
			if r.Service != service {
				continue
			}
			listed = true
			if allowed == nil && meant(*r) {
				allowed = r
			}
		}
	}
	switch {
	case allowed != nil:
		return Decision{Allowed: true, Rule: allowed, Why: "a rule allows it: " + allowed.String()}
	case listed:
		return Decision{Why: fmt.Sprintf("%s is open to others only, no rule names this user", service)}
	case service == SMB || service == Web:
		return Decision{Allowed: true, Why: service + " is open to every domain user, no rule says otherwise"}
	}
	return Decision{Why: service + " is closed to every domain user until a rule allows it"}
}
