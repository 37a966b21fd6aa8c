// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"encoding/binary"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Handed is the worker's end of a Keeper: listeners for doors whose connections
// somebody else accepts. Safe for concurrent use.
type Handed struct {
	way *net.UnixConn

	mu      sync.Mutex
	doors   map[Name]*handedListener
	ids     map[*net.UnixConn]uint64
	leaving bool
}

// OpenHanded takes over the file that Keeper.Attach made. The file is closed.
func OpenHanded(f *os.File) (*Handed, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "take over the connections", err)
	}
	way, ok := conn.(*net.UnixConn)
	if !ok || way.LocalAddr().Network() != "unixpacket" {
		_ = conn.Close()
		return nil, fault.New(fault.Malformed, "the connections come over no packet socket")
	}
	return &Handed{way: way, doors: map[Name]*handedListener{}, ids: map[*net.UnixConn]uint64{}}, nil
}

// Listener returns the listener of a door. Ask for all of them before Run.
func (h *Handed) Listener(name Name) net.Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	ln := h.doors[name]
	if ln == nil {
		ln = &handedListener{from: h, name: name, queue: make(chan *net.UnixConn, 64), done: make(chan struct{})}
		h.doors[name] = ln
	}
	return ln
}

// Run receives connections until the keeper is gone. Those to a door that
// nobody listens at are closed.
func (h *Handed) Run() error {
	packet, oob := make([]byte, 16), make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, _, _, err := h.way.ReadMsgUnix(packet, oob)
		if err != nil || n == 0 {
			return fault.Wrap(fault.Unreachable, "receive a connection", err)
		}
		conn := handedConn(oob[:max(oobn, 0)])
		if n != 9 || conn == nil || int(packet[0]) >= len(names) {
			if conn != nil {
				_ = conn.Close()
			}
			continue
		}
		id := binary.LittleEndian.Uint64(packet[1:])
		h.mu.Lock()
		ln := h.doors[names[packet[0]]]
		h.ids[conn] = id
		h.mu.Unlock()
		if ln != nil {
			select {
			case ln.queue <- conn:
				continue
			case <-ln.done:
			}
		}
		_ = conn.Close()
		h.over(conn)
	}
}

// handedConn takes the one descriptor that came along.
func handedConn(oob []byte) *net.UnixConn {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	var conn *net.UnixConn
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "connection")
		if c, err := net.FileConn(file); err == nil && conn == nil {
			conn, _ = c.(*net.UnixConn)
		}
		_ = file.Close()
	}
	return conn
}

// over tells the keeper that a connection has ended.
func (h *Handed) over(conn *net.UnixConn) {
	h.mu.Lock()
	id, ok := h.ids[conn]
	delete(h.ids, conn)
	leaving := h.leaving
	h.mu.Unlock()
	if ok && !leaving {
		_, _ = h.way.Write(binary.LittleEndian.AppendUint64(nil, id))
	}
}

// Leave is said before a worker closes its connections because it ends itself:
// they are the next one's then.
func (h *Handed) Leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = true
}

// handedListener is a door's part.
type handedListener struct {
	from  *Handed
	name  Name
	queue chan *net.UnixConn
	once  sync.Once
	done  chan struct{}
}

// Accept waits for the next connection.
func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.queue:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the listener; the keeper's socket stays.
func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is the door's name.
func (l *handedListener) Addr() net.Addr { return &net.UnixAddr{Name: string(l.name), Net: "unix"} }
