// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"encoding/binary"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// denyOnly is SE_GROUP_USE_FOR_DENY_ONLY (MS-PAC 2.2.1).
const denyOnly = 0x10

// logonInfo reads KERB_VALIDATION_INFO (MS-PAC 2.5) in NDR, type serialization
// version 1 (MS-RPCE 2.2.6): first the structure, then what its pointers mean,
// in their order. (gokrb5's decoder believes array sizes before it looks for
// the arrays.)
func (p *PAC) logonInfo(b []byte) error {
	r := ndr{b: b}
	if r.u16(); len(b) < 16 || b[0] != 1 || b[1] != 0x10 {
		return fault.New(fault.Malformed, "the logon information is not in little-endian NDR")
	}
	r.skip(18) // the rest of both headers, and the pointer to the structure

	p.LogonTime = r.time()
	d := &p.Detail
	d.Logoff, d.Kickoff = r.time(), r.time()
	p.PasswordSet = r.time()
	d.CanChange = r.time()
	p.MustChange = r.time()
	account, fullName := r.stringHead(), r.stringHead()
	profile := []*string{&d.LogonScript, &d.ProfilePath, &d.HomeDirectory, &d.HomeDrive}
	var there [4]bool
	for i := range there {
		there[i] = r.stringHead()
	}
	d.LogonCount, d.BadPasswordCount = r.u16(), r.u16()
	user, primary := r.u32(), r.u32()
	groupCount, groups := r.u32(), r.pointer()
	d.UserFlags = r.u32()
	r.skip(16) // session key: zero in a PAC
	server, domainName := r.stringHead(), r.stringHead()
	domainID := r.pointer()
	r.skip(8)
	p.AccountControl = r.u32()
	r.skip(28) // sub-authentication, interactive logons
	extraCount, extra := r.u32(), r.pointer()
	resourceDomain := r.pointer()
	resourceCount, resource := r.u32(), r.pointer()

	p.Account, p.FullName = r.text(account), r.text(fullName)
	for i, text := range profile {
		*text = r.text(there[i])
	}
	groupIDs := r.memberships(groups, groupCount)
	p.LogonServer, p.Domain = r.text(server), r.text(domainName)
	domain := r.sid(domainID)
	extraSIDs := r.sidsAndAttributes(extra, extraCount)
	otherDomain := r.sid(resourceDomain)
	resourceIDs := r.memberships(resource, resourceCount)
	if r.short {
		return fault.New(fault.Malformed, "the logon information is cut short or contradicts itself")
	}
	p.User, p.PrimaryGroup = domain.WithRID(user), domain.WithRID(primary)
	if p.User.IsZero() || p.PrimaryGroup.IsZero() {
		return fault.New(fault.Malformed, "the logon information has no domain")
	}
	d.Groups, d.Extra, d.ResourceDomain, d.ResourceGroups = groupIDs, extraSIDs, otherDomain, resourceIDs
	seen := map[identity.SID]bool{}
	add := func(sid identity.SID, attributes uint32) {
		if !sid.IsZero() && attributes&denyOnly == 0 && !seen[sid] {
			seen[sid] = true
			p.Groups = append(p.Groups, sid)
		}
	}
	add(p.PrimaryGroup, 0)
	for _, g := range groupIDs {
		add(domain.WithRID(g.RID), g.Attributes)
	}
	for _, s := range extraSIDs {
		add(s.SID, s.Attributes)
	}
	for _, g := range resourceIDs {
		add(otherDomain.WithRID(g.RID), g.Attributes)
	}
	return nil
}

// ndr reads NDR 2.0, little-endian, from a buffer. Once it ran short, or a size
// disagreed with its array, everything it returns is zero.
type ndr struct {
	b     []byte
	at    int
	short bool
}

// take returns the next n bytes after an alignment to align.
func (r *ndr) take(n, align int) []byte {
	at := (r.at + align - 1) / align * align
	if r.short || n < 0 || at > len(r.b) || n > len(r.b)-at {
		r.short = true
		return nil
	}
	r.at = at + n
	return r.b[at:r.at]
}

func (r *ndr) skip(n int) { r.take(n, 1) }

func (r *ndr) u16() uint16 {
	if b := r.take(2, 2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *ndr) u32() uint32 {
	if b := r.take(4, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// pointer reports whether a pointer points at something.
func (r *ndr) pointer() bool { return r.u32() != 0 }

func (r *ndr) time() time.Time {
	low := r.u32()
	return fileTime(uint64(r.u32())<<32 | uint64(low))
}

// stringHead reads the fixed part of an RPC_UNICODE_STRING (MS-DTYP 2.3.10)
// and reports whether a text follows.
func (r *ndr) stringHead() bool {
	r.u16()
	r.u16()
	return r.pointer()
}

// text reads a conformant varying array of UTF-16 units.
func (r *ndr) text(there bool) string {
	if !there {
		return ""
	}
	most, offset, n := r.u32(), r.u32(), r.u32()
	if offset != 0 || n > most || n > 0xffff {
		r.short = true
		return ""
	}
	s, err := utf16LE(r.take(2*int(n), 1))
	if err != nil {
		r.short = true
	}
	return s
}

// array reads the size of a conformant array of elements of the given length
// and checks it against the count that was announced and the bytes left.
func (r *ndr) array(there bool, count uint32, size int) int {
	if !there {
		return 0
	}
	if n := r.u32(); n != count || int64(n)*int64(size) > int64(len(r.b)-r.at) {
		r.short = true
		return 0
	}
	return int(count)
}

func (r *ndr) memberships(there bool, count uint32) []PACGroup {
	out := make([]PACGroup, 0, r.array(there, count, 8))
	for range cap(out) {
		out = append(out, PACGroup{r.u32(), r.u32()})
	}
	return out
}

func (r *ndr) sidsAndAttributes(there bool, count uint32) []PACSID {
	n := r.array(there, count, 8)
	out := make([]PACSID, 0, n)
	points := make([]bool, 0, n)
	for range n {
		points = append(points, r.pointer())
		out = append(out, PACSID{Attributes: r.u32()})
	}
	for i, there := range points {
		out[i].SID = r.sid(there)
	}
	return out
}

// sid reads an RPC_SID (MS-DTYP 2.4.2.3): its count, then the packet form.
func (r *ndr) sid(there bool) identity.SID {
	if !there {
		return identity.SID{}
	}
	n := r.u32()
	if n > identity.MaxSubAuthorities {
		r.short = true
		return identity.SID{}
	}
	sid, err := identity.SIDFromBytes(r.take(8+4*int(n), 4))
	if err != nil {
		r.short = true
	}
	return sid
}
