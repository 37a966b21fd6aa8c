// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// nscdSocket is where glibc's name service cache listens, on the machines that
// run one.
const nscdSocket = "/run/nscd/socket"

// nscdTime bounds one conversation with it.
const nscdTime = time.Second

// flushNSCD has nscd forget what it knows of users and groups (its group table
// includes the lists of initgroups), or its caches would hide a new snapshot for
// ten minutes. Where there is no nscd it does nothing and returns nil.
//
// The protocol is glibc's own (nscd/nscd-client.h): version, request, length of
// the key, the key with its NUL; the answer is an errno.
func flushNSCD(socket string) error {
	for _, table := range []string{"passwd", "group"} {
		conn, err := net.DialTimeout("unix", socket, nscdTime)
		if err != nil {
			return nil //nolint:nilerr // nobody listens: there is no nscd
		}
		err = invalidate(conn, table)
		_ = conn.Close()
		if err != nil {
			return fmt.Errorf("have nscd forget its %s table: %w", table, err)
		}
	}
	return nil
}

func invalidate(conn net.Conn, table string) error {
	const version, request = 2, 10 // NSCD_VERSION, INVALIDATE
	if err := conn.SetDeadline(time.Now().Add(nscdTime)); err != nil {
		return err
	}
	var b []byte
	for _, n := range []uint32{version, request, uint32(len(table) + 1)} {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	if _, err := conn.Write(append(append(b, table...), 0)); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if n := binary.NativeEndian.Uint32(answer[:]); n != 0 {
		return fmt.Errorf("it answers %d", n)
	}
	return nil
}
