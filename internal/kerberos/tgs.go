// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"net/netip"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ServiceTicket asks for a ticket to service, in the realm of the client.
// fault.NotFound when no account carries that SPN; fault.Expired when the TGT
// is past its end; otherwise as of Login. Referrals to other realms are not
// followed.
func (c *Client) ServiceTicket(ctx context.Context, tgt *Ticket, service Principal) (*Ticket, error) {
	t, _, err := c.tgs(ctx, "get a ticket for "+service.String(), tgt, service, 0)
	return t, err
}

// Renew asks for a TGT with a new end time in exchange for a renewable one.
func (c *Client) Renew(ctx context.Context, tgt *Ticket) (*Ticket, error) {
	t, _, err := c.tgs(ctx, "renew the ticket", tgt, tgt.Service, optRenew|optRenewable)
	return t, err
}

// tgs also says which KDC answered.
func (c *Client) tgs(ctx context.Context, op string, tgt *Ticket, service Principal, options Flags) (*Ticket, netip.Addr, error) {
	if tgt == nil {
		return nil, netip.Addr{}, fault.New(fault.Internal, op+": no ticket-granting ticket")
	}
	service.Realm = c.realm()
	body, err := c.requestBody(types.PrincipalName{}, service, options)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	// Each KDC gets an authenticator of its own, so that a hedged request is no
	// replay at the second.
	reply, from, err := c.request(ctx, c.ask, func(netip.Addr) ([]byte, error) { return c.tgsRequest(tgt, body) })
	if err != nil {
		return nil, netip.Addr{}, fault.Wrap(fault.Unknown, op, err)
	}
	if appTag(reply) == tagKRBError {
		kerr, err := readRefusal(reply, from)
		if err != nil {
			return nil, netip.Addr{}, fault.Wrap(fault.Unknown, op, err)
		}
		return nil, netip.Addr{}, c.fail(op, &kerr.Error)
	}
	var rep kdcRep
	if err := unmarshalApp(reply, &rep, tagTGSRep); err != nil {
		return nil, netip.Addr{}, fault.Wrap(fault.Unreachable, op, err)
	}
	plain, err := tgt.Key.open(rep.EncPart.Cipher, usageTGSRepSession)
	if err != nil {
		return nil, netip.Addr{}, fault.Wrap(fault.Unknown, op, err)
	}
	defer secret.Wipe(plain)
	t, _, err := finishReply(rep, plain, body)
	if err != nil {
		return nil, netip.Addr{}, fault.Wrap(fault.Unknown, op, err)
	}
	if !t.Client.Equal(tgt.Client) {
		t.Wipe()
		return nil, netip.Addr{}, fault.Errorf(fault.BadCredential, "%s: the ticket is for %.200q", op, t.Client)
	}
	return t, from, nil
}

// tgsRequest builds a TGS-REQ (RFC 4120 5.4.1) with its authenticator.
func (c *Client) tgsRequest(tgt *Ticket, body messages.KDCReqBody) ([]byte, error) {
	b, err := body.Marshal()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode the request", err)
	}
	et, err := tgt.Key.suite()
	if err != nil {
		return nil, err
	}
	sum, err := et.GetChecksumHash(tgt.Key.Value.Reveal(), b, usageTGSReqChecksum)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "sign the request", err)
	}
	ap, err := tgt.apReq(types.Authenticator{
		Cksum: types.Checksum{CksumType: et.GetHashID(), Checksum: sum},
	}, c.now(), usageTGSReqAuth, 0)
	if err != nil {
		return nil, err
	}
	req := messages.TGSReq{KDCReqFields: messages.KDCReqFields{PVNO: 5, MsgType: tagTGSReq, ReqBody: body,
		PAData: types.PADataSequence{{PADataType: paTGSReq, PADataValue: ap}}}}
	out, err := req.Marshal()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "encode the request", err)
	}
	return out, nil
}
