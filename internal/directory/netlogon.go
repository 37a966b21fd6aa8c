// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Opcodes of a NETLOGON_SAM_LOGON_RESPONSE_EX (MS-ADTS 6.3.1.3).
const (
	opSamLogonResponseEx = 23
	opSamUserUnknownEx   = 25
	ntVersion5           = 0x00000002
	ntVersion5EX         = 0x00000004
	netlogonHeader       = 2 + 2 + 4 + 16
	maxDNSName           = 255
	netlogonTrailer      = 4 + 2 + 2
	netlogonNames        = 8
)

// parseNetlogon reads a NETLOGON_SAM_LOGON_RESPONSE_EX (MS-ADTS 6.3.1.9) as a
// DC answers a ping of version 5EX. Names are compressed as in RFC 1035 4.1.4.
// Addr and RTT are left to the caller. Anything else, and names that are no
// host names, are fault.Malformed.
func parseNetlogon(b []byte) (DC, error) {
	var d DC
	if len(b) < netlogonHeader {
		return d, fault.New(fault.Malformed, "the netlogon answer is cut short")
	}
	if op := binary.LittleEndian.Uint16(b); op != opSamLogonResponseEx && op != opSamUserUnknownEx {
		return d, fault.Errorf(fault.Malformed, "the netlogon answer has opcode %d", op)
	}
	d.Flags = DCFlags(binary.LittleEndian.Uint32(b[4:]))
	g, err := identity.GUIDFromBytes(b[8:24])
	if err != nil {
		return d, err
	}
	d.DomainGUID = g
	at := netlogonHeader
	var user string
	for i, into := range [netlogonNames]*string{&d.Forest, &d.DNSDomain, &d.Host, &d.NetBIOS, &d.Computer, &user, &d.Site, &d.ClientSite} {
		if *into, at, err = compressedName(b, at); err != nil {
			return DC{}, err
		}
		if i < 3 {
			*into = hostName(*into)
		}
	}
	if len(b) < at+netlogonTrailer {
		return DC{}, fault.New(fault.Malformed, "the netlogon answer is cut short")
	}
	if binary.LittleEndian.Uint32(b[len(b)-netlogonTrailer:])&ntVersion5EX == 0 {
		return DC{}, fault.New(fault.Malformed, "the netlogon answer has another version")
	}
	for _, name := range []string{d.Forest, d.DNSDomain, d.Host} {
		if !isHostName(name) {
			return DC{}, fault.Errorf(fault.Malformed, "the netlogon answer names %.255q", name)
		}
	}
	return d, nil
}

// compressedName reads the name at offset at and returns the offset after it.
// Pointers must point strictly back, past every one followed so far, so that a
// loop cannot be built.
func compressedName(b []byte, at int) (name string, next int, err error) {
	bad := fault.New(fault.Malformed, "the netlogon answer holds a broken name")
	var labels []string
	size, limit := 0, at
	next = -1
	for {
		if at >= len(b) {
			return "", 0, bad
		}
		n := int(b[at])
		at++
		switch {
		case n == 0:
			if next < 0 {
				next = at
			}
			return strings.Join(labels, "."), next, nil
		case n&0xc0 == 0xc0:
			if at >= len(b) {
				return "", 0, bad
			}
			to := n&0x3f<<8 | int(b[at])
			if next < 0 {
				next = at + 1
			}
			if to >= limit {
				return "", 0, bad
			}
			at, limit = to, to
		case n&0xc0 != 0:
			return "", 0, bad
		default:
			if at+n > len(b) || size+n+1 > maxDNSName {
				return "", 0, bad
			}
			label := string(b[at : at+n])
			if !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '.' }) {
				return "", 0, bad
			}
			labels = append(labels, label)
			size += n + 1
			at += n
		}
	}
}

// isHostName reports whether s is a DNS host name of letters, digits, hyphens
// and underscores: it becomes part of a service principal.
func isHostName(s string) bool {
	if s == "" || len(s) > maxDNSName {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
