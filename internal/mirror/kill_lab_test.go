// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mirror

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// TestLabKilled kills a process that mirrors a real domain, while the domain
// changes.
func TestLabKilled(t *testing.T) {
	d := lab.Start(t, lab.DomainOptions{Population: lab.Population{Users: 200, Groups: 40}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	nas := d.StartBox(t, "nas1", lab.BoxOptions{Binds: []lab.Bind{{Host: self, Inside: "/opt/mirror.test"}, {Host: dir, Inside: "/opt/state", Writable: true}}})
	path := filepath.Join(dir, "latchkey.db")
	domain := identity.Domain{NetBIOS: d.NetBIOS, DNS: d.DNS, Realm: d.Realm(), SID: identity.MustParseSID(d.SID())}
	number := make(map[identity.GUID]identity.UID)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	complete := 0
	for n := range kills() {
		c := nas.Command("/opt/mirror.test", "-test.run=^TestLabKillHelper$")
		c.Env = []string{"MIRROR_LAB_HELPER=" + d.DNS + "," + d.DC.IP() + "," + domain.SID.String()}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stdout = w
		proc, err := c.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		lines := bufio.NewScanner(r)
		committed, once := 0, sync.OnceFunc(func() {
			time.AfterFunc(time.Duration(rng.IntN(1200))*time.Millisecond, func() { _ = proc.Kill() })
		})
		go func() { // the domain goes on
			_ = d.SetAttr(context.Background(), lab.UserName(60+n%100), "displayName", []byte(fmt.Sprint("Turn ", n)))
			_ = d.Rename(context.Background(), lab.UserName(180-n%20), fmt.Sprint("other", n))
		}()
		for lines.Scan() {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "open":
				once()
			case "committed":
				committed, _ = strconv.Atoi(rest)
			default:
				t.Errorf("the helper says %q", lines.Text())
			}
		}
		r.Close()
		if _, err := proc.Wait(); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), path, store.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		if err := s.Check(t.Context()); err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		err = s.View(t.Context(), func(v *store.View) error {
			if v.Complete() {
				complete++
			} else if committed > 0 {
				return fmt.Errorf("%d passes were committed and the mirror is not complete", committed)
			}
			people := 0
			err := v.Each(identity.KindUser, func(e store.Entry) error {
				u := e.User
				if u.OID.IsZero() {
					return nil
				}
				people++
				if had, ok := number[u.OID]; ok && had != u.UID {
					return fmt.Errorf("%s had %d and has %d", u.OID, had, u.UID)
				}
				number[u.OID] = u.UID
				return nil
			})
			if err == nil && people < len(number) {
				err = fmt.Errorf("%d people, there were %d", people, len(number))
			}
			return err
		})
		if err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if complete == 0 || len(number) < 200 {
		t.Errorf("%d people, complete after %d of %d kills", len(number), complete, kills())
	}
}

// TestLabKillHelper is not a test: it is the process that TestLabKilled kills.
func TestLabKillHelper(t *testing.T) {
	domain, rest, ok := strings.Cut(os.Getenv("MIRROR_LAB_HELPER"), ",")
	if !ok {
		return
	}
	dc, sid, _ := strings.Cut(rest, ",")
	s, err := store.Open(t.Context(), "/opt/state/latchkey.db", store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(3)
	}
	setPolicy(t, s, identity.Domain{NetBIOS: strings.ToUpper(strings.Split(domain, ".")[0]), DNS: domain, Realm: strings.ToUpper(domain), SID: identity.MustParseSID(sid)})
	m := New(Config{Store: s, Directory: LDAP(labClient(t, domain, dc, (&net.Dialer{}).DialContext))})
	fmt.Println("open")
	for n := 1; ; n++ {
		if _, err := m.Sync(t.Context(), Request{Full: true}, nil); err != nil {
			fmt.Println("failed:", err)
			os.Exit(3)
		}
		fmt.Println("committed", n)
	}
}
