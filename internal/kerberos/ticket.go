// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Flags are ticket flags (RFC 4120 2.1), bit 0 of the RFC as the highest bit.
type Flags uint32

// The flags that are looked at.
const (
	FlagForwardable Flags = 1 << 30
	FlagForwarded   Flags = 1 << 29
	FlagRenewable   Flags = 1 << 23
	FlagInitial     Flags = 1 << 22
	FlagPreAuth     Flags = 1 << 21
	FlagDelegateOK  Flags = 1 << 18
)

// Ticket is a ticket with the session key that goes with it.
type Ticket struct {
	Client  Principal // canonical, as the KDC gave it
	Service Principal
	Key     Key
	Flags   Flags

	AuthTime  time.Time
	StartTime time.Time
	EndTime   time.Time
	RenewTill time.Time // zero: not renewable

	Raw []byte // the DER of the Ticket, opaque to a client
}

// Wipe overwrites the session key.
func (t *Ticket) Wipe() {
	if t != nil {
		t.Key.Value.Wipe()
	}
}

// Clone returns a ticket with memory of its own.
func (t *Ticket) Clone() *Ticket {
	c := *t
	c.Key = t.Key.Clone()
	c.Raw = append([]byte(nil), t.Raw...)
	return &c
}

// apOptionMutual is mutual-required of APOptions (RFC 4120 5.5.1).
const apOptionMutual = Flags(1 << 29)

// apReq makes an AP-REQ. Of auth, what is not about the client and the time is
// the caller's; the time that it states is filled in.
func (t *Ticket) apReq(auth types.Authenticator, now time.Time, usage uint32, options Flags) ([]byte, error) {
	auth.AVNO = 5
	auth.CRealm, auth.CName = t.Client.Realm, t.Client.name()
	auth.CTime, auth.Cusec = micros(now)
	plain, err := marshalApp(auth, tagAuthenticator)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(plain)
	cipher, err := t.Key.seal(plain, usage)
	if err != nil {
		return nil, err
	}
	if appTag(t.Raw) != tagTicket {
		return nil, fault.New(fault.Internal, "the ticket is empty")
	}
	return marshalApp(apReq{PVNO: 5, MsgType: tagAPReq, Options: options.bits(), Ticket: explicit(t.Raw, 3),
		Auth: types.EncryptedData{EType: int32(t.Key.EType), Cipher: cipher}}, tagAPReq)
}

// opened is a ticket that was opened with the service's key.
type opened struct {
	client, service             Principal
	key                         Key // the session key
	flags                       Flags
	authTime, start, end, renew time.Time
	pac                         *PAC
	kvno                        uint32
}

// ticketHead reads the outside of a ticket.
func ticketHead(raw []byte) (service Principal, enc types.EncryptedData, err error) {
	var m encTicket
	if err := unmarshalApp(raw, &m, tagTicket); err != nil {
		return Principal{}, enc, err
	}
	return principal(m.SName, m.Realm), m.EncPart, nil
}

// encTicketPart is EncTicketPart (RFC 4120 5.3) without the limits that
// gokrb5 puts on it.
type encTicketPart struct {
	Flags     asn1.BitString          `asn1:"explicit,tag:0"`
	Key       types.EncryptionKey     `asn1:"explicit,tag:1"`
	CRealm    string                  `asn1:"generalstring,explicit,tag:2"`
	CName     types.PrincipalName     `asn1:"explicit,tag:3"`
	Transited asn1.RawValue           `asn1:"explicit,tag:4"`
	AuthTime  time.Time               `asn1:"generalized,explicit,tag:5"`
	StartTime time.Time               `asn1:"generalized,explicit,optional,tag:6"`
	EndTime   time.Time               `asn1:"generalized,explicit,tag:7"`
	RenewTill time.Time               `asn1:"generalized,explicit,optional,tag:8"`
	CAddr     types.HostAddresses     `asn1:"explicit,optional,tag:9"`
	AuthData  types.AuthorizationData `asn1:"explicit,optional,tag:10"`
}

// openTicket opens a ticket with the keys of kt: the one of the ticket's
// service first, then any of that version, because all names of one account
// share its keys. fault.Conflict when no key of that version is there,
// fault.BadCredential when none fits or the PAC's signature is wrong.
func openTicket(raw []byte, kt *Keytab) (*opened, error) {
	service, ep, err := ticketHead(raw)
	if err != nil {
		return nil, err
	}
	keys := kt.candidates(service, uint32(ep.KVNO), EType(ep.EType))
	if len(keys) == 0 {
		return nil, &fault.Error{Kind: fault.Conflict,
			Err:    fault.Errorf(fault.Conflict, "no key of version %d and encryption type %d for %s in the keytab", ep.KVNO, ep.EType, service),
			Remedy: "the machine's password was changed elsewhere, or its object was replaced: join again"}
	}
	for _, k := range keys {
		plain, err := k.Key.open(ep.Cipher, usageTicket)
		if err != nil {
			continue
		}
		defer secret.Wipe(plain)
		var p encTicketPart
		if err := unmarshalApp(plain, &p, tagEncTicketPart); err != nil {
			return nil, err
		}
		o := &opened{client: principal(p.CName, p.CRealm), service: service, flags: kerberosFlags(p.Flags),
			key:      Key{EType(p.Key.KeyType), secret.Own(append([]byte(nil), p.Key.KeyValue...))},
			authTime: p.AuthTime, start: p.StartTime, end: p.EndTime, renew: p.RenewTill, kvno: k.KVNO}
		secret.Wipe(p.Key.KeyValue)
		if o.start.IsZero() {
			o.start = o.authTime
		}
		if pac := findPAC(p.AuthData); pac != nil {
			if o.pac, err = openPAC(pac, k.Key, o.client, o.authTime); err != nil {
				o.key.Value.Wipe()
				return nil, err
			}
		}
		return o, nil
	}
	return nil, fault.Errorf(fault.BadCredential, "the ticket for %s was not made with this machine's key", service)
}

// findPAC returns the first AD-WIN2K-PAC inside AD-IF-RELEVANT (MS-PAC 2.1).
func findPAC(ad types.AuthorizationData) []byte {
	for _, outer := range ad {
		if outer.ADType != adIfRelevant {
			continue
		}
		var inner types.AuthorizationData
		if rest, err := unmarshal(outer.ADData, &inner); err != nil || len(rest) != 0 {
			continue
		}
		for _, in := range inner {
			if in.ADType == adWin2kPAC {
				return append([]byte(nil), in.ADData...)
			}
		}
	}
	return nil
}
