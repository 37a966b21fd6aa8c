// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/json"
	"runtime/debug"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

const (
	// renewVerifier is how old a verifier may be before a success makes it anew,
	// even of the same password.
	renewVerifier = 24 * time.Hour
	// renewDate is how old its date may be before a success of the same password
	// writes a new one: the age limit counts from it.
	renewDate = time.Hour
	// calm is how long nobody must have signed in before a verifier is made:
	// Argon2 takes a core from those who wait. After patientVerifier one is made
	// all the same.
	calm            = 200 * time.Millisecond
	patientVerifier = 10 * time.Second
)

// keeper makes verifiers after the answer: one at a time, while nobody signs in.
type keeper struct {
	turn sync.Mutex // held while one is made and written

	mu      sync.Mutex
	jobs    map[identity.RowID]*job
	order   []identity.RowID
	running bool
	closing bool
	busy    int       // passwords being tried
	last    time.Time // when one ended
	// made are the verifiers that this process wrote.
	made map[identity.RowID]made
}

// job is a password that a KDC took, to be remembered.
type job struct {
	user     *identity.User
	password secret.Bytes
	mark     digest
	at       time.Time // when the KDC took it
	since    time.Time // the same, by this machine's monotonic clock
}

// made says of which password a verifier was made: the one with this salt.
type made struct {
	mark digest
	salt []byte
	at   time.Time
}

// enter says that a password is being tried, until leave is called.
func (k *keeper) enter() (leave func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy++
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.busy--
		k.last = time.Now()
	}
}

// waiting says whether a verifier of the row is about to be made.
func (k *keeper) waiting(row identity.RowID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.jobs[row] != nil
}

// due says whether a job need not wait any longer for a calm moment.
func (k *keeper) due(j *job) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closing || k.busy == 0 && time.Since(k.last) >= calm || time.Since(j.since) >= patientVerifier
}

// add puts a job last, in the place of an older one of the same row. first says
// that somebody has to begin to work.
func (k *keeper) add(j *job) (first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.jobs == nil {
		k.jobs, k.made = map[identity.RowID]*job{}, map[identity.RowID]made{}
	}
	if old := k.jobs[j.user.Row]; old != nil {
		old.password.Wipe()
		j.since = old.since // the wait goes on
	} else {
		k.order = append(k.order, j.user.Row)
	}
	k.jobs[j.user.Row] = j
	first = !k.running
	k.running = true
	return first
}

// next returns the job that waits longest; nil when there is none, and the
// worker is to end.
func (k *keeper) next() *job {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.order) > 0 {
		if j := k.jobs[k.order[0]]; j != nil {
			return j
		}
		k.order = k.order[1:] // somebody was in a hurry
	}
	k.running = false
	return nil
}

// take removes the job of a row; nil when there is none.
func (k *keeper) take(row identity.RowID) *job {
	k.mu.Lock()
	defer k.mu.Unlock()
	j := k.jobs[row]
	delete(k.jobs, row)
	return j
}

// of says whether v was made of the password that mark stands for, by this
// process and not too long ago.
func (k *keeper) of(row identity.RowID, mark digest, v *verifier, now time.Time) bool {
	if v == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.made[row]
	age := now.Sub(m.at)
	return ok && hmac.Equal(m.mark[:], mark[:]) && bytes.Equal(m.salt, v.Salt) && age >= 0 && age < renewVerifier
}

// remember has the verifier of a password written that a KDC took, after the
// answer. Where the one that is there is known to be of this very password, its
// date is all that is written, once an hour.
func (l *Login) remember(u *identity.User, password secret.Bytes) {
	if !l.c.Settings().Offline {
		return
	}
	now, mark := l.c.Now(), l.refused.of(u, password)
	if !l.keeper.waiting(u.Row) {
		if v := l.verifierOf(context.Background(), u); l.keeper.of(u.Row, mark, v, now) && now.Sub(v.At) < renewDate {
			return
		}
	}
	if l.keeper.add(&job{user: u, password: password.Clone(), mark: mark, at: now.UTC(), since: time.Now()}) {
		l.afterwards(l.makeVerifiers)
	}
}

// makeVerifiers makes those that wait, until none does.
func (l *Login) makeVerifiers() {
	defer debug.FreeOSMemory() // Argon2's scratch
	for {
		j := l.keeper.next()
		if j == nil {
			return
		}
		if !l.keeper.due(j) {
			time.Sleep(calm / 8)
			continue
		}
		l.keepNow(j.user.Row)
	}
}

// keepNow makes the verifier of a row that waits to be made, and waits for one
// that is being made. Nothing to do: it returns at once.
func (l *Login) keepNow(row identity.RowID) {
	l.keeper.turn.Lock()
	defer l.keeper.turn.Unlock()
	j := l.keeper.take(row)
	if j == nil {
		return
	}
	defer j.password.Wipe()
	if err := l.keep(context.Background(), j); err != nil {
		l.c.Log.Error("what offline sign-in needs cannot be kept", "user", j.user.Name, "error", err)
	}
}

// keep writes one verifier, or the date of the one that is there. The caller has
// the turn.
func (l *Login) keep(ctx context.Context, j *job) error {
	if !l.c.Settings().Offline {
		return nil
	}
	v := l.verifierOf(ctx, j.user)
	fresh := made{}
	if l.keeper.of(j.user.Row, j.mark, v, l.c.Now()) {
		v.At = j.at
	} else {
		v = &verifier{At: j.at, PasswordSet: j.user.PasswordLastSet, SID: j.user.SID,
			Time: argonTime, Memory: argonMemory, Threads: argonThreads, Salt: make([]byte, 16)}
		_, _ = rand.Read(v.Salt)
		var err error
		if v.Hash, err = l.hash(ctx, v, j.password); err != nil {
			return err
		}
		fresh = made{j.mark, v.Salt, j.at}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := l.c.Store.SetNotes(ctx, topicVerifier, map[string][]byte{rowKey(j.user.Row): text}); err != nil {
		return err
	}
	if fresh.salt != nil {
		l.keeper.mu.Lock()
		defer l.keeper.mu.Unlock()
		l.keeper.made[j.user.Row] = fresh
	}
	return nil
}

// hurry has what waits written without waiting for a calm moment.
func (k *keeper) hurry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closing = true
}
