// SPDX-License-Identifier: Apache-2.0

package nss

/*
#cgo CFLAGS: -DLATCHKEY_TEST -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -std=gnu11 -O2 -Wall -Wextra -Werror -Wno-unused-parameter

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

enum nss_status _nss_latchkey_getpwnam_r(const char *, struct passwd *, char *, size_t, int *);
enum nss_status _nss_latchkey_getpwuid_r(uid_t, struct passwd *, char *, size_t, int *);
enum nss_status _nss_latchkey_setpwent(int);
enum nss_status _nss_latchkey_getpwent_r(struct passwd *, char *, size_t, int *);
enum nss_status _nss_latchkey_endpwent(void);
enum nss_status _nss_latchkey_getgrnam_r(const char *, struct group *, char *, size_t, int *);
enum nss_status _nss_latchkey_getgrgid_r(gid_t, struct group *, char *, size_t, int *);
enum nss_status _nss_latchkey_setgrent(int);
enum nss_status _nss_latchkey_getgrent_r(struct group *, char *, size_t, int *);
enum nss_status _nss_latchkey_endgrent(void);
enum nss_status _nss_latchkey_initgroups_dyn(const char *, gid_t, long *, long *, gid_t **, long, int *);

// time_passwd asks for n names in turn, so many times, and returns how many
// were found.
static size_t time_passwd(char **names, size_t n, size_t times, char *buffer, size_t size) {
	size_t found = 0;
	struct passwd p;
	int e;

	for (size_t i = 0; i < times; i++)
		found += _nss_latchkey_getpwnam_r(names[i % n], &p, buffer, size, &e) == NSS_STATUS_SUCCESS;
	return found;
}
*/
import "C"

import (
	"bytes"
	"syscall"
	"time"
	"unsafe"
)

// Answer is how a call ended: the status and what came back through errnop.
type Answer struct {
	Status Status
	Errno  syscall.Errno // 0: not set
}

// Use has the module read another file, of the given owner, from the next call
// on, and look at the path again whenever so much time has passed.
func Use(path string, owner int, period time.Duration) {
	C.lk_test_path = C.CString(path) // never freed: another thread may be opening it
	C.lk_test_owner = C.uid_t(owner)
	C.lk_test_period_ms = C.uint64_t(period.Milliseconds())
	C.lk_test_look()
}

const canary = 0xa5

// Buffer is memory for one answer, with canaries on both sides.
type Buffer struct {
	all  unsafe.Pointer
	skip int
	size int
}

const margin = 64

// NewBuffer returns a buffer of size bytes whose address is misalign bytes
// beyond a multiple of 16. Free it.
func NewBuffer(size, misalign int) *Buffer {
	b := &Buffer{all: C.malloc(C.size_t(size + misalign + 2*margin)), skip: margin + misalign, size: size}
	C.memset(b.all, canary, C.size_t(size+misalign+2*margin))
	return b
}

// Free gives the memory back.
func (b *Buffer) Free() { C.free(b.all) }

// Intact reports whether nobody wrote beside the buffer.
func (b *Buffer) Intact() bool {
	all := unsafe.Slice((*byte)(b.all), b.skip+b.size+margin)
	around := append(bytes.Clone(all[:b.skip]), all[b.skip+b.size:]...)
	return len(bytes.Trim(around, string([]byte{canary}))) == 0
}

func (b *Buffer) start() *C.char { return (*C.char)(unsafe.Add(b.all, b.skip)) }

// text copies a string that has to lie in the buffer, its NUL included.
func (b *Buffer) text(p *C.char) string {
	all := unsafe.Slice((*byte)(b.all), b.skip+b.size)
	at := uintptr(unsafe.Pointer(p)) - uintptr(b.all)
	if at < uintptr(b.skip) || at >= uintptr(len(all)) || bytes.IndexByte(all[at:], 0) < 0 {
		panic("nss: the module returned a string outside the buffer")
	}
	return C.GoString(p)
}

func (b *Buffer) passwd(p *C.struct_passwd) Passwd {
	return Passwd{Name: b.text(p.pw_name), Password: b.text(p.pw_passwd), UID: uint32(p.pw_uid), GID: uint32(p.pw_gid),
		Gecos: b.text(p.pw_gecos), Dir: b.text(p.pw_dir), Shell: b.text(p.pw_shell)}
}

func (b *Buffer) group(g *C.struct_group) Group {
	out := Group{Name: b.text(g.gr_name), Password: b.text(g.gr_passwd), GID: uint32(g.gr_gid)}
	at := uintptr(unsafe.Pointer(g.gr_mem))
	if at%unsafe.Alignof(g.gr_mem) != 0 {
		panic("nss: the module returned an array of pointers that is not aligned")
	}
	for i := 0; ; i++ {
		if place := at - uintptr(b.all) + uintptr(i+1)*unsafe.Sizeof(g.gr_mem); place < uintptr(b.skip) || place > uintptr(b.skip+b.size) {
			panic("nss: the module returned an array of pointers outside the buffer")
		}
		member := *(**C.char)(unsafe.Add(unsafe.Pointer(g.gr_mem), uintptr(i)*unsafe.Sizeof(g.gr_mem)))
		if member == nil {
			return out
		}
		out.Members = append(out.Members, b.text(member))
	}
}

// call makes one call and checks what every call has to hold: nothing is
// written beside the buffer, and errno is left alone on success.
func (b *Buffer) passwdCall(call func(p *C.struct_passwd, e *C.int) C.enum_nss_status) (Passwd, Answer) {
	var p C.struct_passwd
	var e C.int
	s := Status(call(&p, &e))
	if !b.Intact() {
		panic("nss: the module wrote beside the buffer")
	}
	if s != Success {
		return Passwd{}, Answer{s, syscall.Errno(e)}
	}
	return b.passwd(&p), Answer{s, syscall.Errno(e)}
}

func (b *Buffer) groupCall(call func(g *C.struct_group, e *C.int) C.enum_nss_status) (Group, Answer) {
	var g C.struct_group
	var e C.int
	s := Status(call(&g, &e))
	if !b.Intact() {
		panic("nss: the module wrote beside the buffer")
	}
	if s != Success {
		return Group{}, Answer{s, syscall.Errno(e)}
	}
	return b.group(&g), Answer{s, syscall.Errno(e)}
}

// PasswdByName is getpwnam_r.
func (b *Buffer) PasswdByName(name string) (Passwd, Answer) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return b.passwdCall(func(p *C.struct_passwd, e *C.int) C.enum_nss_status {
		return C._nss_latchkey_getpwnam_r(n, p, b.start(), C.size_t(b.size), e)
	})
}

// PasswdByUID is getpwuid_r.
func (b *Buffer) PasswdByUID(uid uint32) (Passwd, Answer) {
	return b.passwdCall(func(p *C.struct_passwd, e *C.int) C.enum_nss_status {
		return C._nss_latchkey_getpwuid_r(C.uid_t(uid), p, b.start(), C.size_t(b.size), e)
	})
}

// NextPasswd is getpwent_r.
func (b *Buffer) NextPasswd() (Passwd, Answer) {
	return b.passwdCall(func(p *C.struct_passwd, e *C.int) C.enum_nss_status {
		return C._nss_latchkey_getpwent_r(p, b.start(), C.size_t(b.size), e)
	})
}

// GroupByName is getgrnam_r.
func (b *Buffer) GroupByName(name string) (Group, Answer) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return b.groupCall(func(g *C.struct_group, e *C.int) C.enum_nss_status {
		return C._nss_latchkey_getgrnam_r(n, g, b.start(), C.size_t(b.size), e)
	})
}

// GroupByGID is getgrgid_r.
func (b *Buffer) GroupByGID(gid uint32) (Group, Answer) {
	return b.groupCall(func(g *C.struct_group, e *C.int) C.enum_nss_status {
		return C._nss_latchkey_getgrgid_r(C.gid_t(gid), g, b.start(), C.size_t(b.size), e)
	})
}

// NextGroup is getgrent_r.
func (b *Buffer) NextGroup() (Group, Answer) {
	return b.groupCall(func(g *C.struct_group, e *C.int) C.enum_nss_status {
		return C._nss_latchkey_getgrent_r(g, b.start(), C.size_t(b.size), e)
	})
}

// SetPasswd is setpwent.
func SetPasswd() Status { return Status(C._nss_latchkey_setpwent(0)) }

// EndPasswd is endpwent.
func EndPasswd() Status { return Status(C._nss_latchkey_endpwent()) }

// SetGroup is setgrent.
func SetGroup() Status { return Status(C._nss_latchkey_setgrent(0)) }

// EndGroup is endgrent.
func EndGroup() Status { return Status(C._nss_latchkey_endgrent()) }

// Initgroups is initgroups_dyn with an array that has room for size gids and
// holds those in have; it returns all that is in the array afterwards.
func Initgroups(name string, group uint32, have []uint32, size int, limit int) ([]uint32, Answer) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	var e C.int
	start, room := C.long(len(have)), C.long(size)
	array := (*C.gid_t)(C.malloc(C.size_t(size) * 4))
	copy(unsafe.Slice((*uint32)(array), size), have)
	s := Status(C._nss_latchkey_initgroups_dyn(n, C.gid_t(group), &start, &room, &array, C.long(limit), &e))
	defer func() { C.free(unsafe.Pointer(array)) }()
	if start > room {
		panic("nss: the module counts more gids than there is room for")
	}
	return append([]uint32(nil), unsafe.Slice((*uint32)(array), int(start))...), Answer{s, syscall.Errno(e)}
}

// Key returns how the module lowers a name before it looks for it; "" for a
// name that nobody can have.
func Key(name string) string {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	var key C.struct_lk_key
	C.lk_key_init(&key, n)
	return string(unsafe.Slice((*byte)(unsafe.Pointer(&key.anon0)), int(key.size)))
}

// timePasswd asks for names in turn, so many times, in one call from Go.
func timePasswd(names []string, times int) (found int) {
	array := C.malloc(C.size_t(len(names)) * C.size_t(unsafe.Sizeof(uintptr(0))))
	defer C.free(array)
	for i, name := range names {
		n := C.CString(name)
		defer C.free(unsafe.Pointer(n))
		unsafe.Slice((**C.char)(array), len(names))[i] = n
	}
	b := NewBuffer(4096, 0)
	defer b.Free()
	return int(C.time_passwd((**C.char)(array), C.size_t(len(names)), C.size_t(times), b.start(), C.size_t(b.size)))
}
