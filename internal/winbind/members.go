// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// groupsOf returns the security groups of a user.
func (c *client) groupsOf(user identity.Key) ([]*identity.Group, error) {
	var all []*identity.Group
	for after := identity.RowID(0); ; {
		page, err := c.s.cfg.Directory.UserGroups(c.s.life, user, after, maxEntries)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			if e.Group != nil && e.Group.Security {
				all = append(all, e.Group)
			}
		}
		if after = page.Next; after == 0 {
			return all, nil
		}
	}
}

// getUserSIDs gives the SIDs of a user: its own, that of its primary group, and
// those of all its other groups. What a group of this machine adds is smbd's to
// know.
func (c *client) getUserSIDs(req *wire.Request, resp *wire.Response) error {
	sid, err := identity.ParseSID(req.Text())
	if err != nil {
		return err
	}
	key := identity.Key{Kind: identity.BySID, SID: sid}
	e, err := c.s.rows.find(c.s.life, resolve.Question{Key: key, Kind: identity.KindUser})
	if err != nil {
		return err
	}
	groups, err := c.groupsOf(key)
	if err != nil {
		return err
	}
	sids := []identity.SID{e.User.SID}
	if p := e.User.PrimaryGroup; !p.IsZero() {
		sids = append(sids, p)
	}
	for _, g := range groups {
		if g.SID != e.User.PrimaryGroup && !g.SID.In(builtinSID) {
			sids = append(sids, g.SID)
		}
	}
	appendSIDs(resp, sids)
	return nil
}

// getSIDAliases gives the domain-local groups that the users among some SIDs are
// in. BUILTIN's are smbd's own.
func (c *client) getSIDAliases(req *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	domain, err := identity.ParseSID(req.Text())
	if err != nil {
		return err
	}
	var found []identity.SID
	var all [maxFew][]byte
	if domain == m.Domain.SID {
		for _, line := range lines(req.Extra, all[:0]) {
			sid, err := identity.ParseSID(string(line))
			if err != nil {
				return err
			}
			groups, err := c.groupsOf(identity.Key{Kind: identity.BySID, SID: sid})
			switch {
			case fault.Is(err, fault.NotFound):
				continue
			case err != nil:
				return err
			}
			for _, g := range groups {
				if g.Scope == identity.ScopeDomainLocal && !slices.Contains(found, g.SID) {
					found = append(found, g.SID)
				}
			}
		}
	}
	appendSIDs(resp, found)
	return nil
}

func appendSIDs(resp *wire.Response, sids []identity.SID) {
	resp.Grow(func(b []byte) []byte {
		for _, s := range sids {
			b = append(append(b, s.String()...), '\n')
		}
		return append(b, 0)
	})
	resp.SetNumber(uint32(len(sids)))
	resp.OK()
}
