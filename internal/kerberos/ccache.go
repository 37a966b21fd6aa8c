// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"slices"
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

// confRealm is the realm of MIT's configuration entries, which are no tickets.
const confRealm = "X-CACHECONF:"

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

// ParseCCache reads version 4. Configuration entries (X-CACHECONF:) are
// skipped. Anything else is fault.Malformed.
func ParseCCache(b []byte) (*CCache, error) {
	if len(b) < 4 || b[0] != 5 || b[1] != 4 {
		return nil, fault.New(fault.Malformed, "not a credential cache of version 4")
	}
	r := reader{b: b[2:]}
	r.counted16() // header fields: clock offsets, of no use to us
	c := &CCache{Client: r.principal()}
	for !r.short && len(r.b) > 0 {
		t := &Ticket{Client: r.principal(), Service: r.principal()}
		t.Key.EType = EType(r.uint16())
		t.Key.Value = secret.Own(slices.Clone(r.counted32()))
		for _, at := range []*time.Time{&t.AuthTime, &t.StartTime, &t.EndTime, &t.RenewTill} {
			if s := r.uint32(); s != 0 {
				*at = time.Unix(int64(s), 0).UTC()
			}
		}
		r.uint8()
		t.Flags = Flags(r.uint32())
		for range 2 { // addresses, authorization data
			for n := r.uint32(); n > 0 && !r.short; n-- {
				r.uint16()
				r.counted32()
			}
		}
		t.Raw = slices.Clone(r.counted32())
		r.counted32()
		if r.short {
			break
		}
		if t.Service.Realm != confRealm {
			c.Tickets = append(c.Tickets, t)
		}
	}
	if r.short {
		for _, t := range c.Tickets {
			t.Wipe()
		}
		return nil, fault.New(fault.Malformed, "the credential cache is cut short")
	}
	return c, nil
}

func (r *reader) principal() Principal {
	p := Principal{Type: int32(r.uint32())}
	n := r.uint32()
	p.Realm = string(r.counted32())
	if n > 32 {
		r.short, r.b = true, nil
	}
	for ; n > 0 && !r.short; n-- {
		p.Name = append(p.Name, string(r.counted32()))
	}
	return p
}
