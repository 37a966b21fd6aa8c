// SPDX-License-Identifier: Apache-2.0

package latency

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestObserve(t *testing.T) {
	var s Set
	for _, d := range []time.Duration{-time.Second, 0, 50 * time.Microsecond, 51 * time.Microsecond, 10 * time.Second, time.Minute} {
		s.Observe(Labels{"b", "ok"}, d)
	}
	s.Observe(Labels{"a"}, time.Second)
	got := s.Histograms()
	if len(got) != 2 || got[0].Labels != (Labels{"a"}) || got[1].Labels != (Labels{"b", "ok"}) {
		t.Fatalf("histograms: %+v", got)
	}
	h := got[1]
	last := len(Bounds)
	if h.Within[0] != 3 || h.Within[1] != 4 || h.Within[last-1] != 5 || h.Within[last] != 6 {
		t.Errorf("within %v", h.Within)
	}
	if want := 101*time.Microsecond + 70*time.Second; h.Sum != want {
		t.Errorf("sum %v, want %v", h.Sum, want)
	}
	for i, n := range h.Within[1:] {
		if n < h.Within[i] {
			t.Errorf("bucket %d has less than the one before: %v", i+1, h.Within)
		}
	}
	(*Set)(nil).Observe(Labels{}, 0)
	if (*Set)(nil).Histograms() != nil {
		t.Error("nothing counts something")
	}
}

// Whoever invents words does not fill the memory, and nothing is lost.
func TestSeriesAreBounded(t *testing.T) {
	var s Set
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 1000 {
				s.Observe(Labels{fmt.Sprint(w, i)}, time.Millisecond)
			}
		})
	}
	all.Wait()
	n, seen := uint64(0), false
	got := s.Histograms()
	for _, h := range got {
		n += h.Within[len(Bounds)]
		seen = seen || h.Labels == other
	}
	if len(got) > maxSeries+1 || n != 4000 || !seen {
		t.Errorf("%d series with %d observations, other: %v", len(got), n, seen)
	}
}

func BenchmarkObserve(b *testing.B) {
	var s Set
	for b.Loop() {
		s.Observe(Labels{"/latchkey.v1.IdentityService/GetUser", "OK"}, 60*time.Microsecond)
	}
}
