// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-nas/latchkey/internal/journal/journaltest"
)

// A syncBuffer is written by a command that runs and read meanwhile.
type syncBuffer struct{ journaltest.Buffer }

// waitFor waits until all of the words have been printed.
func (s *syncBuffer) waitFor(ctx context.Context, words ...string) error {
	for {
		text := s.String()
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%q did not come; what was printed:\n%s", words, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
