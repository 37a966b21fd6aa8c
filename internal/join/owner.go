// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"encoding/binary"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// ownerOf reads who owns an object; the zero SID when it cannot be told. Where
// any user may create computers, the creator is the owner.
func ownerOf(ctx context.Context, t tree, dn string) (owner identity.SID) {
	_ = t.Search(ctx, directory.Query{Base: dn, Scope: directory.Base, Attributes: []string{"nTSecurityDescriptor"}, OwnerOnly: true},
		func(e directory.Entry) error {
			if v := e.Values("nTSecurityDescriptor"); len(v) == 1 {
				owner, _ = parseOwner(v[0])
			}
			return nil
		})
	return owner
}

// parseOwner returns the owner in a self-relative security descriptor
// (MS-DTYP 2.4.6): 20 bytes of header, the owner's SID at the offset in bytes
// 4 to 7.
func parseOwner(b []byte) (identity.SID, error) {
	const header = 20
	if len(b) < header || b[0] != 1 {
		return identity.SID{}, fault.New(fault.Malformed, "not a security descriptor")
	}
	at := binary.LittleEndian.Uint32(b[4:])
	if at == 0 {
		return identity.SID{}, fault.New(fault.NotFound, "the security descriptor names no owner")
	}
	if at < header || uint64(at)+8 > uint64(len(b)) {
		return identity.SID{}, fault.New(fault.Malformed, "the owner lies outside of the security descriptor")
	}
	sid := b[at:]
	if n := 8 + 4*int(sid[1]); n < len(sid) {
		sid = sid[:n]
	}
	return identity.SIDFromBytes(sid)
}
