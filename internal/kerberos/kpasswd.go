// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// PasswordError is a refusal by the kpasswd service (RFC 3244 2). It is found
// by errors.As.
type PasswordError struct {
	Code uint16 // 4: the policy forbids it; 5: no right
	Text string // the DC's words, or the policy spelt out; may be empty
}

// Error returns the DC's words, or the code's meaning.
func (e *PasswordError) Error() string { return e.Text }

// ChangePassword changes who's own password (kpasswd version 1, TCP 464). It
// works for a password that must be changed. Errors as of Login; policy and
// missing rights are fault.Denied with *PasswordError.
func (c *Client) ChangePassword(ctx context.Context, who Principal, with Secret, new secret.Bytes) error {
	return errUnbuilt
}

// SetPassword sets the password of target, in the name of who, who needs the
// reset right over it (kpasswd version 0xff80, RFC 3244).
func (c *Client) SetPassword(ctx context.Context, who Principal, with Secret, target Principal, new secret.Bytes) error {
	return errUnbuilt
}
