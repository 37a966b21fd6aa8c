// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// The next server is connected to only where there is no connection to the one
// before: nothing was sent yet.
func TestAnotherServerIsConnectedToWhereOneIsNot(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for name, tc := range map[string]struct {
		dead, want []string
		to         netip.Addr
	}{
		"both there":     {nil, []string{"192.0.2.1:464"}, a},
		"the first dead": {[]string{"192.0.2.1:464"}, []string{"192.0.2.1:464", "192.0.2.2:464"}, b},
		"both dead":      {[]string{"192.0.2.1:464", "192.0.2.2:464"}, []string{"192.0.2.1:464", "192.0.2.2:464"}, netip.Addr{}},
	} {
		var asked []string
		pool := NewPool(a, b)
		c := NewClient(Config{Realm: "X.TEST", Servers: pool, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			asked = append(asked, address)
			if slices.Contains(tc.dead, address) {
				return nil, errors.New("connection refused")
			}
			ours, theirs := net.Pipe()
			t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
			return ours, nil
		}})
		conn, to, err := c.reach(t.Context(), []netip.Addr{a, b}, portKpasswd)
		if !slices.Equal(asked, tc.want) || to.Addr() != tc.to || (err == nil) != (conn != nil) {
			t.Errorf("%s: asked %v, reached %v, %v; want %v and %v", name, asked, to, err, tc.want, tc.to)
		}
		if !tc.to.IsValid() && !fault.Is(err, fault.Unreachable) {
			t.Errorf("%s: %v, want unreachable", name, err)
		}
		if len(tc.dead) == 1 {
			if best, _ := pool.Addrs(t.Context()); best[0] != b {
				t.Errorf("%s: next time %v is asked first", name, best[0])
			}
		}
	}
}
