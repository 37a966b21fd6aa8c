// SPDX-License-Identifier: Apache-2.0

// Package latency counts how long things took, in histograms for whoever draws
// them. It keeps no times, names nobody, and forgets everything with the process.
package latency

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds are the upper bounds of the buckets, ascending; what took longer than
// the last is counted beyond it. From a lookup in memory to a domain controller
// that is given up.
var Bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// maxSeries bounds what a set tells apart: a caller may invent words.
const maxSeries = 256

// Labels are the values of a set's labels, in their order; a set with one label
// leaves the second empty.
type Labels [2]string

// other is what is counted together beyond maxSeries.
var other = Labels{"other", "other"}

// Set is one histogram for each combination of labels. The zero value is ready,
// and a nil one counts nothing. Safe for concurrent use.
type Set struct {
	mu  sync.RWMutex
	all map[Labels]*series
}

type series struct {
	buckets [len(Bounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

// Observe counts one thing that took so long; what took less than nothing, since
// the clock was set, took nothing.
func (s *Set) Observe(l Labels, took time.Duration) {
	if s == nil {
		return
	}
	one := s.of(l)
	took = max(took, 0)
	n, _ := slices.BinarySearch(Bounds[:], took)
	one.buckets[n].Add(1)
	one.nanos.Add(int64(took))
}

func (s *Set) of(l Labels) *series {
	s.mu.RLock()
	one := s.all[l]
	s.mu.RUnlock()
	if one != nil {
		return one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[Labels]*series{}
	}
	if s.all[l] == nil && len(s.all) >= maxSeries {
		l = other
	}
	if s.all[l] == nil {
		s.all[l] = &series{}
	}
	return s.all[l]
}

// Histogram is what was counted under one combination of labels.
type Histogram struct {
	Labels Labels
	// Within is how many took at most the bound of the same index; the last, one
	// more than there are bounds, is all of them.
	Within [len(Bounds) + 1]uint64
	Sum    time.Duration
}

// Histograms returns what was counted, in the order of the labels. What is
// observed meanwhile may be in or not.
func (s *Set) Histograms() []Histogram {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Histogram, 0, len(s.all))
	for l, one := range s.all {
		h := Histogram{Labels: l, Sum: time.Duration(one.nanos.Load())}
		n := uint64(0)
		for i := range one.buckets {
			n += one.buckets[i].Load()
			h.Within[i] = n
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Histogram) int { return slices.Compare(a.Labels[:], b.Labels[:]) })
	return out
}
