// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/krb5conf"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
)

// requestTime bounds one request of the worker.
const requestTime = time.Minute

// serve does what a worker asks for, one request after the other, until the
// channel closes.
func (m *Monitor) serve(l *life, requests <-chan heard) {
	for h := range requests {
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		err := m.do(ctx, h)
		cancel()
		if h.file != nil {
			_ = h.file.Close()
		}
		if err != nil {
			m.log.Warn("a request of the worker was refused or failed", "request", h.m.Verb().String(), "error", err)
		}
		if err := l.conn.Send(h.number, (&control.Answer{}).Of(err), nil); err != nil {
			m.log.Debug("the worker was gone before its answer", "request", h.m.Verb().String(), "error", err)
		}
	}
}

// do carries out one request. Whatever it says is checked by the one who acts
// on it, as if a stranger had sent it.
func (m *Monitor) do(ctx context.Context, h heard) error {
	switch r := h.m.(type) {
	case *control.Publish:
		return m.opt.publisher.Install(ctx, h.file)
	case *control.Withdraw:
		return m.opt.publisher.Withdraw()
	case *control.InstallKeys:
		defer r.Keytab.Wipe()
		return m.opt.hostKeys.InstallHostKeys(krb5conf.HostKeys{Host: krb5conf.Host(r.Host), Keytab: r.Keytab})
	case *control.RemoveKeys:
		return m.opt.hostKeys.RemoveHostKeys(krb5conf.Host(r.Host))
	case *control.Reconfigured:
		return m.reconfigure()
	case *control.CheckPassword:
		return m.checkPassword(h.file)
	case *control.Admit:
		return m.admit(r)
	}
	return fault.Errorf(fault.Internal, "nobody does %s", h.m.Verb())
}
