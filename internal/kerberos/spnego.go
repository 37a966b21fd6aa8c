// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"

	"github.com/jcmturner/gofork/encoding/asn1"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Mechanisms that a token for Negotiate may be of.
const (
	MechKerberos = "kerberos"
	MechNTLM     = "ntlm"
)

// Mechanism OIDs (RFC 4121 1, MS-SPNG 1.9, MS-NLMP 1.9).
var (
	oidSPNEGO     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}
	oidKerberos   = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	oidMSKerberos = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2} // the same, by a slip of old Windows
	oidNTLM       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
)

// ntlmMagic begins every message of MS-NLMP 2.2.1.
var ntlmMagic = []byte("NTLMSSP\x00")

// Negotiation is the first token of a client, as "Authorization: Negotiate"
// brings it (RFC 4559): SPNEGO's, or a bare one of a mechanism.
type Negotiation struct {
	// Mechanism is MechKerberos, MechNTLM or an OID in dotted form.
	Mechanism string
	// Token is that of the mechanism, nil where the client sent none for the one
	// that it likes best.
	Token []byte

	spnego bool
	oid    asn1.ObjectIdentifier
}

// negTokenInit is NegTokenInit (RFC 4178 4.2.1), as far as it is read.
type negTokenInit struct {
	MechTypes []asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
	ReqFlags  asn1.BitString          `asn1:"explicit,optional,tag:1"`
	MechToken []byte                  `asn1:"explicit,optional,omitempty,tag:2"`
	MIC       []byte                  `asn1:"explicit,optional,omitempty,tag:3"`
}

// negTokenResp is NegTokenResp (RFC 4178 4.2.2), as far as it is written.
type negTokenResp struct {
	State asn1.Enumerated       `asn1:"explicit,tag:0"`
	Mech  asn1.ObjectIdentifier `asn1:"explicit,tag:1"`
	Token []byte                `asn1:"explicit,optional,omitempty,tag:2"`
}

// ParseNegotiation reads a client's first token. fault.Malformed: it is none.
func ParseNegotiation(b []byte) (*Negotiation, error) {
	if bytes.HasPrefix(b, ntlmMagic) {
		return &Negotiation{Mechanism: MechNTLM, Token: b}, nil
	}
	bad := fault.New(fault.Malformed, "not a token of SPNEGO")
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(b, &outer)
	if err != nil || len(rest) != 0 || outer.Class != asn1.ClassApplication || outer.Tag != 0 || !outer.IsCompound {
		return nil, bad
	}
	var oid asn1.ObjectIdentifier
	inner, err := asn1.Unmarshal(outer.Bytes, &oid)
	if err != nil {
		return nil, bad
	}
	if oid.Equal(oidKerberos) {
		return &Negotiation{Mechanism: MechKerberos, Token: b}, nil
	}
	if !oid.Equal(oidSPNEGO) {
		return nil, bad
	}
	var choice asn1.RawValue
	rest, err = asn1.Unmarshal(inner, &choice)
	if err != nil || len(rest) != 0 || choice.Class != asn1.ClassContextSpecific || choice.Tag != 0 || !choice.IsCompound {
		return nil, bad
	}
	var init negTokenInit
	if rest, err := asn1.Unmarshal(choice.Bytes, &init); err != nil || len(rest) != 0 || len(init.MechTypes) == 0 {
		return nil, bad
	}
	// The token is of the mechanism that comes first; another one would take
	// another round, which HTTP has no memory for.
	n := &Negotiation{Token: init.MechToken, spnego: true, oid: init.MechTypes[0]}
	switch {
	case n.oid.Equal(oidKerberos), n.oid.Equal(oidMSKerberos):
		n.Mechanism = MechKerberos
	case n.oid.Equal(oidNTLM):
		n.Mechanism = MechNTLM
	default:
		n.Mechanism = n.oid.String()
	}
	return n, nil
}

// Answer wraps the mechanism's last token for the client: accept-completed, in
// the form that the client's own token had.
func (n *Negotiation) Answer(token []byte) ([]byte, error) {
	if !n.spnego {
		return token, nil
	}
	b, err := asn1.Marshal(negTokenResp{Mech: n.oid, Token: token})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "answer a token of SPNEGO", err)
	}
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: b})
}

// APRequest is what can be read of a Kerberos token from outside.
type APRequest struct {
	Service Principal
	KVNO    uint32
	EType   EType
}

// PeekAPRequest reads for whom the ticket in a token is, and with which key it
// was made, without believing any of it. fault.Malformed: it is no KRB_AP_REQ.
func PeekAPRequest(token []byte) (*APRequest, error) {
	id, inner, err := unframe(token)
	if err != nil {
		return nil, err
	}
	if id != idAPReq {
		return nil, fault.New(fault.Malformed, "the token is no KRB_AP_REQ")
	}
	var req apReq
	if err := unmarshalApp(inner, &req, tagAPReq); err != nil {
		return nil, err
	}
	service, enc, err := ticketHead(req.Ticket.Bytes)
	if err != nil {
		return nil, err
	}
	return &APRequest{Service: service, KVNO: uint32(enc.KVNO), EType: EType(enc.EType)}, nil
}
