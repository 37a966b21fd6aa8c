// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"

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
// again. ready is called once when the subscription stands. A DC may be
// seconds late, and tells of computers and containers as well. Nothing is told
// about a silent connection for minutes: the caller's periodic pass covers it.
func (c *Client) Watch(ctx context.Context, ready func(DC), fn func(Changed)) error {
	return errUnbuilt
}
