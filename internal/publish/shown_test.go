// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/snapshot"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Shown returns once the change is in what root's half has taken, and not before.
func TestShownWaitsForTheChange(t *testing.T) {
	var seq atomic.Uint64
	seq.Store(5)
	b := startAt(t, func() store.Position { return store.Position{Epoch: 1, Seq: seq.Load()} })
	b.set(people())
	b.Settle(&Settled{Domain: contoso, Policy: policy(t, settings()), Ranges: []snapshot.Range{{Low: base, High: base + 9999}}})
	shown := make(chan error, 1)
	go func() { shown <- b.Shown(context.Background()) }()
	<-b.sent
	select {
	case err := <-shown:
		t.Fatalf("Shown = %v before root's half had taken it", err)
	case <-time.After(50 * time.Millisecond):
	}
	b.answer <- nil
	if err := <-shown; err != nil {
		t.Errorf("Shown = %v", err)
	}
	if err := b.Shown(context.Background()); err != nil {
		t.Errorf("Shown with nothing new = %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	seq.Store(6)
	if err := b.Shown(ctx); !fault.Is(err, fault.Unreachable) {
		t.Errorf("Shown of what is not published = %v, want unreachable", err)
	}
}
