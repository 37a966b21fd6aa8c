// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"context"
	"errors"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/access"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// door is this door's name in the audit.
const door = "winbind"

// accepted is somebody who was let in, in whatever way.
type accepted struct {
	user    *identity.User
	info    *wire.Info3
	session secret.Bytes // user session key; empty where there is none
}

// pamAuth tries a password: for ntlm_auth, wbinfo and pam_winbind. On the public
// pipe anybody may do that, so who fails is slowed down.
func (c *client) pamAuth(req *wire.Request, resp *wire.Response) error {
	name, password := req.Password()
	settle, err := c.s.pace.take(c.conn.Caller().UID)
	if err != nil {
		c.refuse(resp, statusOf(err), err, true)
		return err
	}
	ctx, cancel := c.patient()
	defer cancel()
	r, err := c.s.cfg.Login.Authenticate(ctx, c.attempt(req, c.typed(name)), password)
	settle(err != nil && !fault.Is(err, fault.Unreachable))
	if err != nil {
		return c.refused(resp, req.Flags(), err)
	}
	defer r.Wipe()
	a := accepted{user: r.User, info: c.infoOfRow(r)}
	return c.accept(resp, req.Flags(), req.Membership(), a)
}

// attempt is the request as package login has it.
func (c *client) attempt(req *wire.Request, name string) login.Request {
	caller := c.conn.Caller().String()
	if program := req.Client(); program != "" {
		caller += ", " + strings.ToValidUTF8(program, "\uFFFD")
	}
	return login.Request{Name: strings.ToValidUTF8(name, "\uFFFD"), Service: access.SMB, Door: door, Caller: caller}
}

// pamAuthCrap takes an answered challenge or the PAC of a ticket.
func (c *client) pamAuthCrap(req *wire.Request, resp *wire.Response) error {
	if !c.privileged {
		err := fault.New(fault.Denied, "a challenge-response is taken on the privileged pipe only")
		c.refuse(resp, statusAccessDenied, err, true)
		return err
	}
	crap, err := req.AuthCrap()
	if err != nil {
		c.refuse(resp, statusInvalidParameter, err, true)
		return err
	}
	ctx, cancel := c.patient()
	defer cancel()
	var a accepted
	if crap.PAC != nil || crap.Flags&wire.FlagAuthPAC != 0 {
		a, err = c.ticket(ctx, req, &crap)
	} else {
		a, err = c.ntlm(ctx, req, &crap)
	}
	defer a.session.Wipe()
	if err != nil {
		return c.refused(resp, crap.Flags, err)
	}
	return c.accept(resp, crap.Flags, crap.Membership, a)
}

func (c *client) ntlm(ctx context.Context, req *wire.Request, crap *wire.AuthCrap) (accepted, error) {
	r, err := c.s.cfg.Login.VerifyNTLM(ctx, login.NTLMRequest{Request: c.attempt(req, crap.User), Domain: crap.Domain, Workstation: crap.Workstation,
		Challenge: crap.Challenge, NT: crap.NT, LM: crap.LM, Parameters: crap.Parameters})
	if err != nil {
		return accepted{}, err
	}
	defer r.Wipe()
	return accepted{user: r.User, info: infoOfValidation(r.Validation), session: r.Validation.SessionKey.Clone()}, nil
}

func (c *client) ticket(ctx context.Context, req *wire.Request, crap *wire.AuthCrap) (accepted, error) {
	r, err := c.s.cfg.Login.AcceptPAC(ctx, c.attempt(req, ""), crap.PAC)
	if err != nil {
		return accepted{}, err
	}
	defer r.Wipe()
	return accepted{user: r.User, info: infoOfPAC(r.PAC)}, nil
}

// refused answers a failure. Only where the account is said to be of a domain
// that is not ours may smbd look among its own accounts.
func (c *client) refused(resp *wire.Response, flags uint32, err error) error {
	status := statusOf(err)
	if c.s.cfg.Membership() == nil {
		status = statusNoLogonServers
	}
	if flags&wire.FlagSquashStatus != 0 && (status == statusNoSuchUser || status == statusWrongPassword) {
		status = statusLogonFailure
	}
	c.refuse(resp, status, err, !errors.Is(err, login.ErrOtherDomain))
	return err
}

// accept answers with who it is.
func (c *client) accept(resp *wire.Response, flags uint32, membership string, a accepted) error {
	if membership != "" && !member(a.info, membership) {
		err := fault.Errorf(fault.Denied, "the client wants a member of %.200q", membership)
		c.refuse(resp, statusLogonFailure, err, true)
		return err
	}
	auth := &wire.Auth{StatusName: statusName(statusOK), Message: statusMessage(statusOK), Authoritative: true}
	if flags&wire.FlagInfo3Text != 0 {
		auth.ValidationLevel, auth.Info = 6, a.info
	}
	if flags&wire.FlagUserSessionKey != 0 {
		copy(auth.SessionKey[:], a.session.Reveal())
	}
	if flags&wire.FlagLMKey != 0 { // as winbindd does for NTLMv2: the LM hash has no part in it
		copy(auth.LMKey[:], a.session.Reveal())
	}
	if flags&wire.FlagUnixName != 0 {
		auth.UnixName = a.user.Name
	}
	resp.OK()
	resp.SetAuth(auth)
	secret.Wipe(auth.SessionKey[:])
	secret.Wipe(auth.LMKey[:])
	return nil
}
