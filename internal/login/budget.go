// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// The budget of wrong passwords. Entra Domain Services locks an account for 30
// minutes after 5 in 2 minutes; what one source, and this machine as a whole, may
// spend stays below.
const (
	perSource    = 3
	perUser      = 4
	budgetWindow = 2*time.Minute + 10*time.Second
	topicBudget  = "login.budget"
)

// budget counts wrong passwords, by user and source. It lasts over restarts.
type budget struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time

	mu    sync.Mutex
	users map[identity.RowID]*spending
}

// spending is what was spent on one user.
type spending struct {
	Wrong []wrong `json:"wrong"`
	// flying are passwords that are with a KDC now, by source.
	flying map[string]int
	total  int
	wake   chan struct{} // closed when one comes back
	// checked is when a password of a source was compared with the verifier
	// although the budget was spent.
	checked map[string]time.Time
}

// checkEvery is how often that may be: guessing by it stays slow.
const checkEvery = 5 * time.Second

type wrong struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"`
}

func newBudget(s *store.Store, log *slog.Logger, now func() time.Time) *budget {
	b := &budget{store: s, log: log, now: now, users: map[identity.RowID]*spending{}}
	err := s.Notes(context.Background(), topicBudget, func(key string, value []byte) bool {
		row, err := strconv.ParseUint(key, 10, 64)
		sp := &spending{}
		if err == nil && json.Unmarshal(value, sp) == nil {
			sp.flying, sp.wake = map[string]int{}, make(chan struct{})
			b.users[identity.RowID(row)] = sp
		}
		return true
	})
	if err != nil {
		log.Error("counts of wrong passwords cannot be read; they begin anew", "error", err)
	}
	return b
}

// errSpent is a refusal that keeps the account from being locked out.
var errSpent = fault.WithRemedy(fault.New(fault.Locked, "too many wrong passwords: the domain is not asked, so that it does not lock the account"),
	"wait two minutes and try again")

// take reserves one try, and waits while tries under way may use the budget up.
// settle ends it: wrong says that the domain may have counted it.
func (b *budget) take(ctx context.Context, row identity.RowID, source string) (settle func(wrong bool), err error) {
	for {
		b.mu.Lock()
		sp := b.users[row]
		if sp == nil {
			sp = &spending{flying: map[string]int{}, wake: make(chan struct{})}
			b.users[row] = sp
		}
		all, mine := sp.count(b.now(), source)
		if all >= perUser || mine >= perSource {
			b.mu.Unlock()
			return nil, errSpent
		}
		if all+sp.total < perUser && mine+sp.flying[source] < perSource {
			sp.flying[source]++
			sp.total++
			b.mu.Unlock()
			var once sync.Once
			return func(bad bool) { once.Do(func() { b.settle(row, sp, source, bad) }) }, nil
		}
		wake := sp.wake
		b.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unreachable, "wait for other attempts of the same user", ctx.Err())
		}
	}
}

// spent returns how many wrong passwords count now, of all and of one source.
func (b *budget) spent(row identity.RowID, source string) (all, mine int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sp := b.users[row]; sp != nil {
		return sp.count(b.now(), source)
	}
	return 0, 0
}

// open returns errSpent while the domain is not asked for a source.
func (b *budget) open(row identity.RowID, source string) error {
	if all, mine := b.spent(row, source); all >= perUser || mine >= perSource {
		return errSpent
	}
	return nil
}

// describe says what is taken for the domain's limit.
func (b *budget) describe() string { return "5 within 2 minutes" }

// mayCheck says whether a source that has spent its budget may have one password
// compared with the verifier now.
func (b *budget) mayCheck(row identity.RowID, source string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	sp := b.users[row]
	now := b.now()
	if sp == nil || now.Sub(sp.checked[source]).Abs() < checkEvery {
		return false
	}
	if sp.checked == nil || len(sp.checked) > 1000 {
		sp.checked = map[string]time.Time{}
	}
	sp.checked[source] = now
	return true
}

// count forgets what is old and returns what all and one source spent.
func (sp *spending) count(now time.Time, source string) (all, mine int) {
	kept := sp.Wrong[:0]
	for _, w := range sp.Wrong {
		// A clock that was set back makes no entry last for ever.
		if age := now.Sub(w.At); age < budgetWindow && age > -budgetWindow {
			kept = append(kept, w)
			if all++; w.Source == source {
				mine++
			}
		}
	}
	sp.Wrong = kept
	return all, mine
}

func (b *budget) settle(row identity.RowID, sp *spending, source string, bad bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sp.flying[source]--; sp.flying[source] == 0 {
		delete(sp.flying, source)
	}
	sp.total--
	if bad {
		sp.Wrong = append(sp.Wrong, wrong{b.now(), source})
	}
	close(sp.wake)
	sp.wake = make(chan struct{})
}

// keep writes what was spent on a user.
func (b *budget) keep(row identity.RowID) {
	b.mu.Lock()
	var text []byte
	if sp := b.users[row]; sp != nil {
		if all, _ := sp.count(b.now(), ""); all > 0 {
			text, _ = json.Marshal(sp)
		} else if sp.total == 0 {
			delete(b.users, row)
		}
	}
	b.mu.Unlock()
	if err := b.store.SetNotes(context.Background(), topicBudget, map[string][]byte{strconv.FormatUint(uint64(row), 10): text}); err != nil {
		b.log.Error("the count of wrong passwords cannot be kept over a restart", "error", err)
	}
}

// forgive forgets what was spent on a user who has just signed in: the domain
// counts from zero again as well, whoever had spent it.
func (b *budget) forgive(row identity.RowID) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sp := b.users[row]
	if sp == nil {
		return false
	}
	changed = len(sp.Wrong) > 0
	sp.Wrong = nil
	return changed
}
