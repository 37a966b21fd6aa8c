// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A flood of answers keeps nobody out, and does not fill the memory.
func TestAFloodOfAnswersKeepsNobodyOut(t *testing.T) {
	var s spent
	s.init()
	now := time.Unix(1_800_000_000, 0)
	for n := range 3 * maxSpent {
		var h hash
		binary.BigEndian.PutUint64(h[:], uint64(n))
		if !s.take(h, now.Add(signInTime)) {
			t.Fatalf("answer %d was refused", n)
		}
		if s.take(h, now.Add(signInTime)) {
			t.Fatalf("answer %d was taken twice", n)
		}
	}
	if len(s.until) > maxSpent {
		t.Errorf("%d answers are remembered", len(s.until))
	}
	if !s.take(hash{31: 1}, now.Add(2*signInTime)) || len(s.until) != 1 {
		t.Errorf("ten minutes later %d answers are remembered", len(s.until))
	}
}

func TestAnAnswerThatComesManyTimesAtOnceIsTakenOnce(t *testing.T) {
	var s spent
	s.init()
	var all sync.WaitGroup
	var taken atomic.Int32
	for range 32 {
		all.Go(func() {
			if s.take(hash{1}, time.Now().Add(signInTime)) {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 {
		t.Errorf("it was taken %d times", taken.Load())
	}
}
