// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// sendTimeout bounds how long one packet may wait for the other side to read.
const sendTimeout = 2 * time.Second

// Conn is one end of the socketpair. Send may be called from any goroutine,
// Receive from one.
type Conn struct {
	conn *net.UnixConn
	buf  []byte
	mu   sync.Mutex // orders deadlines and packets of Send
}

// Pair makes a socketpair: our end, and the file to give to the worker, which
// the caller closes after the start.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "make a socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	ours := os.NewFile(uintptr(fds[0]), "control")
	c, err := Open(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return c, theirs, nil
}

// Open takes over an end of a socketpair. The file is closed.
func Open(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "take over the control socket", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unixpacket" {
		_ = c.Close()
		return nil, fault.New(fault.Malformed, "the control socket is no packet socket")
	}
	return &Conn{conn: u, buf: make([]byte, MaxMessage+1)}, nil
}

// Send sends one message, with the file where its kind carries one.
// fault.Unreachable: the other side is gone or does not read.
func (c *Conn) Send(number uint32, m Message, file *os.File) error {
	if CarriesFile(m) != (file != nil) {
		return fault.Errorf(fault.Internal, "%s message with the wrong number of files", m.Verb())
	}
	b, err := Encode(number, m)
	if err != nil {
		return err
	}
	defer secret.Wipe(b)
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fault.Wrap(fault.Unreachable, "send "+m.Verb().String(), err)
	}
	_, _, err = c.conn.WriteMsgUnix(b, oob, nil)
	return fault.Wrap(fault.Unreachable, "send "+m.Verb().String(), err)
}

// Receive returns the next message and its file, which the caller closes.
// io.EOF: the other side is gone. fault.Malformed: what came was no message;
// the connection is not to be trusted any further.
func (c *Conn) Receive() (uint32, Message, *os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.buf, oob)
	files := files(oob[:max(oobn, 0)])
	closeAll := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	defer func() { secret.Wipe(c.buf[:max(n, 0)]) }()
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		closeAll()
		return 0, nil, nil, fault.Wrap(fault.Unreachable, "read the control socket", err)
	case n <= 0: // an empty packet cannot be told from the end; nobody sends one
		closeAll()
		return 0, nil, nil, io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		closeAll()
		return 0, nil, nil, fault.New(fault.Malformed, "control message is too long")
	}
	number, m, err := Decode(c.buf[:n])
	if err == nil && (len(files) == 1) != CarriesFile(m) || len(files) > 1 {
		err = fault.Errorf(fault.Malformed, "control message with %d files", len(files))
	}
	if err != nil {
		closeAll()
		return 0, nil, nil, err
	}
	if len(files) == 1 {
		return number, m, files[0], nil
	}
	return number, m, nil, nil
}

// files returns the descriptors that came along; they are close-on-exec (the
// net package asks for MSG_CMSG_CLOEXEC).
func files(oob []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var all []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			all = append(all, os.NewFile(uintptr(fd), "control-file"))
		}
	}
	return all
}

// Close closes this end.
func (c *Conn) Close() error { return c.conn.Close() }
