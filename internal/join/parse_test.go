// SPDX-License-Identifier: Apache-2.0

package join

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// descriptor is a self-relative security descriptor with an owner alone.
func descriptor(owner identity.SID) []byte {
	b := make([]byte, 20)
	b[0] = 1
	binary.LittleEndian.PutUint16(b[2:], 0x8000) // SELF_RELATIVE
	binary.LittleEndian.PutUint32(b[4:], 20)
	return append(b, owner.Bytes()...)
}

func TestOwnerOfADescriptor(t *testing.T) {
	sid := identity.MustParseSID("S-1-5-21-1-2-3-1105")
	b := descriptor(sid)
	for what, text := range map[string][]byte{"alone": b, "with more behind": append(slices.Clone(b), 1, 2, 3)} {
		if got, err := parseOwner(text); err != nil || got != sid {
			t.Errorf("%s: %v, %v, want %v", what, got, err, sid)
		}
	}
	set := func(at int, v uint32) []byte {
		c := slices.Clone(b)
		binary.LittleEndian.PutUint32(c[at:], v)
		return c
	}
	for what, text := range map[string][]byte{"nothing": nil, "short": b[:19], "revision": append([]byte{2}, b[1:]...), "offset in the header": set(4, 4),
		"offset behind the end": set(4, 1<<31), "offset at the end": set(4, uint32(len(b))), "cut": b[:len(b)-1], "no SID": set(20, 0xffffffff)} {
		if got, err := parseOwner(text); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, %v, want malformed", what, got, err)
		}
	}
	if _, err := parseOwner(set(4, 0)); !fault.Is(err, fault.NotFound) {
		t.Errorf("no owner: %v, want not found", err)
	}
}

func FuzzParseOwner(f *testing.F) {
	f.Add(descriptor(identity.MustParseSID("S-1-5-21-1-2-3-1105")))
	f.Add(make([]byte, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		sid, err := parseOwner(b)
		if err != nil {
			return
		}
		if again, err := parseOwner(descriptor(sid)); err != nil || again != sid {
			t.Fatalf("%x: %s came back as %s, %v", b, sid, again, err)
		}
	})
}

func FuzzWellKnown(f *testing.F) {
	f.Add("B:32:AA312825768811D1ADED00C04FD8D5CD:CN=Computers,DC=x")
	f.Add("B:32::")
	f.Fuzz(func(t *testing.T, s string) {
		guid, dn, ok := cutWellKnown(s)
		if !ok {
			return
		}
		if g, d, ok := cutWellKnown("B:32:" + guid + ":" + dn); !ok || g != guid || d != dn {
			t.Fatalf("%q -> %q, %q -> %q, %q", s, guid, dn, g, d)
		}
	})
}

func TestLinesOfIfInet6(t *testing.T) {
	a, flags, err := parseInet6("fd770000000000000000000000000020 02 40 00 81     eth0")
	if err != nil || a != netip.MustParseAddr("fd77::20") || flags != 0x81 {
		t.Errorf("%v, %x, %v", a, flags, err)
	}
	for _, bad := range []string{"", "x", "fd77000000000000000000000000002 02 40 00 80 eth0", "zz770000000000000000000000000020 02 40 00 80 eth0", "fd770000000000000000000000000020 02 40 00 xx eth0"} {
		if a, _, err := parseInet6(bad); err == nil {
			t.Errorf("%q gave %v", bad, a)
		}
	}
}

func TestWhichAddressesAreRegistered(t *testing.T) {
	cidr := func(all ...string) (out []net.Addr) {
		for _, s := range all {
			ip, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		return out
	}
	addrs := func(all ...string) (out []netip.Addr) {
		for _, s := range all {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	passing := map[netip.Addr]bool{netip.MustParseAddr("2001:db8::99"): true}
	for name, tc := range map[string]struct {
		have  []net.Addr
		local string
		want  []netip.Addr
	}{
		"another interface":     {cidr("10.0.0.7/24"), "10.0.0.8", nil},
		"one":                   {cidr("10.0.0.7/24"), "10.0.0.7", addrs("10.0.0.7")},
		"the routed one first":  {cidr("2001:db8::5/64", "10.0.0.7/24", "10.0.0.9/24"), "10.0.0.9", addrs("10.0.0.9", "10.0.0.7", "2001:db8::5")},
		"no link-local":         {cidr("fe80::1/64", "169.254.1.1/16", "10.0.0.7/24"), "10.0.0.7", addrs("10.0.0.7")},
		"none that will change": {cidr("2001:db8::99/64", "2001:db8::5/64"), "2001:db8::5", addrs("2001:db8::5")},
		"nothing else":          {cidr("127.0.0.1/8"), "127.0.0.1", addrs("127.0.0.1")},
	} {
		if got := choose(tc.have, netip.MustParseAddr(tc.local), passing); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
