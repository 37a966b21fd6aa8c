// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ChangeOp is what a Change does (RFC 4511 4.6).
type ChangeOp uint

// The operations.
const (
	AddValues    ChangeOp = 0
	DeleteValues ChangeOp = 1
	Replace      ChangeOp = 2
)

// Change is one change of one attribute.
type Change struct {
	Op        ChangeOp
	Attribute Attribute
}

// Add creates an object. Exists already: fault.Conflict; no right:
// fault.Denied; no such parent: fault.NotFound; all with *LDAPError.
func (c *Conn) Add(ctx context.Context, dn string, attributes []Attribute) error { return errUnbuilt }

// Modify changes an object, all changes or none. Errors as of Add.
func (c *Conn) Modify(ctx context.Context, dn string, changes []Change) error { return errUnbuilt }

// Delete removes an object without children. Errors as of Add.
func (c *Conn) Delete(ctx context.Context, dn string) error { return errUnbuilt }

// UnicodePwd encodes a password as the value of unicodePwd (MS-ADTS
// 3.1.1.3.1.5): quoted, UTF-16LE. The caller wipes it after use.
func UnicodePwd(password secret.Bytes) []byte { return nil }

// LDAPError is a result code other than success. It is found by errors.As.
type LDAPError struct {
	Code     uint16 // RFC 4511 4.1.9
	WinError uint32 // the Windows code that Active Directory puts first in its text; 0 when none
	Text     string // the DC's diagnostic message
}

// Error returns the code's name and the DC's words.
func (e *LDAPError) Error() string { return e.Text }
