// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Names by which people sign in and by which nobody is looked up: the mail
// address, where the configuration says so, and the name that a person has at
// the tenant's first domain (alice@contoso.onmicrosoft.com), which Entra ID takes
// whatever the UPN is. They find a row for a password to be tried at, exactly one
// or nobody; they prove nothing.

// initialDomains end the names of tenants' first domains, by cloud.
var initialDomains = []string{".onmicrosoft.com", ".onmicrosoft.us", ".partner.onmschina.cn"}

// errSeveral marks a name that more than one person has.
var errSeveral = errors.New("more than one person has this name")

// aliases is an index over the users of the store, as of one of its positions.
type aliases struct {
	mu      sync.Mutex
	at      store.Position
	read    bool
	mails   map[string]claim // folded address
	nicks   map[string]claim // folded local part at a first domain
	tenants map[string]bool  // first domains that some row names
}

// claim is the row that has a name; several once a second one has it too.
type claim struct {
	row     identity.RowID
	several bool
}

func enter(m map[string]claim, name string, row identity.RowID) {
	if name == "" {
		return
	}
	if c, ok := m[name]; ok && c.row != row {
		m[name] = claim{several: true}
		return
	}
	m[name] = claim{row: row}
}

// initialDomain returns the domain of an address when it is a tenant's first one.
func initialDomain(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return "", "", false
	}
	local, domain = address[:at], address[at+1:]
	for _, end := range initialDomains {
		if name, found := strings.CutSuffix(domain, end); found && name != "" && !strings.ContainsRune(name, '.') {
			return local, domain, true
		}
	}
	return "", "", false
}

// build reads the users anew when the store has changed.
func (x *aliases) build(ctx context.Context, s *store.Store) error {
	if x.read && x.at == s.Position() {
		return nil
	}
	mails, nicks, tenants := map[string]claim{}, map[string]claim{}, map[string]bool{}
	err := s.View(ctx, func(v *store.View) error {
		x.at = v.Position()
		return v.Each(identity.KindUser, func(e store.Entry) error {
			u := e.User
			if u.State.Has(identity.Guest) {
				return nil // their address is at another tenant
			}
			upn, mail := identity.Fold(u.UPN), identity.Fold(u.Mail)
			enter(mails, mail, u.Row)
			for _, address := range []string{upn, mail} {
				if _, domain, ok := initialDomain(address); ok {
					tenants[domain] = true
				}
			}
			nick := identity.Fold(u.MailNickname)
			if nick == "" {
				nick, _, _ = strings.Cut(upn, "@")
			}
			enter(nicks, nick, u.Row)
			return nil
		})
	})
	if err != nil {
		return err
	}
	x.mails, x.nicks, x.tenants, x.read = mails, nicks, tenants, true
	return nil
}

// find returns the row of a folded name; zero when nobody has it.
func (x *aliases) find(ctx context.Context, s *store.Store, name string, mail bool) (claim, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.build(ctx, s); err != nil {
		return claim{}, err
	}
	if mail {
		if c, ok := x.mails[name]; ok {
			return c, nil
		}
	}
	if local, domain, ok := initialDomain(name); ok && (len(x.tenants) == 0 || x.tenants[domain]) {
		return x.nicks[local], nil
	}
	return claim{}, nil
}

// byAlias reads the row of a name in any form, these included. errSeveral
// (fault.NotFound): nobody can say who is meant.
func (l *Login) byAlias(ctx context.Context, name string) (*person, error) {
	p, err := l.look(ctx, identity.Key{Kind: identity.ByName, Name: name})
	mail := l.c.Settings().AlternateID
	folded := identity.Fold(name)
	if _, _, initial := initialDomain(folded); !fault.Is(err, fault.NotFound) || !mail && !initial || !strings.ContainsRune(name, '@') {
		return p, err
	}
	c, failed := l.aliases.find(ctx, l.c.Store, folded, mail)
	switch {
	case failed != nil:
		return nil, failed
	case c.several:
		return nil, fault.WithRemedy(fault.Wrap(fault.NotFound, "find "+printable(name), errSeveral),
			"they can sign in by their account names; in Entra ID, give the address to one of them")
	case c.row == 0:
		return nil, err
	}
	return l.look(ctx, identity.Key{Kind: identity.ByRow, Row: c.row})
}
