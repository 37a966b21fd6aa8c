// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

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
	// OwnerOnly reduces nTSecurityDescriptor to its owner, which ordinary users
	// may read; the whole of it they may not.
	OwnerOnly bool
}

// Search runs q page by page and hands each entry to fn in the order of the
// DC; at most two pages are in memory, because the next one is on its way
// while fn works. Ranges of multi-valued attributes are completed before fn
// sees the entry. An error of fn stops the search and is returned as it is.
// Base not there is fault.NotFound.
func (c *Conn) Search(ctx context.Context, q Query, fn func(Entry) error) error {
	op := "search " + orRoot(q.Base)
	type page struct {
		entries []*ldap.Entry
		cookie  []byte
		err     error
	}
	fetch := func(cookie []byte) <-chan page {
		out := make(chan page, 1)
		go func() {
			var p page
			p.err = c.do(ctx, op, func() error {
				result, err := c.ldap.Search(q.request(uint32(c.pageSize), cookie))
				if err != nil {
					return err
				}
				p.entries = result.Entries
				if ctl, ok := ldap.FindControl(result.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging); ok {
					p.cookie = ctl.Cookie
				}
				return nil
			})
			out <- p
		}()
		return out
	}
	for next := fetch(nil); next != nil; {
		p := <-next
		if p.err != nil {
			return p.err
		}
		if next = nil; len(p.cookie) > 0 {
			next = fetch(p.cookie)
		}
		for i, e := range p.entries {
			p.entries[i] = nil // free as we go
			entry, err := c.complete(ctx, e, q)
			if fault.Is(err, fault.NotFound) {
				continue // deleted meanwhile
			}
			if err == nil {
				err = fn(entry)
			}
			if err != nil {
				if next != nil {
					<-next // the DC is not left in the middle of an answer
				}
				return err
			}
		}
	}
	return nil
}

func orRoot(dn string) string {
	if dn == "" {
		return "the rootDSE"
	}
	return dn
}

// request makes the request of one page; no paging where size is 0.
func (q Query) request(size uint32, cookie []byte) *ldap.SearchRequest {
	filter := q.Filter
	if filter == "" {
		filter = "(objectClass=*)"
	}
	var controls []ldap.Control
	if q.Scope != Base && size > 0 {
		paging := ldap.NewControlPaging(size)
		paging.SetCookie(cookie)
		controls = append(controls, paging)
	}
	if q.ExtendedDN {
		controls = append(controls, extendedDN())
	}
	if q.Deleted {
		controls = append(controls, ldap.NewControlMicrosoftShowDeleted())
	}
	if q.OwnerOnly {
		controls = append(controls, ownerOnly())
	}
	if q.Scope != Base {
		// No continuation references to other partitions: never followed.
		controls = append(controls, ldap.NewControlString(ldap.ControlTypeMicrosoftDomainScope, false, ""))
	}
	return ldap.NewSearchRequest(q.Base, int(q.Scope), ldap.NeverDerefAliases, 0, 0, false, filter, q.Attributes, controls)
}

// extendedDN is LDAP_SERVER_EXTENDED_DN_OID with GUID and SID as text:
// SEQUENCE { Flag INTEGER 1 }.
func extendedDN() ldap.Control {
	return ldap.NewControlString(ldap.ControlTypeMicrosoftExtendedDN, true, "\x30\x03\x02\x01\x01")
}

// ownerOnly is LDAP_SERVER_SD_FLAGS_OID (MS-ADTS 3.1.1.3.4.1.11) with
// OWNER_SECURITY_INFORMATION: SEQUENCE { Flags INTEGER 1 }.
func ownerOnly() ldap.Control {
	return ldap.NewControlString(ldap.ControlTypeMicrosoftSDFlags, true, "\x30\x03\x02\x01\x01")
}

// maxRanges bounds the follow-ups for one attribute of one object.
const maxRanges = 10_000

// complete turns an entry of the library into ours and reads the rest of every
// attribute that came as a range (MS-ADTS 3.1.1.3.1.3.3). fault.NotFound when
// the object went away meanwhile.
func (c *Conn) complete(ctx context.Context, e *ldap.Entry, q Query) (Entry, error) {
	out := Entry{DN: e.DN, Attributes: make([]Attribute, 0, len(e.Attributes))}
	ranged := false
	for _, a := range e.Attributes {
		out.Attributes = append(out.Attributes, Attribute{a.Name, a.ByteValues})
		ranged = ranged || strings.Contains(a.Name, ";")
	}
	if !ranged {
		return out, nil
	}
	for i := range out.Attributes {
		name, next, ok := cutRange(out.Attributes[i].Name)
		if !ok {
			continue
		}
		values := out.Attributes[i].Values
		for n := 0; next >= 0; n++ {
			if n == maxRanges {
				return Entry{}, fault.Errorf(fault.Malformed, "read %s of %s: the ranges have no end", name, e.DN)
			}
			more, after, err := c.rangeOf(ctx, e.DN, name, next, q)
			if err != nil {
				return Entry{}, err
			}
			values = append(values, more...)
			next = after
		}
		out.Attributes[i] = Attribute{name, values}
	}
	return merged(out), nil
}

// rangeOf reads one range of an attribute, from its first value on; next is
// where the following begins, negative when there is none.
func (c *Conn) rangeOf(ctx context.Context, dn, name string, first int, q Query) (values [][]byte, next int, err error) {
	if ref := ParseReference(dn); !ref.GUID.IsZero() {
		dn = "<GUID=" + ref.GUID.String() + ">" // survives a rename meanwhile
	} else {
		dn = ref.DN
	}
	op := fmt.Sprintf("read %s of %s from value %d on", name, dn, first)
	one := Query{Base: dn, Attributes: []string{fmt.Sprintf("%s;range=%d-*", name, first)}, ExtendedDN: q.ExtendedDN, Deleted: q.Deleted}
	var result *ldap.SearchResult
	if err := c.do(ctx, op, func() (err error) {
		result, err = c.ldap.Search(one.request(0, nil))
		return err
	}); err != nil {
		return nil, 0, err
	}
	if len(result.Entries) == 0 {
		return nil, 0, fault.New(fault.NotFound, op+": the object is gone")
	}
	for _, a := range result.Entries[0].Attributes {
		got, after, ok := cutRange(a.Name)
		if !ok || !strings.EqualFold(got, name) || len(a.ByteValues) == 0 {
			continue
		}
		if after >= 0 && after != first+len(a.ByteValues) {
			return nil, 0, fault.Errorf(fault.Malformed, "%s: the DC answered with %q and %d values", op, a.Name, len(a.ByteValues))
		}
		return a.ByteValues, after, nil
	}
	return nil, -1, nil // it shrank meanwhile
}

// cutRange splits "member;range=0-1499" into its name and where the next range
// begins: 1500, or -1 for the last ("member;range=1500-*").
func cutRange(attribute string) (name string, next int, ok bool) {
	name, options, ok := strings.Cut(attribute, ";")
	if !ok || len(options) < 6 || !strings.EqualFold(options[:6], "range=") {
		return "", 0, false
	}
	low, high, ok := strings.Cut(options[6:], "-")
	if !ok {
		return "", 0, false
	}
	if _, err := strconv.ParseUint(low, 10, 31); err != nil {
		return "", 0, false
	}
	if high == "*" {
		return name, -1, true
	}
	n, err := strconv.ParseUint(high, 10, 31)
	if err != nil || n >= 1<<31-1 {
		return "", 0, false
	}
	return name, int(n) + 1, true
}

// merged puts the values of an attribute that came twice, once empty and once
// as a range, into one.
func merged(e Entry) Entry {
	out := Entry{DN: e.DN}
next:
	for _, a := range e.Attributes {
		for i := range out.Attributes {
			if strings.EqualFold(out.Attributes[i].Name, a.Name) {
				out.Attributes[i].Values = append(out.Attributes[i].Values, a.Values...)
				continue next
			}
		}
		out.Attributes = append(out.Attributes, a)
	}
	return out
}

// Get returns the one entry at dn, which may be "<SID=S-1-…>" or "<GUID=…>" as
// well. fault.NotFound when there is none that we may see.
func (c *Conn) Get(ctx context.Context, dn string, attributes ...string) (Entry, error) {
	return c.get(ctx, Query{Base: dn, Attributes: attributes})
}

func (c *Conn) get(ctx context.Context, q Query) (Entry, error) {
	var found *Entry
	q.Scope = Base
	err := c.Search(ctx, q, func(e Entry) error {
		found = &e
		return nil
	})
	if err != nil {
		return Entry{}, err
	}
	if found == nil {
		return Entry{}, fault.New(fault.NotFound, "read "+orRoot(q.Base)+": nothing there that we may see")
	}
	return *found, nil
}

// EscapeFilter makes any bytes safe as a value in a filter (RFC 4515 3).
func EscapeFilter(value string) string { return ldap.EscapeFilter(value) }

// escapeBytes writes every byte as \xx, for binary values in a filter.
func escapeBytes(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\%02x`, c)
	}
	return s.String()
}

// EscapeRDN makes any text safe as the value of an RDN (RFC 4514 2.4).
func EscapeRDN(value string) string { return ldap.EscapeDN(value) }
