// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// bench runs a publisher whose rows and whose receiver the test holds.
type bench struct {
	*Publisher
	rows    chan Rows
	changed chan struct{}
	sent    chan *snapshot.Reader
	answer  chan error
}

func start(t *testing.T) *bench { return startAt(t, nil) }

func startAt(t *testing.T, position func() store.Position) *bench {
	t.Helper()
	b := &bench{rows: make(chan Rows, 1), changed: make(chan struct{}, 1), sent: make(chan *snapshot.Reader), answer: make(chan error, 1)}
	b.Publisher = New(Options{
		Rows: func(_ context.Context, fn func(Rows) error) error {
			rows := <-b.rows
			b.rows <- rows
			return fn(rows)
		},
		Changed:  b.changed,
		Position: position,
		Send: func(_ context.Context, f *os.File) error {
			data, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			r, err := snapshot.Open(data)
			if err != nil {
				return err
			}
			b.sent <- r
			return <-b.answer
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	return b
}

func (b *bench) set(rows Rows) {
	select {
	case <-b.rows:
	default:
	}
	b.rows <- rows
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func TestPublisherFollowsTheStore(t *testing.T) {
	b := start(t)
	d := people()
	d.incomplete = true
	b.set(d)
	b.Settle(&Settled{Domain: contoso, Policy: policy(t, settings()), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}})
	u := &identity.User{Common: identity.Common{Name: "ana", DisplayName: "Ana"}}
	if b.Present(u); u.Home != "/home/CONTOSO/ana" {
		t.Errorf("before the first snapshot ana's home is %q", u.Home)
	}
	b.set(people())
	b.answer <- nil
	if r := <-b.sent; !r.Complete() {
		t.Fatal("what was sent first is not complete")
	}

	b.set(people()) // nothing new: not sent
	d = people()
	d.users = d.users[:2]
	b.set(d)
	b.answer <- nil
	if r := <-b.sent; func() bool { _, ok := r.UserByName("cleo"); return ok }() {
		t.Error("what did not change was sent, or cleo is still there")
	}

	// A refusal is tried again, without a change.
	d = people()
	d.users = d.users[:1]
	b.set(d)
	b.answer <- fault.New(fault.Conflict, "bob is a local account")
	<-b.sent
	b.answer <- nil
	<-b.sent

	// Another policy is published at once, though no row changed.
	s := settings()
	s.Shell = "/bin/zsh"
	b.answer <- nil
	b.Settle(&Settled{Domain: contoso, Policy: policy(t, s), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}})
	r := <-b.sent
	if ana, _ := r.UserByName("ana"); ana.Shell != "/bin/zsh" {
		t.Errorf("ana's shell is %q", ana.Shell)
	}
}

// Names that somebody else has removed or changed are published again, in seconds.
func TestNamesThatSomebodyChangedArePublishedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities")
	sent := make(chan struct{})
	rows := people()
	changed := make(chan struct{}, 1)
	p := New(Options{Changed: changed, File: path, Glance: time.Millisecond,
		Rows: func(_ context.Context, fn func(Rows) error) error { return fn(rows) },
		Send: func(_ context.Context, f *os.File) error {
			data, err := io.ReadAll(f)
			if err == nil {
				err = errors.Join(os.RemoveAll(path), os.WriteFile(path, data, 0o600))
			}
			sent <- struct{}{}
			return err
		}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	p.Settle(&Settled{Domain: contoso, Policy: policy(t, settings()), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}})
	<-sent
	for what, do := range map[string]func() error{
		"removed":   func() error { return os.Remove(path) },
		"changed":   func() error { return os.Chmod(path, 0o644) },
		"directory": func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		for p.altered() || p.State().Generation == 0 { // until what was sent is noted
			time.Sleep(time.Millisecond)
		}
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		<-sent
	}
	cancel()
	<-ended
}
