// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Context flags (RFC 4121 4.1.1.1).
const (
	gssDelegate = 0x01
	gssMutual   = 0x02
	gssReplay   = 0x04
	gssSequence = 0x08
	gssConf     = 0x10
	gssInteg    = 0x20
)

// Token ids of the context tokens (RFC 4121 4.1).
var (
	idAPReq = [2]byte{1, 0}
	idAPRep = [2]byte{2, 0}
	idError = [2]byte{3, 0}
)

// mechOID is the DER of 1.2.840.113554.1.2.2.
var mechOID = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// frame puts a token into the initial framing of RFC 2743 3.1.
func frame(id [2]byte, inner []byte) []byte {
	n := len(mechOID) + 2 + len(inner)
	out := append([]byte{0x60}, derLength(n)...)
	out = append(out, mechOID...)
	out = append(out, id[:]...)
	return append(out, inner...)
}

func derLength(n int) []byte {
	switch {
	case n < 0x80:
		return []byte{byte(n)}
	case n < 0x100:
		return []byte{0x81, byte(n)}
	case n < 0x10000:
		return []byte{0x82, byte(n >> 8), byte(n)}
	}
	return []byte{0x83, byte(n >> 16), byte(n >> 8), byte(n)}
}

// unframe undoes frame; the whole of b must be one token.
func unframe(b []byte) (id [2]byte, inner []byte, err error) {
	bad := fault.New(fault.Malformed, "not a Kerberos GSS-API token")
	if len(b) < 2 || b[0] != 0x60 {
		return id, nil, bad
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		k := n & 0x7f
		if k == 0 || k > 3 || len(b) < 2+k {
			return id, nil, bad
		}
		n, head = 0, 2+k
		for _, c := range b[2 : 2+k] {
			n = n<<8 | int(c)
		}
	}
	b = b[head:]
	if len(b) != n || n < len(mechOID)+2 || string(b[:len(mechOID)]) != string(mechOID) {
		return id, nil, bad
	}
	b = b[len(mechOID):]
	return [2]byte{b[0], b[1]}, b[2:], nil
}

// Initiator is the client's side of a GSS-API krb5 context being set up
// (RFC 4121 4.1): mutual authentication, replay and sequence detection,
// integrity and confidentiality are always asked for; delegation never is.
type Initiator struct {
	session Key
	subkey  Key
	seq     uint64
	ctime   time.Time
	cusec   int
}

// NewInitiator starts a context with the service that ticket is for. token is
// the first token to send (GSS framing, KRB_AP_REQ). binding is the MD5 of the
// channel bindings (RFC 4121 4.1.1.2), 16 bytes, or nil for none.
func NewInitiator(ticket *Ticket, binding []byte) (i *Initiator, token []byte, err error) {
	return newInitiator(ticket, binding, time.Now())
}

func newInitiator(ticket *Ticket, binding []byte, now time.Time) (*Initiator, []byte, error) {
	if binding != nil && len(binding) != 16 {
		return nil, nil, fault.New(fault.Internal, "channel bindings have 16 bytes")
	}
	size := ticket.Key.EType.size()
	if size == 0 {
		return nil, nil, fault.Errorf(fault.Malformed, "encryption type %d is not spoken here", ticket.Key.EType)
	}
	random := make([]byte, size+4)
	if _, err := rand.Read(random); err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "draw a key", err)
	}
	sum := make([]byte, 24)
	binary.LittleEndian.PutUint32(sum, 16)
	copy(sum[4:20], binding)
	binary.LittleEndian.PutUint32(sum[20:], gssMutual|gssReplay|gssSequence|gssConf|gssInteg)
	i := &Initiator{
		session: ticket.Key.Clone(),
		subkey:  Key{ticket.Key.EType, secret.Own(random[:size:size])},
		// 30 bits: some acceptors read the number as signed.
		seq: uint64(binary.BigEndian.Uint32(random[size:]) & 0x3fffffff),
	}
	i.ctime, i.cusec = micros(now)
	ap, err := ticket.apReq(types.Authenticator{
		Cksum:     types.Checksum{CksumType: checksumGSS, Checksum: sum},
		SubKey:    i.subkey.library(),
		SeqNumber: int64(i.seq),
	}, now, usageAPReqAuth, apOptionMutual)
	if err != nil {
		return nil, nil, err
	}
	return i, frame(idAPReq, ap), nil
}

// apRep is AP-REP (RFC 4120 5.5.2).
type apRep struct {
	PVNO    int                 `asn1:"explicit,tag:0"`
	MsgType int                 `asn1:"explicit,tag:1"`
	EncPart types.EncryptedData `asn1:"explicit,tag:2"`
}

// Finish takes the acceptor's answer (KRB_AP_REP), checks that the service
// holds the key of the ticket, and returns the finished context. A refusal is
// an *Error or *SkewError, as of Client.
func (i *Initiator) Finish(reply []byte) (*Context, error) {
	const op = "set up the GSS-API context"
	id, inner, err := unframe(reply)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	if id == idError || appTag(inner) == tagKRBError {
		c := Client{}
		kerr, err := readRefusal(inner, invalidAddr)
		if err != nil {
			return nil, fault.Wrap(fault.Unknown, op, err)
		}
		return nil, c.fail(op, &kerr.Error)
	}
	if id != idAPRep {
		return nil, fault.New(fault.Malformed, op+": the service sent no proof of itself")
	}
	enc, err := openAPRep(inner, i.session)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	if !enc.CTime.Equal(i.ctime) || enc.Cusec != i.cusec {
		return nil, fault.New(fault.BadCredential, op+": the service answered another request")
	}
	key, flags := i.subkey, byte(0)
	if len(enc.Subkey.KeyValue) > 0 {
		key, flags = Key{EType(enc.Subkey.KeyType), secret.Own(enc.Subkey.KeyValue)}, flagSubkey
	}
	c, err := newContext(key, flags, true, i.seq, uint64(uint32(enc.SequenceNumber)))
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, op, err)
	}
	i.session.Value.Wipe()
	key.Value.Wipe()
	i.subkey.Value.Wipe()
	return c, nil
}

// openAPRep decrypts and decodes an AP-REP.
func openAPRep(b []byte, session Key) (enc messages.EncAPRepPart, err error) {
	var rep apRep
	if err := unmarshalApp(b, &rep, tagAPRep); err != nil {
		return enc, err
	}
	plain, err := session.open(rep.EncPart.Cipher, usageAPRep)
	if err != nil {
		return enc, err
	}
	return enc, unmarshalApp(plain, &enc, tagEncAPRepPart)
}

// Context is a finished GSS-API krb5 context. Messages must be opened in the
// order in which the peer sealed them. Safe for concurrent use, but the order
// of the tokens on the wire is the caller's to keep.
type Context struct {
	sendMu, recvMu sync.Mutex
	send, recv     direction
}

func newContext(key Key, flags byte, initiator bool, sendSeq, recvSeq uint64) (*Context, error) {
	et, err := key.suite()
	if err != nil {
		return nil, err
	}
	c := &Context{send: direction{flags: flags, seq: sendSeq}, recv: direction{flags: flags | flagAcceptor, seq: recvSeq}}
	usage := [4]uint32{usageInitiatorSeal, usageInitiatorSign, usageAcceptorSeal, usageAcceptorSign}
	if !initiator {
		c.send.flags, c.recv.flags = c.recv.flags, c.send.flags
		usage = [4]uint32{usage[2], usage[3], usage[0], usage[1]}
	}
	for n, s := range []**sealer{&c.send.wrap, &c.send.mic, &c.recv.wrap, &c.recv.mic} {
		if *s, err = newSealer(et, key.Value.Reveal(), usage[n]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Overhead is how many bytes Seal adds to a message.
const Overhead = 2*headerSize + confounderSize + checksumSize

// Seal makes a Wrap token with confidentiality (RFC 4121 4.2.4).
func (c *Context) Seal(plain []byte) ([]byte, error) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return c.send.seal(plain)
}

// Sign makes a Wrap token without confidentiality: the text can be read on
// the way. For the SASL negotiation of RFC 4752 only.
func (c *Context) Sign(plain []byte) ([]byte, error) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return c.send.sign(plain), nil
}

// Open checks a Wrap token and returns its text, and whether it was sealed.
// The memory of token is used up. The next sequence number is demanded: a
// replayed, reordered or missing token is fault.BadCredential.
func (c *Context) Open(token []byte) (plain []byte, sealed bool, err error) {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	return c.recv.open(token)
}

// MIC makes a checksum token over message (RFC 4121 4.2.6.1), as GSS-TSIG
// (RFC 3645) signs with.
func (c *Context) MIC(message []byte) ([]byte, error) {
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	return c.send.sum(message), nil
}

// VerifyMIC checks the peer's checksum token over message.
func (c *Context) VerifyMIC(message, mic []byte) error {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	return c.recv.verify(message, mic)
}
