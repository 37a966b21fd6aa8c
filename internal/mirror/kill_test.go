// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/idmap"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// kills is how often a process is killed: 20 times, or as often as
// LATCHKEY_KILLS says.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("LATCHKEY_KILLS")); err == nil && n > 0 {
		return n
	}
	return 20
}

const (
	killHelper = "MIRROR_KILL_HELPER" // path of the store
	killPiece  = "MIRROR_KILL_PIECE"  // objects of one transaction
)

// TestKillHelper is not a test: it is the process that is killed. It mirrors one
// generation of a directory after the other and tells of each that was
// committed.
func TestKillHelper(t *testing.T) {
	path := os.Getenv(killHelper)
	if path == "" {
		return
	}
	fail := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(3)
		}
	}
	ctx := context.Background()
	if n, err := strconv.Atoi(os.Getenv(killPiece)); err == nil && n > 0 {
		piece, pieceMembers = n, n
	}
	s, err := store.Open(ctx, path, store.Options{Log: slog.New(slog.DiscardHandler)})
	fail(err)
	ids, err := idmap.New(idmap.Config{}, identity.MustParseSID("S-1-5-21-1-2-3"))
	fail(err)
	fail(s.SetPolicy(ctx, store.Policy{IDs: ids, Reserved: idmap.Privileged(), Domain: identity.Domain{NetBIOS: "CONTOSO", DNS: "aadds.contoso.test",
		Realm: "AADDS.CONTOSO.TEST", SID: ids.Domain()}}))
	generation := generationOf(s)
	fmt.Println("open", generation)
	for {
		generation++
		m := New(Config{Store: s, Directory: killDC(generation), Log: slog.New(slog.DiscardHandler)})
		_, err := m.Sync(ctx, Request{Full: generation%5 == 0}, nil)
		fail(err)
		fmt.Println("committed", generation)
	}
}

// killDC is one generation of the directory: everybody has another name, is
// re-created now and then, and groups have other members.
func killDC(generation int) *fakeDC {
	dc := newFakeDC()
	dc.usn = uint64(generation) * 10000
	rng := rand.New(rand.NewPCG(uint64(generation), 1))
	var guids []identity.GUID
	for i := range 60 + generation%40 {
		who := fmt.Sprintf("p%03d", i)
		guid := dc.user(who)
		dc.change(guid, func(o *directory.Object) {
			o.SAMAccountName = fmt.Sprintf("n%03d", (i*7+generation)%500)
			o.DisplayName = strconv.Itoa(generation)
			if i%4 == 0 { // re-created in each generation
				o.SID = dc.domain.WithRID(uint32(10000 + generation*100 + i))
				o.ObjectGUID[8] = byte(generation)
				o.ObjectGUID[9] = byte(generation >> 8)
			}
		})
		o := dc.objects[guid]
		delete(dc.objects, guid)
		dc.objects[o.ObjectGUID] = o
		guids = append(guids, o.ObjectGUID)
	}
	for g := range 10 {
		var members []identity.GUID
		for range 20 {
			members = append(members, guids[rng.IntN(len(guids))])
		}
		guid := dc.group(fmt.Sprintf("team%d", g), members...)
		dc.change(guid, func(o *directory.Object) { // the same group in each generation
			o.ObjectGUID, o.SID = oidOf(fmt.Sprintf("guid%d", g)), dc.domain.WithRID(uint32(90000+g))
		})
		o := dc.objects[guid]
		delete(dc.objects, guid)
		dc.objects[o.ObjectGUID] = o
	}
	return dc
}

// generationOf returns the generation that a store holds: all of it, or it is
// no generation.
func generationOf(s *store.Store) int {
	generation := 0
	_ = s.View(context.Background(), func(v *store.View) error {
		e, err := v.Get(identity.Key{Kind: identity.ByOID, GUID: oidOf("p001")}, 0)
		if err == nil {
			generation, _ = strconv.Atoi(e.User.DisplayName)
		}
		return nil
	})
	return generation
}

// TestKilledAtAnyMoment kills a process that mirrors, again and again: the store
// opens, nothing that was told to be committed is lost, no pass is there by
// half, and no number changes. In a large domain, where a pass is several
// transactions, it may be there by half, and the next one goes on.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Run("one transaction", func(t *testing.T) { killMany(t, kills(), 0) })
	t.Run("many transactions", func(t *testing.T) { killMany(t, kills()/2, 16) })
}

func killMany(t *testing.T, times, pieces int) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	number := make(map[identity.GUID]identity.UID)
	for n := range times {
		early := n%4 == 3 // while it opens the store
		committed := killOne(t, path, time.Duration(rng.IntN(120))*time.Millisecond, early, pieces)
		s, err := store.Open(context.Background(), path, store.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		if err := s.Check(context.Background()); err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		generation := generationOf(s)
		if generation < committed {
			t.Fatalf("after kill %d: generation %d was committed, %d is there", n, committed, generation)
		}
		if err := s.View(context.Background(), func(v *store.View) error {
			return v.Each(identity.KindUser, func(e store.Entry) error {
				u := e.User
				if u.OID.IsZero() {
					return nil
				}
				if had, ok := number[u.OID]; ok && had != u.UID {
					return fmt.Errorf("%s had %d and has %d", u.OID, had, u.UID)
				}
				number[u.OID] = u.UID
				if g, _ := strconv.Atoi(u.DisplayName); pieces == 0 && !u.State.Has(identity.Missing) && g != generation {
					return fmt.Errorf("%s is of generation %d in %d", u.Account, g, generation)
				}
				return nil
			})
		}); err != nil {
			t.Fatalf("after kill %d: %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(number) == 0 {
		t.Error("nothing was ever committed")
	}
}

// killOne starts the helper, kills it a while after it has opened the store, or
// a shorter while after it was started, and returns the last generation that it
// said was committed.
func killOne(t *testing.T, path string, after time.Duration, early bool, pieces int) (committed int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillHelper$")
	cmd.Env = append(os.Environ(), killHelper+"="+path, killPiece+"="+strconv.Itoa(pieces))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	opened := early
	if early {
		time.AfterFunc(after/4, func() { _ = cmd.Process.Kill() })
	}
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "open":
			opened = true
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		case "committed":
			committed, _ = strconv.Atoi(rest)
		default:
			t.Errorf("the helper says %q", lines.Text())
		}
	}
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	if e, ok := err.(*exec.ExitError); !ok || e.ExitCode() != -1 || !opened {
		t.Fatalf("the helper was not killed: %v, opened %v", err, opened)
	}
	return committed
}
