// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/hex"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// GUID is an Entra object id, a tenant id or an objectGUID, in the order in
// which the text is written. The zero value is no GUID.
type GUID [16]byte

// ParseGUID reads the 8-4-4-4-12 form, any case, nothing around it.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fault.Errorf(fault.Malformed, "not a GUID: %.200q", s)
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(g[:], []byte(digits)); err != nil {
		return GUID{}, fault.Errorf(fault.Malformed, "not a GUID: %.200q", s)
	}
	return g, nil
}

// GUIDFromBytes reads the 16 bytes of objectGUID: the first three fields are
// little-endian (MS-DTYP 2.3.4.2).
func GUIDFromBytes(b []byte) (GUID, error) {
	if len(b) != 16 {
		return GUID{}, fault.Errorf(fault.Malformed, "not a GUID: %d bytes", len(b))
	}
	return GUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6],
		b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}, nil
}

// GUIDFromAttribute reads an attribute whose syntax Microsoft does not
// document (msDS-aadObjectId): the text form, or 16 bytes.
func GUIDFromAttribute(b []byte) (GUID, error) {
	if len(b) == 16 {
		return GUIDFromBytes(b)
	}
	return ParseGUID(string(b))
}

// Bytes returns the form that objectGUID has on the wire.
func (g GUID) Bytes() []byte {
	return []byte{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6],
		g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// IsZero reports whether this is no GUID.
func (g GUID) IsZero() bool { return g == GUID{} }

// String returns the 8-4-4-4-12 form in lower case, or "" for the zero GUID.
func (g GUID) String() string {
	if g.IsZero() {
		return ""
	}
	var out [36]byte
	hex.Encode(out[:8], g[:4])
	hex.Encode(out[9:13], g[4:6])
	hex.Encode(out[14:18], g[6:8])
	hex.Encode(out[19:23], g[8:10])
	hex.Encode(out[24:], g[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// MarshalText returns the text form, for JSON and logs.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads the text form; empty gives the zero GUID.
func (g *GUID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*g = GUID{}
		return nil
	}
	*g, err = ParseGUID(string(b))
	return err
}
