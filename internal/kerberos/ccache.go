// SPDX-License-Identifier: Apache-2.0

package kerberos

// CCache is a credential cache (MIT FILE format, version 4).
type CCache struct {
	Client  Principal
	Tickets []*Ticket
}

// ParseCCache reads version 4. Configuration entries (X-CACHECONF:) are
// skipped. Anything else is fault.Malformed.
func ParseCCache(b []byte) (*CCache, error) { return nil, errUnbuilt }

// Marshal returns the file's bytes. They hold session keys: the caller wipes
// them.
func (c *CCache) Marshal() ([]byte, error) { return nil, errUnbuilt }
