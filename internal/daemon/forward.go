// SPDX-License-Identifier: Apache-2.0

package daemon

import "github.com/latchkey-nas/latchkey/internal/web"

// openForward prepares the forward-auth door. Without a store it is open all the
// same: a proxy that hears "not now" lets nobody in.
func (d *Daemon) openForward() *web.Forward {
	c := web.ForwardConfig{Log: d.log, Limits: limits(d.settings.now())}
	if d.sso != nil {
		c.Sessions = d.sso.sessions
	}
	return web.NewForward(c)
}
