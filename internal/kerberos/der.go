// SPDX-License-Identifier: Apache-2.0

package kerberos

import (
	"fmt"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// unmarshal decodes DER; a panic of the library on hostile bytes becomes an
// error.
func unmarshal(b []byte, v any) (rest []byte, err error) {
	defer recovered(&err)
	return asn1.Unmarshal(b, v)
}

// methodData reads a METHOD-DATA (RFC 4120 5.9.1); bytes that are none give nil.
func methodData(b []byte) types.PADataSequence {
	var pas types.PADataSequence
	if rest, err := unmarshal(b, &pas); err != nil || len(rest) != 0 {
		return nil
	}
	return pas
}

// recovered turns a panic of library code into fault.Malformed. The text is
// not the panic's own, which might quote key material.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fault.New(fault.Malformed, fmt.Sprintf("the message broke its decoder (%T)", r))
	}
}
