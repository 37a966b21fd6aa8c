// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Offsets of a request of version 32 and 33.
const (
	reqCommand    = 4
	reqPID        = 12
	reqWBFlags    = 16
	reqFlags      = 20
	reqDomain     = 24
	reqClient     = 280
	reqTrace      = 312
	reqData       = 320
	reqExtraLen   = 2128
	reqClientSize = 32
	nameSize      = 256
	traceSize     = 8
)

// Flags of a request's authentication (winbind_struct_protocol.h, WBFLAG_PAM_*).
const (
	FlagInfo3Text      = 0x2
	FlagUserSessionKey = 0x4
	FlagLMKey          = 0x8
	FlagAuthPAC        = 0x40
	FlagUnixName       = 0x80
	FlagSquashStatus   = 0x200
	FlagBigNTLMv2      = 0x10000
)

// FlagRecurse is the one flag of a connection that its client sets when it begins.
const FlagRecurse = 0x800

// Request is one request in the layout of version 32, whatever version it came
// in. The accessors never fail: a field that is not terminated ends where its
// room ends. What they return shares the request's memory, but for strings.
type Request struct {
	Version Version
	// Extra is what followed the structure.
	Extra []byte
	head  []byte // RequestSize bytes
}

// Length returns the size of the structure whose first four bytes, at least,
// are in b. assumed tells 32 and 33 apart. fault.Malformed: no request that is
// known begins so.
func Length(b []byte, assumed Version) (int, Version, error) {
	switch n := binary.LittleEndian.Uint32(b); {
	case n == requestSize31:
		return requestSize31, V31, nil
	case n == RequestSize && (assumed == V32 || assumed == V33):
		return RequestSize, assumed, nil
	default:
		return 0, 0, fault.Errorf(fault.Malformed, "a request whose structure has %d bytes is none of interface version %d", n, assumed)
	}
}

// Parse takes a request's structure over: b has room for RequestSize bytes and
// holds as many as Length said. Extra is to be read and set by the caller, of
// the length that ExtraLen gives.
func Parse(b []byte, v Version) (*Request, error) {
	r := &Request{}
	if err := r.Reset(b, v); err != nil {
		return nil, err
	}
	return r, nil
}

// Reset is Parse into a request that was used before.
func (r *Request) Reset(b []byte, v Version) error {
	if !v.Known() || len(b) != v.RequestSize() || cap(b) < RequestSize {
		return fault.Errorf(fault.Malformed, "a request of %d bytes in interface version %d", len(b), v)
	}
	if int(binary.LittleEndian.Uint32(b)) != len(b) {
		return fault.New(fault.Malformed, "a request that contradicts its own length")
	}
	if v == V31 {
		b = b[:RequestSize]
		copy(b[reqData:], b[reqTrace:requestSize31])
		clear(b[reqTrace:reqData])
		binary.LittleEndian.PutUint32(b, RequestSize)
	}
	r.Version, r.head, r.Extra = v, b, nil
	if n := r.ExtraLen(); n > MaxExtra {
		return fault.Errorf(fault.Malformed, "a request with %d bytes of extra data", n)
	}
	return nil
}

// ExtraLen returns how many bytes follow the structure b, which is as it came.
// fault.Malformed: more than MaxExtra.
func ExtraLen(b []byte, v Version) (int, error) {
	at := reqExtraLen
	if v == V31 {
		at -= traceSize
	}
	n := binary.LittleEndian.Uint32(b[at:])
	if n > MaxExtra {
		return 0, fault.Errorf(fault.Malformed, "a request with %d bytes of extra data", n)
	}
	return int(n), nil
}

// NewRequest returns an empty request, for a client. A command that the version
// does not have is fault.Malformed.
func NewRequest(v Version, c Command) (*Request, error) {
	n, ok := v.Number(c)
	if !ok {
		return nil, fault.Errorf(fault.Malformed, "%s is no command of interface version %d", c, v)
	}
	r := &Request{Version: v, head: make([]byte, RequestSize)}
	r.put32(0, RequestSize)
	r.put32(reqCommand, n)
	return r, nil
}

// Append adds the request to b, in the layout of its version.
func (r *Request) Append(b []byte) []byte {
	at := len(b)
	if r.Version == V31 {
		b = append(append(b, r.head[:reqTrace]...), r.head[reqData:]...)
		binary.LittleEndian.PutUint32(b[at:], requestSize31)
	} else {
		b = append(b, r.head...)
	}
	return append(b, r.Extra...)
}

// Wipe overwrites the request: it may have held a password.
func (r *Request) Wipe() {
	secret.Wipe(r.head)
	secret.Wipe(r.Extra)
}

// Command returns what is asked; false for a number that means nothing.
func (r *Request) Command() (Command, bool) { return r.Version.command(r.u32(reqCommand)) }

// PID is the caller's own word for its process.
func (r *Request) PID() uint32 { return r.u32(reqPID) }

// Flags are those of the command.
func (r *Request) Flags() uint32 { return r.u32(reqFlags) }

// ExtraLen is how many bytes follow the structure.
func (r *Request) ExtraLen() uint32 { return r.u32(reqExtraLen) }

// Domain is the domain that the command is about; often empty.
func (r *Request) Domain() string { return r.text(reqDomain, nameSize) }

// Client is the caller's own word for its name: "smbd", "wbinfo".
func (r *Request) Client() string { return r.text(reqClient, reqClientSize) }

// Text is the one text that most commands bring: a name or a SID.
func (r *Request) Text() string { return r.text(reqData, nameSize) }

// ID is a uid or gid, or how many entries GETPWENT and GETGRENT want.
func (r *Request) ID() uint32 { return r.u32(reqData) }

// LookupName is what LOOKUPNAME asks for.
func (r *Request) LookupName() (domain, name string) {
	return r.text(reqData, nameSize), r.text(reqData+nameSize, nameSize)
}

// Password is what PAM_AUTH brings. Wipe the request after use.
func (r *Request) Password() (user string, password secret.Bytes) {
	return r.text(reqData, nameSize), secret.Own(r.bytes(reqData+nameSize, nameSize))
}

// Membership is the list of SIDs, one of which PAM_AUTH wants the user to have;
// empty: none.
func (r *Request) Membership() string { return r.text(832, 1024) }

// DsGetDCName is what DSGETDCNAME asks for.
func (r *Request) DsGetDCName() (domain, site string, flags uint32) {
	return r.text(320, nameSize), r.text(832, nameSize), r.u32(1088)
}

// SetPID, and the other setters, fill in a client's request. A text that is too
// long for its field is cut.
func (r *Request) SetPID(pid uint32) { r.put32(reqPID, pid) }

// SetWBFlags sets the flags of the connection.
func (r *Request) SetWBFlags(f uint32) { r.put32(reqWBFlags, f) }

// SetFlags sets those of the command.
func (r *Request) SetFlags(f uint32) { r.put32(reqFlags, f) }

// SetDomain sets the domain that the command is about.
func (r *Request) SetDomain(s string) { putText(r.head[reqDomain:reqDomain+nameSize], s) }

// SetClient sets the caller's name.
func (r *Request) SetClient(s string) { putText(r.head[reqClient:reqClient+reqClientSize], s) }

// SetText sets the one text.
func (r *Request) SetText(s string) { putText(r.head[reqData:reqData+nameSize], s) }

// SetID sets the one number.
func (r *Request) SetID(id uint32) { r.put32(reqData, id) }

// SetLookupName sets what LOOKUPNAME asks for.
func (r *Request) SetLookupName(domain, name string) {
	r.SetText(domain)
	putText(r.head[reqData+nameSize:reqData+2*nameSize], name)
}

// SetPassword sets what PAM_AUTH brings.
func (r *Request) SetPassword(user, password string) { r.SetLookupName(user, password) }

// SetExtra sets what follows the structure.
func (r *Request) SetExtra(b []byte) {
	r.Extra = b
	r.put32(reqExtraLen, uint32(len(b)))
}

func (r *Request) u32(at int) uint32      { return binary.LittleEndian.Uint32(r.head[at:]) }
func (r *Request) put32(at int, n uint32) { binary.LittleEndian.PutUint32(r.head[at:], n) }
func (r *Request) text(at, n int) string  { return string(r.bytes(at, n)) }
func (r *Request) bytes(at, n int) []byte { return untilNUL(r.head[at : at+n]) }

// untilNUL is the text in a field of fixed size.
func untilNUL(b []byte) []byte {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		return b[:end]
	}
	return b
}

// putText writes a text and its end, cut where it is too long.
func putText(field []byte, s string) {
	n := copy(field[:len(field)-1], s)
	clear(field[n:])
}
