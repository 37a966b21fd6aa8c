// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/latency"
)

// backlog is how many events wait for the disk before Record waits itself: an
// attempt that cannot be recorded is held up rather than forgotten.
const backlog = 4096

// Recorder appends events to a file, one JSON object a line. A file that was
// moved away (log rotation) is made anew. Safe for concurrent use.
type Recorder struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu     sync.RWMutex // held for reading by Record, for writing by Close
	closed bool
	queue  chan Event
	done   chan struct{}

	counting sync.Mutex
	counts   map[counted]uint64
	services map[string]struct{}
	signIns  latency.Set
}

// Open returns a recorder that appends to the file at path, mode 0600. A file
// that cannot be opened is told to log and tried again with every event, which
// then goes to log as well.
func Open(path string, log *slog.Logger) *Recorder {
	r := &Recorder{path: path, log: log, now: time.Now, queue: make(chan Event, backlog), done: make(chan struct{})}
	go r.run()
	return r
}

// Record takes one event and returns before it is written. Time and ID are
// filled in where they are empty. After Close it does nothing.
func (r *Recorder) Record(e Event) {
	if e.Time.IsZero() {
		e.Time = r.now()
	}
	e.Time = e.Time.UTC().Round(time.Microsecond)
	if e.ID == "" {
		e.ID = NewID()
	}
	e.clip()
	r.count(&e)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.closed {
		r.queue <- e
	}
}

// Close writes what waits and closes the file.
func (r *Recorder) Close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.queue)
	}
	r.mu.Unlock()
	<-r.done
}

func (r *Recorder) run() {
	defer close(r.done)
	var file *os.File
	defer func() {
		if file != nil {
			_ = file.Close()
		}
	}()
	for e := range r.queue {
		var text bytes.Buffer
		n := 0
		for more := true; more; {
			line, err := json.Marshal(e)
			if err != nil { // no field of Event can do that
				r.log.Error("an audit event cannot be written", "id", e.ID, "error", err)
			}
			text.Write(line)
			text.WriteByte('\n')
			if n++; n == 256 {
				break
			}
			select {
			case e, more = <-r.queue:
			default:
				more = false
			}
		}
		var err error
		if file, err = r.current(file); err == nil {
			_, err = file.Write(text.Bytes())
		}
		if err != nil {
			r.log.Error("audit events cannot be written to their file", "file", r.path, "error", err, "events", text.String())
		}
	}
}

// current returns the open file where it still is the one at path, or opens it.
func (r *Recorder) current(file *os.File) (*os.File, error) {
	if file != nil {
		at, err := os.Lstat(r.path)
		have, err2 := file.Stat()
		if err == nil && err2 == nil && os.SameFile(at, have) {
			return file, nil
		}
		_ = file.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}
