// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// account is a SID with its names.
type account struct {
	sid          identity.SID
	domain, name string
	kind         wire.NameType
}

var builtinDomain = account{sid: builtinSID, domain: builtin, kind: wire.TypeDomain}

// accountOf is a row as Windows shows it: domain and name stand apart, so that a
// row without a short name needs no other one.
func accountOf(m *Membership, e resolve.Entry) account {
	common := e.Common()
	a := account{sid: common.SID, domain: m.Domain.NetBIOS, name: shortName(common), kind: wire.TypeUser}
	if e.Group != nil {
		switch {
		case e.Group.Scope == identity.ScopeBuiltin || e.Group.SID.In(builtinSID):
			a.domain, a.kind = builtin, wire.TypeAlias
		case e.Group.Scope == identity.ScopeDomainLocal:
			a.kind = wire.TypeAlias
		default:
			a.kind = wire.TypeGroup
		}
	}
	return a
}

// shortName is the published name without a domain.
func shortName(c *identity.Common) string {
	if c.Name == "" {
		return c.Account
	}
	return c.Name[strings.IndexByte(c.Name, '\\')+1:]
}

// byName finds an account; fault.NotFound where there is none.
func (c *client) byName(domain, name string) (account, error) {
	m, err := c.member()
	if err != nil {
		return account{}, err
	}
	if domain == "" {
		if d, n, ok := strings.Cut(name, `\`); ok {
			domain, name = d, n
		}
	}
	key := name
	switch {
	case domain == "" && name == "":
		return account{}, fault.New(fault.NotFound, "no name")
	case domain == "":
	case m.names(domain):
		if name == "" {
			return account{sid: m.Domain.SID, domain: m.Domain.NetBIOS, kind: wire.TypeDomain}, nil
		}
		if !strings.ContainsRune(name, '@') {
			key = m.Domain.NetBIOS + `\` + name
		}
	case name == "" && strings.EqualFold(domain, builtin):
		return builtinDomain, nil
	default:
		for _, w := range idmap.WellKnowns() {
			if strings.EqualFold(w.Domain, domain) && strings.EqualFold(w.Name, name) {
				return wellKnown(w), nil
			}
		}
		if !strings.ContainsRune(domain, '.') {
			return account{}, fault.Errorf(fault.NotFound, "no such domain: %.200q", domain)
		}
		key = name + "@" + domain // smbd takes a UPN apart like that
	}
	e, err := c.s.rows.find(c.s.life, resolve.Question{Key: identity.Key{Kind: identity.ByName, Name: key}})
	if fault.Is(err, fault.NotFound) && domain == "" {
		for _, w := range idmap.WellKnowns() {
			if w.Domain == "" && strings.EqualFold(w.Name, name) {
				return wellKnown(w), nil
			}
		}
	}
	if err != nil {
		return account{}, err
	}
	return accountOf(m, e), nil
}

func wellKnown(w idmap.WellKnown) account {
	a := account{sid: w.SID, domain: w.Domain, name: w.Name, kind: wire.TypeWellKnown}
	if w.Alias {
		a.kind = wire.TypeAlias
	}
	return a
}

// bySID finds an account; fault.NotFound where there is none. A former SID of a
// row finds it as well: what an old ACL names is shown by today's name.
func (c *client) bySID(sid identity.SID) (account, error) {
	m, err := c.member()
	if err != nil {
		return account{}, err
	}
	switch sid {
	case m.Domain.SID:
		return account{sid: sid, domain: m.Domain.NetBIOS, kind: wire.TypeDomain}, nil
	case builtinSID:
		return builtinDomain, nil
	}
	if w, ok := idmap.WellKnownOf(sid); ok {
		return wellKnown(w), nil
	}
	e, err := c.s.rows.find(c.s.life, resolve.Question{Key: identity.Key{Kind: identity.BySID, SID: sid}})
	if err != nil {
		return account{}, err
	}
	return accountOf(m, e), nil
}

func (c *client) lookupName(req *wire.Request, resp *wire.Response) error {
	domain, name := req.LookupName()
	a, err := c.byName(domain, name)
	if err != nil {
		resp.SetSID("", wire.TypeUnknown)
		return err
	}
	resp.OK()
	resp.SetSID(a.sid.String(), a.kind)
	return nil
}

func (c *client) lookupSID(req *wire.Request, resp *wire.Response) error {
	sid, err := identity.ParseSID(req.Text())
	if err != nil {
		return err
	}
	a, err := c.bySID(sid)
	if err != nil {
		resp.SetName("", "", wire.TypeUnknown)
		return err
	}
	resp.OK()
	resp.SetName(a.domain, a.name, a.kind)
	return nil
}

func (c *client) lookupRIDs(req *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	domain, err := identity.ParseSID(req.Text())
	if err != nil {
		return err
	}
	switch domain {
	case m.Domain.SID:
		resp.SetText(m.Domain.NetBIOS)
	case builtinSID:
		resp.SetText(builtin)
	default:
		return fault.Errorf(fault.NotFound, "no such domain: %s", domain)
	}
	var all [maxFew][]byte
	for _, line := range lines(req.Extra, all[:0]) {
		rid, err := strconv.ParseUint(string(line), 10, 32)
		if err != nil {
			return fault.Errorf(fault.Malformed, "not a RID: %.40q", line)
		}
		a, err := c.bySID(domain.WithRID(uint32(rid)))
		switch {
		case fault.Is(err, fault.NotFound):
			a = account{kind: wire.TypeUnknown}
		case err != nil:
			return err
		}
		resp.Grow(func(b []byte) []byte { return fmt.Appendf(b, "%d %s\n", a.kind, a.name) })
	}
	resp.Append("\x00")
	resp.OK()
	return nil
}

// lookupSIDs answers each SID by its name and the place of its domain in a list.
// The client's parser wants a domain for everybody, and a domain to have a
// sub-authority: who has none such is a domain of its own.
func (c *client) lookupSIDs(req *wire.Request, resp *wire.Response) error {
	var domains []account // one of each
	var names []account
	var places []int
	var all [maxFew][]byte
	for _, line := range lines(req.Extra, all[:0]) {
		sid, err := identity.ParseSID(string(line))
		if err != nil {
			return err
		}
		a, err := c.bySID(sid)
		switch {
		case fault.Is(err, fault.NotFound):
			a = account{sid: sid, domain: "UNKNOWN", name: unknownName(sid), kind: wire.TypeUnknown}
			if m := c.s.cfg.Membership(); m != nil && sid.In(m.Domain.SID) {
				a.domain = m.Domain.NetBIOS
			}
		case err != nil:
			return err
		}
		of := sid
		if d := sid.Domain(); a.kind != wire.TypeDomain && !d.Domain().IsZero() {
			of = d
		}
		at := slices.IndexFunc(domains, func(d account) bool { return d.sid == of })
		if at < 0 {
			at = len(domains)
			domains = append(domains, account{sid: of, name: a.domain})
		}
		names, places = append(names, a), append(places, at)
	}
	resp.Grow(func(b []byte) []byte {
		b = fmt.Appendf(b, "%d\n", len(domains))
		for _, d := range domains {
			b = fmt.Appendf(b, "%s %s\n", d.sid, d.name)
		}
		b = fmt.Appendf(b, "%d\n", len(names))
		for i, n := range names {
			b = fmt.Appendf(b, "%d %d %s\n", places[i], n.kind, n.name)
		}
		return append(b, 0)
	})
	resp.OK()
	return nil
}

// unknownName stands for the name of a SID that is nobody's.
func unknownName(sid identity.SID) string {
	rid, _ := sid.RID()
	return fmt.Sprintf("%08X", rid)
}

// maxFew is how many lines of a request need no memory of their own.
const maxFew = 64

// lines appends to got the lines of a request's extra data; the last one may go
// without its end.
func lines(extra []byte, got [][]byte) [][]byte {
	if end := bytes.IndexByte(extra, 0); end >= 0 {
		extra = extra[:end]
	}
	for len(extra) > 0 {
		line, rest, _ := bytes.Cut(extra, []byte{'\n'})
		got, extra = append(got, line), rest
	}
	return got
}
