// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

// Reasons for which a token for Negotiate is of no use; found by errors.Is.
var (
	// ErrNoTicket (fault.BadCredential): the client sent no Kerberos ticket, but
	// NTLM or another mechanism. It is to be asked for a password.
	ErrNoTicket = errors.New("the browser sent no Kerberos ticket")
	// ErrReplay (fault.BadCredential): the token was used before.
	ErrReplay = errors.New("the ticket's authenticator was used before")
	// ErrClock (fault.BadCredential): the client's clock is more than five
	// minutes off.
	ErrClock = errors.New("the client's clock and ours differ too much")
	// ErrKey (fault.BadCredential): the ticket was made with a key that this
	// machine does not have.
	ErrKey = errors.New("the ticket was made with another key")
)

// tickets accepts Kerberos tickets for this machine; it knows which it saw.
type tickets struct {
	mu       sync.Mutex
	acceptor *kerberos.Acceptor
	begun    time.Time // before which nothing is taken
	keytab   string    // that the acceptor has
	changed  time.Time // its mtime
}

// take returns the acceptor with the keys as they are on disk.
func (t *tickets) take(keytab string) (*kerberos.Acceptor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(keytab)
	if err != nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "read this machine's own keys", err), "see `latchkey doctor`")
	}
	if t.acceptor != nil && t.keytab == keytab && info.ModTime().Equal(t.changed) {
		return t.acceptor, nil
	}
	keys, err := kerberos.ReadKeytab(keytab)
	if err != nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Internal, "read this machine's own keys", err), "see `latchkey doctor`")
	}
	defer keys.Wipe()
	if t.acceptor == nil {
		t.acceptor = kerberos.NewAcceptor(keys)
		t.acceptor.RefuseOlder(t.begun)
	} else {
		t.acceptor.SetKeytab(keys)
	}
	t.keytab, t.changed = keytab, info.ModTime()
	return t.acceptor, nil
}

// AcceptNegotiate takes the token of "Authorization: Negotiate" (RFC 4559), and
// asks the policy whether the ticket's owner may use the service: one attempt,
// one event. The ticket is opened with this machine's own keys, its
// authenticator is taken once, the PAC's signature is checked, and the row is
// found by the SID in it; the principal's name finds nobody. An empty Service is
// web.
//
// The result is never nil: it tells as much as could be read. ErrNoTicket,
// ErrReplay, ErrClock, ErrKey and ErrOtherDomain say more of a refusal than its
// kind does.
func (l *Login) AcceptNegotiate(ctx context.Context, req Request, token []byte) (*NegotiateResult, error) {
	if req.Service == "" {
		req.Service = serviceWeb
	}
	a := l.begin(req, audit.SignIn)
	a.event.How = string(ByNegotiate)
	out := &NegotiateResult{}
	err := l.negotiate(ctx, a, token, out)
	return out, a.end(err)
}

func (l *Login) negotiate(ctx context.Context, a *attempt, token []byte, out *NegotiateResult) error {
	const op = "accept a token for Negotiate"
	d, err := l.membership(ctx)
	if err != nil {
		return err
	}
	n, err := kerberos.ParseNegotiation(token)
	if err != nil {
		return fault.Wrap(fault.Unknown, op, err)
	}
	out.Mechanism = n.Mechanism
	if n.Mechanism != kerberos.MechKerberos || n.Token == nil {
		return fault.Wrap(fault.BadCredential, op, ErrNoTicket)
	}
	if head, err := kerberos.PeekAPRequest(n.Token); err == nil {
		out.SPN, out.KVNO, out.EType = head.Service.String(), head.KVNO, int32(head.EType)
	}
	acceptor, err := l.tickets.take(d.Keytab)
	if err != nil {
		return err
	}
	in, err := acceptor.Accept(n.Token, nil)
	if err != nil {
		return explainTicket(err, out)
	}
	out.Skew = in.Skew
	a.event.Principal = in.Client.String()
	if a.event.Asked == "" {
		a.event.Asked = a.event.Principal
	}
	if in.PAC == nil {
		return fault.New(fault.BadCredential, "the ticket has no PAC, so nobody can say whose it is")
	}
	p, err := l.proven(ctx, a, d, in.PAC.User)
	if err != nil {
		return err
	}
	r, err := l.admit(ctx, a, p, ByNegotiate)
	if err != nil {
		return err
	}
	proof := in.Reply
	if !in.Mutual {
		proof = nil
	}
	if out.Reply, err = n.Answer(proof); err != nil {
		return err
	}
	r.PasswordExpires = in.PAC.MustChange
	l.warnOfExpiry(r)
	out.Result = r
	return nil
}

// explainTicket adds the reason that a door tells apart.
func explainTicket(err error, out *NegotiateResult) error {
	var skew *kerberos.SkewError
	var refusal *kerberos.Error
	why := error(nil)
	switch {
	case errors.As(err, &skew):
		out.Skew = skew.Server.Sub(skew.Local)
		why = ErrClock
	case errors.As(err, &refusal) && refusal.Code == kerberos.CodeRepeat:
		why = ErrReplay
	case fault.Is(err, fault.Conflict):
		why = ErrKey
	}
	if why == nil {
		return err
	}
	return fault.WithRemedy(fault.Wrap(fault.BadCredential, "accept a token for Negotiate", errors.Join(why, err)), fault.Remedy(err))
}
