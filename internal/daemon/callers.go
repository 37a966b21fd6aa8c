// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// idsOf reads "uid:33", "gid:33", the name of a local account, or %name of a
// local group, which the configuration has checked. A name that is not there
// stands for nobody.
func idsOf(who string, local *accounts.Set) (uids []identity.UID, gids []identity.GID) {
	kind, number, numeric := strings.Cut(who, ":")
	n, err := strconv.ParseUint(number, 10, 32)
	switch {
	case numeric && err == nil && kind == "uid":
		uids = []identity.UID{identity.UID(n)}
	case numeric && err == nil && kind == "gid":
		gids = []identity.GID{identity.GID(n)}
	case strings.HasPrefix(who, "%"):
		if gid, ok := local.Groups[who[1:]]; ok {
			gids = []identity.GID{identity.GID(gid)}
		}
	default:
		if uid, ok := local.Users[who]; ok {
			uids = []identity.UID{identity.UID(uid)}
		}
	}
	return uids, gids
}

// members says whose ids make up the classes of callers: the groups of this
// machine's /etc/group, [api] authenticators and [[sso.app]].
func (d *Daemon) members() peer.Members {
	d.mu.Lock()
	local := d.local
	d.mu.Unlock()
	var m peer.Members
	group := func(name string) []identity.GID {
		if gid, ok := local.Groups[name]; ok {
			return []identity.GID{identity.GID(gid)}
		}
		return nil
	}
	if a := d.admins.Load(); a != nil {
		m.AdminUIDs = a.uids
	}
	m.AdminGroups, m.LoginGroups = group(config.AdminGroup), group(config.LoginGroup)
	c := d.settings.now()
	add := func(key, who string, toUIDs *[]identity.UID, toGIDs *[]identity.GID) {
		uids, gids := idsOf(who, &local)
		*toUIDs, *toGIDs = append(*toUIDs, uids...), append(*toGIDs, gids...)
		if uids == nil && gids == nil {
			d.log.Warn("the configuration names an account or group that this machine does not have", "key", key, "name", who)
		}
	}
	for _, who := range c.API.Authenticators {
		add("api.authenticators", who, &m.AuthenticatorUIDs, &m.AuthenticatorGIDs)
	}
	for _, app := range c.SSO.Apps {
		add("sso.app", app.User, &m.AppUIDs, &m.AppGIDs)
	}
	return m
}
