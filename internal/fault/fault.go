// SPDX-License-Identifier: Apache-2.0

// Package fault is the closed list of ways in which latchkey can fail.
//
// Every error that crosses a package boundary carries one Kind; doors map the
// Kind, and nothing else, to the status of their protocol. The list is closed
// so that each door's table can be tested for completeness: a new Kind makes
// those tests fail until every door has an answer for it.
//
// The package never logs, never decides what a stranger may be told, and
// knows no protocol.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind is one way to fail.
type Kind uint8

// The closed list. Unknown is the zero value: an error that nobody classified.
// Doors treat it as Internal.
const (
	Unknown       Kind = iota
	NotFound           // we looked, and it is not there
	BadCredential      // wrong password, bad ticket, bad signature
	Locked             // the account is locked out for now
	Disabled           // the account is switched off
	Expired            // the account, or its password, is past its date
	MustChange         // the password has to be changed before it is good
	Denied             // known, and not allowed
	Unreachable        // the one who knows could not be asked, or not in time
	Malformed          // the question makes no sense
	Conflict           // the state of things forbids it: already joined, owned by another
	Exhausted          // a limit was reached: messages, streams, connections
	Internal           // a fault of ours
)

var names = [...]string{
	Unknown: "unknown", NotFound: "not found", BadCredential: "bad credential",
	Locked: "locked", Disabled: "disabled", Expired: "expired",
	MustChange: "must change password", Denied: "denied",
	Unreachable: "unreachable", Malformed: "malformed",
	Conflict: "conflict", Exhausted: "exhausted", Internal: "internal",
}

// Kinds returns every Kind, Unknown included, for tests of completeness.
func Kinds() []Kind {
	all := make([]Kind, len(names))
	for i := range names {
		all[i] = Kind(i)
	}
	return all
}

// String returns the kind as lower-case words.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is a failure with its Kind, what was being done, and, where an
// administrator can do something about it, what to do next.
type Error struct {
	Kind   Kind
	Op     string // what failed, as "ask the domain controller for a ticket"
	Remedy string // what to do next; empty when there is nothing to say
	Err    error  // the cause; may be nil
}

// Error returns "op: cause"; the remedy is left to the one who prints.
func (e *Error) Error() string {
	switch {
	case e.Err == nil && e.Op == "":
		return e.Kind.String()
	case e.Err == nil:
		return e.Op
	case e.Op == "":
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind that says text.
func New(kind Kind, text string) error { return &Error{Kind: kind, Op: text} }

// Errorf returns an error of the given kind; format and args as in
// [fmt.Errorf], %w included.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap gives err a kind and says what was being done. It returns nil when err
// is nil. A kind that err already carries is kept when kind is Unknown.
func Wrap(kind Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	if kind == Unknown {
		kind = KindOf(err)
	}
	return &Error{Kind: kind, Op: op, Err: err}
}

// WithRemedy adds what to do next to err, keeping its kind. It returns nil
// when err is nil.
func WithRemedy(err error, remedy string) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Remedy: remedy, Err: err}
}

// KindOf returns the kind of the outermost classified error in err's chain.
// A context's deadline is Unreachable; nil and everything else is Unknown.
func KindOf(err error) Kind {
	for e := err; e != nil; {
		var f *Error
		if !errors.As(e, &f) {
			break
		}
		if f.Kind != Unknown {
			return f.Kind
		}
		e = f.Err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unreachable
	}
	return Unknown
}

// Is reports whether err is of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Remedy returns the outermost remedy in err's chain, or "".
func Remedy(err error) string {
	for e := err; e != nil; {
		var f *Error
		if !errors.As(e, &f) {
			return ""
		}
		if f.Remedy != "" {
			return f.Remedy
		}
		e = f.Err
	}
	return ""
}
