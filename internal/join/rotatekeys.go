// SPDX-License-Identifier: Apache-2.0

package join

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/secret"
)

// keytab writes the keys of the new password beside those that are there. Where
// the domain does not have it yet, its version is the next one by all
// experience; confirm looks.
func (t *rotation) keytab(ctx context.Context, s *Step) error {
	kvno := t.login.KVNO
	if kvno == 0 {
		kvno = t.m.KVNO
		if t.reached {
			kvno++
		}
	}
	kt, err := kerberos.ReadKeytab(t.j.cfg.KeytabPath)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Malformed):
		kt = &kerberos.Keytab{} // the store has what it takes
	case err != nil:
		return err
	}
	defer kt.Wipe()
	now := t.j.cfg.Now()
	add := func(password secret.Bytes, kvno uint32, at time.Time) error {
		entries, err := machineEntries(t.p, t.login, password, kvno, at)
		if err == nil {
			kt.Add(entries...)
			(&kerberos.Keytab{Entries: entries}).Wipe()
		}
		return err
	}
	if t.reached {
		err = add(t.m.PendingPassword, kvno, now)
		s.Detail = fmt.Sprintf("key version %d", kvno)
	} else {
		if kt.Newest(t.who) < kvno {
			err = add(t.m.Password, kvno, t.m.KeyTime)
		}
		if err == nil {
			err = add(t.m.PendingPassword, kvno+1, now)
		}
		s.Detail = fmt.Sprintf("key versions %d and %d", kvno, kvno+1)
	}
	if err != nil {
		return err
	}
	kt.KeepVersions(keptKeys, now.Add(-keyLife))
	return kt.WriteFile(t.j.cfg.KeytabPath)
}

// hostKeys renews root's copy; that it cannot be does not keep a key from
// growing old.
func (t *rotation) hostKeys(ctx context.Context, r *run, upTo int) {
	if t.j.cfg.HostKeys == nil {
		return
	}
	r.try(StepHostKeys, "Renew root's copy of the host keys", upTo, func(s *Step) error {
		s.Detail = "/etc/krb5.keytab"
		text, err := os.ReadFile(t.j.cfg.KeytabPath)
		if err != nil {
			return fault.Wrap(fault.Internal, "read the keytab", err)
		}
		defer secret.Wipe(text)
		err = t.j.cfg.HostKeys.Install(ctx, krb5conf.HostKeys{Host: host(t.m), Keytab: secret.Own(text)})
		return fault.WithRemedy(err, cmp.Or(fault.Remedy(err), "sshd takes no Kerberos tickets of the new key until /etc/krb5.keytab has it"))
	})
}
