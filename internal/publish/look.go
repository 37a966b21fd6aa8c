// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Variables are what may follow a % in a template:
//
//	%u  the published name; DOMAIN\name as DOMAIN+name, so that it is one word
//	    and nobody else's
//	%U  the uid
//	%D  the domain's short name, as AADDSCONTOSO
//	%d  the domain's DNS name
//	%n  the display name, or the account name where there is none
//	%p  the UPN
//	%l  the first letter of the name without its domain
//	%%  a percent sign
const Variables = "uUDdnpl%"

// maxGecos keeps passwd lines within the buffers of programs that never learnt
// to ask for a larger one.
const maxGecos = 255

type templateKind int

const (
	textTemplate templateKind = iota
	pathTemplate
)

// template is text and variables in turn; a variable is a single letter of
// Variables.
type template struct {
	kind  templateKind
	parts []part
}

type part struct {
	text     string
	variable byte // 0: text
}

func parseTemplate(text string, kind templateKind) (template, error) {
	t := template{kind: kind}
	bad := func(format string, args ...any) (template, error) {
		return template{}, fault.Errorf(fault.Malformed, "%q "+format, append([]any{text}, args...)...)
	}
	switch {
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return bad("has a control character or is not UTF-8")
	case strings.Contains(text, ":"):
		return bad("has a colon, which ends a field of passwd")
	case kind == pathTemplate && text != "" && text[0] != '/':
		return bad("is no absolute path")
	case kind == pathTemplate && strings.Contains(text+"/", "/../"):
		return bad("has a .. in it")
	}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		if before != "" {
			t.parts = append(t.parts, part{text: before})
		}
		if !found {
			break
		}
		if after == "" {
			return bad("ends in a single %%")
		}
		if !strings.Contains(Variables, after[:1]) {
			return bad("has %%%c, which means nothing", after[0])
		}
		t.parts = append(t.parts, part{variable: after[0]})
		rest = after[1:]
	}
	return t, nil
}

// expand fills a template in. Whatever a value has that would break a line of
// passwd, or lead a path elsewhere, becomes harmless.
func (t template) expand(u *identity.User, d identity.Domain) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable == 0 {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(t.tame(value(p.variable, u, d)))
	}
	return b.String()
}

func value(variable byte, u *identity.User, d identity.Domain) string {
	switch variable {
	case 'u':
		return strings.Replace(u.Name, `\`, "+", 1)
	case 'U':
		return strconv.FormatUint(uint64(u.UID), 10)
	case 'D':
		return d.NetBIOS
	case 'd':
		return d.DNS
	case 'n':
		if u.DisplayName == "" {
			return u.Account
		}
		return u.DisplayName
	case 'p':
		return u.UPN
	case 'l':
		name := u.Name[strings.IndexByte(u.Name, '\\')+1:]
		_, size := utf8.DecodeRuneInString(name)
		return name[:size]
	}
	return "%"
}

// tame replaces what a field, or a part of a path, cannot hold.
func (t template) tame(s string) string {
	instead := ' '
	if t.kind == pathTemplate {
		instead = '_'
	}
	s = strings.Map(func(r rune) rune {
		if r == ':' || unicode.IsControl(r) || r == utf8.RuneError || r == 0x2028 || r == 0x2029 || t.kind == pathTemplate && r == '/' {
			return instead
		}
		return r
	}, s)
	if t.kind == pathTemplate && (s == "." || s == "..") {
		return "_"
	}
	return s
}

// Look fills in how a person looks. It is bound to the groups as they were when
// a snapshot was built, so what it shows is what getent shows. Safe for
// concurrent use.
type Look struct {
	policy *Policy
	domain identity.Domain
	fits   map[identity.RowID][]int // which overrides fit a person
}

// Plain returns the look of the policy without its overrides, for the time
// before the first snapshot.
func (p *Policy) Plain(d identity.Domain) *Look { return &Look{policy: p, domain: d} }

// Fill sets Gecos, Home and Shell.
func (l *Look) Fill(u *identity.User) {
	home, shell, gecos := l.policy.home, l.policy.shell, l.policy.gecos
	fits := l.fits[u.Row]
	for i := len(fits) - 1; i >= 0; i-- { // the first one has the last word
		o := &l.policy.overrides[fits[i]]
		for _, f := range []struct{ field, by *template }{{&home, &o.home}, {&shell, &o.shell}, {&gecos, &o.gecos}} {
			if len(f.by.parts) > 0 {
				*f.field = *f.by
			}
		}
	}
	u.Home, u.Shell = home.expand(u, l.domain), shell.expand(u, l.domain)
	u.Gecos = clip(strings.TrimSpace(gecos.expand(u, l.domain)), maxGecos)
}

// clip cuts s to at most n bytes, between letters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
