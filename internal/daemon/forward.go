// SPDX-License-Identifier: Apache-2.0

package daemon

import "github.com/latchkey-nas/latchkey/internal/web"

// openForward prepares the forward-auth door. Without a store it is open all the
// same: a proxy that hears "not now" lets nobody in.
func (d *Daemon) openForward() *web.Forward {
	l := limits(d.settings.now())
	l.ConnectionsPerUID *= 8 // one user is a proxy, with everybody's browsers behind it
	c := web.ForwardConfig{Log: d.log, Limits: l}
	if d.sso != nil {
		c.Sessions = d.sso.sessions
	}
	return web.NewForward(c)
}
