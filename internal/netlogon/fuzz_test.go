// SPDX-License-Identifier: Apache-2.0

package netlogon

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"github.com/oiweiwei/go-msrpc/msrpc/nrpc/logon/v1"
	"github.com/oiweiwei/go-msrpc/ndr"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

func FuzzPDU(f *testing.F) {
	sent, received := capture(f)
	for _, conns := range [][4][][]byte{sent, received} {
		for _, all := range conns {
			for _, raw := range all {
				f.Add(raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePDU(raw)
		if err != nil {
			return
		}
		if got := p.append(nil); !bytes.Equal(got, raw) {
			t.Errorf("%x became %x", raw, got)
		}
		if _, err := parseFault(p); err == nil && len(p.body) < 12 {
			t.Error("a short fault was read")
		}
	})
}

func FuzzBound(f *testing.F) {
	_, received := capture(f)
	for _, all := range received[1:] {
		p, err := parsePDU(all[0])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseBound(body)
		if err != nil {
			return
		}
		b := binary.LittleEndian.AppendUint16(nil, a.maxReceive)
		b = binary.LittleEndian.AppendUint16(b, a.maxSend)
		b = binary.LittleEndian.AppendUint32(b, a.group)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(a.address)))
		b = append(b, a.address...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		b = append(b, 1, 0, 0, 0)
		b = binary.LittleEndian.AppendUint16(b, a.result)
		b = binary.LittleEndian.AppendUint16(b, a.reason)
		b = append(b, a.transfer[:]...)
		again, err := parseBound(b)
		if err != nil || again.maxSend != a.maxSend || again.maxReceive != a.maxReceive || again.result != a.result || again.transfer != a.transfer || !bytes.Equal(again.address, a.address) {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzTower(f *testing.F) {
	f.Add([]byte{5, 0, 1, 0, 7, 2, 0, 0xc0, 0})
	f.Add([]byte{0xff, 0xff, 1, 0, 7, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		port, ok := towerPort(b)
		if !ok {
			return
		}
		if again, ok := towerPort([]byte{1, 0, 1, 0, 7, 2, 0, byte(port >> 8), byte(port)}); !ok || again != port {
			t.Errorf("port %d became %d, %v", port, again, ok)
		}
	})
}

// FuzzAnswer reads what a domain controller might say of an account, through the
// library's decoder. What it makes of it is written and read again.
func FuzzAnswer(f *testing.F) {
	_, received := capture(f)
	sent, _ := capture(f)
	request := func(raw []byte) []byte { p, _ := parsePDU(raw); return p.body[8:] }
	mine := request(sent[2][1])
	s := newSealer(newSessionKey(ntHash(secret.FromString("Maschine-Passw0rd!ü")), [8]byte(mine[len(mine)-8:]), [8]byte(request(received[2][1]))))
	for i := 1; i < 4; i++ {
		for _, m := range [][]byte{sent[3][i], received[3][i]} {
			p, _ := parsePDU(m)
			if err := s.open(p.trailer.token, m[:len(m)-len(p.trailer.token)], p.body[8:], p.kind == pduRequest); err != nil {
				f.Fatal(err)
			}
			if p.kind == pduResponse {
				f.Add(p.body[8:])
			}
		}
	}
	level := uint16(logon.ValidationInfoClassSAMInfo4)
	read := func(b []byte) (in *logon.Validation, v *Validation, err error) {
		err = decode(b, func(r ndr.Reader) error {
			in = &logon.Validation{}
			if err := in.UnmarshalUnionNDR(context.Background(), r, level); err != nil {
				return err
			}
			if err := r.ReadDeferred(); err != nil {
				return err
			}
			var err error
			v, err = validation(in)
			return err
		})
		return in, v, err
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in, v, err := read(b)
		if err != nil {
			return
		}
		if v.DomainSID.IsZero() || v.SessionKey.Len() != 16 {
			t.Errorf("taken without a SID or a key: %+v", v)
		}
		// The library writes as many as the counts say, there or not.
		sam := in.Value.(*logon.Validation_SAM4).ValidationSAM4
		sam.GroupCount, sam.SIDCount = uint32(len(sam.GroupIDs)), uint32(len(sam.ExtraSIDs))
		w := ndr.NDR20(nil)
		if err := in.MarshalUnionNDR(context.Background(), w, level); err != nil {
			return // a string whose lengths do not fit what it holds
		}
		if err := w.WriteDeferred(); err != nil {
			return
		}
		_, again, err := read(w.Bytes())
		if err != nil || again.SID() != v.SID() || !slices.Equal(again.Groups, v.Groups) || !slices.Equal(again.ExtraSIDs, v.ExtraSIDs) || again.LogonTime != v.LogonTime {
			t.Errorf("%+v became %+v, %v", v, again, err)
		}
	})
}

// FuzzAnswersOnTheWire lets a server say anything, in clear and sealed.
func FuzzAnswersOnTheWire(f *testing.F) {
	_, received := capture(f)
	for n := 1; n < 4; n++ {
		f.Add(bytes.Join(received[n], nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range []*sealer{nil, newSealer([16]byte{1})} {
			c, _ := dial(t.Context(), func(context.Context, string, string) (net.Conn, error) {
				return player{Reader: bytes.NewReader(b)}, nil
			}, "dc")
			if c.bind(t.Context(), netlogonInterface, s, nil) != nil {
				continue
			}
			if s == nil {
				_, _ = requestChallenge(t.Context(), c, "x", "y", [8]byte{})
				continue
			}
			if _, _, err := samLogonEx(t.Context(), c, "x", "y", question()); err == nil {
				t.Error("an answer was taken that nobody sealed")
			}
		}
	})
}
