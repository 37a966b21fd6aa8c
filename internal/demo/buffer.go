// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A syncBuffer is written by a command that runs and read meanwhile.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

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
