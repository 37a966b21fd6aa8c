// SPDX-License-Identifier: Apache-2.0

package publish_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/publish"
	"github.com/latchkey-nas/latchkey/internal/publish/install"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/store"
)

var (
	sid     = identity.MustParseSID("S-1-5-21-1-2-3")
	contoso = identity.Domain{NetBIOS: "CONTOSO", DNS: "contoso.test", Realm: "CONTOSO.TEST", SID: sid}
	ranges  = []snapshot.Range{{Low: 100000001, High: 200000000}}
)

func guid(n int) (g identity.GUID) {
	binary.BigEndian.PutUint64(g[8:], uint64(n))
	return g
}

// crowd fills a store with users, and with groups of a hundredth as many
// members as there are users.
func crowd(b *testing.B, users, groups int) *store.Store {
	b.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, filepath.Join(b.TempDir(), "latchkey.db"), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	ids, err := idmap.New(idmap.Config{}, sid)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.SetPolicy(ctx, store.Policy{Domain: contoso, IDs: ids}); err != nil {
		b.Fatal(err)
	}
	err = s.Update(ctx, func(tx *store.Tx) error {
		row := func(r *store.Row, n int, name string) error {
			c := r.Common()
			c.SID, c.ObjectGUID, c.OID = sid.WithRID(uint32(n)), guid(n), guid(n+1<<40)
			c.Account, c.DisplayName, c.DN = name, "Number "+name, "CN="+name+",OU=AADDC Users,DC=contoso,DC=test"
			return tx.Put(r)
		}
		everybody := store.NewGroup()
		everybody.Group.Security, everybody.Group.Scope = true, identity.ScopeGlobal
		if err := row(everybody, 513, "Domain Users"); err != nil {
			return err
		}
		members := make([][]store.Member, groups)
		for i := range users {
			u := store.NewUser()
			u.User.UPN, u.User.PrimaryGroup = fmt.Sprintf("user%06d@contoso.test", i), sid.WithRID(513)
			if err := row(u, 100_000+i, fmt.Sprintf("user%06d", i)); err != nil {
				return err
			}
			for k := range 10 {
				g := (i*31 + k*997) % groups
				members[g] = append(members[g], store.Member{GUID: guid(100_000 + i)})
			}
		}
		for i := range groups {
			g := store.NewGroup()
			g.Group.Security, g.Group.Scope = true, identity.ScopeGlobal
			if err := row(g, 10_000_000+i, fmt.Sprintf("group%05d", i)); err != nil {
				return err
			}
			if err := tx.SetMembers(g.Group.Row, members[i]); err != nil {
				return err
			}
		}
		return tx.SetSync(store.Sync{Complete: true})
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOneChange is what one change costs, from the moment it is in the
// store to the file in its place on the file system of TMPDIR: reading and
// building in the worker, checking and writing in root's half.
func BenchmarkOneChange(b *testing.B) {
	for _, size := range []struct{ users, groups int }{{5_000, 500}, {100_000, 10_000}} {
		b.Run(fmt.Sprintf("%d users", size.users), func(b *testing.B) {
			ctx := context.Background()
			s := crowd(b, size.users, size.groups)
			p, err := publish.NewPolicy(publish.Settings{Home: "/home/%D/%u", Shell: "/bin/bash", Gecos: "%n", Enumerate: true})
			if err != nil {
				b.Fatal(err)
			}
			dir := filepath.Join(b.TempDir(), "names")
			if err := os.Mkdir(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			i, err := install.Open(install.Options{Dir: dir, Owner: uint32(os.Getuid()), Ranges: ranges, NSCD: "/nonexistent",
				Local: func() (map[string]struct{}, error) { return nil, nil }, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer i.Close()
			var read, seal, put, cpu time.Duration
			n, bytes := 0, 0
			for b.Loop() {
				n++
				from, used := time.Now(), cpuTime(b)
				var im *snapshot.Image
				err := publish.FromStore(s)(ctx, func(rows publish.Rows) (err error) {
					im, _, _, err = publish.Build(ctx, rows, publish.Input{Domain: contoso, Policy: p, Ranges: ranges, Generation: uint64(n)})
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
				built := time.Now()
				f, _, err := publish.Seal(im)
				if err != nil {
					b.Fatal(err)
				}
				sealed := time.Now()
				if err := i.Install(ctx, f); err != nil {
					b.Fatal(err)
				}
				_ = f.Close()
				read, seal, put = read+built.Sub(from), seal+sealed.Sub(built), put+time.Since(sealed)
				cpu += cpuTime(b) - used
				bytes = im.Size()
				// Something has to change, or it is not published again.
				b.StopTimer()
				if err := s.Update(ctx, func(tx *store.Tx) error {
					r, err := tx.FindSID(sid.WithRID(100_000 + 17))
					if err != nil {
						return err
					}
					r.User.DisplayName = fmt.Sprint("Changed ", n)
					return tx.Put(r)
				}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			if info, ok := i.Current(); !ok || info.Users != size.users || info.Groups != size.groups+1 {
				b.Fatalf("published %+v, %v", info, ok)
			}
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(n) }
			b.ReportMetric(ms(read), "ms-read+build")
			b.ReportMetric(ms(seal), "ms-seal")
			b.ReportMetric(ms(put), "ms-install")
			b.ReportMetric(ms(cpu), "ms-cpu") // of both halves and the garbage collector, on all processors
			b.ReportMetric(float64(bytes)/1e6, "MB")
		})
	}
}
