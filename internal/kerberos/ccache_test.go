// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"bytes"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func testCCache() *CCache {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	alice := Account("alice", "EXAMPLE.TEST")
	return &CCache{Client: alice, Tickets: []*Ticket{
		{Client: alice, Service: Service("krbtgt", "EXAMPLE.TEST", "EXAMPLE.TEST"), Key: testKey(5, AES256), Flags: FlagInitial | FlagRenewable,
			AuthTime: at, StartTime: at, EndTime: at.Add(10 * time.Hour), RenewTill: at.Add(100 * time.Hour), Raw: []byte("ticket one")},
		{Client: alice, Service: Service("host", "nas.example.test", "EXAMPLE.TEST"), Key: testKey(6, AES128), Flags: FlagPreAuth,
			AuthTime: at, StartTime: at, EndTime: at.Add(time.Hour), Raw: []byte("ticket two")},
	}}
}

func TestCCacheRoundTrip(t *testing.T) {
	c := testCCache()
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCCache(b)
	if err != nil || !got.Client.Equal(c.Client) || len(got.Tickets) != 2 {
		t.Fatalf("read back %+v, %v", got, err)
	}
	for i, want := range c.Tickets {
		g := got.Tickets[i]
		if !g.Client.Equal(want.Client) || !g.Service.Equal(want.Service) || !g.Key.Value.Equal(want.Key.Value) || g.Key.EType != want.Key.EType ||
			g.Flags != want.Flags || !g.EndTime.Equal(want.EndTime) || !g.RenewTill.Equal(want.RenewTill) || !bytes.Equal(g.Raw, want.Raw) {
			t.Errorf("ticket %d = %+v, want %+v", i, g, want)
		}
	}
	for n := range b {
		if got, err := ParseCCache(b[:n]); err == nil && len(got.Tickets) == 2 {
			t.Errorf("the first %d bytes of %d were taken whole", n, len(b))
		}
	}
}

func TestCCacheSkipsConfiguration(t *testing.T) {
	c := testCCache()
	c.Tickets = append(c.Tickets, &Ticket{Client: c.Client, Service: Principal{Name: []string{"krb5_ccache_conf_data", "pa_type"}, Realm: confRealm}, Raw: []byte("2")})
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseCCache(b); err != nil || len(got.Tickets) != 2 {
		t.Errorf("read back %+v, %v, want two tickets", got, err)
	}
	c.Tickets[0].EndTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := c.Marshal(); !fault.Is(err, fault.Malformed) {
		t.Errorf("a time past 2106: %v, want malformed", err)
	}
	if _, err := ParseCCache([]byte{5, 3, 0, 0}); !fault.Is(err, fault.Malformed) {
		t.Errorf("version 3: %v, want malformed", err)
	}
}

func FuzzParseCCache(f *testing.F) {
	if b, err := testCCache().Marshal(); err == nil {
		f.Add(b)
	}
	f.Add([]byte{5, 4, 0, 12, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCCache(b)
		if err != nil {
			return
		}
		out, err := c.Marshal()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		again, err := ParseCCache(out)
		if err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		if out2, err := again.Marshal(); err != nil || !bytes.Equal(out, out2) {
			t.Errorf("prints %x, then %x, %v", out, out2, err)
		}
	})
}
