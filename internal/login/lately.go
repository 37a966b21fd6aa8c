// SPDX-License-Identifier: Apache-2.0

package login

import (
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// latelyTime is how long a row that was read afresh is good for the next ticket.
// A client of a share signs in many times in a row, and brings the same proof
// each time; a domain controller takes longer to say again in which groups
// somebody is than all the rest of such a sign-in.
const latelyTime = time.Second

// lately remembers which rows were read afresh a moment ago.
type lately struct {
	mu sync.Mutex
	at map[identity.RowID]time.Time
}

// maxLately bounds it: people who sign in within latelyTime.
const maxLately = 4096

func (l *lately) note(row identity.RowID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil || len(l.at) >= maxLately {
		l.at = map[identity.RowID]time.Time{}
	}
	l.at[row] = now
}

func (l *lately) has(row identity.RowID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.at[row]
	return ok && !now.Before(at) && now.Sub(at) < latelyTime
}
