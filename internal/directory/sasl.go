// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/binary"

	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Security layers of the SASL mechanism GSSAPI (RFC 4752 3.3).
const (
	layerNone    = 1
	layerSign    = 2
	layerSeal    = 4
	minPeerFrame = 512
)

// handshake is the SASL mechanism GSSAPI (RFC 4752) with confidentiality or
// not at all.
type handshake struct {
	ticket    *kerberos.Ticket
	initiator *kerberos.Initiator
	context   *kerberos.Context

	done  *kerberos.Context // set when the DC agreed to seal
	limit int               // plain bytes that fit one frame to the DC
}

var _ ldap.GSSAPIClient = (*handshake)(nil)

// InitSecContext implements ldap.GSSAPIClient.
func (h *handshake) InitSecContext(target string, token []byte) ([]byte, bool, error) {
	return h.InitSecContextWithOptions(target, token, nil)
}

// InitSecContextWithOptions implements ldap.GSSAPIClient: first the AP-REQ,
// then the check of the AP-REP, to which RFC 4752 answers with an empty token.
func (h *handshake) InitSecContextWithOptions(_ string, token []byte, _ []int) (out []byte, more bool, err error) {
	if h.initiator == nil {
		h.initiator, out, err = kerberos.NewInitiator(h.ticket, nil)
		return out, true, err
	}
	if len(token) == 0 {
		return nil, false, fault.New(fault.BadCredential, "the domain controller sent no proof of itself")
	}
	h.context, err = h.initiator.Finish(token)
	return nil, false, err
}

// NegotiateSaslAuth implements ldap.GSSAPIClient: the DC offers layers and the
// size of its buffer, we choose confidentiality.
func (h *handshake) NegotiateSaslAuth(token []byte, _ string) ([]byte, error) {
	if h.context == nil || h.done != nil {
		return nil, fault.New(fault.Malformed, "the domain controller goes on after the bind is done")
	}
	offer, _, err := h.context.Open(token)
	if err != nil {
		return nil, err
	}
	if len(offer) != 4 {
		return nil, fault.New(fault.Malformed, "the offer of security layers has the wrong size")
	}
	if offer[0]&layerSeal == 0 {
		return nil, fault.WithRemedy(fault.New(fault.Denied, "the domain controller offers no confidentiality"),
			"allow sealing of LDAP on the domain controller; latchkey never talks to it in clear")
	}
	peer := int(binary.BigEndian.Uint32(offer) & 0xffffff)
	if peer < minPeerFrame {
		return nil, fault.Errorf(fault.Malformed, "the domain controller takes only %d bytes at a time", peer)
	}
	choice := binary.BigEndian.AppendUint32(nil, maxFrame)
	choice[0] = layerSeal
	out, err := h.context.Sign(choice)
	if err != nil {
		return nil, err
	}
	h.done, h.limit = h.context, min(peer, maxFrame)-kerberos.Overhead
	return out, nil
}

// DeleteSecContext implements ldap.GSSAPIClient. The library calls it right
// after the bind; the context lives on in the connection.
func (h *handshake) DeleteSecContext() error { return nil }
