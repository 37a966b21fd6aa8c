// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// Accepted is a client that proved itself to us with a service ticket.
type Accepted struct {
	Verified
	Service Principal // the name of ours that the client asked for
	Context *Context
	Skew    time.Duration // how far the client's clock runs ahead of ours
	Mutual  bool          // the client wants our proof
	Reply   []byte        // the token to send back: our proof (KRB_AP_REP)
}

// Acceptor is the service's side of GSS-API krb5 contexts. It refuses what it
// saw before. Safe for concurrent use.
type Acceptor struct {
	mu   sync.Mutex
	host *Keytab
	seen map[[32]byte]time.Time // authenticator -> when it may be forgotten
	// since is before every authenticator that may be taken: what was seen before
	// this process began is not known any more. Zero: whatever comes.
	since time.Time

	now func() time.Time
}

// NewAcceptor returns an acceptor for every name in host, of which it keeps a
// copy.
func NewAcceptor(host *Keytab) *Acceptor {
	return &Acceptor{host: host.Clone(), seen: map[[32]byte]time.Time{}, now: time.Now}
}

// RefuseOlder has the acceptor refuse authenticators made before at: after a
// restart, when nobody knows which of them were used. A client whose clock is
// late gets in when that much has passed.
func (a *Acceptor) RefuseOlder(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since = at
}

// SetKeytab changes the keys, after a rotation.
func (a *Acceptor) SetKeytab(host *Keytab) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.host.Wipe()
	a.host = host.Clone()
}

// maxSeen bounds the replay memory; past it the acceptor refuses rather than
// forgets.
const maxSeen = 100_000

// Accept checks a client's first token (GSS framing, KRB_AP_REQ) and makes the
// answer. binding, when not nil, is the MD5 of the channel's bindings: a client
// that sent bindings must have sent these. Errors: fault.Malformed,
// BadCredential (wrong key, replay, expired, *SkewError under it), Conflict (no
// key of that version), Exhausted.
func (a *Acceptor) Accept(token, binding []byte) (*Accepted, error) {
	const op = "accept a Kerberos ticket"
	out, err := a.accept(token, binding)
	return out, fault.Wrap(fault.Unknown, op, err)
}

func (a *Acceptor) accept(token, binding []byte) (*Accepted, error) {
	id, inner, err := unframe(token)
	if err != nil {
		return nil, err
	}
	var req apReq
	if id != idAPReq {
		return nil, fault.New(fault.Malformed, "the token is no KRB_AP_REQ")
	}
	if err := unmarshalApp(inner, &req, tagAPReq); err != nil {
		return nil, err
	}
	a.mu.Lock()
	host, since := a.host.Clone(), a.since
	a.mu.Unlock()
	defer host.Wipe()
	tkt, err := openTicket(req.Ticket.Bytes, host)
	if err != nil {
		return nil, err
	}
	defer tkt.key.Value.Wipe()
	plain, err := tkt.key.open(req.Auth.Cipher, usageAPReqAuth)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(plain)
	var auth types.Authenticator
	if err := unmarshalApp(plain, &auth, tagAuthenticator); err != nil {
		return nil, err
	}
	now := a.now()
	sent := auth.CTime.Add(time.Duration(auth.Cusec%1e6) * time.Microsecond)
	if d := now.Sub(sent); d > maxSkew || d < -maxSkew {
		return nil, fault.Wrap(fault.BadCredential, "the client's clock", &SkewError{Local: now, Server: sent})
	}
	switch {
	case sent.Before(since):
		return nil, fault.Wrap(fault.BadCredential, "the token may have been used before this daemon started", &Error{Code: CodeRepeat, Time: now})
	case !principal(auth.CName, auth.CRealm).Equal(tkt.client):
		return nil, fault.New(fault.BadCredential, "the ticket is another's")
	case tkt.start.Sub(now) > maxSkew || now.Sub(tkt.end) > maxSkew:
		return nil, fault.New(fault.BadCredential, "the ticket is not valid now")
	case auth.Cksum.CksumType != checksumGSS || len(auth.Cksum.Checksum) < 24 || binary.LittleEndian.Uint32(auth.Cksum.Checksum) != 16:
		return nil, fault.New(fault.Malformed, "the authenticator is not of RFC 4121")
	}
	if got := auth.Cksum.Checksum[4:20]; binding != nil && !bytes.Equal(got, make([]byte, 16)) && !bytes.Equal(got, binding) {
		return nil, fault.New(fault.BadCredential, "the ticket was sent over another channel")
	}
	if err := a.remember(req.Auth.Cipher, now); err != nil {
		return nil, err
	}
	out := &Accepted{Service: tkt.service, Skew: sent.Sub(now), Mutual: auth.Cksum.Checksum[20]&gssMutual != 0, Verified: Verified{Client: tkt.client, Flags: tkt.flags, AuthTime: tkt.authTime, EndTime: tkt.end, PAC: tkt.pac}}
	return out, out.answer(tkt, auth)
}

// answer makes the KRB_AP_REP with a sub-session key and sequence number of
// our own, and the context.
func (out *Accepted) answer(tkt *opened, auth types.Authenticator) error {
	size := tkt.key.EType.size()
	if size == 0 {
		return fault.Errorf(fault.Denied, "the session has encryption type %d", tkt.key.EType)
	}
	random := make([]byte, size+4)
	if _, err := rand.Read(random); err != nil {
		return fault.Wrap(fault.Internal, "draw a key", err)
	}
	subkey := Key{tkt.key.EType, secret.Own(random[:size:size])}
	defer subkey.Value.Wipe()
	seq := binary.BigEndian.Uint32(random[size:]) & 0x3fffffff
	plain, err := marshalApp(messages.EncAPRepPart{CTime: auth.CTime, Cusec: auth.Cusec, Subkey: subkey.library(), SequenceNumber: int64(seq)}, tagEncAPRepPart)
	if err != nil {
		return err
	}
	defer secret.Wipe(plain)
	cipher, err := tkt.key.seal(plain, usageAPRep)
	if err != nil {
		return err
	}
	rep, err := marshalApp(apRep{PVNO: 5, MsgType: tagAPRep, EncPart: types.EncryptedData{EType: int32(tkt.key.EType), Cipher: cipher}}, tagAPRep)
	if err != nil {
		return err
	}
	out.Reply = frame(idAPRep, rep)
	out.Context, err = newContext(subkey, flagSubkey, false, uint64(seq), uint64(uint32(auth.SeqNumber)))
	return err
}

// remember refuses an authenticator that was seen within its life.
func (a *Acceptor) remember(cipher []byte, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) >= maxSeen {
		for k, until := range a.seen {
			if now.After(until) {
				delete(a.seen, k)
			}
		}
		if len(a.seen) >= maxSeen {
			return fault.New(fault.Exhausted, "too many sign-ins at once to tell replays")
		}
	}
	k := sha256.Sum256(cipher)
	if until, ok := a.seen[k]; ok && !now.After(until) {
		return fault.Wrap(fault.BadCredential, "the token was used before", &Error{Code: CodeRepeat, Time: now})
	}
	a.seen[k] = now.Add(2 * maxSkew)
	return nil
}
