// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// twoDCs is a directory whose first DC says nothing to ReadOne until it is told
// to go on, or its context ends.
type twoDCs struct {
	*fakeDC
	goOn    chan struct{}
	ended   chan error // how each read at the first DC ended
	others  chan struct{}
	doubted bool
	other   error
	second  *fakeDC // whom the other DC has; nil: the same
}

func newTwoDCs(dc *fakeDC) *twoDCs {
	return &twoDCs{fakeDC: dc, goOn: make(chan struct{}), ended: make(chan error, 8), others: make(chan struct{}, 8)}
}

func (d *twoDCs) Session(context.Context) (Session, error) {
	return quietConn{fakeConn{d.fakeDC}, d}, nil
}

func (d *twoDCs) Another(ctx context.Context, than Session) (Session, error) {
	if _, ok := than.(quietConn); !ok {
		return nil, errors.New("not the first DC's")
	}
	d.others <- struct{}{}
	if d.other != nil {
		return nil, d.other
	}
	return fakeConn{cmp.Or(d.second, d.fakeDC)}, nil
}

func (d *twoDCs) Doubted(Session) bool { return d.doubted }

type quietConn struct {
	fakeConn
	d *twoDCs
}

func (c quietConn) ReadOne(ctx context.Context, key identity.Key) (directory.Object, error) {
	select {
	case <-c.d.goOn:
		o, err := c.fakeConn.ReadOne(ctx, key)
		c.d.ended <- err
		return o, err
	case <-ctx.Done():
		c.d.ended <- ctx.Err()
		return directory.Object{}, fault.Wrap(fault.Unreachable, "read", ctx.Err())
	}
}

func twoBox(t *testing.T) (*box, *twoDCs) {
	dc := newFakeDC()
	dc.user("ana")
	b := newBox(t, dc)
	b.sync(Request{})
	d := newTwoDCs(dc)
	b.m.cfg.Directory = d
	return b, d
}

// A DC that went silent holds nobody up: another one is asked.
func TestRefreshAsksAnotherDCWhereOneIsSilent(t *testing.T) {
	b, d := twoBox(t)
	ctx, cancel := context.WithCancel(t.Context())
	if e, err := b.m.RefreshOne(ctx, name("ana")); err != nil || e.User.Name != "ana" {
		t.Fatalf("%+v, %v", e.User, err)
	}
	if len(d.others) != 1 || len(d.ended) != 0 {
		t.Errorf("%d others were asked, and %d reads of the first had ended, want 1 and 0", len(d.others), len(d.ended))
	}
	if !b.m.isSilent(quietConn{fakeConn{d.fakeDC}, d}) {
		t.Error("the silence is not remembered")
	}
	cancel() // of no effect on the first, which may only be busy
	close(d.goOn)
	if err := <-d.ended; err != nil {
		t.Errorf("the read at the first DC: %v, want that it ends by itself", err)
	}
	for b.m.isSilent(quietConn{fakeConn{d.fakeDC}, d}) {
		time.Sleep(time.Millisecond) // it is heard of a moment later
	}
}

// The read at a DC that stays silent ends with the time that the caller had, and
// the connection with it.
func TestSilentDCIsGivenUpAtTheDeadline(t *testing.T) {
	b, d := twoBox(t)
	d.doubted = true // another one is asked at once
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := b.m.RefreshOne(ctx, name("ana")); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the read at the silent DC ended by %v", err)
	}
}

// Where the other DC cannot be reached either, or is refused, the first one
// still counts.
func TestRefreshWhereTheOtherDCIsNoHelp(t *testing.T) {
	for what, other := range map[string]error{"silent too": errDown, "an impostor": fault.New(fault.Denied, "no DC"), "not there": fault.New(fault.NotFound, "none")} {
		b, d := twoBox(t)
		d.doubted, d.other = true, other
		go func() { <-d.others; close(d.goOn) }()
		if e, err := b.m.RefreshOne(t.Context(), name("ana")); err != nil || e.User.Name != "ana" {
			t.Errorf("%s: %+v, %v", what, e.User, err)
		}
		if u := b.user("ana"); u.State.Has(identity.Missing) {
			t.Errorf("%s: ana counts as missing", what)
		}
	}
}

// Whoever gives up ends both reads.
func TestRefreshThatIsCancelledEnds(t *testing.T) {
	b, d := twoBox(t)
	d.doubted, d.other = true, errDown
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-d.others; cancel() }()
	if _, err := b.m.RefreshOne(ctx, name("ana")); !fault.Is(err, fault.Unreachable) {
		t.Errorf("got %v", err)
	}
	if err := <-d.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the read ended by %v", err)
	}
}

// TestWhoIsKnownElsewhereStays: somebody new whom another DC let in, in the place of
// a silent one, does not go because that one has not heard of her yet.
func TestWhoIsKnownElsewhereStays(t *testing.T) {
	b, d := twoBox(t)
	ahead := newFakeDC()
	ahead.objects, ahead.nextGUID, ahead.nextRID = maps.Clone(d.objects), d.nextGUID+100, d.nextRID+100
	d.second = ahead
	eve := ahead.user("eve")
	if e, err := b.m.RefreshOne(t.Context(), name("eve")); err != nil || e.User == nil {
		t.Fatalf("%+v, %v", e.User, err)
	}
	close(d.goOn) // the silent one answers again
	for range 3 {
		if res := b.hint(); res.Removed != 0 {
			t.Fatalf("a hint of the DC that is behind: %+v", res)
		}
	}
	if res := b.sweep(); res.Removed != 0 {
		t.Fatalf("one sweep of the DC that is behind: %+v", res)
	}
	d.objects[eve] = ahead.objects[eve] // replication has caught up
	b.sweep()
	if u := b.user("eve"); u.State.Has(identity.Missing) {
		t.Errorf("still missing: %+v", u)
	}
	d.remove(eve)
	if res := b.hint(); res.Removed != 1 {
		t.Errorf("deleted then: %+v", res)
	}
}

// TestRefreshAtADCThatIsBehindTakesNoGroupAway: the DC that answers in the place of
// a silent one has not heard of a new group yet, and neither has one that takes over.
func TestRefreshAtADCThatIsBehindTakesNoGroupAway(t *testing.T) {
	b, d := twoBox(t)
	dc := d.fakeDC
	behind := newFakeDC()
	behind.objects, behind.usn, behind.invocation[4] = maps.Clone(dc.objects), dc.usn+100, 1
	dc.group("new staff", dc.find("ana"))
	b.sync(Request{})
	d.second = behind
	if _, err := b.m.RefreshOne(t.Context(), name("ana")); err != nil || !b.in("ana", "new staff") {
		t.Errorf("in the place of another: %v, the group is %q", err, b.named("new staff"))
	}
	b.m.cfg.Directory = behind
	if _, err := b.m.RefreshOne(t.Context(), name("ana")); err != nil || !b.in("ana", "new staff") {
		t.Errorf("after it took over: %v, the group is %q", err, b.named("new staff"))
	}
}
