// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	"github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
	"github.com/oiweiwei/go-msrpc/msrpc/nrpc/logon/v1"
	"github.com/oiweiwei/go-msrpc/ndr"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// fakeDC is a domain controller in this process: an endpoint mapper and Netlogon
// with one machine account. Its fields are what it does wrong.
type fakeDC struct {
	logon.UnimplementedLogonServer
	epmServer
	t              *testing.T
	mapper, logons net.Listener

	mu       sync.Mutex
	password string
	mine     [8]byte
	theirs   [8]byte
	key      [16]byte
	conns    map[net.Conn]bool

	flags      atomic.Uint32 // what it can do; 0: all
	liar       atomic.Bool   // it does not know the password, and takes any
	noHeaders  atomic.Bool   // the checksum does not cover headers
	fragment   atomic.Int32  // bytes of stub data per fragment of an answer; 0: 4000
	groups     atomic.Int32
	status     atomic.Uint32
	asked      atomic.Int32  // questions it has read
	opened     atomic.Int32  // channels
	cut        atomic.Bool   // close the connection in place of an answer
	refuse     atomic.Bool   // a fault in place of the next answer
	parameters atomic.Uint32 // of the last question
	deny       atomic.Int32  // refuse the channel so often
	tamper     atomic.Bool   // change a byte of each sealed answer
	hold       chan struct{}
}

type epmServer struct {
	epm.UnimplementedEpmServer
	port func() uint16
}

func (e epmServer) Map(context.Context, *epm.MapRequest) (*epm.MapResponse, error) {
	port := e.port()
	tower := dcetypes.FloorsToTower([]*dcetypes.Floor{{Protocol: 0x0d, UUID: logon.LogonSyntaxUUID, VersionMajor: 1, Data: []byte{0, 0}},
		{Protocol: 0x0b, Data: []byte{0, 0}}, {Protocol: 0x07, Data: []byte{byte(port >> 8), byte(port)}}, {Protocol: 0x09, Data: []byte{127, 0, 0, 1}}})
	tower.TowerLength = uint32(len(tower.TowerOctetString))
	return &epm.MapResponse{MaxTowers: 4, EntryHandle: &epm.LookupHandle{}, TowersLength: 1, Towers: []*dcetypes.Tower{tower}}, nil
}

func newFakeDC(t *testing.T) *fakeDC {
	t.Helper()
	f := &fakeDC{t: t, password: "Passw0rd", conns: map[net.Conn]bool{}}
	listen := func(serves syntax, handle dcerpc.ServerHandle) net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				f.mu.Lock()
				f.conns[nc] = true
				f.mu.Unlock()
				go f.serve(nc, serves, handle)
			}
		}()
		return ln
	}
	f.logons = listen(netlogonInterface, logon.NewLogonServerHandle(f))
	f.epmServer.port = func() uint16 { return f.logons.Addr().(*net.TCPAddr).AddrPort().Port() }
	f.mapper = listen(mapperInterface, epm.NewEpmServerHandle(f.epmServer))
	t.Cleanup(f.drop)
	return f
}

// drop closes all connections, as a restart does.
func (f *fakeDC) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for nc := range f.conns {
		nc.Close()
	}
	clear(f.conns)
}

func (f *fakeDC) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if ap := netip.MustParseAddrPort(address); ap.Port() == 135 {
		address = f.mapper.Addr().String()
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (f *fakeDC) serve(nc net.Conn, serves syntax, handle dcerpc.ServerHandle) {
	defer nc.Close()
	var s *sealer
	var stub []byte
	headers := false
	for {
		p, raw, err := readOne(nc)
		if err != nil {
			return
		}
		switch p.kind {
		case pduBind:
			body := binary.LittleEndian.AppendUint16(nil, maxFragment)
			body = binary.LittleEndian.AppendUint16(body, maxFragment)
			result := byte(0)
			if !bytes.Contains(p.body, serves.append(nil)) {
				result = 2 // provider rejection
			}
			body = append(body, 1, 0, 0, 0, 4, 0, '1', '3', '5', 0, 0, 0, 1, 0, 0, 0, result, 0, 1, 0)
			ack := &pdu{kind: pduBindAck, flags: flagFirst | flagLast, call: p.call, body: ndr20.append(body)}
			if p.trailer != nil {
				f.opened.Add(1)
				f.mu.Lock()
				s = newSealer(f.key)
				f.mu.Unlock()
				if headers = p.flags&flagHeaderSign != 0 && !f.noHeaders.Load(); headers {
					ack.flags |= flagHeaderSign
				}
				ack.trailer = &trailer{kind: authNetlogon, level: authPrivacy, context: 1, token: []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
			}
			nc.Write(ack.append(nil))
		case pduRequest:
			data := p.body[8:]
			if s != nil {
				signed := data
				if headers {
					signed = raw[:len(raw)-len(p.trailer.token)]
				}
				if err := s.open(p.trailer.token, signed, data, true); err != nil {
					f.t.Errorf("the request cannot be opened: %v", err)
					return
				}
				data = data[:len(data)-int(p.trailer.pad)]
			}
			stub = append(stub, data...)
			if p.flags&flagLast == 0 {
				continue
			}
			if s != nil && f.refuse.CompareAndSwap(true, false) {
				nc.Write((&pdu{kind: pduFault, flags: flagFirst | flagLast | flagDidNotExecute, call: p.call, body: []byte{11: 1, 15: 0}}).append(nil))
				return
			}
			op, err := handle(context.Background(), int(binary.LittleEndian.Uint16(p.body[6:])), ndr.NDR20(stub))
			if err != nil {
				f.t.Errorf("the request cannot be read: %v", err)
				return
			}
			stub = nil
			if s != nil && f.hold != nil {
				<-f.hold
			}
			if s != nil && f.cut.CompareAndSwap(true, false) {
				return
			}
			w := ndr.NDR20(nil)
			if err := op.MarshalNDRResponse(context.Background(), w); err != nil {
				f.t.Errorf("the answer cannot be written: %v", err)
				return
			}
			f.answer(nc, p.call, w.Bytes(), s, headers)
		}
	}
}

func (f *fakeDC) answer(nc net.Conn, call uint32, stub []byte, s *sealer, headers bool) {
	size := int(f.fragment.Load())
	if size == 0 {
		size = 4000
	}
	for first := true; first || len(stub) > 0; first = false {
		part := stub[:min(size, len(stub))]
		stub = stub[len(part):]
		p := &pdu{kind: pduResponse, call: call, body: append(make([]byte, 8), part...)}
		if first {
			p.flags |= flagFirst
		}
		if len(stub) == 0 {
			p.flags |= flagLast
		}
		if s == nil {
			nc.Write(p.append(nil))
			continue
		}
		p.trailer = &trailer{kind: authNetlogon, level: authPrivacy, context: 1, token: make([]byte, tokenSize), pad: byte(-len(part) & 15)}
		p.body = append(p.body, make([]byte, p.trailer.pad)...)
		raw := p.append(nil)
		end := len(raw) - tokenSize
		data := raw[headSize+8 : end-trailerSize]
		signed := data
		if headers {
			signed = raw[:end]
		}
		s.seal(raw[end:], signed, data, false)
		if f.tamper.Load() {
			data[0] ^= 1
		}
		nc.Write(raw)
	}
}

func readOne(r io.Reader) (*pdu, []byte, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, nil, err
	}
	b := append(head, make([]byte, int(binary.LittleEndian.Uint16(head[8:]))-headSize)...)
	if _, err := io.ReadFull(r, b[headSize:]); err != nil {
		return nil, nil, err
	}
	p, err := parsePDU(b)
	return p, b, err
}

// RequestChallenge is the server's side of the handshake.
func (f *fakeDC) RequestChallenge(_ context.Context, r *logon.RequestChallengeRequest) (*logon.RequestChallengeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.theirs, f.mine = [8]byte(r.ClientChallenge.Data), newChallenge()
	return &logon.RequestChallengeResponse{ServerChallenge: &logon.Credential{Data: append([]byte(nil), f.mine[:]...)}}, nil
}

// Authenticate3 ends the handshake.
func (f *fakeDC) Authenticate3(_ context.Context, r *logon.Authenticate3Request) (*logon.Authenticate3Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = newSessionKey(ntHash(secret.FromString(f.password)), f.theirs, f.mine)
	denied := StatusAccessDenied
	none := &logon.Credential{Data: make([]byte, 8)}
	if f.liar.Load() {
		return &logon.Authenticate3Response{ServerCredential: none, NegotiateFlags: r.NegotiateFlags}, nil
	}
	if newCredential(f.key, f.theirs) != [8]byte(r.ClientCredential.Data) {
		return &logon.Authenticate3Response{ServerCredential: none, Return: int32(denied)}, nil
	}
	proof := newCredential(f.key, f.mine)
	flags := f.flags.Load()
	if flags == 0 {
		flags = 0xffffffff
	}
	return &logon.Authenticate3Response{ServerCredential: &logon.Credential{Data: proof[:]}, NegotiateFlags: r.NegotiateFlags & flags}, nil
}

// SAMLogonEx takes everybody, or gives the status that was set.
func (f *fakeDC) SAMLogonEx(_ context.Context, r *logon.SAMLogonExRequest) (*logon.SAMLogonExResponse, error) {
	f.asked.Add(1)
	if f.deny.Add(-1) >= 0 {
		denied := StatusAccessDenied
		return &logon.SAMLogonExResponse{ValidationLevel: r.ValidationLevel, Return: int32(denied), ValidationInformation: &logon.Validation{Value: &logon.Validation_SAM4{}}}, nil
	}
	out := &logon.SAMLogonExResponse{ValidationLevel: r.ValidationLevel, Authoritative: 1, Return: int32(f.status.Load()),
		ValidationInformation: &logon.Validation{Value: &logon.Validation_SAM4{}}}
	if out.Return != 0 {
		return out, nil
	}
	n := r.LogonInformation.Value.(*logon.Level_LogonNetwork).LogonNetwork
	if n.LMChallengeResponse.Length != 0 || len(n.LMChallengeResponse.Buffer) != 0 {
		f.t.Error("an LM response was sent")
	}
	f.parameters.Store(n.Identity.ParameterControl)
	key := func(b byte) *logon.CypherBlock { return &logon.CypherBlock{Data: []byte{b, b, b, b, b, b, b, b}} }
	sam := &logon.ValidationSAMInfo4{EffectiveName: text(n.Identity.UserName.Buffer), LogonDomainName: text(n.Identity.LogonDomainName.Buffer), UserID: 1106,
		LogonTime:      &logon.OldLargeInteger{LowPart: 0xd53e8000, HighPart: 0x019db1de},
		PrimaryGroupID: 513, LogonDomainID: dtypSID(5, 21, 1, 2, 3), UserSessionKey: &logon.UserSessionKey{Data: []*logon.CypherBlock{key(1), key(2)}}, LMKey: make([]byte, 8),
		ExtraSIDs: []*logon.SIDAndAttributes{{SID: dtypSID(18, 1), Attributes: 7}}}
	for i := range f.groups.Load() {
		sam.GroupIDs = append(sam.GroupIDs, &logon.GroupMembership{RelativeID: 2000 + uint32(i), Attributes: 7})
	}
	out.ValidationInformation = &logon.Validation{Value: &logon.Validation_SAM4{ValidationSAM4: sam}}
	return out, nil
}

func dtypSID(authority byte, sub ...uint32) *dtyp.SID {
	return &dtyp.SID{Revision: 1, SubAuthorityCount: uint8(len(sub)), IDAuthority: &dtyp.SIDIDAuthority{Value: []byte{0, 0, 0, 0, 0, authority}}, SubAuthority: sub}
}

// Account, Servers, Good and Bad make it the pool's whole world.
func (f *fakeDC) Account(context.Context) (*Account, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &Account{Domain: "CONTOSO", Name: "NAS1$", Passwords: []secret.Bytes{secret.FromString(f.password)}}, nil
}

func (f *fakeDC) Servers(context.Context) ([]Server, error) {
	return []Server{{Name: "dc1.contoso.test", Addr: netip.MustParseAddr("127.0.0.1")}}, nil
}

func (f *fakeDC) Good(netip.Addr) {}

func (f *fakeDC) Bad(netip.Addr) {}

func (f *fakeDC) pool() *Pool {
	p := New(Config{Machine: f, Servers: f, Dial: f.dial, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil))})
	f.t.Cleanup(p.Close)
	return p
}
