// SPDX-License-Identifier: Apache-2.0

package login

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// refusedFor is how long a password that was refused is not sent again.
const refusedFor = time.Minute

// digest stands for a password of a row, of one state of its password: another
// pwdLastSet gives another one.
type digest [sha256.Size]byte

// refusals remembers passwords that a KDC refused, and the one that it took
// last, as an HMAC under a key that lives as long as the process.
type refusals struct {
	key [32]byte

	mu    sync.Mutex
	until map[digest]time.Time
	taken map[identity.RowID]digest
}

func (r *refusals) init() {
	_, _ = rand.Read(r.key[:])
	r.until, r.taken = map[digest]time.Time{}, map[identity.RowID]digest{}
}

func (r *refusals) of(u *identity.User, password secret.Bytes) (d digest) {
	m := hmac.New(sha256.New, r.key[:])
	var head [16]byte
	binary.BigEndian.PutUint64(head[:8], uint64(u.Row))
	binary.BigEndian.PutUint64(head[8:], uint64(u.PasswordLastSet.UnixNano()))
	m.Write(head[:])
	m.Write(password.Reveal())
	m.Sum(d[:0])
	return d
}

// refuse remembers that the KDC refused d at now.
func (r *refusals) refuse(row identity.RowID, d digest, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.until) >= 4096 {
		for k, t := range r.until {
			if !now.Before(t) {
				delete(r.until, k)
			}
		}
	}
	if len(r.until) < 65536 {
		r.until[d] = now.Add(refusedFor)
	}
	if r.taken[row] == d {
		delete(r.taken, row)
	}
}

// just says whether d was refused a moment ago.
func (r *refusals) just(d digest, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.until[d])
}

// accept remembers that the KDC took d.
func (r *refusals) accept(row identity.RowID, d digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.until, d)
	r.taken[row] = d
}

// good says whether d is what the KDC took last.
func (r *refusals) good(row identity.RowID, d digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, ok := r.taken[row]
	return ok && hmac.Equal(have[:], d[:])
}
