// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

// hash stands for a secret that a browser or an app holds.
type hash [sha256.Size]byte

// tokenBytes is the length of a session's secret.
const tokenBytes = 32

// hashOf returns the hash of a secret in its text form. The secret has 256
// random bits: nothing slower than SHA-256 is needed.
func hashOf(text string) hash { return sha256.Sum256([]byte(text)) }

// parseToken returns what a cookie's value is kept under. There is one text for
// each secret: 43 characters of base64url (RFC 4648 5) without padding.
func parseToken(text string) (hash, error) {
	if len(text) != b64.EncodedLen(tokenBytes) {
		return hash{}, ErrNone
	}
	if _, err := decode(text); err != nil {
		return hash{}, ErrNone
	}
	return hashOf(text), nil
}

// maxSpent bounds what is remembered of answers that were used. More come only
// from somebody who begins sign-ins by the thousand; the tenant's codes are good
// once anyway.
const maxSpent = 1 << 16

// spent remembers the answers that were used, until they are too old anyway.
type spent struct {
	mu    sync.Mutex
	until map[hash]time.Time
	swept time.Time
}

func (s *spent) init() { s.until = map[hash]time.Time{} }

// take says whether it is the first time, and remembers it.
func (s *spent) take(h hash, until time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := until.Add(-signInTime)
	if _, was := s.until[h]; was {
		return false
	}
	if len(s.until) >= maxSpent || now.Sub(s.swept) > time.Minute {
		for k, t := range s.until {
			if !now.Before(t) {
				delete(s.until, k)
			}
		}
		s.swept = now
	}
	if len(s.until) >= maxSpent {
		// Somebody floods us with answers. Nobody else is to be kept out by that: an
		// answer that is forgotten here has a code that the tenant does not take twice.
		n := 0
		for k := range s.until {
			delete(s.until, k)
			if n++; n > maxSpent/8 {
				break
			}
		}
	}
	s.until[h] = until
	return true
}

// code is a one-time code on its way from a browser to an app.
type code struct {
	App      string    `json:"app"`
	Redirect string    `json:"redirect"`
	Who      Who       `json:"who"`
	How      string    `json:"how"`
	Audit    string    `json:"audit,omitempty"`
	Shown    string    `json:"shown,omitempty"`
	From     string    `json:"from,omitempty"` // id of the session that it came of
	Remote   string    `json:"remote,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Provider string    `json:"sid,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	Absolute time.Time `json:"absolute"` // end of that session, which an app's does not outlive
	Until    time.Time `json:"until"`
}

// maxCodes is how many may be on their way at one time.
const maxCodes = 1 << 14

// codes are the codes on their way. They are kept in the store as well: the
// worker may be started again between a browser's two requests.
type codes struct {
	mu sync.Mutex
	by map[hash]code
}

func (c *codes) init() { c.by = map[hash]code{} }

func (c *codes) put(h hash, k code, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.by) >= maxCodes {
		for h, k := range c.by {
			if !now.Before(k.Until) {
				delete(c.by, h)
			}
		}
	}
	if len(c.by) >= maxCodes {
		return fault.New(fault.Exhausted, "too many one-time codes are on their way")
	}
	c.by[h] = k
	return nil
}

// take returns a code and forgets it: whoever comes second has nothing, also
// when the first was refused for another reason.
func (c *codes) take(h hash) (code, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.by[h]
	delete(c.by, h)
	return k, ok
}

// old returns the codes whose time is over, and forgets them.
func (c *codes) old(now time.Time) (gone []hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for h, k := range c.by {
		if !now.Before(k.Until) {
			gone = append(gone, h)
			delete(c.by, h)
		}
	}
	return gone
}
