// SPDX-License-Identifier: Apache-2.0

package directory

import "context"

// Scope is the reach of a search (RFC 4511 4.5.1.2).
type Scope int

// The scopes.
const (
	Base     Scope = 0
	OneLevel Scope = 1
	Subtree  Scope = 2
)

// Query is one search.
type Query struct {
	Base       string // DN; "" is the rootDSE
	Scope      Scope
	Filter     string   // RFC 4515; "" means (objectClass=*)
	Attributes []string // none means all
	// ExtendedDN asks for DNs as "<GUID=…>;<SID=…>;dn" (MS-ADTS 3.1.1.3.4.1.5);
	// ParseReference reads them.
	ExtendedDN bool
	// Deleted shows tombstones as well, to those who may see them.
	Deleted bool
}

// Search runs q page by page and hands each entry to fn in the order of the
// DC; at most one page is in memory. Ranges of multi-valued attributes are
// completed before fn sees the entry. An error of fn stops the search and is
// returned as it is. Base not there is fault.NotFound.
func (c *Conn) Search(ctx context.Context, q Query, fn func(Entry) error) error { return errUnbuilt }

// Get returns the one entry at dn, which may be "<SID=S-1-…>" or "<GUID=…>" as
// well. fault.NotFound when there is none that we may see.
func (c *Conn) Get(ctx context.Context, dn string, attributes ...string) (Entry, error) {
	return Entry{}, errUnbuilt
}

// EscapeFilter makes any bytes safe as a value in a filter (RFC 4515 3).
func EscapeFilter(value string) string { return "" }

// EscapeRDN makes any text safe as the value of an RDN (RFC 4514 2.4).
func EscapeRDN(value string) string { return "" }
