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
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
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

// HostKeys keeps root's copy of the host keys, /etc/krb5.keytab. The monitor
// does it on behalf of the worker.
type HostKeys interface {
	Install(ctx context.Context, keys krb5conf.HostKeys) error
	Remove(ctx context.Context, host krb5conf.Host) error
}

// Joiner joins and leaves. One task at a time: a second one is refused with
// fault.Conflict.
type Joiner struct {
	cfg  Config
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
	return &Joiner{cfg: cfg}
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

// Check looks whether a join could work, and tells every finding as a step.
// User, password and OU may be empty. It returns an error when a join would
// fail for a reason that was seen; the steps say all of them.
func (j *Joiner) Check(ctx context.Context, req Request, progress func(Step)) error {
	return errUnbuilt
}

// Join makes this machine a member. progress is called from one goroutine.
// The error that stops it carries kind, cause and remedy (package fault), and
// is also the detail of the step that failed. The password in req is wiped.
func (j *Joiner) Join(ctx context.Context, req Request, progress func(Step)) (*Membership, error) {
	return nil, errUnbuilt
}

// Leave ends the membership. With a user the computer account is deleted,
// without one it is disabled as far as a machine may disable itself; with
// KeepAccount the domain is not asked at all. What is here is forgotten in any
// case but one: a user was given and the domain refused or could not be
// reached; then nothing changes. Rows and their ids stay.
func (j *Joiner) Leave(ctx context.Context, req LeaveRequest, progress func(Step)) error {
	return errUnbuilt
}

var errUnbuilt = fault.New(fault.Internal, "not built yet")
