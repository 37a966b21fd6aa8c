// SPDX-License-Identifier: Apache-2.0

// Package nss holds libnss_latchkey.so.2, the module by which every process of
// the machine reads the published snapshot, and compiles the same C through cgo
// so that Go can test, fuzz and time it.
//
// The module is C, in the files beside this one; latchkey.h says how they hang
// together and build.mk how they are compiled. It is not Go because a Go runtime
// in somebody else's process does not survive that process's fork:
// TestGoRuntimeDoesNotSurviveFork keeps the experiment.
//
// Only tests import this package. The copy of the module in it reads the file
// that Use names, which the module that is shipped cannot be told to.
package nss

import "fmt"

// Status is what NSS calls nss_status.
type Status int

// The answers that a module can give.
const (
	TryAgain Status = -2 // the buffer is too small, or there is no memory
	Unavail  Status = -1 // could not ask
	NotFound Status = 0  // asked, and nobody has the key
	Success  Status = 1
)

// String returns the status as nsswitch.conf spells it.
func (s Status) String() string {
	switch s {
	case TryAgain:
		return "TRYAGAIN"
	case Unavail:
		return "UNAVAIL"
	case NotFound:
		return "NOTFOUND"
	case Success:
		return "SUCCESS"
	}
	return fmt.Sprintf("status %d", int(s))
}

// Passwd is struct passwd, copied.
type Passwd struct {
	Name, Password    string
	UID, GID          uint32
	Gecos, Dir, Shell string
}

// Group is struct group, copied.
type Group struct {
	Name, Password string
	GID            uint32
	Members        []string
}
