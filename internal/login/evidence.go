// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// To exist and to be able to sign in by password are two things. Entra Domain
// Services has a hash of a password only from a change after it was set up, or
// by hash synchronisation; the NTLM hash may be left out on purpose, and a change
// takes a quarter of an hour to arrive. None of it can be asked; what was seen
// at sign-ins is kept here, for as long as the password is the same.

const (
	topicEvidence = "login.evidence"
	// arrives is how long a change in Entra ID may take into the domain.
	arrives = 15 * time.Minute
	// gatherEvidence is how long what was seen waits to be written with what comes
	// after it. A write takes the disk and a core from whoever signs in just then:
	// on a Monday morning everybody's first share took half as long again.
	gatherEvidence = 2 * time.Second
)

// RemedyNTLM is what to do where NTLM refuses passwords that Kerberos takes.
const RemedyNTLM = "if the domain's NTLM password synchronisation is switched off on purpose, let people use Kerberos; otherwise switch it on, and have the password changed once"

// seen is what sign-ins showed of one password. Zero times: never.
type seen struct {
	PasswordSet time.Time `json:"set"`  // pwdLastSet then
	Kerberos    time.Time `json:"krb"`  // a KDC took it
	NTLM        time.Time `json:"ntlm"` // a DC took an NTLM response
	NTLMWrong   time.Time `json:"ntlmBad"`
	NoKey       time.Time `json:"nokey"` // the KDC has no key of the account
}

// ntlmUnsynced says whether the domain seems to have no NTLM hash: refused by
// NTLM after, or shortly before, the same password was good for Kerberos.
func (s seen) ntlmUnsynced() bool {
	return s.NTLM.IsZero() && !s.NTLMWrong.IsZero() && !s.Kerberos.IsZero()
}

func (s seen) worth() bool {
	return !s.NTLMWrong.IsZero() || !s.NoKey.IsZero() || !s.NTLM.IsZero() || !s.Kerberos.IsZero()
}

// evidence is what was seen, by row. It lasts over restarts; a kill loses what
// was seen in the moments before it.
type evidence struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time
	ended chan struct{} // closed when nothing waits any longer
	end   sync.Once

	mu    sync.Mutex
	rows  map[identity.RowID]seen
	dirty map[identity.RowID]struct{} // to be written
}

func newEvidence(s *store.Store, log *slog.Logger, now func() time.Time) *evidence {
	e := &evidence{store: s, log: log, now: now, ended: make(chan struct{}), rows: map[identity.RowID]seen{}, dirty: map[identity.RowID]struct{}{}}
	err := s.Notes(context.Background(), topicEvidence, func(key string, value []byte) bool {
		var one seen
		if row, err := strconv.ParseUint(key, 10, 64); err == nil && json.Unmarshal(value, &one) == nil {
			e.rows[identity.RowID(row)] = one
		}
		return true
	})
	if err != nil {
		log.Error("what sign-ins have shown cannot be read; it is gathered anew", "error", err)
	}
	return e
}

// of returns what was seen of the password that a row has now.
func (e *evidence) of(u *identity.User) seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.rows[u.Row]; s.PasswordSet.Equal(u.PasswordLastSet) {
		return s
	}
	return seen{PasswordSet: u.PasswordLastSet}
}

// note changes what was seen of a row; what is known already is not written again.
// True: somebody has to call write.
func (e *evidence) note(u *identity.User, change func(*seen, time.Time)) (write bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.rows[u.Row]
	if !was.PasswordSet.Equal(u.PasswordLastSet) {
		was = seen{PasswordSet: u.PasswordLastSet}
	}
	now := was
	change(&now, e.now().UTC().Truncate(time.Second))
	e.rows[u.Row] = now
	if was.Kerberos.IsZero() == now.Kerberos.IsZero() && was.NTLM.IsZero() == now.NTLM.IsZero() &&
		was.NTLMWrong.IsZero() == now.NTLMWrong.IsZero() && was.NoKey.IsZero() == now.NoKey.IsZero() {
		return false
	}
	write = len(e.dirty) == 0
	e.dirty[u.Row] = struct{}{}
	return write
}

// write waits for what else will be seen, and writes it all.
func (e *evidence) write() {
	select {
	case <-time.After(gatherEvidence):
	case <-e.ended:
	}
	e.mu.Lock()
	notes := make(map[string][]byte, len(e.dirty))
	for row := range e.dirty {
		var text []byte
		if s := e.rows[row]; s.worth() {
			text, _ = json.Marshal(s)
		}
		notes[rowKey(row)] = text
	}
	clear(e.dirty)
	e.mu.Unlock()
	if err := e.store.SetNotes(context.Background(), topicEvidence, notes); err != nil {
		e.log.Error("what a sign-in has shown cannot be kept over a restart", "error", err)
	}
}

// hurry has everything written at once, from now on. Safe to call twice.
func (e *evidence) hurry() { e.end.Do(func() { close(e.ended) }) }

// sweep forgets what was seen of passwords that rows no longer have.
func (e *evidence) sweep(ctx context.Context) error {
	e.mu.Lock()
	seenOf := maps.Clone(e.rows)
	e.mu.Unlock()
	gone := map[string][]byte{}
	err := e.store.View(ctx, func(v *store.View) error {
		for row, s := range seenOf {
			if r, ok := v.Row(row); !ok || r.User == nil || !r.User.PasswordLastSet.Equal(s.PasswordSet) {
				gone[rowKey(row)] = nil
			}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	e.mu.Lock()
	for row, s := range seenOf {
		if _, ok := gone[rowKey(row)]; ok && e.rows[row] == s {
			delete(e.rows, row)
		} else {
			delete(gone, rowKey(row)) // seen anew meanwhile
		}
	}
	e.mu.Unlock()
	return e.store.SetNotes(ctx, topicEvidence, gone)
}

// learn takes in what came of a password at the KDC.
func (l *Login) learn(u *identity.User, err error) {
	keyless := noKey(err)
	if err != nil && !keyless {
		return
	}
	if l.evidence.note(u, func(s *seen, now time.Time) {
		if keyless {
			s.NoKey = now
		} else {
			s.Kerberos, s.NoKey = now, time.Time{}
		}
	}) {
		l.afterwards(l.evidence.write)
	}
}

// learnNTLM takes in what came of an NTLM response.
func (l *Login) learnNTLM(u *identity.User, err error) {
	if err != nil && !fault.Is(err, fault.BadCredential) {
		return
	}
	if l.evidence.note(u, func(s *seen, now time.Time) {
		if err == nil {
			s.NTLM, s.NTLMWrong = now, time.Time{}
		} else if s.NTLM.IsZero() {
			s.NTLMWrong = now
		}
	}) {
		l.afterwards(l.evidence.write)
	}
}

// noKey says whether a KDC refused because it has no key of the account.
func noKey(err error) bool {
	var refusal *kerberos.Error
	return errors.As(err, &refusal) && (refusal.Code == kerberos.CodeNullKey || refusal.Code == kerberos.CodeETypeUnsupported)
}

// Hint is why somebody who exists may not be able to sign in by password.
type Hint struct {
	ID           string // for the audit: "guest", "no-hash", "changed-lately", "not-arrived", "ntlm-hash"
	Text, Remedy string
	Certain      bool // no password will do
}

// hint says what speaks against signing in by password. err is what came of a
// try, nil where there was none. It is for administrators: a stranger never
// hears it.
func (l *Login) hint(u *identity.User, err error) *Hint {
	change := "have the password changed once in Entra ID, and wait for a quarter of an hour"
	if url := l.c.Settings().PasswordURL; url != "" {
		change = "have the password changed once at " + printable(url) + ", and wait for a quarter of an hour"
	}
	hybrid := l.c.Settings().Hybrid
	if hybrid {
		change += "; people of an on-premises directory need password hash synchronisation with the hashes for Domain Services"
	}
	wrong := fault.Is(err, fault.BadCredential) && !errors.Is(err, errForged)
	now := l.c.Now()
	age := now.Sub(u.PasswordLastSet)
	switch was := l.evidence.of(u); {
	case u.State.Has(identity.Guest):
		return &Hint{ID: "guest", Certain: true, Text: "a guest of the tenant has no password in the domain",
			Remedy: "guests sign in by the web with Entra ID; make an account of the tenant for other doors"}
	case noKey(err) || !was.NoKey.IsZero():
		return &Hint{ID: "no-hash", Certain: true, Text: "the domain has no key of this account's password", Remedy: change}
	case synced(u) && u.PasswordLastSet.IsZero():
		return &Hint{ID: "no-hash", Text: "the domain has no password of this account that counts: it was not changed since Domain Services were set up, or Entra ID wants a new one",
			Remedy: change}
	case synced(u) && age >= 0 && age < arrives:
		return &Hint{ID: "changed-lately", Text: fmt.Sprintf("the password changed %d minutes ago; the one before counts no longer", int(age.Minutes())),
			Remedy: "use the new password; after several changes the last one may take a quarter of an hour"}
	case synced(u) && wrong && hybrid && was.Kerberos.IsZero():
		return &Hint{ID: "no-hash", Text: "this password never worked here, and the tenant is hybrid: where sign-in is passed through or federated, the domain may have no hash of it",
			Remedy: change}
	case synced(u) && wrong:
		return &Hint{ID: "not-arrived", Text: "a password that was changed in Entra ID takes up to a quarter of an hour, and at times longer, to reach the domain",
			Remedy: "if it was changed just now, use the one before or wait"}
	}
	return nil
}

// Suspicions counts the people about whom sign-ins have shown something that an
// administrator can mend.
type Suspicions struct {
	NoKey int // the domain has no key of their password
	// NTLM: Kerberos takes their password and NTLM does not; NTLMWorks is for how
	// many both do.
	NTLM, NTLMWorks int
}

// Suspicions returns what sign-ins have shown so far.
func (l *Login) Suspicions() (s Suspicions) {
	l.evidence.mu.Lock()
	defer l.evidence.mu.Unlock()
	for _, one := range l.evidence.rows {
		switch {
		case one.ntlmUnsynced():
			s.NTLM++
		case !one.NTLM.IsZero():
			s.NTLMWorks++
		}
		if !one.NoKey.IsZero() {
			s.NoKey++
		}
	}
	return s
}
