// SPDX-License-Identifier: Apache-2.0

// Package wire is the bytes on winbind's pipe: the fixed structures that the
// client libraries of Samba send and expect, for each interface version that is
// known.
//
// A request is a structure of 2136 bytes (2128 in version 31) and then as many
// bytes as its extra_len says; an answer is one of 4008 bytes and then what its
// length says beyond that. Numbers are little-endian, texts are NUL-terminated
// in fields of fixed size. Nothing of the version is in a request: 31 is told by
// the length, 32 and 33 have the same length and other command numbers, so that
// the server has to know which of them the machine's Samba speaks.
//
// The layout is the interface definition of nsswitch/winbind_struct_protocol.h,
// as compiled for x86-64; its licence text allows any use. The package reads and
// writes bytes; it opens nothing and decides nothing.
package wire

import (
	"strconv"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Version is an interface version, as INTERFACE_VERSION answers it.
type Version uint32

// The versions that are known.
const (
	V31 Version = 31 // Samba 4.10 to 4.16
	V32 Version = 32 // Samba 4.17 to 4.21
	V33 Version = 33 // Samba 4.22 to 4.24
)

// Sizes of the structures, and the most extra data that a request may bring.
const (
	RequestSize   = 2136 // of 32 and 33
	requestSize31 = 2128
	ResponseSize  = 4008
	MaxExtra      = 128 << 10
)

// Known reports whether v is one of the versions above.
func (v Version) Known() bool { return v >= V31 && v <= V33 }

// RequestSize is the size of a request's structure.
func (v Version) RequestSize() int {
	if v == V31 {
		return requestSize31
	}
	return RequestSize
}

// ForSamba returns the version that a release of Samba speaks, from what
// `smbd -V` prints: "Version 4.17.12-Debian". fault.Malformed: no release can be
// read from it; fault.Conflict: a release whose version is not known.
func ForSamba(printed string) (Version, error) {
	text := strings.TrimPrefix(strings.TrimSpace(printed), "Version ")
	first, rest, _ := strings.Cut(text, ".")
	second := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	major, err := strconv.ParseUint(first, 10, 16)
	minor, err2 := strconv.ParseUint(second, 10, 16)
	switch {
	case err != nil || err2 != nil:
		return 0, fault.Errorf(fault.Malformed, "not a release of Samba: %.100q", printed)
	case major == 4 && minor >= 10 && minor <= 16:
		return V31, nil
	case major == 4 && minor >= 17 && minor <= 21:
		return V32, nil
	case major == 4 && minor >= 22 && minor <= 24:
		return V33, nil
	}
	return 0, fault.WithRemedy(fault.Errorf(fault.Conflict, "the interface version of Samba %d.%d is not known", major, minor),
		"update latchkey; or, where its release notes say that the interface has not changed, set samba.interface")
}
