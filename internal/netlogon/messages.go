// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unicode/utf16"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/midl/uuid"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	"github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
	"github.com/oiweiwei/go-msrpc/msrpc/nrpc/logon/v1"
	"github.com/oiweiwei/go-msrpc/ndr"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// This file is the only one that knows go-msrpc: of it come the messages and
// their encoding (NDR). The connection, its seal and everything that waits are
// our own.

var (
	netlogonInterface = syntaxOf(logon.LogonSyntaxV1_0)
	mapperInterface   = syntaxOf(epm.EpmSyntaxV3_0)
)

func syntaxOf(id *dcerpc.SyntaxID) syntax {
	g := dtyp.GUIDFromUUID(id.IfUUID)
	s := syntax{major: id.IfVersionMajor, minor: id.IfVersionMinor}
	b := s.uuid[:0]
	b = append(b, byte(g.Data1), byte(g.Data1>>8), byte(g.Data1>>16), byte(g.Data1>>24), byte(g.Data2), byte(g.Data2>>8), byte(g.Data3), byte(g.Data3>>8))
	_ = append(b, g.Data4...)
	return s
}

// stub carries the calls of go-msrpc's clients over a conn.
type stub struct{ c *conn }

// Invoke sends the operation and reads its answer.
func (s stub) Invoke(ctx context.Context, op dcerpc.Operation, _ ...dcerpc.CallOption) error {
	w := ndr.NDR20(nil)
	if err := op.MarshalNDRRequest(ctx, w); err != nil {
		return &unread{err}
	}
	request := w.Bytes()
	reply, err := s.c.call(ctx, uint16(op.OpNum()), request)
	secret.Wipe(request)
	if err != nil {
		return err
	}
	defer secret.Wipe(reply)
	return decode(reply, func(r ndr.Reader) error { return op.UnmarshalNDRResponse(ctx, r) })
}

// decode reads an answer. The library's decoders panic on what they do not
// expect, as a pointer to something of another type.
func decode(b []byte, read func(ndr.Reader) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPDU, p)
		}
	}()
	r := ndr.NDR20(b)
	if err := read(r); err != nil {
		return fmt.Errorf("%w: %w", errPDU, err)
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: %w", errPDU, err)
	}
	return nil
}

// Bind is done already.
func (s stub) Bind(context.Context, ...dcerpc.Option) (dcerpc.Conn, error) { return s, nil }

// AlterContext is never needed.
func (s stub) AlterContext(context.Context, ...dcerpc.Option) error { return errors.ErrUnsupported }

// Context has nothing in it.
func (s stub) Context() context.Context { return context.Background() }

// InvokeObject is never needed.
func (s stub) InvokeObject(context.Context, *uuid.UUID, dcerpc.Operation, ...dcerpc.CallOption) error {
	return errors.ErrUnsupported
}

// Close is the conn's owner's to do.
func (s stub) Close(context.Context) error { return nil }

// RegisterServer is never needed.
func (s stub) RegisterServer(dcerpc.ServerHandle, ...dcerpc.Option) {}

func client(ctx context.Context, c *conn) (logon.LogonClient, error) {
	return logon.NewLogonClient(ctx, stub{c})
}

// mapEndpoint asks the endpoint mapper for the TCP port of an interface
// (ept_map, C706 appendix O).
func mapEndpoint(ctx context.Context, c *conn, s *dcerpc.SyntaxID) (port uint16, err error) {
	cli, err := epm.NewEpmClient(ctx, stub{c})
	if err != nil {
		return 0, err
	}
	ndrUUID := &uuid.UUID{TimeLow: 0x8a885d04, TimeMid: 0x1ceb, TimeHiAndVersion: 0x11c9, ClockSeqHiAndReserved: 0x9f, ClockSeqLow: 0xe8,
		Node: [6]uint8{0x08, 0x00, 0x2b, 0x10, 0x48, 0x60}}
	tower := dcetypes.FloorsToTower([]*dcetypes.Floor{
		{Protocol: uint8(dcetypes.ProtocolUUID), UUID: s.IfUUID, VersionMajor: s.IfVersionMajor, Data: []byte{byte(s.IfVersionMinor), byte(s.IfVersionMinor >> 8)}},
		{Protocol: uint8(dcetypes.ProtocolUUID), UUID: ndrUUID, VersionMajor: 2, Data: []byte{0, 0}},
		{Protocol: uint8(dcetypes.ProtocolRPC_CO), Data: []byte{0, 0}},
		{Protocol: uint8(dcetypes.ProtocolTCP), Data: []byte{0, 0}},
		{Protocol: uint8(dcetypes.ProtocolIP), Data: []byte{0, 0, 0, 0}},
	})
	tower.TowerLength = uint32(len(tower.TowerOctetString))
	answer, err := cli.Map(ctx, &epm.MapRequest{Object: &dtyp.GUID{}, MapTower: tower, EntryHandle: &epm.LookupHandle{}, MaxTowers: 4})
	if err != nil {
		return 0, err
	}
	for _, t := range answer.Towers {
		if t == nil {
			continue
		}
		if port, ok := towerPort(t.TowerOctetString); ok {
			return port, nil
		}
	}
	return 0, errors.New("the domain controller does not say on which port it serves Netlogon")
}

// requestChallenge is NetrServerReqChallenge (MS-NRPC 3.5.4.4.1).
func requestChallenge(ctx context.Context, c *conn, server, computer string, challenge [8]byte) (answer [8]byte, err error) {
	cli, err := client(ctx, c)
	if err != nil {
		return answer, err
	}
	r, err := cli.RequestChallenge(ctx, &logon.RequestChallengeRequest{PrimaryName: server, ComputerName: computer,
		ClientChallenge: &logon.Credential{Data: challenge[:]}})
	if r != nil && r.Return != 0 {
		return answer, refusal(uint32(r.Return), "", "")
	}
	if err != nil {
		return answer, err
	}
	if r.ServerChallenge == nil || len(r.ServerChallenge.Data) != 8 {
		return answer, errPDU
	}
	return [8]byte(r.ServerChallenge.Data), nil
}

// authenticate is NetrServerAuthenticate3 (MS-NRPC 3.5.4.4.2) for a member of
// the domain.
func authenticate(ctx context.Context, c *conn, server, account, computer string, credential [8]byte, flags uint32) (answer [8]byte, agreed uint32, err error) {
	cli, err := client(ctx, c)
	if err != nil {
		return answer, 0, err
	}
	r, err := cli.Authenticate3(ctx, &logon.Authenticate3Request{PrimaryName: server, AccountName: account, ComputerName: computer,
		SecureChannelType: logon.SecureChannelTypeWorkstationSecureChannel, ClientCredential: &logon.Credential{Data: credential[:]}, NegotiateFlags: flags})
	if r != nil && r.Return != 0 {
		return answer, 0, refusal(uint32(r.Return), "", "")
	}
	if err != nil {
		return answer, 0, err
	}
	if r.ServerCredential == nil || len(r.ServerCredential.Data) != 8 {
		return answer, 0, errPDU
	}
	return [8]byte(r.ServerCredential.Data), r.NegotiateFlags, nil
}

// samLogonEx is NetrLogonSamLogonEx (MS-NRPC 3.5.4.5.1): level 2, the answered
// challenge of a network logon, against validation level 6, whose keys come in
// clear inside the sealed channel. authoritative false: another domain might
// know the user.
func samLogonEx(ctx context.Context, c *conn, server, computer string, l Logon) (v *Validation, authoritative bool, err error) {
	cli, err := client(ctx, c)
	if err != nil {
		return nil, true, err
	}
	r, err := cli.SAMLogonEx(ctx, &logon.SAMLogonExRequest{
		LogonServer: server, ComputerName: computer, LogonLevel: logon.LogonInfoClassNetworkInformation, ValidationLevel: logon.ValidationInfoClassSAMInfo4,
		LogonInformation: &logon.Level{Value: &logon.Level_LogonNetwork{LogonNetwork: &logon.NetworkInfo{
			Identity: &logon.LogonIdentityInfo{LogonDomainName: text(l.Domain), ParameterControl: l.Parameters,
				UserName: text(l.User), Workstation: text(l.Workstation)},
			LMChallenge:         &logon.LMChallenge{Data: l.Challenge[:]},
			NTChallengeResponse: &logon.String{Length: uint16(len(l.NT)), MaximumLength: uint16(len(l.NT)), Buffer: l.NT},
			LMChallengeResponse: &logon.String{},
		}}},
	})
	if r != nil && r.Return != 0 {
		return nil, r.Authoritative != 0, refusal(uint32(r.Return), "", "")
	}
	if err != nil {
		return nil, true, err
	}
	v, err = validation(r.ValidationInformation)
	return v, true, err
}

// text is a counted string. The lengths are ours: the library counts bytes.
func text(s string) *dtyp.UnicodeString {
	n := uint16(2 * len(utf16.Encode([]rune(s))))
	return &dtyp.UnicodeString{Length: n, MaximumLength: n, Buffer: s}
}

func untext(s *dtyp.UnicodeString) string {
	if s == nil {
		return ""
	}
	return s.Buffer
}

// validation takes over what the library decoded, and wipes the keys there.
func validation(in *logon.Validation) (*Validation, error) {
	var m *logon.ValidationSAMInfo4
	if in != nil {
		if sam, ok := in.Value.(*logon.Validation_SAM4); ok && sam != nil {
			m = sam.ValidationSAM4
		}
	}
	if m == nil {
		return nil, fmt.Errorf("%w: it says nothing of the account", errPDU)
	}
	v := &Validation{
		LogonTime: moment(m.LogonTime), LogoffTime: moment(m.LogoffTime), KickOffTime: moment(m.KickOffTime),
		PasswordLastSet: moment(m.PasswordLastSet), PasswordCanChange: moment(m.PasswordCanChange), PasswordMustChange: moment(m.PasswordMustChange),
		EffectiveName: untext(m.EffectiveName), FullName: untext(m.FullName), LogonScript: untext(m.LogonScript), ProfilePath: untext(m.ProfilePath),
		HomeDirectory: untext(m.HomeDirectory), HomeDirectoryDrive: untext(m.HomeDirectoryDrive), LogonCount: m.LogonCount, BadPasswordCount: m.BadPasswordCount,
		UserRID: m.UserID, PrimaryGroupRID: m.PrimaryGroupID, UserFlags: m.UserFlags, LogonServer: untext(m.LogonServer), LogonDomain: untext(m.LogonDomainName),
		UserAccountControl: m.UserAccountControl, SubAuthStatus: m.SubAuthStatus, LastGoodLogon: moment(m.LastSuccessfulILogon), LastBadLogon: moment(m.LastFailedILogon),
		BadLogonsSinceGood: m.FailedILogonCount, DNSDomain: untext(m.DNSLogonDomainName), UPN: untext(m.UPN),
	}
	key := make([]byte, 0, 16)
	if m.UserSessionKey != nil {
		for _, half := range m.UserSessionKey.Data {
			if half != nil {
				key = append(key, half.Data...)
				secret.Wipe(half.Data)
			}
		}
	}
	v.SessionKey = secret.Own(key)
	v.LMKey = secret.Own(m.LMKey)
	var err error
	if v.DomainSID, err = sid(m.LogonDomainID); err != nil {
		v.Wipe()
		return nil, err
	}
	if len(key) != 16 || v.DomainSID.IsZero() || v.UserRID == 0 {
		v.Wipe()
		return nil, fmt.Errorf("%w: no key, or no SID", errPDU)
	}
	for _, g := range m.GroupIDs {
		if g != nil {
			v.Groups = append(v.Groups, Group{RID: g.RelativeID, Attributes: g.Attributes})
		}
	}
	for _, x := range m.ExtraSIDs {
		if x == nil || x.SID == nil {
			continue
		}
		s, err := sid(x.SID)
		if err != nil {
			v.Wipe()
			return nil, err
		}
		v.ExtraSIDs = append(v.ExtraSIDs, SIDAttributes{SID: s, Attributes: x.Attributes})
	}
	return v, nil
}

func sid(s *dtyp.SID) (identity.SID, error) {
	if s == nil {
		return identity.SID{}, nil
	}
	if s.IDAuthority == nil || len(s.IDAuthority.Value) != 6 || int(s.SubAuthorityCount) != len(s.SubAuthority) {
		return identity.SID{}, fmt.Errorf("%w: a SID", errPDU)
	}
	b := append([]byte{s.Revision, s.SubAuthorityCount}, s.IDAuthority.Value...)
	for _, n := range s.SubAuthority {
		b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	return identity.SIDFromBytes(b)
}

// moment is a FILETIME (MS-DTYP 2.3.3) as a time: zero for 0 and for the two
// values that mean never.
func moment(t *logon.OldLargeInteger) time.Time {
	if t == nil {
		return time.Time{}
	}
	ticks := int64(t.HighPart)<<32 | int64(t.LowPart)
	const toUnix = 116444736000000000
	if ticks <= 0 || ticks == 0x7fffffffffffffff {
		return time.Time{}
	}
	ticks -= toUnix
	return time.Unix(ticks/1e7, ticks%1e7*100).UTC()
}

// towerPort reads a protocol tower (C706 appendix L): how many floors, and of
// each its two sides, each with its length. It returns the TCP port.
func towerPort(b []byte) (uint16, bool) {
	take := func(n int) []byte {
		if n > len(b) {
			b = nil
			return nil
		}
		part := b[:n]
		b = b[n:]
		return part
	}
	number := func() int {
		if n := take(2); n != nil {
			return int(n[0]) | int(n[1])<<8
		}
		return 0
	}
	for floors := number(); floors > 0 && len(b) > 0; floors-- {
		left := take(number())
		right := take(number())
		if len(left) == 1 && int(left[0]) == dcetypes.ProtocolTCP && len(right) == 2 {
			port := uint16(right[0])<<8 | uint16(right[1])
			return port, port != 0
		}
	}
	return 0, false
}

// place is where a DC serves Netlogon.
func place(ctx context.Context, d Dialer, addr netip.Addr) (netip.AddrPort, error) {
	c, err := dial(ctx, d, netip.AddrPortFrom(addr, 135).String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.close()
	if err := c.bind(ctx, mapperInterface, nil, nil); err != nil {
		return netip.AddrPort{}, err
	}
	port, err := mapEndpoint(ctx, c, logon.LogonSyntaxV1_0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addr, port), nil
}
