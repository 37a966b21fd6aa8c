// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/audit"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/peer"
)

// How many refused calls are recorded in a minute: of one user, and of how many
// users. Anybody may connect to api.sock, and nobody shall fill the disk.
const (
	refusedEach  = 10
	refusedUsers = 100
)

// strays record who asks for what is the administrators' without being one.
type strays struct {
	to Recorder // may be nil

	mu    sync.Mutex
	since time.Time
	by    map[identity.UID]int
}

// record takes one call that was refused before it began. Calls of others than
// administrators' methods are none of the audit's.
func (r *strays) record(door peer.Name, method string, who peer.Caller) {
	if r == nil || r.to == nil || peer.Whose(peer.Admin, method) != peer.Administrators || door == peer.API && peer.Whose(peer.API, method) != peer.Nobody {
		return
	}
	n := r.count(who.UID)
	if n > refusedEach {
		return
	}
	what := strings.TrimPrefix(method, "/latchkey.v1.") + " on " + string(door) + ".sock"
	if n == refusedEach {
		what += "; more of this minute are not recorded"
	}
	r.to.Record(audit.Event{Action: audit.RefusedCall, Outcome: audit.Refused, Reason: fault.Denied.String(), Detail: what, Door: "grpc", Caller: who.String()})
}

// count says which refused call of a user this is in this minute; more than
// refusedEach where too many users are at it.
func (r *strays) count(uid identity.UID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.by == nil || now.Sub(r.since) >= time.Minute {
		r.since, r.by = now, map[identity.UID]int{}
	}
	if _, known := r.by[uid]; !known && len(r.by) >= refusedUsers {
		return refusedEach + 1
	}
	r.by[uid]++
	return r.by[uid]
}
