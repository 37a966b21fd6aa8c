// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/login"
)

// How often the domain's lockout is read, and how soon again where it could not
// be.
const (
	lockoutInterval = time.Hour
	lockoutRetry    = time.Minute
)

// watchLockout keeps what the domain says of its lockout, until ctx ends. What
// was read last stays where the directory does not answer.
func (m *member) watchLockout(ctx context.Context, log *slog.Logger) {
	for {
		next := lockoutInterval
		err := m.client.Do(ctx, func(c *directory.Conn) error {
			domain, err := c.Domain(ctx)
			if err == nil {
				m.lockout.Store(&login.Lockout{Threshold: domain.Policy.LockoutThreshold, Window: domain.Policy.LockoutWindow})
			}
			return err
		})
		if err != nil && ctx.Err() == nil {
			log.Debug("the domain's lockout cannot be read", "error", err)
			next = lockoutRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// loginLockout is when the domain locks an account, as far as it is known.
func (d *Daemon) loginLockout() login.Lockout {
	if m := d.current(); m != nil {
		if o := m.lockout.Load(); o != nil {
			return *o
		}
	}
	return login.Lockout{}
}
