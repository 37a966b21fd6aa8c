// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// MaxSubAuthorities is the limit of MS-DTYP 2.4.2.
const MaxSubAuthorities = 15

// SID is a Windows security identifier (MS-DTYP 2.4.2). It is comparable, so it
// serves as a map key. The zero value is no SID.
type SID struct {
	bin string // the packet representation of MS-DTYP 2.4.2.2: 8 + 4n bytes
}

// SIDFromBytes reads the packet representation, as objectSid holds it.
// The whole of b must be one SID: revision 1, 0 to 15 sub-authorities, length
// 8 + 4 per sub-authority. Anything else is fault.Malformed.
func SIDFromBytes(b []byte) (SID, error) {
	if len(b) < 8 || b[0] != 1 || b[1] > MaxSubAuthorities || len(b) != 8+4*int(b[1]) {
		return SID{}, fault.Errorf(fault.Malformed, "not a SID: %d bytes", len(b))
	}
	return SID{string(b)}, nil
}

// ParseSID reads the string form "S-1-5-21-…" (MS-DTYP 2.4.2.1); "s-" is taken
// as well, the authority in decimal or as 0x and hexadecimal. Numbers with a
// sign, a leading zero or out of range are fault.Malformed.
func ParseSID(s string) (SID, error) {
	bad := func() (SID, error) { return SID{}, fault.Errorf(fault.Malformed, "not a SID: %.200q", s) }
	if len(s) < 5 || (s[0] != 'S' && s[0] != 's') || s[1:4] != "-1-" {
		return bad()
	}
	parts := strings.Split(s[4:], "-")
	if len(parts) > 1+MaxSubAuthorities {
		return bad()
	}
	var authority uint64
	var err error
	if hex, ok := strings.CutPrefix(strings.ToLower(parts[0]), "0x"); ok {
		authority, err = strconv.ParseUint(hex, 16, 48)
	} else {
		authority, err = decimal(parts[0], 48)
	}
	if err != nil {
		return bad()
	}
	b := make([]byte, 8, 8+4*(len(parts)-1))
	binary.BigEndian.PutUint64(b, authority)
	b[0], b[1] = 1, byte(len(parts)-1)
	for _, p := range parts[1:] {
		n, err := decimal(p, 32)
		if err != nil {
			return bad()
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return SID{string(b)}, nil
}

// decimal parses digits only: no sign, no underscore, no leading zero.
func decimal(s string, bits int) (uint64, error) {
	if s == "" || s[0] == '+' || (len(s) > 1 && s[0] == '0') {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, bits)
}

// MustParseSID is ParseSID for constants; it panics on a bad one.
func MustParseSID(s string) SID {
	sid, err := ParseSID(s)
	if err != nil {
		panic(err)
	}
	return sid
}

// IsZero reports whether this is no SID.
func (s SID) IsZero() bool { return s.bin == "" }

// Bytes returns a copy of the packet representation; nil for the zero SID.
func (s SID) Bytes() []byte {
	if s.bin == "" {
		return nil
	}
	return []byte(s.bin)
}

// String returns "S-1-…", or "" for the zero SID. An authority of 2^32 and more
// is printed in hexadecimal, as MS-DTYP 2.4.2.1 asks.
func (s SID) String() string {
	if s.bin == "" {
		return ""
	}
	var head [8]byte
	copy(head[2:], s.bin[2:8])
	authority := binary.BigEndian.Uint64(head[:])
	out := make([]byte, 0, 48)
	out = append(out, "S-1-"...)
	if authority < 1<<32 {
		out = strconv.AppendUint(out, authority, 10)
	} else {
		hex := strconv.FormatUint(authority, 16)
		out = append(out, "0x"...)
		out = append(out, "000000000000"[len(hex):]...)
		out = append(out, hex...)
	}
	for i := 8; i < len(s.bin); i += 4 {
		out = append(out, '-')
		out = strconv.AppendUint(out, uint64(s.sub(i)), 10)
	}
	return string(out)
}

func (s SID) sub(at int) uint32 {
	return uint32(s.bin[at]) | uint32(s.bin[at+1])<<8 | uint32(s.bin[at+2])<<16 | uint32(s.bin[at+3])<<24
}

// RID returns the last sub-authority, and whether there is one.
func (s SID) RID() (uint32, bool) {
	if len(s.bin) < 12 {
		return 0, false
	}
	return s.sub(len(s.bin) - 4), true
}

// Domain returns the SID without its last sub-authority: for an account, its
// domain. A SID without sub-authorities gives the zero SID.
func (s SID) Domain() SID {
	if len(s.bin) < 12 {
		return SID{}
	}
	b := []byte(s.bin[:len(s.bin)-4])
	b[1]--
	return SID{string(b)}
}

// WithRID returns the account of the given RID in the domain s. The zero SID
// comes back where s is zero or full.
func (s SID) WithRID(rid uint32) SID {
	if s.bin == "" || s.bin[1] >= MaxSubAuthorities {
		return SID{}
	}
	b := binary.LittleEndian.AppendUint32([]byte(s.bin), rid)
	b[1]++
	return SID{string(b)}
}

// In reports whether s is an account of the domain d.
func (s SID) In(d SID) bool { return !d.IsZero() && s.Domain() == d }

// MarshalText returns the string form, for JSON and logs.
func (s SID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the string form; empty gives the zero SID.
func (s *SID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*s = SID{}
		return nil
	}
	*s, err = ParseSID(string(b))
	return err
}
