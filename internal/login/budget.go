// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Lockout is when the domain locks an account: after Threshold wrong passwords
// within Window. Zero: not known, or never.
type Lockout struct {
	Threshold int
	Window    time.Duration
}

// entraLockout is the one of Entra Domain Services, for 30 minutes. It comes by a
// password settings object that this machine may not read, so it holds
// everywhere, beside what the domain itself says.
var entraLockout = Lockout{5, 2 * time.Minute}

// clockSlack is added to a window: the domain's clock is another one.
const clockSlack = 10 * time.Second

const topicBudget = "login.budget"

// limit is what one source, and this machine as a whole, may spend: both stay
// short of a lockout, as long as it takes more than one wrong password.
type limit struct {
	all, mine int
	window    time.Duration
}

func (o Lockout) limit() limit {
	window := o.Window
	if window <= 0 {
		window = 30 * time.Minute
	}
	return limit{max(1, o.Threshold-1), max(1, o.Threshold-2), window + clockSlack}
}

func (o Lockout) String() string {
	return fmt.Sprintf("%d within %.3g minutes", o.Threshold, o.Window.Minutes())
}

// budget counts wrong passwords, by user and source. It lasts over restarts.
type budget struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time
	// lockout is the domain's, as far as it is known.
	lockout func() Lockout

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

func newBudget(s *store.Store, log *slog.Logger, now func() time.Time, lockout func() Lockout) *budget {
	b := &budget{store: s, log: log, now: now, lockout: lockout, users: map[identity.RowID]*spending{}}
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

// lockouts are those that the budget stays short of.
func (b *budget) lockouts() []Lockout {
	all := []Lockout{entraLockout}
	if b.lockout != nil {
		if own := b.lockout(); own.Threshold > 0 {
			all = append(all, own)
		}
	}
	return all
}

// errSpent is a refusal that keeps the account from being locked out.
var errSpent = fault.WithRemedy(fault.New(fault.Locked, "too many wrong passwords: the domain is not asked, so that it does not lock the account"),
	"wait two minutes, or what the domain's lockout takes, and try again")

// take reserves one try, and waits while tries under way may use the budget up.
// settle ends it: wrong says that the domain may have counted it.
func (b *budget) take(ctx context.Context, row identity.RowID, source string) (settle func(wrong bool), err error) {
	lockouts := b.lockouts()
	for {
		b.mu.Lock()
		sp := b.users[row]
		if sp == nil {
			sp = &spending{flying: map[string]int{}, wake: make(chan struct{})}
			b.users[row] = sp
		}
		spent, free := false, true
		for _, o := range lockouts {
			l := o.limit()
			all, mine := sp.count(b.now(), source, l.window)
			spent = spent || all >= l.all || mine >= l.mine
			free = free && all+sp.total < l.all && mine+sp.flying[source] < l.mine
		}
		if spent {
			b.mu.Unlock()
			return nil, errSpent
		}
		if free {
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
		return sp.count(b.now(), source, b.longest())
	}
	return 0, 0
}

// longest is the longest window, after which what was wrong is forgotten.
func (b *budget) longest() (d time.Duration) {
	for _, o := range b.lockouts() {
		d = max(d, o.limit().window)
	}
	return d
}

// open returns errSpent while the domain is not asked for a source.
func (b *budget) open(row identity.RowID, source string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	sp := b.users[row]
	if sp == nil {
		return nil
	}
	for _, o := range b.lockouts() {
		l := o.limit()
		if all, mine := sp.count(b.now(), source, l.window); all >= l.all || mine >= l.mine {
			return errSpent
		}
	}
	return nil
}

// describe says what is taken for the domain's limits.
func (b *budget) describe() string {
	var all []string
	for _, o := range b.lockouts() {
		if text := o.String(); !slices.Contains(all, text) { // the domain's own may be ours
			all = append(all, text)
		}
	}
	return strings.Join(all, " or ")
}

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

// count returns what all and one source spent within the window.
func (sp *spending) count(now time.Time, source string, window time.Duration) (all, mine int) {
	for _, w := range sp.Wrong {
		// A clock that was set back makes no entry last for ever.
		if now.Sub(w.At).Abs() < window {
			if all++; w.Source == source {
				mine++
			}
		}
	}
	return all, mine
}

// forget drops what is older than the window.
func (sp *spending) forget(now time.Time, window time.Duration) {
	sp.Wrong = slices.DeleteFunc(sp.Wrong, func(w wrong) bool { return now.Sub(w.At).Abs() >= window })
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

// lasting is ctx for what the domain may count: until its deadline, also where
// the caller goes away before the answer.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	if at, ok := ctx.Deadline(); ok {
		return context.WithDeadline(context.WithoutCancel(ctx), at)
	}
	return context.WithoutCancel(ctx), func() {}
}

// keep writes what was spent on a user.
func (b *budget) keep(row identity.RowID) {
	b.mu.Lock()
	var text []byte
	if sp := b.users[row]; sp != nil {
		if sp.forget(b.now(), b.longest()); len(sp.Wrong) > 0 {
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

// sweep forgets who has spent nothing that counts still.
func (b *budget) sweep(ctx context.Context) error {
	gone := map[string][]byte{}
	b.mu.Lock()
	for row, sp := range b.users {
		if sp.forget(b.now(), b.longest()); len(sp.Wrong) == 0 && sp.total == 0 {
			delete(b.users, row)
			gone[rowKey(row)] = nil
		}
	}
	b.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	return b.store.SetNotes(ctx, topicBudget, gone)
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
