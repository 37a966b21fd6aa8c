// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestPoolOrder(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::3")
	p := NewPool(a, b, c, a)
	check := func(step string, want ...netip.Addr) {
		t.Helper()
		if got, err := p.Addrs(context.Background()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", step, got, err, want)
		}
	}
	check("as given", a, b, c)
	p.Good(b)
	check("the good one first", b, a, c)
	p.Bad(b)
	check("the bad one last", a, c, b)
	p.Good(c)
	p.Bad(a)
	check("good, untried, bad in order", c, a, b)
	p.Good(netip.MustParseAddr("198.51.100.9")) // unknown
	check("an unknown one changes nothing", c, a, b)
	p.Forgive(b)
	check("forgiven", c, b, a)
	p.Set(b, a)
	check("what is known stays", b, a)
	if p.AllBad() {
		t.Error("AllBad with one that is not")
	}
	p.Bad(b)
	if !p.AllBad() {
		t.Error("not AllBad with all bad")
	}
	p.Set()
	if _, err := p.Addrs(context.Background()); !fault.Is(err, fault.NotFound) {
		t.Errorf("empty: %v, want not found", err)
	}
	p.Set(a)
	p.Good(netip.MustParseAddr("::ffff:192.0.2.1"))
	if got, ok := p.LastGood(); !ok || got != a {
		t.Errorf("LastGood = %v, %v, want %v by its mapped address", got, ok, a)
	}
}
