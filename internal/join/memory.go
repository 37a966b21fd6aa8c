// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Memory keeps the machine record; *store.Store does.
type Memory interface {
	// Machine returns a copy whose passwords the caller wipes; fault.NotFound
	// when the machine is in no domain.
	Machine(ctx context.Context) (*store.Machine, error)
	PutMachine(ctx context.Context, m *store.Machine) error
	// UpdateMachine changes the record in one transaction; an error of fn leaves
	// it as it was.
	UpdateMachine(ctx context.Context, fn func(*store.Machine) error) error
	DeleteMachine(ctx context.Context) error
}

// HostKeys keeps root's copy of the host keys, /etc/krb5.keytab. The monitor
// does it on behalf of the worker.
type HostKeys interface {
	Install(ctx context.Context, keys krb5conf.HostKeys) error
	Remove(ctx context.Context, host krb5conf.Host) error
}

// host names the machine of a record to krb5conf.
func host(m *store.Machine) krb5conf.Host {
	return krb5conf.Host{Realm: m.Domain.Realm, Account: m.ComputerAccount, FQDN: m.FQDN}
}
