// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
)

func TestNSCDForgets(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	if err := flushNSCD(socket); err != nil {
		t.Errorf("without nscd: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan []byte, 4)
	answers := make(chan []byte, 4)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 64)
			n, _ := conn.Read(b)
			asked <- b[:n]
			_, _ = conn.Write(<-answers)
			_ = conn.Close()
		}
	}()
	answers <- make([]byte, 4)
	answers <- make([]byte, 4)
	if err := flushNSCD(socket); err != nil {
		t.Error(err)
	}
	for _, table := range []string{"passwd\x00", "group\x00"} {
		if got := <-asked; !bytes.HasSuffix(got, []byte(table)) || len(got) != 12+len(table) {
			t.Errorf("nscd was asked %q", got)
		}
	}
	answers <- []byte{22, 0, 0, 0}
	if err := flushNSCD(socket); err == nil {
		t.Error("a refusal was taken for a yes")
	}
	answers <- nil
	if err := flushNSCD(socket); err == nil || err == io.EOF {
		t.Errorf("no answer: %v", err)
	}
}
