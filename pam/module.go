// SPDX-License-Identifier: Apache-2.0

package pam

/*
#cgo CFLAGS: -DLATCHKEY_TEST -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -std=gnu11 -O2 -Wall -Wextra -Werror
#cgo LDFLAGS: -lpam

#include <stdlib.h>

#include "latchkey.h"
*/
import "C"

import "unsafe"

// outside copies b into memory of exactly its size that is not Go's, so that a
// sanitizer or a crash tells who reads beyond it.
func outside(b []byte) (C.struct_lk_bytes, func()) {
	p := C.malloc(C.size_t(max(len(b), 1)))
	copy(unsafe.Slice((*byte)(p), len(b)), b)
	return C.struct_lk_bytes{at: (*C.uchar)(p), size: C.size_t(len(b))}, func() { C.free(p) }
}

func inside(b C.struct_lk_bytes) []byte {
	return C.GoBytes(unsafe.Pointer(b.at), C.int(b.size))
}

// ReadTurn is how the module reads a Turn.
func ReadTurn(b []byte) (Turn, bool) {
	from, free := outside(b)
	defer free()
	var c C.struct_lk_turn
	if !C.lk_read_turn(&c, from) {
		return Turn{}, false
	}
	t := Turn{Done: bool(c.done), Outcome: int(c.outcome), Name: string(inside(c.name)), UID: uint32(c.uid), GID: uint32(c.gid), CCache: inside(c.ccache)}
	for _, l := range c.lines[:c.count] {
		t.Lines = append(t.Lines, Line{int(l.kind), string(inside(l.text))})
	}
	return t, true
}

// ReadAnswer is how the module reads a ttrpc Response: the code of its status,
// and its payload.
func ReadAnswer(b []byte) (code int32, payload []byte, ok bool) {
	from, free := outside(b)
	defer free()
	var a C.struct_lk_answer
	if !C.lk_read_answer(&a, from) {
		return 0, nil, false
	}
	return int32(a.code), inside(a.payload), true
}

// WriteBegin is how the module writes a BeginRequest with these fields.
func WriteBegin(purpose uint64, fields ...[]byte) []byte {
	var b C.struct_lk_buffer
	defer C.lk_buffer_free(&b)
	C.lk_put_number(&b, 1, C.uint64_t(purpose))
	for i, f := range fields {
		from, free := outside(f)
		C.lk_put_bytes(&b, C.unsigned(i+2), unsafe.Pointer(from.at), from.size)
		free()
	}
	if b.failed {
		return nil
	}
	return C.GoBytes(unsafe.Pointer(b.at), C.int(b.size))
}

// Verdict is the PAM number for an outcome, by purpose.
func Verdict(purpose, outcome int) int {
	return int(C.lk_verdict_of_outcome(C.enum_lk_purpose(purpose), C.enum_lk_outcome(outcome)))
}

// IsLocal is whether the module takes a name for one of this box: 1, 0, or -1
// when it cannot tell.
func IsLocal(name string) int {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return int(C.lk_is_local(n))
}
