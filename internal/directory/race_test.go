// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestRaceHandsBackWhatComesTooLate(t *testing.T) {
	release := make(chan struct{})
	late := make(chan string, 1)
	got, err := race(ctxFor(t), []string{"slow", "fast"}, time.Millisecond, func(_ context.Context, s string) (string, error) {
		if s == "slow" {
			<-release
		}
		return s, nil
	}, func(s string) { late <- s })
	if err != nil || got != "fast" {
		t.Fatalf("race = %q, %v, want fast", got, err)
	}
	close(release)
	if s := <-late; s != "slow" {
		t.Errorf("late = %q, want slow", s)
	}
}

func TestRaceEndsWithEveryAnswerBad(t *testing.T) {
	_, err := race(ctxFor(t), []int{1, 2}, time.Hour, func(context.Context, int) (int, error) { return 0, errors.New("no") }, nil)
	if !fault.Is(err, fault.Unreachable) {
		t.Errorf("every one failed: %v, want unreachable", err)
	}
	asked := 0
	_, err = race(ctxFor(t), []int{1, 2}, time.Hour, func(context.Context, int) (int, error) { asked++; return 0, fault.New(fault.NotFound, "no such name") }, nil)
	if !fault.Is(err, fault.NotFound) || asked != 1 {
		t.Errorf("not there: %v after %d questions, want not found after one", err, asked)
	}
	if _, err := race(ctxFor(t), nil, time.Hour, func(context.Context, int) (int, error) { return 0, nil }, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("nobody to ask: %v, want not found", err)
	}
}
