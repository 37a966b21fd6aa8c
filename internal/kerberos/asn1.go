// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"fmt"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Application tags of RFC 4120 5.
const (
	tagTicket        = 1
	tagAuthenticator = 2
	tagEncTicketPart = 3
	tagASReq         = 10
	tagASRep         = 11
	tagTGSReq        = 12
	tagTGSRep        = 13
	tagAPReq         = 14
	tagAPRep         = 15
	tagKRBPriv       = 21
	tagEncASRepPart  = 25
	tagEncTGSRepPart = 26
	tagEncAPRepPart  = 27
	tagEncKRBPriv    = 28
	tagKRBError      = 30
)

// Pre-authentication types (RFC 4120 7.5.2, MS-KILE 2.2.3).
const (
	paTGSReq       = 1
	paEncTimestamp = 2
	paETypeInfo2   = 19
	paPACRequest   = 128
)

// Authorization data types (RFC 4120 7.5.4).
const (
	adIfRelevant = 1
	adWin2kPAC   = 128
)

// Key usages (RFC 4120 7.5.1, RFC 4121 2).
const (
	usagePAEncTimestamp       = 1
	usageTicket               = 2
	usageASRep                = 3
	usageTGSReqChecksum       = 6
	usageTGSReqAuth           = 7
	usageTGSRepSession        = 8
	usageAPReqAuth            = 11
	usageAPRep                = 12
	usageKRBPriv              = 13
	usageAcceptorSeal         = 22
	usageAcceptorSign         = 23
	usageInitiatorSeal        = 24
	usageInitiatorSign        = 25
	checksumGSS         int32 = 0x8003
)

// kdcRep is KDC-REP (RFC 4120 5.4.2) with the ticket left as it came.
type kdcRep struct {
	PVNO    int                  `asn1:"explicit,tag:0"`
	MsgType int                  `asn1:"explicit,tag:1"`
	PAData  types.PADataSequence `asn1:"explicit,optional,tag:2"`
	CRealm  string               `asn1:"generalstring,explicit,tag:3"`
	CName   types.PrincipalName  `asn1:"explicit,tag:4"`
	Ticket  asn1.RawValue        `asn1:"explicit,tag:5"`
	EncPart types.EncryptedData  `asn1:"explicit,tag:6"`
}

// apReq is AP-REQ (RFC 4120 5.5.1) with the ticket left as it came.
type apReq struct {
	PVNO    int                 `asn1:"explicit,tag:0"`
	MsgType int                 `asn1:"explicit,tag:1"`
	Options asn1.BitString      `asn1:"explicit,tag:2"`
	Ticket  asn1.RawValue       `asn1:"explicit,tag:3"`
	Auth    types.EncryptedData `asn1:"explicit,tag:4"`
}

// encTicket is the outside of a Ticket (RFC 4120 5.3).
type encTicket struct {
	TktVNO  int                 `asn1:"explicit,tag:0"`
	Realm   string              `asn1:"generalstring,explicit,tag:1"`
	SName   types.PrincipalName `asn1:"explicit,tag:2"`
	EncPart types.EncryptedData `asn1:"explicit,tag:3"`
}

// unmarshal decodes DER; a panic of the library on hostile bytes becomes an
// error.
func unmarshal(b []byte, v any) (rest []byte, err error) {
	defer recovered(&err)
	return asn1.Unmarshal(b, v)
}

// unmarshalApp decodes the whole of b as the APPLICATION tag given.
func unmarshalApp(b []byte, v any, tag int) (err error) {
	defer recovered(&err)
	rest, err := asn1.UnmarshalWithParams(b, v, fmt.Sprintf("application,explicit,tag:%d", tag))
	if err != nil {
		return fault.Errorf(fault.Malformed, "not a Kerberos message of type %d", tag)
	}
	if len(rest) != 0 {
		return fault.Errorf(fault.Malformed, "%d bytes follow the Kerberos message", len(rest))
	}
	return nil
}

// marshalApp encodes v under an APPLICATION tag.
func marshalApp(v any, tag int) ([]byte, error) {
	b, err := asn1.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode a Kerberos message", err)
	}
	return asn1tools.AddASNAppTag(b, tag), nil
}

// appTag returns the APPLICATION tag that b begins with, -1 when none.
func appTag(b []byte) int {
	if len(b) == 0 || b[0]&0xe0 != 0x60 {
		return -1
	}
	return int(b[0] & 0x1f)
}

// explicit wraps DER as the context tag given.
func explicit(der []byte, tag int) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Tag: tag, Bytes: der}
}

// methodData reads a METHOD-DATA (RFC 4120 5.9.1); bytes that are none give nil.
func methodData(b []byte) types.PADataSequence {
	var pas types.PADataSequence
	if rest, err := unmarshal(b, &pas); err != nil || len(rest) != 0 {
		return nil
	}
	return pas
}

// recovered turns a panic of library code into fault.Malformed. The text is
// not the panic's own, which might quote key material.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fault.New(fault.Malformed, "the message broke its decoder")
	}
}

// name returns the form that goes on the wire.
func (p Principal) name() types.PrincipalName {
	return types.PrincipalName{NameType: p.Type, NameString: p.Name}
}

// principal reads the form that came off the wire.
func principal(n types.PrincipalName, realm string) Principal {
	return Principal{Type: n.NameType, Name: n.NameString, Realm: realm}
}

// kerberosFlags reads KerberosFlags (RFC 4120 5.2.8).
func kerberosFlags(b asn1.BitString) Flags {
	var f Flags
	for i := 0; i < 4; i++ {
		f <<= 8
		if i < len(b.Bytes) {
			f |= Flags(b.Bytes[i])
		}
	}
	return f
}

// bits is kerberosFlags the other way.
func (f Flags) bits() asn1.BitString {
	return asn1.BitString{Bytes: []byte{byte(f >> 24), byte(f >> 16), byte(f >> 8), byte(f)}, BitLength: 32}
}

// micros splits a time as Kerberos sends it: whole seconds, and microseconds.
func micros(t time.Time) (time.Time, int) {
	t = t.UTC()
	return t.Truncate(time.Second), t.Nanosecond() / 1000
}
