// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a directory has to be quiet before the files are read:
// useradd replaces several files one after the other.
const settle = 50 * time.Millisecond

// Watch calls fn with the set as it is, and then with each new one within a
// second of the change, until ctx ends; it returns ctx's error. fn is called
// from one goroutine. Where the kernel tells nothing (no inotify left, another
// mount laid over /etc), looking at the files every Poll is enough. A file that
// cannot be read leaves the set as it was.
func (s Source) Watch(ctx context.Context, fn func(Set)) error {
	log := s.Log
	if log == nil {
		log = slog.Default()
	}
	poll := s.Poll
	if poll == 0 {
		poll = 500 * time.Millisecond
	}
	var told <-chan fsnotify.Event
	if w, err := fsnotify.NewWatcher(); err == nil {
		defer w.Close()
		if err := w.Add(s.dir()); err == nil {
			told = w.Events
			go func() {
				for range w.Errors { // a full queue: the next poll sees the change
				}
			}()
		}
	}
	var (
		known   Set
		seen    [2]stamp
		started bool
		failing bool
		quiet   <-chan time.Time
	)
	look := func(force bool) {
		now := s.stamps()
		if started && !force && now == seen {
			return
		}
		set, err := s.Read()
		if err != nil {
			if !failing {
				log.Warn("this machine's accounts cannot be read; going on with those known", "error", err)
			}
			failing = true
			return
		}
		failing = false
		seen = now
		if !started || !set.Equal(known) {
			known, started = set, true
			fn(set)
		}
	}
	look(true)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-told:
			if base := filepath.Base(e.Name); base == "passwd" || base == "group" {
				quiet = time.After(settle)
			}
		case <-quiet:
			quiet = nil
			look(true)
		case <-ticker.C:
			look(false)
		}
	}
}

// stamp tells one version of a file from the next.
type stamp struct {
	size, mtime int64
	mode        os.FileMode
	inode       uint64
}

// stamps looks at both files without reading them.
func (s Source) stamps() (all [2]stamp) {
	for i, name := range []string{"passwd", "group"} {
		if fi, err := os.Stat(filepath.Join(s.dir(), name)); err == nil {
			all[i] = stamp{fi.Size(), fi.ModTime().UnixNano(), fi.Mode(), inode(fi)}
		}
	}
	return all
}
