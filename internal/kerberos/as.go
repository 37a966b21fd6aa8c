// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// maxSkew is what RFC 4120 and Active Directory allow by default.
const maxSkew = 5 * time.Minute

// KDC options (RFC 4120 5.4.1), in the form of Flags.
const (
	optRenewable    = Flags(1 << 23)
	optCanonicalize = Flags(1 << 16)
	optRenew        = Flags(1 << 1)
)

// asOp is what an AS exchange is called in errors.
const asOp = "sign in to the domain"

// asExchange is one AS exchange under way.
type asExchange struct {
	c      *Client
	who    Principal
	with   Secret
	body   messages.KDCReqBody
	offers []KeyInfo // what the KDC said of the keys
	key    Key       // the one in use; none yet without pre-authentication
}

// login is Login for any service that AS gives tickets to.
func (c *Client) login(ctx context.Context, who Principal, with Secret, service Principal) (*Login, error) {
	body, err := c.requestBody(who.name(), service, optCanonicalize|optRenewable)
	if err != nil {
		return nil, err
	}
	// The first request carries no proof: it tells which KDC lives, and how the
	// key is derived. It may go to several KDCs; it counts nowhere.
	reply, from, err := c.request(ctx, c.ask, asRequest(body, nil))
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, asOp, err)
	}
	x := &asExchange{c: c, who: who, with: with, body: body}
	defer func() { x.key.Value.Wipe() }()
	if appTag(reply) == tagKRBError {
		if reply, from, err = x.prove(ctx, reply, from); err != nil {
			return nil, err
		}
	}
	return x.finish(reply, from)
}

// prove gives the proof that a refusal asks for, and returns the reply to it.
func (x *asExchange) prove(ctx context.Context, reply []byte, from netip.Addr) ([]byte, netip.Addr, error) {
	none := netip.Addr{}
	r, err := readRefusal(reply, from)
	if err != nil {
		return nil, none, fault.Wrap(fault.Unknown, asOp, err)
	}
	if r.Code != CodePreauthRequired {
		return nil, none, x.c.fail(asOp, &r.Error)
	}
	if x.offers = keyInfos(methodData(r.data)); len(x.offers) == 0 {
		return nil, none, x.c.fail(asOp, &Error{Code: CodeETypeUnsupported, Text: "the KDC offers no AES key", Time: r.Time, KDC: from})
	}
	if x.key, _, err = x.with.keyFor(x.who, x.offers); err != nil {
		return nil, none, fault.Wrap(fault.Unknown, asOp, err)
	}
	proof, err := encTimestamp(x.key, x.c.now())
	if err != nil {
		return nil, none, fault.Wrap(fault.Unknown, asOp, err)
	}
	if reply, from, err = x.c.request(ctx, x.c.prove, asRequest(x.body, proof)); err != nil {
		return nil, none, fault.Wrap(fault.Unknown, asOp, err)
	}
	if appTag(reply) == tagKRBError {
		if r, err = readRefusal(reply, from); err != nil {
			return nil, none, fault.Wrap(fault.Unknown, asOp, err)
		}
		return nil, none, x.c.fail(asOp, &r.Error)
	}
	return reply, from, nil
}

// finish makes a login of the reply that holds a ticket.
func (x *asExchange) finish(reply []byte, from netip.Addr) (*Login, error) {
	var rep kdcRep
	if err := unmarshalApp(reply, &rep, tagASRep); err != nil {
		return nil, fault.Wrap(fault.Unreachable, asOp, err)
	}
	// An account that needs no pre-authentication tells its salt only here; and
	// a KDC may answer with another of the account's keys.
	if more := keyInfos(rep.PAData); len(more) > 0 && x.offers == nil {
		x.offers = more
	}
	if e := EType(rep.EncPart.EType); x.key.EType != e {
		if e.size() == 0 {
			return nil, fault.Errorf(fault.Denied, "%s: the KDC answered with encryption type %d", asOp, e)
		}
		key, _, err := x.with.keyFor(x.who, offersOf(x.offers, e))
		if err != nil {
			return nil, fault.Wrap(fault.Unknown, asOp, err)
		}
		x.key.Value.Wipe()
		x.key = key
	}
	plain, err := x.key.open(rep.EncPart.Cipher, usageASRep)
	if err != nil {
		return nil, fault.Wrap(fault.BadCredential, asOp, err)
	}
	defer secret.Wipe(plain)
	ticket, enc, err := finishReply(rep, plain, x.body)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, asOp, err)
	}
	if d := x.c.now().Sub(ticket.AuthTime); d > maxSkew || d < -maxSkew {
		return nil, x.c.fail(asOp, &Error{Code: CodeSkew, Time: ticket.AuthTime, KDC: from})
	}
	if !sameRealm(ticket.Client.Realm, x.c.realm()) {
		return nil, fault.Errorf(fault.NotFound, "%s: the account lives in realm %.100q", asOp, ticket.Client.Realm)
	}
	l := &Login{TGT: ticket, Keys: bothTypes(x.offers), KVNO: uint32(rep.EncPart.KVNO)}
	if y := enc.KeyExpiration.Year(); y > 1970 && y < 2100 {
		l.PasswordExpires = enc.KeyExpiration
	}
	return l, nil
}

// finishReply checks the decrypted part of a KDC's reply against the request
// and makes a ticket of both.
func finishReply(rep kdcRep, plain []byte, body messages.KDCReqBody) (*Ticket, messages.EncKDCRepPart, error) {
	var enc messages.EncKDCRepPart
	if err := unmarshalApp(plain, &enc, tagEncASRepPart); err != nil {
		// RFC 4120 5.4.2: some KDCs use the other tag, whatever the request was.
		if err := unmarshalApp(plain, &enc, tagEncTGSRepPart); err != nil {
			return nil, enc, err
		}
	}
	switch {
	case enc.Nonce != body.Nonce:
		return nil, enc, fault.New(fault.BadCredential, "the KDC answered another request")
	case !principal(enc.SName, enc.SRealm).Equal(principal(body.SName, body.Realm)):
		return nil, enc, fault.Errorf(fault.NotFound, "the KDC answered with a ticket for %.200q", principal(enc.SName, enc.SRealm))
	case EType(enc.Key.KeyType).size() == 0 || len(enc.Key.KeyValue) != EType(enc.Key.KeyType).size():
		return nil, enc, fault.Errorf(fault.Denied, "the KDC chose encryption type %d for the session", enc.Key.KeyType)
	case appTag(rep.Ticket.Bytes) != tagTicket:
		return nil, enc, fault.New(fault.Malformed, "the reply holds no ticket")
	}
	t := &Ticket{
		Client:    principal(rep.CName, rep.CRealm),
		Service:   principal(enc.SName, enc.SRealm),
		Key:       Key{EType(enc.Key.KeyType), secret.Own(append([]byte(nil), enc.Key.KeyValue...))},
		Flags:     kerberosFlags(enc.Flags),
		AuthTime:  enc.AuthTime,
		StartTime: enc.StartTime,
		EndTime:   enc.EndTime,
		RenewTill: enc.RenewTill,
		Raw:       append([]byte(nil), rep.Ticket.Bytes...),
	}
	secret.Wipe(enc.Key.KeyValue)
	if t.StartTime.IsZero() {
		t.StartTime = t.AuthTime
	}
	return t, enc, nil
}

// requestBody makes the part that AS-REQ and TGS-REQ share.
func (c *Client) requestBody(cname types.PrincipalName, service Principal, options Flags) (messages.KDCReqBody, error) {
	var n [4]byte
	if _, err := rand.Read(n[:]); err != nil {
		return messages.KDCReqBody{}, fault.Wrap(fault.Internal, "draw a nonce", err)
	}
	life, renew := c.cfg.Lifetime, c.cfg.RenewFor
	if life <= 0 {
		life = 10 * time.Hour
	}
	if renew <= 0 {
		renew = 7 * 24 * time.Hour
	}
	now, _ := micros(c.now())
	body := messages.KDCReqBody{
		KDCOptions: options.bits(),
		CName:      cname,
		Realm:      c.realm(),
		SName:      service.name(),
		Till:       now.Add(life),
		Nonce:      int(binary.BigEndian.Uint32(n[:]) &^ (1 << 31)),
	}
	if options&optRenewable != 0 {
		body.RTime = now.Add(renew)
	}
	for _, e := range preferred {
		body.EType = append(body.EType, int32(e))
	}
	return body, nil
}

// asRequest builds an AS-REQ that asks for a PAC; proof may be nil.
func asRequest(body messages.KDCReqBody, proof *types.PAData) func(netip.Addr) ([]byte, error) {
	return func(netip.Addr) ([]byte, error) {
		req := messages.ASReq{KDCReqFields: messages.KDCReqFields{PVNO: 5, MsgType: tagASReq, ReqBody: body}}
		if proof != nil {
			req.PAData = append(req.PAData, *proof)
		}
		// KERB-PA-PAC-REQUEST (MS-KILE 2.2.3): include-pac [0] TRUE.
		req.PAData = append(req.PAData, types.PAData{PADataType: paPACRequest, PADataValue: []byte{0x30, 5, 0xa0, 3, 1, 1, 0xff}})
		return req.Marshal()
	}
}

// encTimestamp proves knowledge of key (RFC 4120 5.2.7.2).
func encTimestamp(key Key, now time.Time) (*types.PAData, error) {
	sec, usec := micros(now)
	plain, err := asn1.Marshal(types.PAEncTSEnc{PATimestamp: sec, PAUSec: usec})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode the timestamp", err)
	}
	cipher, err := key.seal(plain, usagePAEncTimestamp)
	if err != nil {
		return nil, err
	}
	value, err := asn1.Marshal(types.EncryptedData{EType: int32(key.EType), Cipher: cipher})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode the timestamp", err)
	}
	return &types.PAData{PADataType: paEncTimestamp, PADataValue: value}, nil
}

// keyInfos reads the AES entries of PA-ETYPE-INFO2 (RFC 4120 5.2.7.5), best
// first.
func keyInfos(pas types.PADataSequence) []KeyInfo {
	var all []KeyInfo
	for _, pa := range pas {
		if pa.PADataType != paETypeInfo2 {
			continue
		}
		var list types.ETypeInfo2
		if rest, err := unmarshal(pa.PADataValue, &list); err != nil || len(rest) != 0 {
			continue
		}
		for _, e := range list {
			info := KeyInfo{EType: EType(e.EType), Salt: e.Salt}
			if len(e.S2KParams) == 4 {
				info.Iterations = binary.BigEndian.Uint32(e.S2KParams)
			}
			all = append(all, info)
		}
	}
	var out []KeyInfo
	for _, e := range preferred {
		out = append(out, offersOf(all, e)...)
	}
	return out
}

// bothTypes adds the AES type that a KDC did not name: an account of Active
// Directory has one salt for all its keys.
func bothTypes(infos []KeyInfo) []KeyInfo {
	if len(infos) == 0 {
		return infos
	}
	out := infos[:len(infos):len(infos)]
	for _, e := range preferred {
		if offersOf(out, e) == nil {
			out = append(out, KeyInfo{EType: e, Salt: infos[0].Salt, Iterations: infos[0].Iterations})
		}
	}
	return out
}

// offersOf returns the first offer of the given etype, or none.
func offersOf(offers []KeyInfo, e EType) []KeyInfo {
	for _, o := range offers {
		if o.EType == e {
			return []KeyInfo{o}
		}
	}
	return nil
}
