// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/audit"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// Recorder takes what administrators change; *audit.Recorder does.
type Recorder interface{ Record(e audit.Event) }

// changing are the methods that change something for good, each with what the
// audit calls it. SetAccessRules is not here: package login records each rule.
var changing = map[string]audit.Action{
	latchkeyv1.AdminService_Join_FullMethodName:               audit.Join,
	latchkeyv1.AdminService_Leave_FullMethodName:              audit.Leave,
	latchkeyv1.AdminService_SetConfig_FullMethodName:          audit.SetConfig,
	latchkeyv1.AdminService_Sync_FullMethodName:               audit.LetGo, // with accept_deletions only
	latchkeyv1.MachineService_RotateMachineKey_FullMethodName: audit.RotateKey,
	latchkeyv1.MachineService_ImportIds_FullMethodName:        audit.ImportIDs,
	latchkeyv1.MachineService_RecordFiles_FullMethodName:      audit.ChangeFiles,
	latchkeyv1.SsoAdminService_SetSso_FullMethodName:          audit.SetSso,
	latchkeyv1.SsoService_RevokeSession_FullMethodName:        audit.RevokeSession,
}

// changes writes one event for each call that changes something.
type changes struct{ to Recorder } // to may be nil

// record takes how a call ended. what says what was changed, or was to be: never
// a secret, and of a value that was refused nothing at all.
func (c changes) record(ctx context.Context, method string, e audit.Event, what string, err error) {
	if c.to == nil {
		return
	}
	e.Action, e.Detail, e.Door, e.Caller = changing[method], what, "grpc", callerOf(ctx)
	e.Outcome, e.Reason = audit.Of(err)
	c.to.Record(e)
}
