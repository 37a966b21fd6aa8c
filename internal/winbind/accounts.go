// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// What nss_winbind asks. Its answers are those of the machine's other names: the
// published name, whatever form the question had. Groups come without their
// members, as winbindd's do; who is in which group is GETGROUPS's to say.

// user finds a user who has a name and a number on this machine.
func (c *client) user(key identity.Key) (*identity.User, error) {
	e, err := c.s.rows.find(c.s.life, resolve.Question{Key: key, Kind: identity.KindUser})
	if err != nil {
		return nil, err
	}
	if !shownUser(e) {
		return nil, fault.New(fault.NotFound, "the user has no name or number on this machine")
	}
	return e.User, nil
}

func shownUser(e resolve.Entry) bool {
	return e.User != nil && e.User.Name != "" && e.User.UID != 0 && e.User.GID != 0
}

func shownGroup(e resolve.Entry) bool {
	return e.Group != nil && e.Group.Name != "" && e.Group.GID != 0
}

func (c *client) group(key identity.Key, resp *wire.Response) error {
	e, err := c.s.rows.find(c.s.life, resolve.Question{Key: key, Kind: identity.KindGroup})
	if err != nil {
		return err
	}
	if !shownGroup(e) {
		return fault.New(fault.NotFound, "the group has no name or number on this machine")
	}
	g := groupOf(e.Group)
	resp.SetGroup(&g)
	resp.Append("\x00")
	resp.OK()
	return nil
}

// noPassword is what the password field says: there is none to be found here.
const noPassword = "*"

func passwdOf(u *identity.User) wire.Passwd {
	return wire.Passwd{Name: u.Name, Password: noPassword, UID: uint32(u.UID), GID: uint32(u.GID), Gecos: u.Gecos, Home: u.Home, Shell: u.Shell}
}

func groupOf(g *identity.Group) wire.Group {
	return wire.Group{Name: g.Name, Password: noPassword, GID: uint32(g.GID)}
}

func (c *client) passwd(key identity.Key, resp *wire.Response) error {
	u, err := c.user(key)
	if err != nil {
		return err
	}
	p := passwdOf(u)
	resp.SetPasswd(&p)
	resp.OK()
	return nil
}

// named is whom a request names.
func (c *client) named(req *wire.Request) identity.Key {
	return identity.Key{Kind: identity.ByName, Name: c.typed(req.Text())}
}

// typed is a name as somebody typed it: clients put the domain in front of
// whatever that was, also of a UPN.
func (c *client) typed(name string) string {
	domain, rest, ok := strings.Cut(name, `\`)
	if m := c.s.cfg.Membership(); ok && strings.ContainsRune(rest, '@') && m != nil && m.names(domain) {
		return rest
	}
	return name
}

func (c *client) getPwNam(req *wire.Request, resp *wire.Response) error {
	return c.passwd(c.named(req), resp)
}

func (c *client) getPwUID(req *wire.Request, resp *wire.Response) error {
	return c.passwd(identity.Key{Kind: identity.ByUID, ID: req.ID()}, resp)
}

func (c *client) getPwSID(req *wire.Request, resp *wire.Response) error {
	sid, err := identity.ParseSID(req.Text())
	if err != nil {
		return err
	}
	return c.passwd(identity.Key{Kind: identity.BySID, SID: sid}, resp)
}

func (c *client) getGrNam(req *wire.Request, resp *wire.Response) error {
	return c.group(c.named(req), resp)
}

func (c *client) getGrGID(req *wire.Request, resp *wire.Response) error {
	return c.group(identity.Key{Kind: identity.ByGID, ID: req.ID()}, resp)
}

// getGroups gives all gids of a user, the primary one first: initgroups(3) of
// nss_winbind leaves that one out.
func (c *client) getGroups(req *wire.Request, resp *wire.Response) error {
	u, err := c.user(c.named(req))
	if err != nil {
		return err
	}
	gids, err := c.s.cfg.IDs.GIDs(c.s.life, u.Row)
	if err != nil {
		return err
	}
	n := uint32(1)
	resp.Grow(func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint32(b, uint32(u.GID))
		for _, g := range gids {
			if g != u.GID {
				b = binary.LittleEndian.AppendUint32(b, uint32(g))
				n++
			}
		}
		return b
	})
	resp.SetNumber(n)
	resp.OK()
	return nil
}

// maxEntries is how many entries one answer of an enumeration holds at most.
const maxEntries = 500

func (c *client) setPwEnt(_ *wire.Request, resp *wire.Response) error {
	c.users = listing{}
	resp.OK()
	return nil
}

func (c *client) setGrEnt(_ *wire.Request, resp *wire.Response) error {
	c.groups = listing{}
	resp.OK()
	return nil
}

func (c *client) getPwEnt(req *wire.Request, resp *wire.Response) error {
	return c.next(&c.users, identity.KindUser, req, resp, func(e resolve.Entry) bool {
		if !shownUser(e) {
			return false
		}
		p := passwdOf(e.User)
		resp.AppendPasswd(&p)
		return true
	})
}

func (c *client) getGrEnt(req *wire.Request, resp *wire.Response) error {
	err := c.next(&c.groups, identity.KindGroup, req, resp, func(e resolve.Entry) bool {
		if !shownGroup(e) {
			return false
		}
		g := groupOf(e.Group)
		resp.AppendGroup(&g)
		return true
	})
	if err == nil && resp.Succeeded() {
		resp.Append("\x00") // where the members would be
	}
	return err
}

// next answers with the next entries of an enumeration; a failure is its end.
func (c *client) next(at *listing, kind identity.Kind, req *wire.Request, resp *wire.Response, add func(resolve.Entry) bool) error {
	if !c.s.cfg.Enumerate() {
		return nil
	}
	want, n := int(min(req.ID(), maxEntries)), 0
	for n < want && !at.end {
		page, err := c.s.cfg.Directory.List(c.s.life, kind, resolve.Query{Limit: want - n, After: at.after})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if add(e) {
				n++
			}
		}
		at.after, at.end = page.End, !page.More
	}
	if n == 0 {
		return nil
	}
	resp.SetNumber(uint32(n))
	resp.OK()
	return nil
}

func (c *client) listUsers(req *wire.Request, resp *wire.Response) error {
	return c.list(identity.KindUser, shownUser, req, resp)
}

func (c *client) listGroups(req *wire.Request, resp *wire.Response) error {
	return c.list(identity.KindGroup, shownGroup, req, resp)
}

// list gives all names, joined by commas.
func (c *client) list(kind identity.Kind, shown func(resolve.Entry) bool, req *wire.Request, resp *wire.Response) error {
	m, err := c.member()
	if err != nil {
		return err
	}
	if d := req.Domain(); d != "" && !m.names(d) {
		return fault.Errorf(fault.NotFound, "no such domain: %.200q", d)
	}
	var all bytes.Buffer
	n := uint32(0)
	for at := (listing{}); !at.end; {
		page, err := c.s.cfg.Directory.List(c.s.life, kind, resolve.Query{Limit: maxEntries, After: at.after})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if !shown(e) || strings.ContainsRune(e.Common().Name, ',') {
				continue
			}
			if n++; n > 1 {
				all.WriteByte(',')
			}
			all.WriteString(e.Common().Name)
		}
		at.after, at.end = page.End, !page.More
	}
	all.WriteByte(0)
	resp.Append(all.String())
	resp.SetNumber(n)
	resp.OK()
	return nil
}
