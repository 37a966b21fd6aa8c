// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of connection-oriented PDUs (C706 12.6.4).
const (
	pduRequest  = 0
	pduResponse = 2
	pduFault    = 3
	pduBind     = 11
	pduBindAck  = 12
	pduBindNak  = 13
)

// Flags of a PDU (C706 12.6.3.1, MS-RPCE 2.2.2.3).
const (
	flagFirst         = 0x01
	flagLast          = 0x02
	flagHeaderSign    = 0x04 // in a bind and its answer only
	flagDidNotExecute = 0x20
	flagObject        = 0x80
)

// Numbers of the wire.
const (
	headSize    = 16
	trailerSize = 8
	maxFragment = 5840    // what we offer, as Windows does
	maxReply    = 1 << 20 // of one call, all fragments together

	authNetlogon = 68 // MS-RPCE 2.2.1.1.7 RPC_C_AUTHN_NETLOGON
	authPrivacy  = 6  // MS-RPCE 2.2.1.1.8
)

var errPDU = errors.New("the domain controller's answer cannot be read")

// pdu is one fragment as it stands on the wire, little-endian.
type pdu struct {
	kind, flags byte
	call        uint32
	body        []byte // all between header and trailer, padding included
	trailer     *trailer
}

// trailer is the security trailer with the token behind it (MS-RPCE 2.2.2.11).
type trailer struct {
	kind, level, pad, reserved byte
	context                    uint32
	token                      []byte
}

// parsePDU reads one whole fragment. The parts point into b.
func parsePDU(b []byte) (*pdu, error) {
	if len(b) < headSize || b[0] != 5 || b[1] != 0 {
		return nil, fmt.Errorf("%w: no RPC version 5", errPDU)
	}
	if binary.BigEndian.Uint32(b[4:]) != 0x10000000 {
		return nil, fmt.Errorf("%w: not little-endian", errPDU)
	}
	if int(binary.LittleEndian.Uint16(b[8:])) != len(b) {
		return nil, fmt.Errorf("%w: wrong length", errPDU)
	}
	p := &pdu{kind: b[2], flags: b[3], call: binary.LittleEndian.Uint32(b[12:]), body: b[headSize:]}
	n := int(binary.LittleEndian.Uint16(b[10:]))
	if n == 0 {
		return p, nil
	}
	at := len(p.body) - n - trailerSize
	if at < 0 {
		return nil, fmt.Errorf("%w: the token does not fit", errPDU)
	}
	t := p.body[at:]
	p.trailer = &trailer{kind: t[0], level: t[1], pad: t[2], reserved: t[3], context: binary.LittleEndian.Uint32(t[4:]), token: t[trailerSize:]}
	p.body = p.body[:at]
	if int(p.trailer.pad) > len(p.body) {
		return nil, fmt.Errorf("%w: the padding does not fit", errPDU)
	}
	return p, nil
}

// append writes the fragment behind b.
func (p *pdu) append(b []byte) []byte {
	size, auth := headSize+len(p.body), 0
	if p.trailer != nil {
		auth = len(p.trailer.token)
		size += trailerSize + auth
	}
	b = append(b, 5, 0, p.kind, p.flags, 0x10, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(size))
	b = binary.LittleEndian.AppendUint16(b, uint16(auth))
	b = binary.LittleEndian.AppendUint32(b, p.call)
	b = append(b, p.body...)
	if t := p.trailer; t != nil {
		b = append(b, t.kind, t.level, t.pad, t.reserved)
		b = binary.LittleEndian.AppendUint32(b, t.context)
		b = append(b, t.token...)
	}
	return b
}

// syntax is an interface or a way of encoding, with its version.
type syntax struct {
	uuid         [16]byte // as on the wire: the first three fields little-endian
	major, minor uint16
}

// ndr20 is the one way of encoding that is spoken here (C706 14).
var ndr20 = syntax{[16]byte{0x04, 0x5d, 0x88, 0x8a, 0xeb, 0x1c, 0xc9, 0x11, 0x9f, 0xe8, 0x08, 0x00, 0x2b, 0x10, 0x48, 0x60}, 2, 0}

func (s syntax) append(b []byte) []byte {
	b = append(b, s.uuid[:]...)
	b = binary.LittleEndian.AppendUint16(b, s.major)
	return binary.LittleEndian.AppendUint16(b, s.minor)
}

// bindBody offers one presentation context, number 0.
func bindBody(abstract syntax) []byte {
	b := binary.LittleEndian.AppendUint16(nil, maxFragment)
	b = binary.LittleEndian.AppendUint16(b, maxFragment)
	b = append(b, 0, 0, 0, 0) // a new association group
	b = append(b, 1, 0, 0, 0) // one context
	b = append(b, 0, 0, 1, 0) // number 0, one transfer syntax
	return ndr20.append(abstract.append(b))
}

// bound is what the answer to a bind says.
type bound struct {
	maxSend, maxReceive uint16
	group               uint32
	address             []byte
	result, reason      uint16
	transfer            [20]byte
}

// parseBound reads the body of a bind_ack (C706 12.6.4.4).
func parseBound(b []byte) (*bound, error) {
	if len(b) < 10 {
		return nil, errPDU
	}
	a := &bound{maxSend: binary.LittleEndian.Uint16(b[2:]), maxReceive: binary.LittleEndian.Uint16(b), group: binary.LittleEndian.Uint32(b[4:])}
	n := int(binary.LittleEndian.Uint16(b[8:]))
	at := 10 + n
	at += -at & 3 // the list is aligned; the header before the body is too
	if len(b) < at+4+24 {
		return nil, errPDU
	}
	a.address = b[10 : 10+n]
	if b[at] != 1 {
		return nil, fmt.Errorf("%w: %d results for one context", errPDU, b[at])
	}
	a.result, a.reason = binary.LittleEndian.Uint16(b[at+4:]), binary.LittleEndian.Uint16(b[at+6:])
	copy(a.transfer[:], b[at+8:])
	return a, nil
}

// rpcFault is a fault PDU: the call was not answered.
type rpcFault struct {
	status uint32
	// unread: the server did not take the request up.
	unread bool
}

// Faults by which a server refuses a request before it reads it (MS-RPCE
// 3.3.1.5.2, MS-ERREF 2.2).
const (
	faultAccessDenied = 0x00000005
	faultSecurity     = 0x00000721
)

func (f *rpcFault) Error() string { return fmt.Sprintf("RPC fault 0x%08X", f.status) }

// parseFault reads a fault (C706 12.6.4.7).
func parseFault(p *pdu) (*rpcFault, error) {
	if len(p.body) < 12 {
		return nil, errPDU
	}
	f := &rpcFault{status: binary.LittleEndian.Uint32(p.body[8:])}
	f.unread = p.flags&flagDidNotExecute != 0 || f.status == faultAccessDenied || f.status == faultSecurity
	return f, nil
}
