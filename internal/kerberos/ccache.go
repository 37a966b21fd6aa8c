// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// CCache is a credential cache (MIT FILE format, version 4,
// https://web.mit.edu/kerberos/krb5-latest/doc/formats/ccache_file_format.html).
type CCache struct {
	Client  Principal
	Tickets []*Ticket
}

// Marshal returns the file's bytes. They hold session keys: the caller wipes
// them.
func (c *CCache) Marshal() ([]byte, error) {
	out := []byte{5, 4, 0, 0} // no header fields
	out = appendPrincipal(out, c.Client)
	for _, t := range c.Tickets {
		out = appendPrincipal(out, t.Client)
		out = appendPrincipal(out, t.Service)
		out = binary.BigEndian.AppendUint16(out, uint16(t.Key.EType))
		out = appendCounted(out, t.Key.Value.Reveal())
		for _, at := range []time.Time{t.AuthTime, t.StartTime, t.EndTime, t.RenewTill} {
			var s int64
			if !at.IsZero() {
				s = at.Unix()
			}
			if s < 0 || s > 0xffffffff {
				secret.Wipe(out)
				return nil, fault.New(fault.Malformed, "a credential cache cannot hold a time before 1970 or after 2106")
			}
			out = binary.BigEndian.AppendUint32(out, uint32(s))
		}
		out = append(out, 0) // is_skey: the ticket is not sealed in another's session key
		out = binary.BigEndian.AppendUint32(out, uint32(t.Flags))
		out = binary.BigEndian.AppendUint32(out, 0) // addresses
		out = binary.BigEndian.AppendUint32(out, 0) // authorization data
		out = appendCounted(out, t.Raw)
		out = binary.BigEndian.AppendUint32(out, 0) // second ticket
	}
	return out, nil
}

func appendCounted(out, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...)
}

func appendPrincipal(out []byte, p Principal) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(p.Type))
	out = binary.BigEndian.AppendUint32(out, uint32(len(p.Name)))
	out = appendCounted(out, []byte(p.Realm))
	for _, n := range p.Name {
		out = appendCounted(out, []byte(n))
	}
	return out
}
