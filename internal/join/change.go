// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// change tells the domain. kpasswd first, which every domain lets a machine use;
// where its port is closed, or the answer got lost, sealed LDAP says the same.
func (t *rotation) change(ctx context.Context, s *Step) error {
	s.Detail = "by kpasswd"
	first := t.k.ChangePassword(ctx, t.who, kerberos.Password(t.m.Password), t.m.PendingPassword)
	if first == nil || t.has(ctx, first) {
		return nil
	}
	s.Detail = "by LDAP"
	second := t.changeByLDAP(ctx)
	if second == nil || t.has(ctx, second) {
		return nil
	}
	s.Detail = ""
	err := fault.Wrap(fault.Unknown, "by kpasswd", first)
	if fault.Is(first, fault.Unreachable) && !fault.Is(second, fault.Unreachable) {
		err = fault.Wrap(fault.Unknown, "by LDAP", second)
	}
	if fault.Is(err, fault.Denied) {
		if fault.Is(first, fault.Denied) && !fault.Is(second, fault.Unreachable) {
			t.takeBack(ctx)
		}
		return fault.WithRemedy(fault.Wrap(fault.Denied, t.dc.Host+" does not let "+t.m.ComputerAccount+" change its password", err),
			"ask an administrator of the domain whether SELF still has the right \"Change Password\" on the account, and what the password policy says; the present key goes on to work")
	}
	return err
}

// has finds out whether the domain took the change whose answer was an error.
func (t *rotation) has(ctx context.Context, err error) bool {
	if !fault.Is(err, fault.Unreachable) && !fault.Is(err, fault.Malformed) && !fault.Is(err, fault.BadCredential) {
		return false
	}
	ok, _ := t.try(ctx, t.k, t.m.PendingPassword)
	return ok
}

// changeByLDAP is a change, not a reset: the old value goes, the new one comes,
// in one modification (MS-ADTS 3.1.1.3.1.5).
func (t *rotation) changeByLDAP(ctx context.Context) error {
	conn, err := t.j.net.bind(ctx, t.dc, t.who, kerberos.Password(t.m.Password))
	if err != nil {
		return err
	}
	defer conn.Close()
	old, new := directory.UnicodePwd(t.m.Password), directory.UnicodePwd(t.m.PendingPassword)
	defer secret.Wipe(old)
	defer secret.Wipe(new)
	return conn.Modify(ctx, "<SID="+t.m.ComputerSID.String()+">", []directory.Change{
		{Op: directory.DeleteValues, Attribute: directory.Attribute{Name: "unicodePwd", Values: [][]byte{old}}},
		{Op: directory.AddValues, Attribute: directory.Attribute{Name: "unicodePwd", Values: [][]byte{new}}},
	})
}

// takeBack forgets a password that the domain has certainly refused, and only
// one that this very call has made: of an older one nobody can be certain.
func (t *rotation) takeBack(ctx context.Context) {
	if !t.began {
		return
	}
	if err := t.update(ctx, func(m *store.Machine) { m.PendingPassword, m.PendingTime = secret.Bytes{}, time.Time{} }); err != nil {
		t.j.cfg.Log.Warn("a refused password is remembered", "error", err)
		return
	}
	// Its keys open nothing and go with the next rotation; a later one must not
	// find them under its version.
	kt, err := kerberos.ReadKeytab(t.j.cfg.KeytabPath)
	if err == nil {
		defer kt.Wipe()
		kvno := kt.Newest(t.who)
		kept := kt.Entries[:0]
		for _, e := range kt.Entries {
			if e.KVNO == kvno && e.KVNO > t.m.KVNO {
				e.Key.Value.Wipe()
				continue
			}
			kept = append(kept, e)
		}
		kt.Entries = kept
		err = kt.WriteFile(t.j.cfg.KeytabPath)
	}
	if err != nil {
		t.j.cfg.Log.Warn("the keys of a refused password stay in the keytab", "error", err)
		return
	}
	t.hostKeys(ctx, &run{tell: func(Step) {}}, 0)
}

// confirm signs in with the new password where it was changed, and looks whether
// the version is the one that was written.
func (t *rotation) confirm(ctx context.Context, r *run, s *Step) error {
	ok, err := t.try(ctx, t.k, t.m.PendingPassword)
	if err != nil {
		return fault.Wrap(signInKind(err), "sign in as "+t.m.ComputerAccount, err)
	}
	if !ok {
		return fault.Errorf(fault.Internal, "%s said that it had changed the password, and does not take it", t.dc.Host)
	}
	t.reached = true
	kt, err := kerberos.ReadKeytab(t.j.cfg.KeytabPath)
	if err != nil {
		return err
	}
	defer kt.Wipe()
	if kvno := t.login.KVNO; kvno != 0 && kvno != kt.Newest(t.who) {
		if err := t.keytab(ctx, s); err != nil {
			return err
		}
		t.hostKeys(ctx, r, 0)
	}
	s.Detail = fmt.Sprintf("key version %d", t.version())
	return nil
}

// version is that of the password that counts.
func (t *rotation) version() uint32 {
	if t.login.KVNO != 0 {
		return t.login.KVNO
	}
	return t.m.KVNO + 1
}
