// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Sync makes one pass now, after the one that may be running, sweep for
// deletions included when Full or AcceptDeletions. progress, which may be nil,
// is called from one goroutine, at most about every 100 ms and at each new
// stage. fault.Unreachable: no DC; the store is as it was. fault.Exhausted: the
// disk is full; the store is as it was.
func (m *Mirror) Sync(ctx context.Context, r Request, progress func(Progress)) (Result, error) {
	sweeping := sweepNone
	if r.Full || r.AcceptDeletions {
		sweeping = sweepDue
	}
	return m.syncNow(ctx, r, sweeping, progress)
}

// syncNow waits for its turn and makes one pass.
func (m *Mirror) syncNow(ctx context.Context, r Request, sweeping sweeping, progress func(Progress)) (Result, error) {
	select {
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-m.pass:
	}
	defer func() { m.pass <- struct{}{} }()
	began := m.cfg.Now()
	m.begin()
	p := pass{m: m, req: r, sweeping: sweeping, began: began, tell: throttled(progress)}
	res, err := p.run(ctx)
	res.Duration = m.cfg.Now().Sub(began)
	m.end(&p, res, err)
	return res, err
}

// pass is one pass.
type pass struct {
	m        *Mirror
	req      Request
	sweeping sweeping
	began    time.Time
	tell     func(Progress)

	dse      directory.RootDSE
	at       store.Sync // where the mirror was, then where it is
	progress Progress
	// missedUSNs: the DC counted more changes since the last pass than this one
	// read.
	missedUSNs bool
	letGo      letGo
	trouble    []string
	defects    int
	skew       time.Duration
}

func (p *pass) run(ctx context.Context) (Result, error) {
	p.tell(Progress{Stage: StageConnect})
	if err := p.m.load(ctx); err != nil {
		return Result{}, err
	}
	p.at = p.m.position()
	session, err := p.connect(ctx)
	if err != nil {
		return Result{}, err
	}
	b, err := p.read(ctx, session)
	if err != nil {
		return Result{Full: b.full, Read: p.progress.Read, DC: p.dse.DNSHost}, err
	}
	res, err := p.write(ctx, session, b)
	res.Full, res.Read, res.DC = b.full, p.progress.Read, p.dse.DNSHost
	return res, err
}

// connect finds a DC and learns where its counters stand. A connection kept
// from before may be dead: that is found out here, and tried once more.
func (p *pass) connect(ctx context.Context) (Session, error) {
	for attempt := 0; ; attempt++ {
		session, err := p.m.session(ctx)
		if err == nil {
			asked := p.m.cfg.Now()
			p.dse, err = within(ctx, p.m.cfg.AnswerTimeout, session.RootDSE)
			if err == nil {
				if now := p.m.cfg.Now(); !p.dse.CurrentTime.IsZero() {
					p.skew = p.dse.CurrentTime.Sub(asked.Add(now.Sub(asked) / 2))
				}
				return session, nil
			}
		}
		if attempt > 0 || !fault.Is(err, fault.Unreachable) || ctx.Err() != nil {
			return nil, fault.Wrap(fault.Unknown, "ask a domain controller for changes", err)
		}
	}
}

// session returns a connection. That none can be had, whoever is not found or not
// let in for it, a DC or this machine, is no word about whom the caller asks for.
func (m *Mirror) session(ctx context.Context) (Session, error) {
	s, err := within(ctx, m.cfg.AnswerTimeout, m.cfg.Directory.Session)
	switch fault.KindOf(err) {
	case fault.NotFound, fault.BadCredential, fault.Denied, fault.Locked, fault.Disabled, fault.Expired, fault.MustChange, fault.Conflict:
		err = fault.Wrap(fault.Unreachable, "connect to the directory", err)
	}
	return s, err
}

// within calls fn with a time limit.
func within[T any](ctx context.Context, limit time.Duration, fn func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return fn(ctx)
}

// incremental reports whether the changes since the last pass are enough.
func (p *pass) incremental() bool { return !p.req.Full && p.continues() }

// continues reports whether this DC is the one of the last pass: that was
// complete, on the same database, whose counter has not gone back.
func (p *pass) continues() bool {
	return p.at.Complete && !p.at.Invocation.IsZero() && p.dse.InvocationID == p.at.Invocation &&
		uint64(p.dse.HighestCommittedUSN) >= p.at.USN
}

// read reads what changed, or everything, and for a sweep the ids of all.
func (p *pass) read(ctx context.Context, session Session) (*batch, error) {
	b := newBatch(!p.incremental(), p.began)
	b.same = p.continues()
	p.progress = Progress{Stage: StageRead}
	since := directory.USN(p.at.USN + 1)
	if b.full {
		since = 0
		p.progress.Total = p.at.Objects
	}
	p.tell(p.progress)
	// Nothing above the last counter: nothing to ask for.
	if highest := uint64(p.dse.HighestCommittedUSN); b.full || highest > p.at.USN {
		told := uint64(0)
		err := p.stream(ctx, func(ctx context.Context, alive func()) error {
			_, err := session.ReadAll(ctx, since, func(o directory.Object) error {
				alive()
				if usn := uint64(o.USNChanged); usn > p.at.USN && usn <= highest {
					told++
				}
				if o.Class == directory.ClassOther {
					return nil
				}
				p.progress.Read++
				p.tell(p.progress)
				p.defects += min(1, len(o.Defects))
				if kept, ok := keep(o); ok {
					b.add(kept)
				}
				return nil
			})
			return err
		})
		if err != nil {
			return b, fault.Wrap(fault.Unknown, "read the directory", err)
		}
		p.missedUSNs = !b.full && told < highest-p.at.USN
	}
	if b.full && len(b.objects) == 0 {
		return b, fault.WithRemedy(fault.New(fault.Denied, "the domain controller shows no users and groups"),
			"the computer account must be allowed to read the domain; join again if it was removed")
	}
	if !b.full && p.sweeping != sweepNone {
		if err := p.readIDs(ctx, session, b); err != nil {
			return b, err
		}
	}
	return b, p.lookAgain(ctx, session, b)
}

// stream runs a read that may take long but must not fall silent.
func (p *pass) stream(ctx context.Context, read func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(p.m.cfg.AnswerTimeout, func() {
		cancel(fault.Errorf(fault.Unreachable, "the domain controller fell silent for %s", p.m.cfg.AnswerTimeout))
	})
	defer silent.Stop()
	err := read(ctx, func() { silent.Reset(p.m.cfg.AnswerTimeout) })
	if err != nil && fault.Is(context.Cause(ctx), fault.Unreachable) && !errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Cause(ctx)
	}
	return err
}

// ask reads single objects: what is not there is dead.
func (p *pass) ask(ctx context.Context, session Session, b *batch, guids []identity.GUID) error {
	for _, g := range guids {
		if err := p.m.askOne(ctx, session, b, g); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mirror) askOne(ctx context.Context, session Session, b *batch, guid identity.GUID) error {
	o, err := within(ctx, m.cfg.AnswerTimeout, func(ctx context.Context) (directory.Object, error) {
		return session.ReadOne(ctx, identity.Key{Kind: identity.ByObjectGUID, GUID: guid})
	})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Unknown, "ask whether an object still exists", err)
	}
	if kept, ok := keep(o); err == nil && ok {
		b.add(kept)
		return nil
	}
	b.dead[guid] = struct{}{}
	return nil
}

// rounds is how often a plan may ask the directory back: each answer may raise
// the next question, but not for ever.
const rounds = 8

// write brings the rows up to date: in one transaction, or, for a large batch, in
// several, the last of which says where the mirror is. A pass that breaks off
// between them is made again.
func (p *pass) write(ctx context.Context, session Session, b *batch) (Result, error) {
	p.progress.Stage = StageApply
	p.tell(p.progress)
	if !b.full && b.ids == nil && len(b.objects) == 0 {
		p.advance(b, 0)
		return Result{Held: p.at.Held}, nil
	}
	var res Result
	small := len(b.objects) <= piece
	plan, err := p.plan(ctx, session, b, func(tx *store.Tx, plan *plan) error {
		if !small {
			return plan.untangle(tx)
		}
		if err := plan.apply(tx); err != nil {
			return err
		}
		return p.finish(tx, plan, &res)
	})
	if err == nil && !small {
		steps := append(plan.pieces(), func(tx *store.Tx) error { return p.finish(tx, plan, &res) })
		for _, step := range steps {
			if err = p.m.cfg.Store.Update(ctx, func(tx *store.Tx) error {
				b.fresh = p.m.copyFresh()
				return step(tx)
			}); err != nil {
				break
			}
		}
	}
	if err != nil {
		return Result{}, fault.Wrap(fault.Unknown, "write what the directory says", err)
	}
	return res, nil
}

// plan makes a plan and has then do the first of it, in one transaction. What
// the plan has to know of the directory is asked between two attempts.
func (p *pass) plan(ctx context.Context, session Session, b *batch, then func(*store.Tx, *plan) error) (plan *plan, err error) {
	for round := 1; ; round++ {
		b.order()
		err = p.m.cfg.Store.Update(ctx, func(tx *store.Tx) (err error) {
			b.fresh = p.m.copyFresh()
			if plan, err = makePlan(tx, b); err != nil {
				return err
			}
			plan.tell = func(n int) {
				p.progress.Applied = n
				p.tell(p.progress)
			}
			p.trouble = plan.trouble
			return then(tx, plan)
		})
		if !errors.Is(err, errAsk) {
			return plan, err
		}
		questions := plan.questions()
		if round == rounds {
			return nil, fault.Errorf(fault.Internal, "%d objects keep changing while they are read", len(questions))
		}
		if err := p.ask(ctx, session, b, questions); err != nil {
			return nil, err
		}
	}
}

// finish sweeps, counts, and says where the mirror is now.
func (p *pass) finish(tx *store.Tx, plan *plan, res *Result) error {
	b := plan.b
	*res = Result{Added: len(plan.added), Changed: len(plan.changed)}
	held := p.at.Held
	if b.full || b.ids != nil {
		s := sweeper{batch: b, kind: p.sweeping, percent: p.m.cfg.MaxDeletions, spent: p.m.spentSince(), accept: p.req.AcceptDeletions}
		swept, err := s.sweep(tx)
		if err != nil {
			return err
		}
		res.Removed, held, p.letGo = swept.removed.all(), swept.held, swept.removed
	}
	res.Held = held
	next := p.advance(b, held)
	if b.full || tx.Wrote() || len(b.objects) > piece || held != p.m.position().Held {
		return tx.SetSync(next)
	}
	return nil
}

// advance moves the position to what this pass has read. The counter was read
// before the objects: what changed meanwhile is read again.
func (p *pass) advance(b *batch, held int) store.Sync {
	p.at.Complete = true
	p.at.DC, p.at.Invocation, p.at.USN = p.dse.DNSHost, p.dse.InvocationID, uint64(p.dse.HighestCommittedUSN)
	p.at.LastSync = p.began
	if b.full {
		p.at.LastFull, p.at.Objects = p.began, p.progress.Read
	}
	if b.full || b.ids != nil {
		p.at.Held = held
	}
	return p.at
}

// throttled calls progress when the stage changes and otherwise at most every
// 100 ms.
func throttled(progress func(Progress)) func(Progress) {
	if progress == nil {
		return func(Progress) {}
	}
	var last Stage
	var told time.Time
	return func(p Progress) {
		if p.Stage == last && (p.Read+p.Applied)%64 != 0 {
			return
		}
		if now := time.Now(); p.Stage != last || now.Sub(told) >= 100*time.Millisecond {
			last, told = p.Stage, now
			progress(p)
		}
	}
}
