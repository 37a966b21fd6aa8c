// SPDX-License-Identifier: Apache-2.0

package login

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// The costs of Argon2id (RFC 9106): a new verifier has them, an old one its own.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 1
	argonBytes   = 32
)

const (
	topicVerifier     = "login.verifier"
	defaultOfflineAge = 14 * 24 * time.Hour
)

// verifier is what is kept of a password that a KDC took.
type verifier struct {
	At          time.Time    `json:"at"`  // when the KDC took it
	PasswordSet time.Time    `json:"set"` // pwdLastSet then
	SID         identity.SID `json:"sid"`
	Time        uint32       `json:"t"`
	Memory      uint32       `json:"m"` // KiB
	Threads     uint8        `json:"p"`
	Salt        []byte       `json:"salt"`
	Hash        []byte       `json:"hash"`
}

// verifierOf reads the verifier of a user; nil where there is none that counts
// still: too old, of another password, of another account, or switched off.
func (l *Login) verifierOf(ctx context.Context, u *identity.User) *verifier {
	s := l.c.Settings()
	if !s.Offline {
		return nil
	}
	text, err := l.c.Store.Note(ctx, topicVerifier, rowKey(u.Row))
	if err != nil || text == nil {
		return nil
	}
	v := &verifier{}
	if json.Unmarshal(text, v) != nil || !l.counts(v, u, s) {
		return nil
	}
	return v
}

func (l *Login) counts(v *verifier, u *identity.User, s Settings) bool {
	limit := s.OfflineAge
	if limit == 0 {
		limit = defaultOfflineAge
	}
	age := l.c.Now().Sub(v.At)
	return age <= limit && age >= -time.Hour && v.SID == u.SID && v.PasswordSet.Equal(u.PasswordLastSet) &&
		len(v.Hash) == argonBytes && len(v.Salt) >= 16 && v.Time >= 1 && v.Time <= 16 && v.Memory <= 1<<20 && v.Threads >= 1 &&
		!u.State.Has(identity.Disabled) && !u.State.Has(identity.MustChange)
}

func rowKey(row identity.RowID) string { return strconv.FormatUint(uint64(row), 10) }

// hash runs Argon2id, two at a time.
func (l *Login) hash(ctx context.Context, v *verifier, password secret.Bytes) ([]byte, error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.slots }()
	return argon2.IDKey(password.Reveal(), v.Salt, v.Time, v.Memory, v.Threads, argonBytes), nil
}

// matches compares a password with the verifier; false where there is none.
func (l *Login) matches(ctx context.Context, u *identity.User, password secret.Bytes) bool {
	l.keepNow(u.Row)
	v := l.verifierOf(ctx, u)
	if v == nil {
		return false
	}
	h, err := l.hash(ctx, v, password)
	defer secret.Wipe(h)
	return err == nil && subtle.ConstantTimeCompare(h, v.Hash) == 1
}

// offline decides by the verifier, when no KDC answered for the reason why.
func (l *Login) offline(ctx context.Context, a *attempt, p *person, password secret.Bytes, why error) (*Result, error) {
	l.keepNow(p.user.Row)
	v := l.verifierOf(ctx, p.user)
	if v == nil {
		return nil, fault.WithRemedy(fault.Wrap(fault.Unreachable, "no KDC could decide, and nothing here vouches for the password", why),
			cmp.Or(fault.Remedy(why), "`latchkey doctor` says what cannot be reached"))
	}
	a.event.How = string(ByOffline)
	h, err := l.hash(ctx, v, password)
	if err != nil {
		return nil, fault.Wrap(fault.Unreachable, "check the password offline", err)
	}
	good := subtle.ConstantTimeCompare(h, v.Hash) == 1
	secret.Wipe(h)
	if !good {
		return nil, fault.New(fault.BadCredential, "no KDC could decide, and the password is not the last good one")
	}
	a.proved = true
	if err := l.state(p.user); err != nil {
		return nil, err
	}
	r := p.result(ByOffline, a.event.ID)
	r.Warnings = append(r.Warnings, fmt.Sprintf("The domain cannot be reached. You are signed in by what this machine remembers of %s; there are no tickets.",
		v.At.UTC().Format("2006-01-02 15:04 MST")))
	return r, nil
}

// Sweep deletes what is of no use any longer: every verifier whose account is
// disabled or gone, whose password has changed, which is too old, or all where
// offline sign-in is switched off; what was seen of passwords that are no more;
// wrong passwords that no longer count.
func (l *Login) Sweep(ctx context.Context) error {
	return errors.Join(l.sweepVerifiers(ctx), l.evidence.sweep(ctx), l.budget.sweep(ctx))
}

func (l *Login) sweepVerifiers(ctx context.Context) error {
	s := l.c.Settings()
	gone := map[string][]byte{}
	all := map[string]*verifier{}
	err := l.c.Store.Notes(ctx, topicVerifier, func(key string, value []byte) bool {
		v := &verifier{}
		if json.Unmarshal(value, v) != nil || !s.Offline {
			gone[key] = nil
		} else {
			all[key] = v
		}
		return true
	})
	if err != nil {
		return err
	}
	err = l.c.Store.View(ctx, func(view *store.View) error {
		for key, v := range all {
			row, _ := strconv.ParseUint(key, 10, 64)
			e, ok := view.Row(identity.RowID(row))
			if !ok || e.User == nil || !l.counts(v, e.User, s) {
				gone[key] = nil
			}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	return l.c.Store.SetNotes(ctx, topicVerifier, gone)
}

// Run sweeps whenever rows change, and once an hour, until ctx ends.
func (l *Login) Run(ctx context.Context) {
	wake, cancel := l.c.Store.Subscribe()
	defer cancel()
	for {
		if err := l.Sweep(ctx); err != nil && ctx.Err() == nil {
			l.c.Log.Error("verifiers that are of no use any longer cannot be deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second): // changes come in bursts
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(time.Hour):
		}
	}
}
