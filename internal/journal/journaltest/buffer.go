// SPDX-License-Identifier: Apache-2.0

// Package journaltest is what a log is written to where somebody reads it
// meanwhile. Only tests and the demo import it.
package journaltest

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written to it. The zero value is empty. Safe for
// concurrent use; not to be copied.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds p. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
