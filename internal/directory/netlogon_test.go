// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

func password(s string) kerberos.Secret { return kerberos.Password(secret.FromString(s)) }

// appendNetlogon writes what parseNetlogon reads, without compression.
func appendNetlogon(d DC) []byte {
	b := binary.LittleEndian.AppendUint16(nil, opSamLogonResponseEx)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(d.Flags))
	b = append(b, d.DomainGUID.Bytes()...)
	for _, name := range []string{d.Forest, d.DNSDomain, d.Host, d.NetBIOS, d.Computer, "", d.Site, d.ClientSite} {
		if name != "" {
			for _, label := range strings.Split(name, ".") {
				b = append(append(b, byte(len(label))), label...)
			}
		}
		b = append(b, 0)
	}
	b = binary.LittleEndian.AppendUint32(b, ntVersion5|ntVersion5EX)
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

// What Samba 4.17.12 answers, with compressed names.
const sambaNetlogon = "17000000bd1100000f97ce8a0cc98257ae6ce82237e4b303" +
	"05616164647307636f6e746f736f047465737400" + "c018" + "03646331c018" + "0c4141444453434f4e544f534f00" + "0344433100" + "00" +
	"1744656661756c742d46697273742d536974652d4e616d6500" + "c048" + "05000000ffffffff"

func TestParseNetlogon(t *testing.T) {
	want := DC{Host: "dc1.example.test", DNSDomain: "example.test", Forest: "example.test", NetBIOS: "EXAMPLE", Computer: "DC1",
		Site: "Default-First-Site-Name", ClientSite: "Branch", DomainGUID: testGUID, Flags: 0x11fd}
	if got, err := parseNetlogon(appendNetlogon(want)); err != nil || got != want {
		t.Errorf("uncompressed: %+v, %v, want %+v", got, err, want)
	}
	b := appendNetlogon(want)
	for name, bend := range map[string]func([]byte) []byte{
		"cut in the header":    func(b []byte) []byte { return b[:20] },
		"cut in a name":        func(b []byte) []byte { return b[:30] },
		"cut before the end":   func(b []byte) []byte { return b[:len(b)-5] },
		"other opcode":         func(b []byte) []byte { b[0] = 19; return b },
		"other version":        func(b []byte) []byte { b[len(b)-8] = 1; return b },
		"pointer to itself":    func(b []byte) []byte { b[24], b[25] = 0xc0, 24; return b },
		"pointer ahead":        func(b []byte) []byte { b[24], b[25] = 0xc0, 40; return b },
		"reserved label type":  func(b []byte) []byte { b[24] = 0x80; return b },
		"control character":    func(b []byte) []byte { b[26] = '\n'; return b },
		"host name with slash": func(b []byte) []byte { b[24+14+14+3] = '/'; return b },
	} {
		if d, err := parseNetlogon(bend(append([]byte(nil), b...))); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %+v, %v, want malformed", name, d, err)
		}
	}
}

func TestNetlogonOfSamba(t *testing.T) {
	b, err := hex.DecodeString(sambaNetlogon)
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseNetlogon(b)
	if err != nil || d.Host != "dc1.aadds.contoso.test" || d.DNSDomain != "aadds.contoso.test" || d.NetBIOS != "AADDSCONTOSO" ||
		d.Computer != "DC1" || d.Site != "Default-First-Site-Name" || d.ClientSite != d.Site || !d.Flags.Has(DCIsKDC|DCIsWritable|DCIsLDAP) {
		t.Errorf("parsed %+v, %v", d, err)
	}
}

func TestCompressedNamesOnlyPointBack(t *testing.T) {
	// Two names that point at each other, and a chain that doubles.
	b := []byte{0xc0, 2, 0xc0, 0}
	for _, at := range []int{0, 2} {
		if name, _, err := compressedName(b, at); err == nil {
			t.Errorf("a loop from %d gave %q", at, name)
		}
	}
	b = append([]byte{3, 'a', 'b', 'c', 0}, 1, 'x', 0xc0, 0, 1, 'y', 0xc0, 5)
	if name, next, err := compressedName(b, 9); err != nil || name != "y.x.abc" || next != 13 {
		t.Errorf("chain = %q, %d, %v, want y.x.abc, 13", name, next, err)
	}
	long := []byte{}
	for range 5 {
		long = append(append(long, 63), strings.Repeat("a", 63)...)
	}
	if name, _, err := compressedName(append(long, 0), 0); err == nil {
		t.Errorf("a name of %d bytes was taken", len(name))
	}
}

func FuzzParseNetlogon(f *testing.F) {
	b, _ := hex.DecodeString(sambaNetlogon)
	f.Add(b)
	f.Add(appendNetlogon(DC{Host: "a.b", DNSDomain: "b", Forest: "b", NetBIOS: "B", Computer: "A"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseNetlogon(b)
		if err != nil {
			return
		}
		again, err := parseNetlogon(appendNetlogon(d))
		if err != nil || again != d {
			t.Errorf("%+v reads back %+v, %v", d, again, err)
		}
	})
}

func FuzzPingReply(f *testing.F) {
	req, err := pingRequest("example.test")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(req)
	f.Add([]byte{0x30, 0x0c, 2, 1, 1, 0x65, 7, 0x0a, 1, 0, 4, 0, 4, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if blob, err := pingReply(b); err == nil {
			_, _ = parseNetlogon(blob)
		}
	})
}
