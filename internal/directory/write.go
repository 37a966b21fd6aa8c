// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/secret"
)

// ChangeOp is what a Change does (RFC 4511 4.6).
type ChangeOp uint

// The operations.
const (
	AddValues    ChangeOp = ldap.AddAttribute
	DeleteValues ChangeOp = ldap.DeleteAttribute
	Replace      ChangeOp = ldap.ReplaceAttribute
)

// Change is one change of one attribute.
type Change struct {
	Op        ChangeOp
	Attribute Attribute
}

func (a Attribute) strings() []string {
	out := make([]string, len(a.Values))
	for i, v := range a.Values {
		out[i] = string(v)
	}
	return out
}

// Add creates an object. Exists already: fault.Conflict; no right:
// fault.Denied; no such parent: fault.NotFound; all with *LDAPError. After
// fault.Unreachable the object may or may not be there.
func (c *Conn) Add(ctx context.Context, dn string, attributes []Attribute) error {
	req := ldap.NewAddRequest(dn, nil)
	for _, a := range attributes {
		req.Attribute(a.Name, a.strings())
	}
	return c.do(ctx, "create "+dn, func() error { return c.ldap.Add(req) })
}

// Modify changes an object, all changes or none. Errors as of Add.
func (c *Conn) Modify(ctx context.Context, dn string, changes []Change) error {
	req := ldap.NewModifyRequest(dn, nil)
	for _, ch := range changes {
		req.Changes = append(req.Changes, ldap.Change{Operation: uint(ch.Op),
			Modification: ldap.PartialAttribute{Type: ch.Attribute.Name, Vals: ch.Attribute.strings()}})
	}
	return c.do(ctx, "change "+dn, func() error { return c.ldap.Modify(req) })
}

// Delete removes an object without children. Errors as of Add.
func (c *Conn) Delete(ctx context.Context, dn string) error {
	return c.do(ctx, "delete "+dn, func() error { return c.ldap.Del(ldap.NewDelRequest(dn, nil)) })
}

// UnicodePwd encodes a password as the value of unicodePwd (MS-ADTS
// 3.1.1.3.1.5): quoted, UTF-16LE. The caller wipes it after use; the copies
// that the LDAP library makes on the way cannot be wiped.
func UnicodePwd(password secret.Bytes) []byte {
	quoted := []rune(`"` + string(password.Reveal()) + `"`)
	out := make([]byte, 0, 2*len(quoted))
	for _, u := range utf16.Encode(quoted) {
		out = append(out, byte(u), byte(u>>8))
	}
	clear(quoted)
	return out
}
