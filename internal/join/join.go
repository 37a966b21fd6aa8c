// SPDX-License-Identifier: Apache-2.0

// Package join makes this machine a member of an Active Directory domain
// shaped like Microsoft Entra Domain Services, looks beforehand whether it
// could, and ends the membership again.
//
// A join works with the rights of any domain user. It creates (or takes back)
// the computer account, gives it a random password, writes the keytab, proves
// that all of it works and registers the machine's name in the domain's DNS.
// Only then, in one transaction, is the machine a member. Whatever a crash
// leaves behind before that, the same command run again repairs.
//
// The package never stores, logs or returns the password of the user who
// joins, never touches a file of the machine but the keytab it is told of
// (/etc is the administrator's: see package krb5conf), never takes an account
// over that another user owns, and never gives up a row of the mirror: a
// machine that joins again keeps every uid.
package join

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Config says where a Joiner remembers things. Memory and KeytabPath are
// required.
type Config struct {
	Memory     Memory
	KeytabPath string // our own: /var/lib/latchkey/krb5.keytab

	// HostKeys installs root's copy of the host keys. Nil: there is nobody who
	// could, and the step is left out.
	HostKeys HostKeys

	// OperatingSystem and OperatingSystemVersion are written on a new computer
	// object, for the people who look at it.
	OperatingSystem        string
	OperatingSystemVersion string

	Log *slog.Logger // nil: slog.Default()

	// The rest is for tests; the zero values are right.
	Hostname func() (string, error)
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Now      func() time.Time
}

// Joiner joins and leaves. One task at a time: a second one is refused with
// fault.Conflict.
type Joiner struct {
	cfg  Config
	net  network
	busy sync.Mutex
}

// New returns a Joiner; it asks nothing yet.
func New(cfg Config) *Joiner {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Hostname == nil {
		cfg.Hostname = os.Hostname
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Joiner{cfg: cfg, net: wire{cfg.Dial}}
}

// Membership is what a join made.
type Membership struct {
	Domain          string // DNS name, lower case
	Realm           string // upper case
	NetBIOS         string
	DomainSID       string
	ComputerAccount string // "NAS$"
	ComputerDN      string
	ComputerSID     string
	FQDN            string // lower case
	DC              string // the domain controller that holds the new account first
	KVNO            uint32
	// KDCs are addresses for the [realms] section of krb5.conf; empty where the
	// machine's own DNS finds them.
	KDCs     []string
	Rejoined bool // an account of ours was there already
}

func (j *Joiner) lock() error {
	if !j.busy.TryLock() {
		return fault.WithRemedy(fault.New(fault.Conflict, "another join or leave is under way"), "wait for its end")
	}
	return nil
}

// Check looks whether a join could work, and tells every finding as a step.
// User, password and OU may be empty; with a user and its password, the
// sign-in and the OU are looked at as well. Nothing is changed anywhere. The
// error is the first of the reasons for which a join would fail; that the
// machine is a member already is a warning only. The password is wiped.
func (j *Joiner) Check(ctx context.Context, req Request, progress func(Step)) error {
	defer req.Password.Wipe()
	if err := j.lock(); err != nil {
		return err
	}
	defer j.busy.Unlock()
	r := &run{tell: progress}
	p, err := j.understand(r, &req, true)
	if err != nil {
		return err
	}
	var own *store.Machine
	defer func() { forget(own) }()
	r.try(StepMember, "Look whether the machine is in a domain already", 2, func(s *Step) (err error) {
		own, err = j.member(ctx, s, p)
		return err
	})
	dc, err := j.preflight(ctx, r, &req, p)
	if err != nil {
		return err
	}
	if p.user.name == "" || req.Password.Len() == 0 {
		if own != nil {
			return j.examine(ctx, r, own, dc)
		}
		return nil
	}
	u, err := j.signIn(ctx, r, p, dc, req.Password)
	if err != nil {
		return err
	}
	defer u.tree.Close()
	return u.place(ctx, r, p)
}

func (j *Joiner) understand(r *run, req *Request, check bool) (p *plan, err error) {
	err = r.step(StepRequest, "Read the request", 1, func(s *Step) (err error) {
		if p, err = req.understand(check); err == nil {
			s.Detail = p.domain
		}
		return err
	})
	return p, err
}

// member returns the machine's record when it is in the wanted domain, nil
// when it is in none, and fault.Conflict when it is in another.
func (j *Joiner) member(ctx context.Context, s *Step, p *plan) (*store.Machine, error) {
	m, err := j.cfg.Memory.Machine(ctx)
	if fault.Is(err, fault.NotFound) {
		s.Detail = "it is in none"
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "read the machine's record", err)
	}
	if !strings.EqualFold(m.Domain.DNS, p.domain) {
		forget(m)
		return nil, fault.WithRemedy(fault.Errorf(fault.Conflict, "this machine is a member of %s", m.Domain.DNS),
			"end that membership with \"latchkey leave\" first; every user keeps its uid")
	}
	s.Detail = fmt.Sprintf("it is in %s, as %s", m.Domain.DNS, m.ComputerAccount)
	return m, nil
}

func forget(m *store.Machine) {
	if m != nil {
		m.Wipe()
	}
}

// Join makes this machine a member. progress is called from one goroutine.
// The error that stops it carries kind, cause and remedy (package fault), and
// is also the detail of the step that failed. The password in req is wiped.
func (j *Joiner) Join(ctx context.Context, req Request, progress func(Step)) (*Membership, error) {
	defer req.Password.Wipe()
	if err := j.lock(); err != nil {
		return nil, err
	}
	defer j.busy.Unlock()
	r := &run{tell: progress}
	p, err := j.understand(r, &req, false)
	if err != nil {
		return nil, err
	}
	var old *store.Machine
	defer func() { forget(old) }()
	if err := r.step(StepMember, "Look whether the machine is in a domain already", 2, func(s *Step) (err error) {
		old, err = j.member(ctx, s, p)
		return err
	}); err != nil {
		return nil, err
	}
	dc, err := j.preflight(ctx, r, &req, p)
	if err != nil {
		return nil, err
	}
	if old != nil {
		if err := r.step(StepMember, "Look whether the membership still works", 32, func(s *Step) error { return j.broken(ctx, s, old, dc) }); err != nil {
			return nil, err
		}
	}
	u, err := j.signIn(ctx, r, p, dc, req.Password)
	if err != nil {
		return nil, err
	}
	defer u.tree.Close()
	if err := u.place(ctx, r, p); err != nil {
		return nil, err
	}
	m, rejoined, err := j.enter(ctx, r, p, u, dc)
	if err != nil {
		return nil, err
	}
	defer forget(m)
	m.People = store.People(req.People)
	if old != nil && old.ComputerAccount == m.ComputerAccount && old.ComputerSID == m.ComputerSID {
		m.Joined = old.Joined
	}
	if !req.NoDNSUpdate {
		r.try(StepRegister, "Register "+m.FQDN+" in the domain's DNS", 90, func(s *Step) error { return j.register(ctx, s, m, dc, u.tree) })
	}
	kdcs := j.kdcs(ctx, p, dc)
	if err := r.step(StepRemember, "Remember the membership", 96, func(s *Step) error {
		s.Detail = m.ComputerAccount + " in " + m.Domain.DNS
		return fault.Wrap(fault.Unknown, "write the machine's record", j.cfg.Memory.PutMachine(ctx, m))
	}); err != nil {
		return nil, err
	}
	if j.cfg.HostKeys != nil {
		r.try(StepHostKeys, "Give root its copy of the host keys", 100, func(s *Step) error {
			s.Detail = "/etc/krb5.keytab"
			return j.hostKeys(ctx, m)
		})
	}
	j.cfg.Log.Info("joined the domain", "domain", m.Domain.DNS, "account", m.ComputerAccount, "dc", dc.Host, "kvno", m.KVNO, "rejoined", rejoined)
	return &Membership{Domain: m.Domain.DNS, Realm: m.Domain.Realm, NetBIOS: m.Domain.NetBIOS, DomainSID: m.Domain.SID.String(),
		ComputerAccount: m.ComputerAccount, ComputerDN: m.ComputerDN, ComputerSID: m.ComputerSID.String(), FQDN: m.FQDN,
		DC: dc.Host, KVNO: m.KVNO, KDCs: kdcs, Rejoined: rejoined}, nil
}

// broken finds out whether a membership in the same domain still works; then
// there is nothing to do. An account that was deleted, disabled or reset by
// somebody else is what joining again mends.
func (j *Joiner) broken(ctx context.Context, s *Step, m *store.Machine, dc directory.DC) error {
	login, err := j.net.kdc(dc.Realm(), dc.Addr).Login(ctx, kerberos.Account(m.ComputerAccount, dc.Realm()), kerberos.Password(m.Password))
	switch fault.KindOf(err) {
	case fault.Unknown:
		if err != nil {
			return err
		}
		login.TGT.Wipe()
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "this machine is a member of %s already, as %s", m.Domain.DNS, m.ComputerAccount),
			"there is nothing to do; to join anew, end the membership with \"latchkey leave\" first")
	case fault.Unreachable, fault.Internal, fault.Malformed:
		return fault.Wrap(fault.Unknown, "sign in as "+m.ComputerAccount, err)
	}
	s.warn("the domain refuses the machine's present account: "+cause(err)+". It is made anew; every user keeps its uid", "")
	return nil
}
