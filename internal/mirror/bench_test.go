// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// big makes a directory of users and groups of 20; the last group has everybody.
func big(users, groups int) *fakeDC {
	dc := newFakeDC()
	refs := make([]directory.Reference, users)
	for i := range users {
		o := dc.objects[dc.user(fmt.Sprintf("user%06d", i))]
		o.OID = identity.GUID{1, byte(i >> 16), byte(i >> 8), byte(i)}
		o.DisplayName, o.GivenName, o.Surname, o.Mail = fmt.Sprintf("User Number %d", i), "User", fmt.Sprint("Number ", i), o.UPN
		refs[i] = directory.Reference{DN: o.DN, GUID: o.ObjectGUID, SID: o.SID}
	}
	for i := range groups {
		o := dc.objects[dc.group(fmt.Sprintf("group%05d", i))]
		o.OID = identity.GUID{2, byte(i >> 16), byte(i >> 8), byte(i)}
		for j := range min(20, users) {
			o.Members = append(o.Members, refs[(i*131+j*977)%users])
		}
		if i == groups-1 {
			o.Members = refs
		}
	}
	return dc
}

func benchBox(b *testing.B, dc *fakeDC) *Mirror {
	b.Helper()
	s, err := store.Open(context.Background(), filepath.Join(b.TempDir(), "db"), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	ids, err := idmap.New(idmap.Config{}, dc.domain)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.SetPolicy(context.Background(), store.Policy{IDs: ids, Reserved: idmap.Privileged(),
		Domain: identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test", Realm: "AADDS.CONTOSO.TEST", SID: dc.domain}}); err != nil {
		b.Fatal(err)
	}
	return New(Config{Store: s, Directory: dc, Log: slog.New(slog.DiscardHandler)})
}

func pass1(b *testing.B, m *Mirror, full bool) Result {
	b.Helper()
	res, err := m.Sync(context.Background(), Request{Full: full}, nil)
	if err != nil {
		b.Fatal(err)
	}
	return res
}

// BenchmarkPass measures comparing and writing alone: the directory answers from
// memory. LATCHKEY_BENCH_USERS makes it larger, with a tenth as many groups.
func BenchmarkPass(b *testing.B) {
	users := 5000
	if n, err := strconv.Atoi(os.Getenv("LATCHKEY_BENCH_USERS")); err == nil {
		users = n
	}
	dc := big(users, users/10)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			m := benchBox(b, dc)
			b.StartTimer()
			pass1(b, m, true)
			b.ReportMetric(float64(m.cfg.Store.Size())/1e6, "MB-file")
		}
	})
	m := benchBox(b, dc)
	pass1(b, m, true)
	b.Run("full, nothing changed", func(b *testing.B) {
		for b.Loop() {
			pass1(b, m, true)
		}
	})
	b.Run("one user changed", func(b *testing.B) {
		guid := dc.find("user000007")
		for i := 0; b.Loop(); i++ {
			dc.change(guid, func(o *directory.Object) { o.DisplayName = fmt.Sprint("Name ", i) })
			if res := pass1(b, m, false); res.Changed != 1 {
				b.Fatalf("%+v", res)
			}
		}
	})
	b.Run("one member of everybody", func(b *testing.B) {
		guid := dc.find(fmt.Sprintf("group%05d", users/10-1))
		all := dc.objects[guid].Members
		for i := 0; b.Loop(); i++ {
			dc.change(guid, func(o *directory.Object) { o.Members = all[(i+1)%2:] })
			if res := pass1(b, m, false); res.Changed != 1 {
				b.Fatalf("%+v", res)
			}
		}
	})
	b.Run("sweep", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.syncNow(context.Background(), Request{}, sweepDue, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	runtime.GC()
}
