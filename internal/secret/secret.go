// SPDX-License-Identifier: Apache-2.0

// Package secret holds bytes that must not leave the process: passwords, keys,
// challenge responses.
//
// A Bytes prints as [redacted] in every format, marshals to the same word and
// can be wiped. The package does not encrypt memory and cannot undo copies that
// a caller makes of what Reveal returns; core dumps are switched off by the
// daemon (see package monitor).
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every secret prints as.
const Redacted = "[redacted]"

// Bytes is a secret. The zero value is an empty secret. Copies share the
// underlying memory: wiping one wipes all.
type Bytes struct{ b []byte }

// Own takes b as a secret without copying: the caller must forget b.
func Own(b []byte) Bytes { return Bytes{b} }

// FromString copies s into a secret. The string itself cannot be wiped; use it
// only where a library hands us a string.
func FromString(s string) Bytes { return Bytes{[]byte(s)} }

// Reveal returns the bytes themselves, not a copy, valid until Wipe.
func (s Bytes) Reveal() []byte { return s.b }

// Len returns the number of bytes.
func (s Bytes) Len() int { return len(s.b) }

// Clone returns a secret with memory of its own.
func (s Bytes) Clone() Bytes { return Bytes{append([]byte(nil), s.b...)} }

// Wipe overwrites the bytes with zeros. Safe to call twice.
func (s Bytes) Wipe() { Wipe(s.b) }

// Equal compares in time that depends on the lengths only.
func (s Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(s.b, o.b) == 1 }

// Format prints [redacted] whatever the verb.
func (Bytes) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// String returns [redacted].
func (Bytes) String() string { return Redacted }

// GoString returns [redacted].
func (Bytes) GoString() string { return Redacted }

// MarshalText returns [redacted], which covers JSON and TOML as well.
func (Bytes) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue returns [redacted] (log/slog).
func (Bytes) LogValue() slog.Value { return slog.StringValue(Redacted) }

// Wipe overwrites b with zeros.
//
//go:noinline
func Wipe(b []byte) {
	clear(b)
}
