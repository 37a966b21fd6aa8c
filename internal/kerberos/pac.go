// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"crypto/hmac"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// PAC is what the domain says about the client of a ticket (MS-PAC), taken
// from a PAC whose server signature was made with our own key.
type PAC struct {
	User         identity.SID
	PrimaryGroup identity.SID
	// Groups are the SIDs of the token: groups of the domain with the primary
	// group, extra SIDs (universal groups, sIDHistory, S-1-18-1), domain-local
	// groups. Without duplicates and without groups that only deny.
	Groups []identity.SID

	Account     string // sAMAccountName
	FullName    string
	Domain      string // NetBIOS name
	DNSDomain   string // as the DC wrote it; upper case in Active Directory
	UPN         string // made up from account and domain when UPNMadeUp
	UPNMadeUp   bool
	LogonServer string

	AccountControl uint32 // USER_ACCOUNT bits of MS-SAMR 2.2.1.12, not userAccountControl
	LogonTime      time.Time
	PasswordSet    time.Time
	MustChange     time.Time // zero: never

	Detail PACDetail
}

// PACDetail is what else KERB_VALIDATION_INFO (MS-PAC 2.5) says, as it is on the
// wire: for a door that has to repeat it. Zero times are never.
type PACDetail struct {
	Logoff, Kickoff, CanChange   time.Time
	LogonScript, ProfilePath     string
	HomeDirectory, HomeDrive     string
	LogonCount, BadPasswordCount uint16
	UserFlags                    uint32
	Groups                       []PACGroup // in the user's domain
	Extra                        []PACSID
	ResourceDomain               identity.SID // zero: there are no resource groups
	ResourceGroups               []PACGroup   // domain-local groups, in ResourceDomain
}

// PACGroup is GROUP_MEMBERSHIP (MS-PAC 2.2.2).
type PACGroup struct{ RID, Attributes uint32 }

// PACSID is KERB_SID_AND_ATTRIBUTES (MS-PAC 2.2.1).
type PACSID struct {
	SID        identity.SID
	Attributes uint32
}

// Buffer types (MS-PAC 2.4).
const (
	pacLogonInfo   = 1
	pacServerSum   = 6
	pacKDCSum      = 7
	pacClientInfo  = 10
	pacUPNInfo     = 12
	pacRequestor   = 18
	maxPACBuffers  = 64
	usagePACServer = 17 // KERB_NON_KERB_CKSUM_SALT
)

// pacBuffer is one buffer of a PAC.
type pacBuffer struct {
	kind uint32
	from int
	data []byte
}

// pacBuffers cuts a PACTYPE (MS-PAC 2.3) into its buffers. Buffers share the
// memory of b.
func pacBuffers(b []byte) ([]pacBuffer, error) {
	bad := func(why string) ([]pacBuffer, error) { return nil, fault.New(fault.Malformed, "the PAC "+why) }
	if len(b) < 8 {
		return bad("is cut short")
	}
	n := binary.LittleEndian.Uint32(b)
	if version := binary.LittleEndian.Uint32(b[4:]); version != 0 || n == 0 || n > maxPACBuffers || len(b) < 8+16*int(n) {
		return bad("has a broken header")
	}
	out := make([]pacBuffer, 0, n)
	seen := map[uint32]bool{}
	for i := range int(n) {
		e := b[8+16*i:]
		kind, size, offset := binary.LittleEndian.Uint32(e), uint64(binary.LittleEndian.Uint32(e[4:])), binary.LittleEndian.Uint64(e[8:])
		if offset > uint64(len(b)) || size > uint64(len(b))-offset {
			return bad("points outside itself")
		}
		if seen[kind] {
			return bad("holds a buffer twice")
		}
		seen[kind] = true
		out = append(out, pacBuffer{kind, int(offset), b[offset : offset+size]})
	}
	return out, nil
}

// openPAC checks the server signature of a PAC with the key that the ticket was
// sealed with, and reads it. The ticket's client and time of sign-in must be
// those that the PAC was made for. Nothing is decoded before the signature is
// right.
func openPAC(raw []byte, key Key, client Principal, authTime time.Time) (*PAC, error) {
	p, made, err := readPAC(raw, key)
	if err == nil {
		err = checkClientInfo(made, client, authTime)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, opPAC, err)
	}
	return p, nil
}

const opPAC = "read the PAC of a ticket"

// CheckPAC checks the server signature of a PAC without its ticket, as a program
// that accepted the ticket hands it on, with the keys of host, and reads it. It
// says who the ticket's client is, not when they came: a PAC is as old as the TGT
// that it was got with. fault.BadCredential: none of the keys made the
// signature; fault.Conflict: host has no key of its kind.
func CheckPAC(raw []byte, host *Keytab) (*PAC, error) {
	buffers, err := pacBuffers(raw)
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, opPAC, err)
	}
	err = fault.New(fault.Conflict, "the keytab has no AES key")
	var tried []Key
	for _, e := range host.Entries {
		same := func(k Key) bool { return k.EType == e.Key.EType && k.Value.Equal(e.Key.Value) }
		if _, unknown := e.Key.suite(); unknown != nil || slices.ContainsFunc(tried, same) {
			continue
		}
		tried = append(tried, e.Key)
		if err = checkServerSum(raw, buffers, e.Key); err != nil {
			continue
		}
		var p *PAC
		if p, _, err = readPAC(raw, e.Key); err == nil {
			return p, nil
		}
		break
	}
	return nil, fault.Wrap(fault.Unknown, opPAC, err)
}

// readPAC checks the server signature and reads everything but for whom the
// PAC was made, which it returns as it is.
func readPAC(raw []byte, key Key) (*PAC, []byte, error) {
	buffers, err := pacBuffers(raw)
	if err != nil {
		return nil, nil, err
	}
	of := map[uint32][]byte{}
	for _, b := range buffers {
		of[b.kind] = b.data
	}
	if err := checkServerSum(raw, buffers, key); err != nil {
		return nil, nil, err
	}
	if of[pacLogonInfo] == nil || of[pacClientInfo] == nil {
		return nil, nil, fault.New(fault.Malformed, "it says nothing about the client")
	}
	p := &PAC{}
	if err := p.logonInfo(of[pacLogonInfo]); err != nil {
		return nil, nil, err
	}
	if b := of[pacUPNInfo]; b != nil {
		if err := p.upnInfo(b); err != nil {
			return nil, nil, err
		}
	}
	// PAC_REQUESTOR (MS-PAC 2.15) is who asked for the TGT: with it a renamed
	// account cannot pass for another (CVE-2021-42287).
	if b := of[pacRequestor]; b != nil {
		if sid, err := identity.SIDFromBytes(b); err != nil || sid != p.User {
			return nil, nil, fault.New(fault.BadCredential, "it was made for another account")
		}
	}
	return p, of[pacClientInfo], nil
}

// checkServerSum verifies PAC_SIGNATURE_DATA of the server (MS-PAC 2.8): over
// the whole PAC with the signatures of server and KDC zeroed.
func checkServerSum(raw []byte, buffers []pacBuffer, key Key) error {
	et, err := key.suite()
	if err != nil {
		return err
	}
	size := et.GetHMACBitLength() / 8
	blank := append([]byte(nil), raw...)
	var sum []byte
	for _, b := range buffers {
		if b.kind != pacServerSum && b.kind != pacKDCSum {
			continue
		}
		if len(b.data) < 4 {
			return fault.New(fault.Malformed, "a signature is cut short")
		}
		n := 12
		if kind := int32(binary.LittleEndian.Uint32(b.data)); kind == -138 { // HMAC-MD5, of a KDC with an RC4 key
			n = 16
		}
		n = min(n, len(b.data)-4)
		if b.kind == pacServerSum {
			if kind := int32(binary.LittleEndian.Uint32(b.data)); kind != et.GetHashID() || n < size {
				return fault.Errorf(fault.BadCredential, "the server signature is of kind %d", kind)
			}
			sum = b.data[4 : 4+size]
		}
		clear(blank[b.from+4 : b.from+4+n])
	}
	if sum == nil {
		return fault.New(fault.Malformed, "it has no server signature")
	}
	want, err := et.GetChecksumHash(key.Value.Reveal(), blank, usagePACServer)
	if err != nil {
		return fault.Wrap(fault.Internal, "compute the signature", err)
	}
	if !hmac.Equal(want, sum) {
		return fault.New(fault.BadCredential, "the server signature is wrong")
	}
	return nil
}

// checkClientInfo compares PAC_CLIENT_INFO (MS-PAC 2.7) with the ticket.
func checkClientInfo(b []byte, client Principal, authTime time.Time) error {
	if len(b) < 10 || len(b) < 10+int(binary.LittleEndian.Uint16(b[8:])) {
		return fault.New(fault.Malformed, "the client information is cut short")
	}
	name, err := utf16LE(b[10 : 10+int(binary.LittleEndian.Uint16(b[8:]))])
	if err != nil {
		return err
	}
	at := fileTime(binary.LittleEndian.Uint64(b))
	// A client name with several components is written with slashes.
	if got := (Principal{Name: client.Name}).String(); !strings.EqualFold(got, escape.Replace(name)) && !strings.EqualFold(got, name) {
		return fault.Errorf(fault.BadCredential, "it was made for %.100q", name)
	}
	if !at.Truncate(time.Second).Equal(authTime.Truncate(time.Second)) {
		return fault.New(fault.BadCredential, "it was made for another sign-in")
	}
	return nil
}

// upnInfo reads UPN_DNS_INFO (MS-PAC 2.10).
func (p *PAC) upnInfo(b []byte) error {
	if len(b) < 12 {
		return fault.New(fault.Malformed, "the UPN information is cut short")
	}
	field := func(at int) ([]byte, error) {
		n, from := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint16(b[at+2:]))
		if from+n > len(b) {
			return nil, fault.New(fault.Malformed, "the UPN information points outside itself")
		}
		return b[from : from+n], nil
	}
	for at, into := range map[int]*string{0: &p.UPN, 4: &p.DNSDomain} {
		raw, err := field(at)
		if err != nil {
			return err
		}
		if *into, err = utf16LE(raw); err != nil {
			return err
		}
	}
	flags := binary.LittleEndian.Uint32(b[8:])
	p.UPNMadeUp = flags&1 != 0
	if flags&2 != 0 { // the extended form names the account again
		if len(b) < 20 {
			return fault.New(fault.Malformed, "the UPN information is cut short")
		}
		raw, err := field(16)
		if err != nil {
			return err
		}
		if sid, err := identity.SIDFromBytes(raw); err != nil || sid != p.User {
			return fault.New(fault.BadCredential, "it names another account")
		}
	}
	return nil
}

// utf16LE decodes UTF-16; half a character is fault.Malformed.
func utf16LE(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", fault.New(fault.Malformed, "a text ends in the middle of a character")
	}
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u)), nil
}

// fileTime converts 100 ns since 1601 (MS-DTYP 2.3.3); 0 and what lies past
// 9999 are the zero time: never.
func fileTime(n uint64) time.Time {
	if n == 0 || n >= 2650467744000000000 {
		return time.Time{}
	}
	return time.Unix(int64(n/1e7)-11644473600, int64(n%1e7)*100).UTC()
}
