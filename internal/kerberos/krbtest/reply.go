// SPDX-License-Identifier: Apache-2.0

package krbtest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Reply answers one request; nil hangs up.
func (k *KDC) Reply(req []byte) []byte {
	if k.Answer != nil {
		if reply, ok := k.Answer(req); ok {
			return reply
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var as messages.ASReq
	if as.Unmarshal(req) == nil {
		return k.as(as)
	}
	var tgs messages.TGSReq
	if tgs.Unmarshal(req) == nil {
		return k.tgs(tgs)
	}
	return nil
}

func library(key kerberos.Key) types.EncryptionKey {
	return types.EncryptionKey{KeyType: int32(key.EType), KeyValue: key.Value.Reveal()}
}

// must is for encoding what this package built itself.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (k *KDC) find(match func(*Account) bool) *Account {
	if i := slices.IndexFunc(k.accounts, match); i >= 0 {
		return k.accounts[i]
	}
	return nil
}

func (k *KDC) client(n types.PrincipalName) *Account {
	return k.find(func(a *Account) bool {
		if n.NameType == kerberos.NTEnterprise && len(n.NameString) == 1 {
			return strings.EqualFold(a.UPN, n.NameString[0])
		}
		return sameName(a.Name, n.NameString)
	})
}

func (k *KDC) service(n types.PrincipalName) *Account {
	return k.find(func(a *Account) bool {
		return sameName(a.Name, n.NameString) || slices.ContainsFunc(a.Aliases, func(s []string) bool { return sameName(s, n.NameString) })
	})
}

func sameName(a, b []string) bool {
	return slices.EqualFunc(a, b, strings.EqualFold)
}

func (k *KDC) as(req messages.ASReq) []byte {
	r := Request{Kind: "AS", Client: req.ReqBody.CName.PrincipalNameString(), Service: req.ReqBody.SName.PrincipalNameString()}
	var proof *types.PAData
	for i, pa := range req.PAData {
		if pa.PADataType == 2 {
			proof, r.Proof = &req.PAData[i], true
		}
	}
	k.requests = append(k.requests, r)
	a := k.client(req.ReqBody.CName)
	if a == nil {
		return k.refuse(req.ReqBody, 6, nil)
	}
	if proof == nil && !a.NoPreAuth {
		return k.refuse(req.ReqBody, 25, must(asn1.Marshal(types.PADataSequence{k.hint(a), {PADataType: 2, PADataValue: []byte{}}})))
	}
	e := kerberos.EType(0)
	for _, want := range req.ReqBody.EType {
		if e == 0 && slices.Contains(a.ETypes, kerberos.EType(want)) {
			e = kerberos.EType(want)
		}
	}
	if e == 0 {
		return k.refuse(req.ReqBody, 14, nil)
	}
	if proof != nil {
		var ed types.EncryptedData
		if ed.Unmarshal(proof.PADataValue) != nil {
			return k.refuse(req.ReqBody, 24, nil)
		}
		e = kerberos.EType(ed.EType)
		plain, err := crypto.DecryptEncPart(ed, library(k.Key(a, e)), 1)
		var ts types.PAEncTSEnc
		if err != nil || ts.Unmarshal(plain) != nil {
			a.BadPasswords++
			return k.refuse(req.ReqBody, 24, nil)
		}
		if d := k.now().Sub(ts.PATimestamp); d > 5*time.Minute || d < -5*time.Minute {
			return k.refuse(req.ReqBody, 37, nil)
		}
	}
	if a.Code != 0 {
		var data []byte
		if a.Status != 0 {
			ext := binary.LittleEndian.AppendUint32(nil, a.Status)
			ext = append(ext, 0, 0, 0, 0, 1, 0, 0, 0)
			data = must(asn1.Marshal(struct {
				Type  int    `asn1:"explicit,tag:1"`
				Value []byte `asn1:"explicit,tag:2"`
			}{3, ext}))
		}
		return k.refuse(req.ReqBody, a.Code, data)
	}
	service := &Account{Name: []string{"krbtgt", k.Realm}, KVNO: 2}
	serviceKey := k.krbtgt
	if !sameName(req.ReqBody.SName.NameString, service.Name) {
		if service = k.service(req.ReqBody.SName); service == nil {
			return k.refuse(req.ReqBody, 7, nil)
		}
		serviceKey = k.Key(service, service.ETypes[0])
	}
	pas := types.PADataSequence{k.hint(a)}
	return k.give(11, pas, a, service, serviceKey, library(k.Key(a, e)), a.KVNO, 3, req.ReqBody)
}

// hint is PA-ETYPE-INFO2 with every key of the account.
func (k *KDC) hint(a *Account) types.PAData {
	var info types.ETypeInfo2
	for _, e := range a.ETypes {
		info = append(info, types.ETypeInfo2Entry{EType: int32(e), Salt: a.Salt, S2KParams: []byte{0, 0, 0x10, 0}})
	}
	return types.PAData{PADataType: 19, PADataValue: must(asn1.Marshal(info))}
}

func (k *KDC) tgs(req messages.TGSReq) []byte {
	k.requests = append(k.requests, Request{Kind: "TGS", Service: req.ReqBody.SName.PrincipalNameString()})
	var ap messages.APReq
	if len(req.PAData) == 0 || ap.Unmarshal(req.PAData[0].PADataValue) != nil || ap.Ticket.Decrypt(library(k.krbtgt)) != nil {
		return k.refuse(req.ReqBody, 31, nil)
	}
	session := ap.Ticket.DecryptedEncPart.Key
	if ap.DecryptAuthenticator(session) != nil {
		return k.refuse(req.ReqBody, 31, nil)
	}
	body := must(req.ReqBody.Marshal())
	if et := must(crypto.GetEtype(session.KeyType)); !et.VerifyChecksum(session.KeyValue, body, ap.Authenticator.Cksum.Checksum, 6) {
		return k.refuse(req.ReqBody, 41, nil)
	}
	if k.now().After(ap.Ticket.DecryptedEncPart.EndTime) {
		return k.refuse(req.ReqBody, 32, nil)
	}
	client := k.client(ap.Ticket.DecryptedEncPart.CName)
	if client == nil {
		return k.refuse(req.ReqBody, 20, nil)
	}
	service := &Account{Name: []string{"krbtgt", k.Realm}, KVNO: 2}
	key := k.krbtgt
	if !sameName(req.ReqBody.SName.NameString, service.Name) {
		if service = k.service(req.ReqBody.SName); service == nil {
			return k.refuse(req.ReqBody, 7, nil)
		}
		key = k.Key(service, service.ETypes[0])
	}
	return k.give(13, nil, client, service, key, session, 0, 8, req.ReqBody)
}

// give makes an AS-REP or TGS-REP.
func (k *KDC) give(msgType int, pas types.PADataSequence, client, service *Account, serviceKey kerberos.Key, replyKey types.EncryptionKey, kvno int, usage uint32, body messages.KDCReqBody) []byte {
	part := Part{Nonce: body.Nonce,
		Service: kerberos.Principal{Type: body.SName.NameType, Name: body.SName.NameString, Realm: k.Realm},
		Client:  kerberos.Principal{Type: kerberos.NTPrincipal, Name: client.Name, Realm: k.Realm}}
	if k.Edit != nil {
		k.Edit(&part)
	}
	session := randomKey(kerberos.AES256)
	now := k.now().Truncate(time.Second)
	flags := kerberos.FlagPreAuth | kerberos.FlagRenewable | kerberos.FlagInitial
	if service.DC {
		flags |= kerberos.FlagDelegateOK
	}
	raw := Seal(part.Client, part.Service, session, serviceKey, service.KVNO, flags, now, body.Till, client.PAC)
	enc := messages.EncKDCRepPart{Key: library(session), LastReqs: []messages.LastReq{}, Nonce: part.Nonce, KeyExpiration: client.Expires,
		Flags: bits(flags), AuthTime: now, StartTime: now, EndTime: body.Till, RenewTill: body.RTime, SRealm: part.Service.Realm,
		SName: types.PrincipalName{NameType: part.Service.Type, NameString: part.Service.Name}}
	cipher := must(crypto.GetEncryptedData(must(enc.Marshal()), replyKey, usage, kvno))
	rep := struct {
		PVNO    int                  `asn1:"explicit,tag:0"`
		MsgType int                  `asn1:"explicit,tag:1"`
		PAData  types.PADataSequence `asn1:"explicit,optional,tag:2"`
		CRealm  string               `asn1:"generalstring,explicit,tag:3"`
		CName   types.PrincipalName  `asn1:"explicit,tag:4"`
		Ticket  asn1.RawValue        `asn1:"explicit,tag:5"`
		EncPart types.EncryptedData  `asn1:"explicit,tag:6"`
	}{5, msgType, pas, part.Client.Realm, types.PrincipalName{NameType: part.Client.Type, NameString: part.Client.Name},
		asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Tag: 5, Bytes: raw}, cipher}
	return asn1tools.AddASNAppTag(must(asn1.Marshal(rep)), msgType)
}

func bits(f kerberos.Flags) asn1.BitString {
	return asn1.BitString{Bytes: binary.BigEndian.AppendUint32(nil, uint32(f)), BitLength: 32}
}

// Seal makes the DER of a ticket.
func Seal(client, service kerberos.Principal, session, serviceKey kerberos.Key, kvno int, flags kerberos.Flags, from, till time.Time, pac *PAC) []byte {
	part := messages.EncTicketPart{Flags: bits(flags), Key: library(session), CRealm: client.Realm,
		CName:    types.PrincipalName{NameType: client.Type, NameString: client.Name},
		AuthTime: from.UTC().Truncate(time.Second), StartTime: from.UTC().Truncate(time.Second), EndTime: till.UTC().Truncate(time.Second)}
	if pac != nil {
		inner := must(asn1.Marshal(types.AuthorizationData{{ADType: 128, ADData: pac.Marshal(client, part.AuthTime, serviceKey)}}))
		part.AuthorizationData = types.AuthorizationData{{ADType: 1, ADData: inner}}
	}
	plain := asn1tools.AddASNAppTag(must(asn1.Marshal(part)), 3)
	t := messages.Ticket{TktVNO: 5, Realm: service.Realm, SName: types.PrincipalName{NameType: service.Type, NameString: service.Name},
		EncPart: must(crypto.GetEncryptedData(plain, library(serviceKey), 2, kvno))}
	return must(t.Marshal())
}

// Ticket makes a ticket of client to a name of service without asking.
func (k *KDC) Ticket(client string, name []string, service *Account) *kerberos.Ticket {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := &kerberos.Ticket{Client: kerberos.Account(client, k.Realm),
		Service: kerberos.Principal{Type: kerberos.NTService, Name: name, Realm: k.Realm}, Key: randomKey(kerberos.AES256),
		AuthTime: k.now(), StartTime: k.now(), EndTime: k.now().Add(time.Hour)}
	if service.DC {
		t.Flags = kerberos.FlagDelegateOK
	}
	t.Raw = Seal(t.Client, t.Service, t.Key, k.Key(service, service.ETypes[0]), service.KVNO, t.Flags, t.StartTime, t.EndTime, nil)
	return t
}

// refuse makes a KRB-ERROR.
func (k *KDC) refuse(body messages.KDCReqBody, code int32, data []byte) []byte {
	now := k.now()
	e := messages.KRBError{PVNO: 5, MsgType: 30, STime: now.Truncate(time.Second), Susec: now.Nanosecond() / 1000, ErrorCode: code,
		Realm: k.Realm, SName: body.SName, EData: data}
	b, err := e.Marshal()
	if err != nil {
		panic(fmt.Sprintf("encode error %d: %v", code, err))
	}
	return b
}

// Refusal makes a KRB-ERROR as this KDC would, for Answer.
func (k *KDC) Refusal(code int32) []byte {
	return k.refuse(messages.KDCReqBody{SName: types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", k.Realm}}}, code, nil)
}
