// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"context"
	"sync"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/resolve"
)

// smbd asks for the same few people and SIDs again and again, one at a time. So
// what was found is kept for as long as nothing at all has changed, in any row
// or in how rows are shown: an answer is never old.

// Bounds of what is kept: about 4 MB each.
const (
	maxRows  = 4096
	maxWords = 32768
)

// rows keeps answers of the directory. What it returns is shared: nobody writes
// to it.
type rows struct {
	directory Directory

	mu      sync.RWMutex
	version resolve.Version
	kept    map[resolve.Question]resolve.Answer
}

// find answers one question.
func (r *rows) find(ctx context.Context, q resolve.Question) (resolve.Entry, error) {
	// The version is read before the rows: a change in between makes the answer
	// useless for the next one, and never wrong.
	version := r.directory.Version()
	r.mu.RLock()
	if r.version == version {
		if a, ok := r.kept[q]; ok {
			r.mu.RUnlock()
			return a.Entry, a.Err
		}
	}
	r.mu.RUnlock()
	all, err := r.directory.Resolve(ctx, []resolve.Question{q})
	if err != nil {
		return resolve.Entry{}, err
	}
	a := all[0]
	if a.Err != nil && !fault.Is(a.Err, fault.NotFound) {
		return resolve.Entry{}, a.Err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil || r.version != version || len(r.kept) >= maxRows {
		r.version, r.kept = version, make(map[resolve.Question]resolve.Answer)
	}
	r.kept[q] = a
	return a.Entry, a.Err
}

// words keeps what one line of a request was answered by: a SID by its number, a
// number by its SID. The empty word is an answer too: nobody's.
type words struct {
	directory Directory

	mu      sync.RWMutex
	version resolve.Version
	kept    map[string]string
}

// find answers each line; unknown is called with those that are not kept, and
// answers them in their order. The answers are appended to got.
func (w *words) find(lines [][]byte, got []string, unknown func(lines []string) ([]string, error)) ([]string, error) {
	version := w.directory.Version()
	var missing []string
	var places []int
	w.mu.RLock()
	current := w.version == version
	for _, l := range lines {
		word, ok := "", false
		if current {
			word, ok = w.kept[string(l)]
		}
		if !ok {
			places = append(places, len(got))
			missing = append(missing, string(l))
		}
		got = append(got, word)
	}
	w.mu.RUnlock()
	if len(missing) == 0 {
		return got, nil
	}
	found, err := unknown(missing)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kept == nil || w.version != version || len(w.kept) >= maxWords {
		w.version, w.kept = version, make(map[string]string)
	}
	for i, l := range missing {
		got[places[i]] = found[i]
		if len(l) <= maxLine {
			w.kept[l] = found[i]
		}
	}
	return got, nil
}

// maxLine is the longest line of a request that can mean anything: a SID with
// all its sub-authorities.
const maxLine = 190
