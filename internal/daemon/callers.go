// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// members says whose ids make up the classes of callers: the groups of this
// machine's /etc/group and [api] authenticators. A name that is not there
// stands for nobody.
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
	for _, who := range d.settings.now().API.Authenticators {
		kind, number, numeric := strings.Cut(who, ":")
		n, err := strconv.ParseUint(number, 10, 32)
		switch {
		case numeric && err == nil && kind == "uid":
			m.AuthenticatorUIDs = append(m.AuthenticatorUIDs, identity.UID(n))
		case numeric && err == nil && kind == "gid":
			m.AuthenticatorGIDs = append(m.AuthenticatorGIDs, identity.GID(n))
		case strings.HasPrefix(who, "%"):
			gids := group(who[1:])
			m.AuthenticatorGIDs = append(m.AuthenticatorGIDs, gids...)
			if gids == nil {
				d.log.Warn("[api] authenticators names a group that this machine does not have", "group", who[1:])
			}
		default:
			if uid, ok := local.Users[who]; ok {
				m.AuthenticatorUIDs = append(m.AuthenticatorUIDs, identity.UID(uid))
			} else {
				d.log.Warn("[api] authenticators names an account that this machine does not have", "account", who)
			}
		}
	}
	return m
}
