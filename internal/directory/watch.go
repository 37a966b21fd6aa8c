// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Changed is one change that a DC told of: a hint to read, never the truth.
type Changed struct {
	DN         string
	ObjectGUID identity.GUID
	USNChanged USN
	IsDeleted  bool
}

// Watch subscribes to changes anywhere in the domain (MS-ADTS
// 3.1.1.3.4.1.9) on a connection of its own and calls fn for each until ctx
// ends or the connection breaks; it always returns an error: ctx's own, or
// fault.Unreachable, after which the caller reads what it missed and calls
// again. ready is called once, when the DC has the subscription. A DC may be
// seconds late, and tells of computers and containers as well. A DC that is
// gone without a word is noticed within half a minute.
func (c *Client) Watch(ctx context.Context, ready func(DC), fn func(Changed)) error {
	const op = "watch the directory"
	conn, err := c.connect(ctx, nil)
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	defer conn.Close()
	f, err := conn.know(ctx)
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req := ldap.NewSearchRequest(f.defaultNC, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
		[]string{"objectGUID", "uSNChanged", "isDeleted"}, []ldap.Control{ldap.NewControlMicrosoftNotification()})
	before := conn.wire.sent.Load()
	hints := conn.ldap.SearchAsync(ctx, req, 0)
	done := make(chan struct{})
	defer close(done)
	go func() {
		if conn.subscribed(ctx, before, done) {
			ready(conn.dc)
		}
	}()
	for hints.Next() {
		e := hints.Entry()
		if e == nil {
			continue
		}
		h := Changed{DN: e.DN, IsDeleted: strings.EqualFold(e.GetEqualFoldAttributeValue("isDeleted"), "TRUE")}
		h.ObjectGUID, _ = identity.GUIDFromBytes(e.GetEqualFoldRawAttributeValue("objectGUID"))
		if n, err := strconv.ParseUint(e.GetEqualFoldAttributeValue("uSNChanged"), 10, 64); err == nil {
			h.USNChanged = USN(n)
		}
		fn(h)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = hints.Err()
	if werr := conn.wire.broken(); werr != nil {
		err = werr
	}
	if err == nil {
		return fault.New(fault.Unreachable, op+": the subscription ended")
	}
	return classify(op, err)
}

// subscribed waits until the request that follows before has gone out and the
// DC has answered a question asked after it: a DC works through one
// connection in order.
func (c *Conn) subscribed(ctx context.Context, before uint64, done <-chan struct{}) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for c.wire.sent.Load() == before {
		select {
		case <-tick.C:
		case <-done:
			return false
		}
	}
	_, err := c.Get(ctx, "", "dsServiceName")
	return err == nil
}
