// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"time"

	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/store"
)

// Fill writes sessions to the store as Open does, all in one transaction, and
// returns their tokens.
func Fill(ctx context.Context, s *store.Store, row identity.RowID, n int, now time.Time) ([]string, error) {
	notes := map[string][]byte{}
	var tokens []string
	for range n {
		token := random(tokenBytes)
		r := record{ID: newID(), Who: Who{Row: row}, How: "password", Created: now, Used: now, Ends: now.Add(time.Hour)}
		notes[hashOf(token).note(keySession)] = r.encode()
		tokens = append(tokens, token)
	}
	return tokens, s.SetNotes(ctx, topic, notes)
}
