// SPDX-License-Identifier: Apache-2.0

// Package pam tests, through cgo, the PAM module beside it. It belongs to no
// program: pam_latchkey.so is C and nothing else, because a Go runtime does not
// survive the fork of its host process (see the test in nss/).
//
// The module asks the daemon (internal/shim) and the user, and decides nothing
// but whose name it is: one of /etc/passwd is left to others in every way.
package pam

// Turn is latchkey.v1.Turn as the module reads it.
type Turn struct {
	Lines    []Line
	Done     bool
	Outcome  int
	Name     string
	UID, GID uint32
	CCache   []byte
}

// Line is latchkey.v1.Line.
type Line struct {
	Kind int
	Text string
}
