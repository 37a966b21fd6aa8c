// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Policy says how rows look to the machine, and which of them it sees. Make it
// with NewPolicy; it does not change afterwards.
type Policy struct {
	Settings
	home, shell, gecos template
	overrides          []override
}

// Settings are a policy as the configuration has it.
type Settings struct {
	Home, Shell, Gecos string // templates; see Variables
	Enumerate          bool   // false: getpwent and getgrent give nothing, lookups work
	Overrides          []Override
	Users, Groups      Filter
}

// Override changes the look of a group's members, nested ones too. Of several
// that fit somebody, the first one that sets a field wins.
type Override struct {
	Group              string // any form of its name, or its SID
	Home, Shell, Gecos string // templates; empty: as it would be without this
}

// Filter chooses rows. Every list that is not empty must agree; Hide has the
// last word.
type Filter struct {
	InGroups []string // users: members of one of these, nested too; groups: these, and those inside them
	Under    []string // distinguished names, of which the row's DN is the end; in any case
	Match    []string // patterns of path.Match over the published name, in any case
	Hide     []string // likewise
}

type override struct {
	group              string
	home, shell, gecos template
}

// NewPolicy checks the templates and patterns: fault.Malformed, with the field.
func NewPolicy(s Settings) (*Policy, error) {
	p := &Policy{Settings: s}
	var err error
	parse := func(field, text string, kind templateKind) (t template) {
		if err == nil {
			if t, err = parseTemplate(text, kind); err != nil {
				err = fmt.Errorf("%s: %w", field, err)
			}
		}
		return t
	}
	p.home, p.shell, p.gecos = parse("home", s.Home, pathTemplate), parse("shell", s.Shell, pathTemplate), parse("gecos", s.Gecos, textTemplate)
	for i, o := range s.Overrides {
		at := fmt.Sprintf("override %d: ", i+1)
		if o.Group == "" && err == nil {
			err = fault.New(fault.Malformed, at+"it has no group")
		}
		p.overrides = append(p.overrides, override{o.Group,
			parse(at+"home", o.Home, pathTemplate), parse(at+"shell", o.Shell, pathTemplate), parse(at+"gecos", o.Gecos, textTemplate)})
	}
	for _, f := range []*Filter{&p.Users, &p.Groups} {
		f.InGroups, f.Under, f.Match, f.Hide = slices.Clone(f.InGroups), folded(f.Under), folded(f.Match), folded(f.Hide)
		for _, pattern := range slices.Concat(f.Match, f.Hide) {
			if _, bad := path.Match(pattern, ""); bad != nil && err == nil {
				err = fault.Errorf(fault.Malformed, "%q is no pattern: a [ is not closed", pattern)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func folded(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = identity.Fold(s)
	}
	return out
}

// scope is a policy's filters with their groups resolved.
type scope struct{ users, groups filter }

type filter struct {
	*Filter
	rows map[identity.RowID]struct{} // nil: any
}

// bind resolves the groups that the policy names. Those that do not exist are
// reported: an override for nobody changes nobody, and a filter that asks for
// membership in nothing but them admits nobody.
func (p *Policy) bind(rows Rows, d identity.Domain, report *Report) (*Look, *scope, error) {
	find := func(name string) (identity.RowID, error) {
		key := identity.Key{Kind: identity.ByName, Name: name}
		if sid, err := identity.ParseSID(name); err == nil {
			key = identity.Key{Kind: identity.BySID, SID: sid}
		}
		g, err := rows.Group(key)
		switch {
		case err == nil:
			return g.Row, nil
		case fault.Is(err, fault.NotFound) || fault.Is(err, fault.Malformed):
			report.Unknown = append(report.Unknown, name)
			return 0, nil
		}
		return 0, err
	}
	look := &Look{policy: p, domain: d, fits: map[identity.RowID][]int{}}
	for i, o := range p.overrides {
		row, err := find(o.group)
		if err != nil {
			return nil, nil, err
		}
		if row != 0 {
			for _, member := range rows.MembersOf(row) {
				look.fits[member] = append(look.fits[member], i)
			}
		}
	}
	s := &scope{users: filter{Filter: &p.Users}, groups: filter{Filter: &p.Groups}}
	resolve := func(f *filter, take func(identity.RowID)) error {
		if len(f.InGroups) == 0 {
			return nil
		}
		f.rows = map[identity.RowID]struct{}{}
		for _, name := range f.InGroups {
			row, err := find(name)
			if err != nil {
				return err
			}
			if row != 0 {
				take(row)
			}
		}
		return nil
	}
	err := resolve(&s.users, func(row identity.RowID) {
		for _, member := range rows.MembersOf(row) {
			s.users.rows[member] = struct{}{}
		}
	})
	if err == nil {
		err = resolve(&s.groups, func(row identity.RowID) { inside(rows, row, s.groups.rows) })
	}
	return look, s, err
}

// inside adds a row and everything it holds, however deep; loops end.
func inside(rows Rows, row identity.RowID, seen map[identity.RowID]struct{}) {
	open := []identity.RowID{row}
	for len(open) > 0 {
		row, open = open[len(open)-1], open[:len(open)-1]
		if _, ok := seen[row]; ok {
			continue
		}
		seen[row] = struct{}{}
		open = append(open, rows.DirectMembers(row)...)
	}
}

// admits reports whether the filter lets a row through.
func (f *filter) admits(c *identity.Common) bool {
	if f.rows != nil {
		if _, ok := f.rows[c.Row]; !ok {
			return false
		}
	}
	if len(f.Under)+len(f.Match)+len(f.Hide) == 0 {
		return true
	}
	name := identity.Fold(c.Name)
	if len(f.Match) > 0 && !anyMatch(f.Match, name) || anyMatch(f.Hide, name) {
		return false
	}
	dn := identity.Fold(c.DN)
	return len(f.Under) == 0 || slices.ContainsFunc(f.Under, func(container string) bool { return under(dn, container) })
}

func anyMatch(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

// under reports whether a DN lies below a container. The container may leave the
// domain's own part out: then it is looked for in the middle. Both are folded;
// the directory writes DNs in one way, without blanks around commas.
func under(dn, container string) bool {
	container = strings.ReplaceAll(container, ", ", ",")
	for from := 0; ; {
		at := strings.Index(dn[from:], ","+container)
		if at < 0 {
			return false
		}
		at += from
		end := at + 1 + len(container)
		escaped := at > 0 && dn[at-1] == '\\' && !(at > 1 && dn[at-2] == '\\')
		if !escaped && (end == len(dn) || strings.HasPrefix(dn[end:], ",")) {
			return true
		}
		from = at + 1
	}
}
