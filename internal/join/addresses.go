// SPDX-License-Identifier: Apache-2.0

package join

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// routedAddresses returns the addresses of the interface that routes to dc:
// those that the domain's network knows this machine by. Link-local addresses,
// and IPv6 ones that change every day (RFC 8981) or are on their way out, are
// left out. Nothing is sent.
func routedAddresses(dc netip.Addr) ([]netip.Addr, error) {
	conn, err := net.Dial("udp", netip.AddrPortFrom(dc, 9).String())
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "find the interface towards "+dc.String(), err)
	}
	defer conn.Close()
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "list the interfaces", err)
	}
	passing := passingAddresses()
	for _, i := range ifs {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		if found := choose(addrs, local, passing); found != nil {
			return found, nil
		}
	}
	return []netip.Addr{local.WithZone("")}, nil
}

// choose returns the addresses of an interface worth registering, local first,
// when local is one of them; nil otherwise.
func choose(addrs []net.Addr, local netip.Addr, passing map[netip.Addr]bool) []netip.Addr {
	var found []netip.Addr
	has := false
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		addr := p.Addr().Unmap()
		has = has || addr == local.WithZone("")
		if addr.IsGlobalUnicast() && !passing[addr] {
			found = append(found, addr)
		}
	}
	if !has {
		return nil
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int {
		switch {
		case a == local:
			return -1
		case b == local:
			return 1
		}
		return a.Compare(b)
	})
	if len(found) == 0 {
		found = []netip.Addr{local.WithZone("")}
	}
	return found
}

// Flags of an IPv6 address (linux/if_addr.h).
const (
	ifaTemporary  = 0x01
	ifaDADFailed  = 0x08
	ifaDeprecated = 0x20
	ifaTentative  = 0x40
)

// passingAddresses returns the IPv6 addresses that will not be ours for long.
func passingAddresses() map[netip.Addr]bool {
	f, err := os.Open("/proc/net/if_inet6")
	if err != nil {
		return nil
	}
	defer f.Close()
	passing := map[netip.Addr]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if a, flags, err := parseInet6(lines.Text()); err == nil && flags&(ifaTemporary|ifaDADFailed|ifaDeprecated|ifaTentative) != 0 {
			passing[a] = true
		}
	}
	return passing
}

// parseInet6 reads a line of /proc/net/if_inet6 (proc(5)): address, interface
// number, prefix length, scope, flags, all hexadecimal, and the name.
func parseInet6(line string) (netip.Addr, uint64, error) {
	f := strings.Fields(line)
	if len(f) != 6 || len(f[0]) != 32 {
		return netip.Addr{}, 0, fmt.Errorf("not a line of if_inet6")
	}
	var b [16]byte
	for i := range b {
		n, err := strconv.ParseUint(f[0][2*i:2*i+2], 16, 8)
		if err != nil {
			return netip.Addr{}, 0, err
		}
		b[i] = byte(n)
	}
	flags, err := strconv.ParseUint(f[4], 16, 32)
	return netip.AddrFrom16(b), flags, err
}
