// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"slices"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Another returns a connection beside than, to another DC where there is one
// that answers, for whoever cannot wait until a silence of than is understood.
// It is kept, and becomes the client's when that one breaks. Errors as of Conn.
func (c *Client) Another(ctx context.Context, than *Conn) (*Conn, error) {
	select {
	case c.sparing <- struct{}{}:
		defer func() { <-c.sparing }()
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Unreachable, "wait for the directory", ctx.Err())
	}
	if s := c.spare.Load(); s.Alive() && s != than {
		return s, nil
	}
	// Its KDC would be asked for the ticket first, and be as silent.
	if len(c.cfg.Locator.Known()) > 1 {
		c.cfg.Locator.Bad(than.dc.Addr)
	}
	conn, err := c.connect(ctx, than)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "connect to another domain controller", err)
	}
	if old := c.spare.Swap(conn); old != nil && old != than {
		_ = old.Close()
	}
	return conn, nil
}

// takeSpare gives the spare connection away; nil when there is none alive.
func (c *Client) takeSpare() *Conn {
	s := c.spare.Swap(nil)
	if s.Alive() {
		return s
	}
	if s != nil {
		_ = s.Close()
	}
	return nil
}

// Doubted says whether the DC of conn failed somebody lately: Kerberos, or
// another connection.
func (c *Client) Doubted(conn *Conn) bool { return c.cfg.Locator.pool.Failed(conn.dc.Addr) }

// last puts the DC of than behind all others.
func last(dcs []DC, than *Conn) []DC {
	if than == nil {
		return dcs
	}
	dcs = slices.Clone(dcs)
	slices.SortStableFunc(dcs, func(a, b DC) int {
		switch is, other := a.Addr == than.dc.Addr, b.Addr == than.dc.Addr; {
		case is == other:
			return 0
		case is:
			return 1
		}
		return -1
	})
	return dcs
}
