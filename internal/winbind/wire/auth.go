// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Auth is the answer of everything that proves or checks something: PAM_AUTH,
// PAM_AUTH_CRAP, CHECK_MACHACC, PING_DC and those that would change passwords.
type Auth struct {
	Status     uint32 // NTSTATUS
	StatusName string
	Message    string
	PAMError   int32
	// Keys. The caller wipes them.
	SessionKey [16]byte
	LMKey      [8]byte

	CacheName       string // of a credential cache
	RejectReason    uint32
	Authoritative   bool
	ValidationLevel uint16 // 3 or 6; 0 without Info
	Info            *Info3
	UnixName        string
}

// RIDAttributes is one group of an account, by its RID.
type RIDAttributes struct{ RID, Attributes uint32 }

// SIDAttributes is one SID of an account.
type SIDAttributes struct {
	SID        identity.SID
	Attributes uint32
}

// Info3 is who somebody is, as a domain controller says it (MS-NRPC 2.2.1.4.12).
// A zero time is never.
type Info3 struct {
	Logon, Logoff, Kickoff, PasswordSet, CanChange, MustChange time.Time

	LogonCount, BadPasswordCount uint32
	UserRID, GroupRID            uint32
	UserFlags, AccountFlags      uint32
	DomainSID                    identity.SID
	Account, FullName            string
	LogonScript, ProfilePath     string
	HomeDirectory, HomeDrive     string
	LogonServer, LogonDomain     string
	DNSDomain, UPN               string // with level 6

	Groups []RIDAttributes
	Others []SIDAttributes
}

// Offsets of an auth answer.
const (
	authStatus        = 8
	authStatusName    = 12
	authMessage       = 268
	authPAMError      = 524
	authSessionKey    = 528
	authLMKey         = 544
	authCacheName     = 552
	authReject        = 808
	authAuthoritative = 812
	authLevel         = 814
	authTimes         = 848
	authNumbers       = 896
	authTexts         = 928
	authDNSDomain     = 3232
	authUPN           = 3488
	authUnixName      = 3744
)

// never is the largest FILETIME in seconds since 1970, as winbindd writes a time
// that does not come.
const never = (1<<63-1)/10_000_000 - 11644473600

// SetAuth sets everything but the result of the response. With Info, the lists
// become the extra data, which a client wants even where they are empty.
func (r *Response) SetAuth(a *Auth) {
	r.put32(authStatus, a.Status)
	r.putText(authStatusName, nameSize, a.StatusName)
	r.putText(authMessage, nameSize, a.Message)
	r.put32(authPAMError, uint32(a.PAMError))
	copy(r.b[authSessionKey:], a.SessionKey[:])
	copy(r.b[authLMKey:], a.LMKey[:])
	r.putText(authCacheName, nameSize, a.CacheName)
	r.put32(authReject, a.RejectReason)
	r.putBool(authAuthoritative, a.Authoritative)
	binary.LittleEndian.PutUint16(r.b[authLevel:], a.ValidationLevel)
	r.putText(authUnixName, nameSize, a.UnixName)
	if a.Info != nil {
		a.Info.put(r, a.ValidationLevel)
	}
}

func (i *Info3) put(r *Response, level uint16) {
	for n, t := range i.times() {
		seconds := int64(never)
		if !t.IsZero() {
			seconds = t.Unix()
		}
		binary.LittleEndian.PutUint64(r.b[authTimes+8*n:], uint64(seconds))
	}
	for n, v := range []uint32{i.LogonCount, i.BadPasswordCount, i.UserRID, i.GroupRID, uint32(len(i.Groups)), i.UserFlags, i.AccountFlags, uint32(len(i.Others))} {
		r.put32(authNumbers+4*n, v)
	}
	for n, s := range append([]string{i.DomainSID.String()}, i.texts()...) {
		r.putText(authTexts+nameSize*n, nameSize, s)
	}
	if level == 6 {
		r.putText(authDNSDomain, nameSize, i.DNSDomain)
		r.putText(authUPN, nameSize, i.UPN)
	}
	b := r.b
	for _, g := range i.Groups {
		b = appendHex(append(appendHex(b, g.RID), ':'), g.Attributes)
		b = append(b, '\n')
	}
	for _, s := range i.Others {
		b = append(append(b, s.SID.String()...), ':')
		b = append(appendHex(b, s.Attributes), '\n')
	}
	r.b = append(b, 0)
}

func (i *Info3) times() []time.Time {
	return []time.Time{i.Logon, i.Logoff, i.Kickoff, i.PasswordSet, i.CanChange, i.MustChange}
}

func (i *Info3) texts() []string {
	return []string{i.Account, i.FullName, i.LogonScript, i.ProfilePath, i.HomeDirectory, i.HomeDrive, i.LogonServer, i.LogonDomain}
}

func appendHex(b []byte, n uint32) []byte { return fmt.Appendf(b, "0x%08X", n) }

// Auth reads what SetAuth set. fault.Malformed: lists that are not so.
func (r *Response) Auth() (*Auth, error) {
	a := &Auth{Status: r.u32(authStatus), StatusName: r.text(authStatusName, nameSize), Message: r.text(authMessage, nameSize),
		PAMError: int32(r.u32(authPAMError)), CacheName: r.text(authCacheName, nameSize), RejectReason: r.u32(authReject),
		Authoritative: r.b[authAuthoritative] != 0, ValidationLevel: binary.LittleEndian.Uint16(r.b[authLevel:]), UnixName: r.text(authUnixName, nameSize)}
	copy(a.SessionKey[:], r.b[authSessionKey:])
	copy(a.LMKey[:], r.b[authLMKey:])
	if a.ValidationLevel == 0 {
		return a, nil
	}
	i := &Info3{}
	for n, t := range []*time.Time{&i.Logon, &i.Logoff, &i.Kickoff, &i.PasswordSet, &i.CanChange, &i.MustChange} {
		if seconds := int64(binary.LittleEndian.Uint64(r.b[authTimes+8*n:])); seconds != never {
			*t = time.Unix(seconds, 0)
		}
	}
	var groups, others uint32
	for n, v := range []*uint32{&i.LogonCount, &i.BadPasswordCount, &i.UserRID, &i.GroupRID, &groups, &i.UserFlags, &i.AccountFlags, &others} {
		*v = r.u32(authNumbers + 4*n)
	}
	for n, s := range []*string{&i.Account, &i.FullName, &i.LogonScript, &i.ProfilePath, &i.HomeDirectory, &i.HomeDrive, &i.LogonServer, &i.LogonDomain} {
		*s = r.text(authTexts+nameSize*(n+1), nameSize)
	}
	if text := r.text(authTexts, nameSize); text != "" {
		sid, err := identity.ParseSID(text)
		if err != nil {
			return nil, err
		}
		i.DomainSID = sid
	}
	if a.ValidationLevel == 6 {
		i.DNSDomain, i.UPN = r.text(authDNSDomain, nameSize), r.text(authUPN, nameSize)
	}
	if err := i.lists(r.Extra(), groups, others); err != nil {
		return nil, err
	}
	a.Info = i
	return a, nil
}

// lists reads the extra data.
func (i *Info3) lists(b []byte, groups, others uint32) error {
	bad := fault.New(fault.Malformed, "the list of groups is not as it should be")
	b, ok := bytes.CutSuffix(b, []byte{0})
	if !ok {
		return bad
	}
	n := uint64(0)
	for line := range strings.Lines(string(b)) {
		line, ended := strings.CutSuffix(line, "\n")
		left, right, cut := strings.Cut(line, ":")
		attributes, err := hex(right)
		if !ended || !cut || err != nil {
			return bad
		}
		if n < uint64(groups) {
			rid, err := hex(left)
			if err != nil {
				return bad
			}
			i.Groups = append(i.Groups, RIDAttributes{rid, attributes})
		} else {
			sid, err := identity.ParseSID(left)
			if err != nil {
				return bad
			}
			i.Others = append(i.Others, SIDAttributes{sid, attributes})
		}
		n++
	}
	if n != uint64(groups)+uint64(others) {
		return bad
	}
	return nil
}

func hex(s string) (uint32, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok || len(digits) != 8 {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), err
}
