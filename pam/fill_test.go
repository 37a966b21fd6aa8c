// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"syscall"
	"testing"
)

// fill makes a socket whose queue has no place left, as of a daemon that is
// stopped.
func (b *box) fill(t testing.TB) {
	t.Helper()
	address := &syscall.SockaddrUnix{Name: b.path("s")}
	open := func() int {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		return fd
	}
	ln := open()
	if err := syscall.Bind(ln, address); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(ln, 1); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := syscall.Connect(open(), address); err == syscall.EAGAIN {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the queue takes everybody")
}
