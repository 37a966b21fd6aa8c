// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/latency"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/netlogon"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// timings are how long things took, for the metrics.
type timings struct {
	calls  latency.Set // method, code
	pipes  latency.Set // command
	passes latency.Set // kind, outcome
	trips  latency.Set // protocol
}

// kerberos takes one exchange with a KDC.
func (t *timings) kerberos(took time.Duration) { t.trips.Observe(latency.Labels{"kerberos"}, took) }

// timedRefresh is a login.Refresher whose questions to the directory are timed.
type timedRefresh struct {
	login.Refresher
	took *timings
}

// RefreshOne implements login.Refresher.
func (r timedRefresh) RefreshOne(ctx context.Context, key identity.Key) (store.Entry, error) {
	began := time.Now()
	e, err := r.Refresher.RefreshOne(ctx, key)
	r.took.trips.Observe(latency.Labels{"ldap"}, time.Since(began))
	return e, err
}

// timedLogon is a login.NTLMAuthority whose questions are timed.
type timedLogon struct {
	login.NTLMAuthority
	took *timings
}

// SamLogon implements login.NTLMAuthority.
func (n timedLogon) SamLogon(ctx context.Context, l netlogon.Logon) (*netlogon.Validation, error) {
	began := time.Now()
	v, err := n.NTLMAuthority.SamLogon(ctx, l)
	n.took.trips.Observe(latency.Labels{"netlogon"}, time.Since(began))
	return v, err
}
