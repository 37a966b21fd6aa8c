// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestKindSurvivesWrapping(t *testing.T) {
	base := New(Locked, "account is locked")
	for name, tc := range map[string]struct {
		err  error
		want Kind
	}{
		"nil":               {nil, Unknown},
		"plain":             {errors.New("boom"), Unknown},
		"direct":            {base, Locked},
		"through fmt":       {fmt.Errorf("sign in: %w", base), Locked},
		"unknown outside":   {&Error{Op: "look", Err: base}, Locked},
		"outermost wins":    {Wrap(Denied, "enter", base), Denied},
		"wrap keeps kind":   {Wrap(Unknown, "enter", base), Locked},
		"remedy keeps kind": {WithRemedy(base, "wait"), Locked},
		"deadline":          {fmt.Errorf("dial: %w", context.DeadlineExceeded), Unreachable},
		"joined":            {errors.Join(errors.New("x"), base), Locked},
	} {
		if got := KindOf(tc.err); got != tc.want {
			t.Errorf("%s: KindOf = %v, want %v", name, got, tc.want)
		}
	}
}

func TestRemedyIsFoundAnywhereInTheChain(t *testing.T) {
	err := fmt.Errorf("join: %w", Wrap(Unreachable, "find a DC", WithRemedy(New(NotFound, "no SRV record"), "set --dns")))
	if got, want := Remedy(err), "set --dns"; got != want {
		t.Errorf("Remedy = %q, want %q", got, want)
	}
	if got, want := err.Error(), "join: find a DC: no SRV record"; got != want {
		t.Errorf("Error = %q, want %q", got, want)
	}
	if got := Remedy(errors.New("x")); got != "" {
		t.Errorf("Remedy of a plain error = %q, want none", got)
	}
}

func TestNilStaysNil(t *testing.T) {
	if Wrap(Denied, "x", nil) != nil || WithRemedy(nil, "x") != nil || Is(nil, Unknown) {
		t.Error("a nil error did not stay nil")
	}
}

func TestEveryKindHasItsWord(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if k.String() == "" || seen[k.String()] {
			t.Errorf("kind %d has no word of its own: %q", k, k)
		}
		seen[k.String()] = true
	}
}
