// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/identity"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// keyless are the states in which an account's SSH keys open nothing. A lockout
// is about passwords and is not among them.
const keyless = identity.Disabled | identity.AccountExpired | identity.Conflicted

// ListSshKeys returns the keys of a user who may have some.
func (s *identityService) ListSshKeys(ctx context.Context, req *latchkeyv1.ListSshKeysRequest) (*latchkeyv1.ListSshKeysResponse, error) {
	q, err := parseQuestion("user", req.GetUser(), identity.KindUser)
	if err != nil {
		return nil, err
	}
	e, err := s.directory.User(ctx, q.Key)
	if err != nil {
		return nil, err
	}
	resp := &latchkeyv1.ListSshKeysResponse{}
	if e.User.State&keyless == 0 {
		resp.Keys = e.User.SSHKeys
	}
	return resp, nil
}
