// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/grpcapi"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// openLogin prepares the sign-ins; the store is open.
func (d *Daemon) openLogin() {
	file := d.opt.AuditFile
	if file == "" {
		file = filepath.Join(config.LogDir, "audit.jsonl")
	}
	d.audit = audit.Open(file, d.log)
	d.login = login.New(login.Config{Store: d.store, Audit: d.audit, Log: d.log, Domain: d.loginDomain, Settings: d.loginSettings, Lockout: d.loginLockout, NTLM: d.ntlm,
		Shown: func(ctx context.Context) error {
			if d.publisher == nil {
				return nil
			}
			return d.publisher.Shown(ctx)
		},
		Present: func(u *identity.User) {
			if d.publisher != nil {
				d.publisher.Present(u)
			}
		}})
}

// loginDomain is how sign-ins ask the domain; nil while the machine is in none.
func (d *Daemon) loginDomain() *login.Domain {
	m := d.current()
	if m == nil {
		return nil
	}
	tenant := d.settings.now().Directory.Tenant
	if tenant.IsZero() {
		tenant = m.tenant
	}
	return &login.Domain{Realm: m.realm, Names: m.names, Tenant: tenant, FQDN: m.fqdn, Keytab: d.opt.KeytabFile, KDC: m.kdc, Refresh: timedRefresh{m.mirror, &d.took}}
}

// loginSettings is [login] as package login has it.
func (d *Daemon) loginSettings() login.Settings {
	all := d.settings.now()
	c := all.Login
	s := login.Settings{Offline: c.Offline == "on", OfflineAge: c.OfflineAge, PasswordURL: c.PasswordURL, AlternateID: c.AlternateID,
		Hybrid: all.Directory.People == config.PeopleHybrid}
	if m := d.current(); m != nil && all.Directory.People == "" {
		s.Hybrid = m.people == store.PeopleHybrid
	}
	return s
}

// signIns is the work of package login as the gRPC doors want it.
type signIns struct{ *login.Login }

// Converse begins one sign-in by questions and answers.
func (s signIns) Converse(req login.Request) grpcapi.Conversation { return s.Login.Converse(req) }

// fillSignIns tells what sign-ins have shown that an administrator can mend.
func (d *Daemon) fillSignIns(problem func(id, summary, remedy string, since time.Time)) {
	if d.login != nil {
		tellSuspicions(d.login.Suspicions(), problem)
	}
}

func tellSuspicions(s login.Suspicions, problem func(id, summary, remedy string, since time.Time)) {
	if s.NoKey > 0 {
		problem("no-password-hash", fmt.Sprintf("the domain has no key of the password of %s who tried to sign in", people(s.NoKey)),
			"have them change their passwords once in Entra ID; for people of an on-premises directory, let Entra Connect synchronise the hashes for Domain Services. `latchkey audit` names them", time.Time{})
	}
	// One person may have mistyped. Several, and nobody for whom it works, have not.
	if s.NTLM > 1 && s.NTLMWorks == 0 {
		problem("ntlm-hash", fmt.Sprintf("the domain takes the passwords of %s by Kerberos and not by NTLM, and nobody's by NTLM", people(s.NTLM)),
			login.RemedyNTLM, time.Time{})
	}
}

func people(n int) string {
	if n == 1 {
		return "one person"
	}
	return fmt.Sprintf("%d people", n)
}
