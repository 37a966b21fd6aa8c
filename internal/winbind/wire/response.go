// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Results of a response.
const (
	resultError = 0
	resultOK    = 2
)

// Offsets of a response.
const (
	respResult = 4
	respData   = 8
)

// Sizes of the structures that GETPWENT and GETGRENT give as extra data.
const (
	PasswdSize = 1288
	GroupSize  = 524
)

// Response is one answer: the structure and then the extra data, in one piece,
// as it goes over the wire. It begins as a failure.
type Response struct{ b []byte }

// Begin makes r an empty answer in the memory of b, which may be too small.
func (r *Response) Begin(b []byte) {
	if cap(b) < ResponseSize {
		b = make([]byte, ResponseSize)
	}
	r.b = b[:ResponseSize]
	clear(r.b)
}

// Finish sets the length and returns the bytes, which r still owns.
func (r *Response) Finish() []byte {
	binary.LittleEndian.PutUint32(r.b, uint32(len(r.b)))
	return r.b
}

// Wipe overwrites the answer: it may have held a session key.
func (r *Response) Wipe() { secret.Wipe(r.b) }

// ReadResponse takes an answer's bytes over: structure and extra data.
func ReadResponse(b []byte) (*Response, error) {
	if len(b) < ResponseSize || int(binary.LittleEndian.Uint32(b)) != len(b) {
		return nil, fault.Errorf(fault.Malformed, "an answer of %d bytes that contradicts itself", len(b))
	}
	return &Response{b}, nil
}

// OK says that the request succeeded.
func (r *Response) OK() { r.put32(respResult, resultOK) }

// Succeeded reports whether it did.
func (r *Response) Succeeded() bool { return r.u32(respResult) == resultOK }

// Extra is the extra data.
func (r *Response) Extra() []byte { return r.b[ResponseSize:] }

// Grow gives the extra data to fn, which appends to it.
func (r *Response) Grow(fn func(b []byte) []byte) { r.b = fn(r.b) }

// Append adds to the extra data.
func (r *Response) Append(s string) { r.b = append(r.b, s...) }

// SetNumber is the answer of INTERFACE_VERSION, ALLOCATE_GID and its like, and
// the number of entries in those that have lists.
func (r *Response) SetNumber(n uint32) { r.put32(respData, n) }

// Number returns it.
func (r *Response) Number() uint32 { return r.u32(respData) }

// SetText is the answer of DOMAIN_NAME, NETBIOS_NAME, GETDCNAME and LOOKUPRIDS.
func (r *Response) SetText(s string) { r.putText(respData, nameSize, s) }

// Text returns it.
func (r *Response) Text() string { return r.text(respData, nameSize) }

// Passwd is one entry of the passwd map. Texts are cut to 255 bytes.
type Passwd struct {
	Name, Password string
	UID, GID       uint32
	Gecos          string
	Home, Shell    string
}

// SetPasswd is the answer of GETPWNAM and its like.
func (r *Response) SetPasswd(p *Passwd) { p.put(r.b[respData:]) }

// Passwd returns it.
func (r *Response) Passwd() Passwd { return readPasswd(r.b[respData:]) }

// AppendPasswd adds an entry to the extra data.
func (r *Response) AppendPasswd(p *Passwd) {
	at := len(r.b)
	r.b = append(r.b, make([]byte, PasswdSize)...)
	p.put(r.b[at:])
}

// PasswdAt returns entry i of the extra data, which must have it.
func (r *Response) PasswdAt(i int) Passwd { return readPasswd(r.Extra()[i*PasswdSize:]) }

func (p *Passwd) put(b []byte) {
	putText(b[0:256], p.Name)
	putText(b[256:512], p.Password)
	binary.LittleEndian.PutUint32(b[512:], p.UID)
	binary.LittleEndian.PutUint32(b[516:], p.GID)
	putText(b[520:776], p.Gecos)
	putText(b[776:1032], p.Home)
	putText(b[1032:1288], p.Shell)
}

func readPasswd(b []byte) Passwd {
	field := func(at int) string { return string(untilNUL(b[at : at+256])) }
	return Passwd{Name: field(0), Password: field(256), UID: binary.LittleEndian.Uint32(b[512:]), GID: binary.LittleEndian.Uint32(b[516:]),
		Gecos: field(520), Home: field(776), Shell: field(1032)}
}

// Group is one entry of the group map, without its members: those stand in the
// extra data, joined by commas, from Offset on.
type Group struct {
	Name, Password  string
	GID             uint32
	Members, Offset uint32
}

// SetGroup is the answer of GETGRNAM and GETGRGID.
func (r *Response) SetGroup(g *Group) { g.put(r.b[respData:]) }

// Group returns it.
func (r *Response) Group() Group { return readGroup(r.b[respData:]) }

// AppendGroup adds an entry to the extra data.
func (r *Response) AppendGroup(g *Group) {
	at := len(r.b)
	r.b = append(r.b, make([]byte, GroupSize)...)
	g.put(r.b[at:])
}

// GroupAt returns entry i of the extra data, which must have it.
func (r *Response) GroupAt(i int) Group { return readGroup(r.Extra()[i*GroupSize:]) }

func (g *Group) put(b []byte) {
	putText(b[0:256], g.Name)
	putText(b[256:512], g.Password)
	binary.LittleEndian.PutUint32(b[512:], g.GID)
	binary.LittleEndian.PutUint32(b[516:], g.Members)
	binary.LittleEndian.PutUint32(b[520:], g.Offset)
}

func readGroup(b []byte) Group {
	field := func(at int) string { return string(untilNUL(b[at : at+256])) }
	return Group{Name: field(0), Password: field(256), GID: binary.LittleEndian.Uint32(b[512:]),
		Members: binary.LittleEndian.Uint32(b[516:]), Offset: binary.LittleEndian.Uint32(b[520:])}
}

// NameType is the kind of account behind a SID (MS-SAMR 2.2.2.3 SID_NAME_USE).
type NameType uint32

// The kinds.
const (
	TypeUser      NameType = 1
	TypeGroup     NameType = 2
	TypeDomain    NameType = 3
	TypeAlias     NameType = 4
	TypeWellKnown NameType = 5
	TypeUnknown   NameType = 8
)

// SetSID is the answer of LOOKUPNAME.
func (r *Response) SetSID(sid string, t NameType) {
	r.putText(respData, nameSize, sid)
	r.put32(264, uint32(t))
}

// SID returns it.
func (r *Response) SID() (string, NameType) { return r.text(respData, nameSize), NameType(r.u32(264)) }

// SetName is the answer of LOOKUPSID.
func (r *Response) SetName(domain, name string, t NameType) {
	r.putText(respData, nameSize, domain)
	r.putText(264, nameSize, name)
	r.put32(520, uint32(t))
}

// Name returns it.
func (r *Response) Name() (domain, name string, t NameType) {
	return r.text(respData, nameSize), r.text(264, nameSize), NameType(r.u32(520))
}

// SetInfo is the answer of INFO: the character between domain and name, and the
// release.
func (r *Response) SetInfo(separator byte, release string) {
	r.b[respData] = separator
	r.putText(respData+1, nameSize, release)
}

// Info returns it.
func (r *Response) Info() (separator byte, release string) {
	return r.b[respData], r.text(respData+1, nameSize)
}

// Domain is the answer of DOMAIN_INFO.
type Domain struct {
	NetBIOS, DNS, SID                string
	Native, ActiveDirectory, Primary bool
}

// SetDomain sets it.
func (r *Response) SetDomain(d *Domain) {
	r.putText(respData, nameSize, d.NetBIOS)
	r.putText(264, nameSize, d.DNS)
	r.putText(520, nameSize, d.SID)
	r.putBool(776, d.Native)
	r.putBool(777, d.ActiveDirectory)
	r.putBool(778, d.Primary)
}

// Domain returns it.
func (r *Response) Domain() Domain {
	return Domain{NetBIOS: r.text(respData, nameSize), DNS: r.text(264, nameSize), SID: r.text(520, nameSize),
		Native: r.b[776] != 0, ActiveDirectory: r.b[777] != 0, Primary: r.b[778] != 0}
}

// DC is the answer of DSGETDCNAME (MS-NRPC 2.2.1.2.1 DOMAIN_CONTROLLER_INFOW).
type DC struct {
	UNC, Address       string
	AddressType        uint32
	DomainGUID         string
	Domain, Forest     string
	Flags              uint32
	DCSite, ClientSite string
}

// SetDC sets it.
func (r *Response) SetDC(d *DC) {
	r.putText(8, nameSize, d.UNC)
	r.putText(264, nameSize, d.Address)
	r.put32(520, d.AddressType)
	r.putText(524, nameSize, d.DomainGUID)
	r.putText(780, nameSize, d.Domain)
	r.putText(1036, nameSize, d.Forest)
	r.put32(1292, d.Flags)
	r.putText(1296, nameSize, d.DCSite)
	r.putText(1552, nameSize, d.ClientSite)
}

// DC returns it.
func (r *Response) DC() DC {
	return DC{UNC: r.text(8, nameSize), Address: r.text(264, nameSize), AddressType: r.u32(520), DomainGUID: r.text(524, nameSize),
		Domain: r.text(780, nameSize), Forest: r.text(1036, nameSize), Flags: r.u32(1292), DCSite: r.text(1296, nameSize), ClientSite: r.text(1552, nameSize)}
}

func (r *Response) u32(at int) uint32           { return binary.LittleEndian.Uint32(r.b[at:]) }
func (r *Response) put32(at int, n uint32)      { binary.LittleEndian.PutUint32(r.b[at:], n) }
func (r *Response) text(at, n int) string       { return string(untilNUL(r.b[at : at+n])) }
func (r *Response) putText(at, n int, s string) { putText(r.b[at:at+n], s) }
func (r *Response) putBool(at int, yes bool) {
	r.b[at] = 0
	if yes {
		r.b[at] = 1
	}
}
