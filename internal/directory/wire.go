// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
)

const (
	// maxClear bounds what a DC that has proved nothing yet may make us read.
	maxClear = 256 << 10
	// maxFrame is the largest sealed message that we accept, and tell the DC so.
	maxFrame = 1 << 20
)

// wire is a net.Conn that carries LDAP in clear until seal is called and in
// SASL frames (RFC 4422 3.7: four bytes of length, then a GSS-API Wrap token)
// from then on. Between the DC's last word of the bind and our first sealed
// one nothing is under way, so the reader that already waits in Read meets the
// switch at a message boundary.
type wire struct {
	net.Conn
	sealed atomic.Pointer[kerberos.Context]
	sent   atomic.Uint64 // messages written
	err    atomic.Value  // of type brokenError: why it was closed

	readClear int    // bytes read in clear
	head      []byte // of the frame being read, up to 4 bytes
	frame     []byte // received of the frame
	want      int    // length of the frame being read
	plain     []byte // opened, not yet handed out
	ended     error  // the socket's last word

	writeMu sync.Mutex
	limit   int // plain bytes that fit one frame to the DC
}

// brokenError makes errors of different types one type for atomic.Value.
type brokenError struct{ error }

// broken returns why the connection was given up, nil when it simply ended.
func (w *wire) broken() error {
	if e, ok := w.err.Load().(brokenError); ok {
		return e.error
	}
	return nil
}

func (w *wire) fail(err error) error {
	w.err.CompareAndSwap(nil, brokenError{err})
	_ = w.Conn.Close()
	return err
}

// seal switches to sealed frames after a handshake that ended well.
func (w *wire) seal(h *handshake) error {
	if h.done == nil {
		return fault.New(fault.Denied, "the domain controller did not agree to seal the connection")
	}
	w.limit = h.limit
	w.sealed.Store(h.done)
	return nil
}

// Write sends one LDAP message, sealed in as many frames as the DC's limit
// asks for.
func (w *wire) Write(p []byte) (int, error) {
	w.writeMu.Lock()
	defer w.writeMu.Unlock()
	w.sent.Add(1)
	ctx := w.sealed.Load()
	if ctx == nil {
		return w.Conn.Write(p)
	}
	var out []byte
	for rest := p; len(rest) > 0; {
		n := min(len(rest), w.limit)
		token, err := ctx.Seal(rest[:n])
		if err != nil {
			return 0, w.fail(err)
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(token)))
		out = append(out, token...)
		rest = rest[n:]
	}
	if _, err := w.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read hands out LDAP bytes. One goroutine reads.
func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(w.plain) == 0 {
		if w.ended != nil {
			return 0, w.ended
		}
		n, err := w.Conn.Read(p)
		if n > 0 {
			ctx := w.sealed.Load()
			if ctx == nil {
				if w.readClear += n; w.readClear > maxClear {
					return 0, w.fail(fault.New(fault.Malformed, "the domain controller says too much before the bind is done"))
				}
				return n, err
			}
			if err := w.feed(ctx, p[:n]); err != nil {
				return 0, w.fail(err)
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(w.head)+len(w.frame) > 0 {
				err = io.ErrUnexpectedEOF
			}
			w.ended = err // what came with it goes out first
		}
	}
	n := copy(p, w.plain)
	w.plain = w.plain[n:]
	return n, nil
}

// feed takes bytes off the socket and opens every frame that is complete.
func (w *wire) feed(ctx *kerberos.Context, b []byte) error {
	for len(b) > 0 {
		if len(w.head) < 4 {
			n := min(4-len(w.head), len(b))
			w.head = append(w.head, b[:n]...)
			b = b[n:]
			if len(w.head) < 4 {
				return nil
			}
			size := binary.BigEndian.Uint32(w.head)
			if size > maxFrame+kerberos.Overhead || size == 0 {
				return fault.Errorf(fault.Malformed, "a sealed frame of %d bytes is refused", size)
			}
			w.want = int(size)
			w.frame = make([]byte, 0, min(w.want, 64<<10)) // grows with what arrives
		}
		n := min(w.want-len(w.frame), len(b))
		w.frame = append(w.frame, b[:n]...)
		b = b[n:]
		if len(w.frame) < w.want {
			return nil
		}
		plain, sealed, err := ctx.Open(w.frame)
		if err != nil {
			return fault.Wrap(fault.Unknown, "open a sealed frame", err)
		}
		if !sealed {
			return fault.New(fault.Denied, "the domain controller sent a message in clear")
		}
		if len(w.plain) == 0 {
			w.plain = plain
		} else {
			w.plain = append(w.plain[:len(w.plain):len(w.plain)], plain...)
		}
		w.head, w.frame = w.head[:0], nil
	}
	return nil
}
