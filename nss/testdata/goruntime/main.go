// SPDX-License-Identifier: Apache-2.0

// Command goruntime is the NSS module that latchkey does not have: one written in
// Go. TestGoRuntimeDoesNotSurviveFork shows why. It answers every getpwnam with
// NOTFOUND, after making as much garbage as a small lookup through a socket
// would.
package main

/*
#include <nss.h>
#include <pwd.h>
*/
import "C"

var sink []byte

//export _nss_goruntime_getpwnam_r
func _nss_goruntime_getpwnam_r(name *C.char, pwd *C.struct_passwd, buffer *C.char, size C.size_t, errnop *C.int) C.enum_nss_status {
	sink = make([]byte, 64<<10)
	return C.NSS_STATUS_NOTFOUND
}

func main() {}
