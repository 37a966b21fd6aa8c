// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Sync is where the mirror is. It is written with the rows it is about.
type Sync struct {
	Complete   bool          // a full pass has gone through
	DC         string        // host name of the DC that USN counts on
	Invocation identity.GUID // of its database
	USN        uint64        // everything up to here is in the rows
	LastSync   time.Time     // of the last pass that wrote anything
	LastFull   time.Time
	Objects    int // read by the last full pass
	Held       int // rows that the breaker holds back
}

// Sync returns where the mirror was when it last wrote.
func (v *View) Sync() (s Sync) {
	eachField(v.tx.Bucket(bucketMeta).Get(metaSync), func(num protowire.Number, n uint64, b []byte) {
		switch num {
		case 1:
			s.Complete = n != 0
		case 2:
			s.DC = string(b)
		case 3:
			_ = asGUID(&s.Invocation, string(b))
		case 4:
			s.USN = n
		case 5:
			s.LastSync = asTime(n)
		case 6:
			s.LastFull = asTime(n)
		case 7:
			s.Objects = int(n)
		case 8:
			s.Held = int(n)
		}
	})
	return s
}

// SetSync writes where the mirror is.
func (t *Tx) SetSync(s Sync) error {
	var b []byte
	b = putFlag(b, 1, s.Complete)
	b = putText(b, 2, s.DC)
	b = putGUID(b, 3, s.Invocation)
	b = putNum(b, 4, s.USN)
	b = putTime(b, 5, s.LastSync)
	b = putTime(b, 6, s.LastFull)
	b = putNum(b, 7, uint64(s.Objects))
	b = putNum(b, 8, uint64(s.Held))
	if bytes.Equal(b, t.tx.Bucket(bucketMeta).Get(metaSync)) {
		return nil
	}
	return t.put(bucketMeta, metaSync, b)
}
