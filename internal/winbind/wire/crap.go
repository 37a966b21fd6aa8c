// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Offsets of PAM_AUTH_CRAP.
const (
	crapChallenge   = 320
	crapParameters  = 328
	crapUser        = 332
	crapDomain      = 588
	crapLM          = 844
	crapLMLen       = 1100
	crapNT          = 1104
	crapNTLen       = 1360
	crapWorkstation = 1364
	crapMembership  = 1620
)

// AuthCrap is what PAM_AUTH_CRAP brings: an answered challenge, or with
// FlagAuthPAC a PAC and nothing else. (CRAP is challenge-response authentication
// protocol.)
type AuthCrap struct {
	Flags        uint32
	Challenge    [8]byte
	Parameters   uint32 // MS-NRPC 2.2.1.4.15
	User, Domain string
	Workstation  string
	Membership   string // SIDs, one of which is wanted
	LM, NT       []byte // share the request's memory
	PAC          []byte // the same
}

// AuthCrap reads PAM_AUTH_CRAP. fault.Malformed: a length that is not so.
func (r *Request) AuthCrap() (AuthCrap, error) {
	a := AuthCrap{Flags: r.Flags(), Parameters: r.u32(crapParameters), User: r.text(crapUser, nameSize), Domain: r.text(crapDomain, nameSize),
		Workstation: r.text(crapWorkstation, nameSize), Membership: r.text(crapMembership, nameSize)}
	copy(a.Challenge[:], r.head[crapChallenge:])
	if a.Flags&FlagAuthPAC != 0 {
		a.PAC = r.Extra
		return a, nil
	}
	lm, nt := r.u32(crapLMLen), r.u32(crapNTLen)
	if lm > nameSize {
		return AuthCrap{}, fault.Errorf(fault.Malformed, "an LM response of %d bytes", lm)
	}
	a.LM = r.head[crapLM : crapLM+lm]
	switch {
	case a.Flags&FlagBigNTLMv2 != 0:
		if int(nt) != len(r.Extra) {
			return AuthCrap{}, fault.Errorf(fault.Malformed, "an NT response of %d bytes in %d bytes of extra data", nt, len(r.Extra))
		}
		a.NT = r.Extra
	case nt > nameSize:
		return AuthCrap{}, fault.Errorf(fault.Malformed, "an NT response of %d bytes in the structure", nt)
	default:
		a.NT = r.head[crapNT : crapNT+nt]
	}
	return a, nil
}

// SetAuthCrap fills in PAM_AUTH_CRAP. FlagBigNTLMv2 says where NT goes.
func (r *Request) SetAuthCrap(a *AuthCrap) {
	r.SetFlags(a.Flags)
	copy(r.head[crapChallenge:], a.Challenge[:])
	r.put32(crapParameters, a.Parameters)
	putText(r.head[crapUser:crapUser+nameSize], a.User)
	putText(r.head[crapDomain:crapDomain+nameSize], a.Domain)
	putText(r.head[crapWorkstation:crapWorkstation+nameSize], a.Workstation)
	putText(r.head[crapMembership:crapMembership+nameSize], a.Membership)
	if a.Flags&FlagAuthPAC != 0 {
		r.SetExtra(a.PAC)
		return
	}
	binary.LittleEndian.PutUint32(r.head[crapLMLen:], uint32(copy(r.head[crapLM:crapLM+nameSize], a.LM)))
	if a.Flags&FlagBigNTLMv2 != 0 {
		r.put32(crapNTLen, uint32(len(a.NT)))
		r.SetExtra(a.NT)
		return
	}
	r.put32(crapNTLen, uint32(copy(r.head[crapNT:crapNT+nameSize], a.NT)))
}
