// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// Reading says which events are wanted, and for how long.
type Reading struct {
	Since   time.Time
	Outcome Outcome           // empty: any
	Match   func(*Event) bool // nil: any
	Last    int               // only so many of what is there already; 0: all
	Follow  bool              // go on with new events until ctx ends
}

const (
	keptFiles = 99                     // path.1 to path.99 and their .gz, as log rotation leaves them
	maxLine   = 1 << 20                // a longer line is none of ours
	glance    = 250 * time.Millisecond // between two looks at a file that is followed
	portion   = 100                    // events handed over at once
)

// Read hands events to fn, oldest first, a hundred at most at once: of the files
// that log rotation has put aside (path.1, path.2.gz, …), then of the file at
// path. A file that is rotated away meanwhile is read to its end before the new
// one; lines that are no events are passed over. It returns nil at the end, or
// when ctx ends while it follows; else fn's error, or fault.NotFound where there
// is no file at all and nothing to follow.
func Read(ctx context.Context, path string, want Reading, fn func([]Event) error) error {
	r := &reader{ctx: ctx, want: want, fn: fn}
	found := false
	for n := keptFiles; n > 0; n-- {
		for _, name := range []string{fmt.Sprintf("%s.%d", path, n), fmt.Sprintf("%s.%d.gz", path, n)} {
			err := r.old(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			found = true
		}
	}
	current, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !found && !want.Follow:
		return fault.Errorf(fault.NotFound, "there is no file %s: nothing was attempted yet", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.Internal, "read the audit", err)
	}
	var lines lines
	if current != nil {
		defer func() { _ = current.Close() }()
		if err := r.drain(current, &lines); err != nil {
			return err
		}
	}
	if err := r.flush(); err != nil || !want.Follow {
		return err
	}
	return r.follow(path, &current, &lines)
}

// reader is one reading under way.
type reader struct {
	ctx  context.Context
	want Reading
	fn   func([]Event) error
	kept []Event
	live bool // what comes now is new: Last no longer counts
}

// old reads a file that is no longer written to.
func (r *reader) old(name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !r.want.Since.IsZero() && st.ModTime().Before(r.want.Since) {
		return nil // its last event is older
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var from io.Reader = f
	if len(name) > 3 && name[len(name)-3:] == ".gz" {
		zip, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			return nil // being written by the rotation, or none of ours
		}
		defer zip.Close()
		from = zip
	}
	var l lines
	if err := r.drain(from, &l); err != nil && !errors.Is(err, errRead) {
		return err
	}
	return nil
}

var errRead = errors.New("read the audit")

// drain takes what a file has now.
func (r *reader) drain(from io.Reader, l *lines) error {
	buf := make([]byte, 64<<10)
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		n, err := from.Read(buf)
		if e := l.split(buf[:n], r.take); e != nil {
			return e
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.Join(errRead, fault.Wrap(fault.Internal, "read the audit", err))
		}
	}
}

// take looks at one line.
func (r *reader) take(line []byte) error {
	var e Event
	if json.Unmarshal(line, &e) != nil || e.Time.IsZero() {
		return nil
	}
	if e.Time.Before(r.want.Since) || (r.want.Outcome != "" && e.Outcome != r.want.Outcome) || (r.want.Match != nil && !r.want.Match(&e)) {
		return nil
	}
	r.kept = append(r.kept, e)
	last := r.want.Last
	switch {
	case r.live || last == 0:
		if len(r.kept) >= portion {
			return r.flush()
		}
	case len(r.kept) >= 2*last+portion:
		r.kept = slices.Delete(r.kept, 0, len(r.kept)-last)
	}
	return nil
}

// flush hands over what is kept.
func (r *reader) flush() error {
	if last := r.want.Last; !r.live && last > 0 && len(r.kept) > last {
		r.kept = r.kept[len(r.kept)-last:]
	}
	all := r.kept
	r.kept = nil
	for len(all) > 0 {
		n := min(len(all), portion)
		if err := r.fn(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// follow goes on with what is appended, and with the next file after a rotation.
func (r *reader) follow(path string, current **os.File, l *lines) error {
	r.live = true
	tick := time.NewTicker(glance)
	defer tick.Stop()
	moved := false
	for {
		if *current != nil {
			if err := r.drain(*current, l); err != nil {
				return r.ended(err)
			}
		}
		if err := r.flush(); err != nil {
			return err
		}
		at, err := os.Stat(path)
		have := (os.FileInfo)(nil)
		if *current != nil {
			have, _ = (*current).Stat()
		}
		switch {
		case err == nil && (have == nil || !os.SameFile(at, have)) && (moved || have == nil):
			// The writer may have had the old file in its hand for a moment longer:
			// it was read once more since the new one was seen.
			if *current != nil {
				_ = (*current).Close()
			}
			*l, moved = lines{}, false
			if *current, err = os.Open(path); err != nil {
				*current = nil
			}
			continue
		case err == nil && have != nil && !os.SameFile(at, have):
			moved = true
		case err == nil && have != nil && at.Size() < l.read: // cut short in place
			if _, err := (*current).Seek(0, io.SeekStart); err != nil {
				return fault.Wrap(fault.Internal, "read the audit", err)
			}
			*l = lines{}
			continue
		}
		select {
		case <-r.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ended makes the end of a reader who went away no error.
func (r *reader) ended(err error) error {
	if r.ctx.Err() != nil {
		return nil
	}
	return err
}

// lines cuts what comes into lines; one that has not come to its end waits.
type lines struct {
	rest []byte
	skip bool // the line is too long
	read int64
}

func (l *lines) split(b []byte, fn func([]byte) error) error {
	l.read += int64(len(b))
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			if l.rest = append(l.rest, b...); len(l.rest) > maxLine {
				l.rest, l.skip = nil, true
			}
			return nil
		}
		line := b[:i]
		if len(l.rest) > 0 {
			line = append(l.rest, line...)
			l.rest = nil
		}
		skip := l.skip || len(line) > maxLine
		l.skip = false
		if b = b[i+1:]; skip {
			continue
		}
		if err := fn(line); err != nil {
			return err
		}
	}
}
