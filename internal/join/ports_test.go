// SPDX-License-Identifier: Apache-2.0

package join

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

// A machine with addresses of one kind alone is not told of those of the other
// kind that a domain controller has as well; of one that it cannot reach at all, it
// is.
func TestPortsOfAMachineWithOneKindOfAddress(t *testing.T) {
	four, six, lost := netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("fd00::4"), netip.MustParseAddr("10.0.0.5")
	w := newWorld()
	for _, p := range ports {
		for _, a := range []netip.Addr{four, lost} {
			w.closed[netip.AddrPortFrom(a, p.number).String()] = fmt.Errorf("dial: %w", syscall.ENETUNREACH)
		}
	}
	j, _ := w.joiner(t)
	try := func(targets ...target) (steps, []netip.Addr, error) {
		var s steps
		usable, err := j.ports(t.Context(), &run{tell: s.tell}, targets)
		return s, usable, err
	}
	s, usable, err := try(target{"dc1", four}, target{"dc1", six})
	if err != nil || len(usable) != 1 || usable[0] != six {
		t.Errorf("usable %v, %v", usable, err)
	}
	for _, one := range s {
		if one.State == Warning || one.State == Failed || strings.Contains(one.Detail, "10.0.0.4") {
			t.Errorf("told %+v", one)
		}
	}
	s, _, err = try(target{"dc1", six}, target{"dc2", lost})
	if got := s.last("port-88"); err != nil || got.State != Warning || !strings.Contains(got.Detail, "dc2 (10.0.0.5) cannot be reached (no route)") {
		t.Errorf("another DC without a route: %+v, %v", got, err)
	}
	if _, _, err = try(target{"dc1", four}); err == nil {
		t.Error("a DC without any route is taken for open")
	}
}
