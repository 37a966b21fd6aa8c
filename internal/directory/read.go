// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// accountTypes are the values of sAMAccountType (MS-ADTS 2.2.6) that a full pass
// asks for: normal user, global and universal group, alias. Computers and trusts
// are not among them.
var accountTypes = []string{"805306368", "268435456", "268435457", "536870912", "536870913"}

// people finds users and groups, security and distribution, by an indexed
// attribute.
var people = "(|(sAMAccountType=" + strings.Join(accountTypes, ")(sAMAccountType=") + "))"

// passAttributes are what a pass reads of an object.
var passAttributes = append([]string{"sAMAccountType"}, objectAttributes...)

// asked adds the attribute of the SSH keys, where one is configured.
func (c *Conn) asked(attributes []string) []string {
	if c.sshKeys == "" {
		return attributes
	}
	return append(slices.Clip(attributes), c.sshKeys)
}

func (c *Conn) decode(e Entry, f facts) (Object, bool) {
	o, ok := decode(e, f.synced)
	if o.Class == ClassUser {
		o.SSHKeys = sshKeys(e, c.sshKeys)
	}
	return o, ok
}

// ReadAll hands every user and group of the domain to fn, with complete member
// lists. since 0 is a full pass; otherwise only objects whose uSNChanged is at
// least since, and computers, containers and the like as ClassOther, so that
// the caller can count what the USN counted. Take the next since from
// RootDSE().HighestCommittedUSN+1 read on the same Conn before the pass, and
// start afresh when the invocation id is another one. An error of fn stops the
// pass and is returned as it is. count is how many users and groups fn saw.
func (c *Conn) ReadAll(ctx context.Context, since USN, fn func(Object) error) (count int, err error) {
	f, err := c.know(ctx)
	if err != nil {
		return 0, err
	}
	filter := people
	if since > 0 {
		// The types are looked at here: a DC that is asked for both works
		// through the index of each, which for few changes among 100,000
		// people costs it three seconds instead of one (Samba 4.17).
		filter = fmt.Sprintf("(uSNChanged>=%d)", since)
	}
	q := Query{Base: f.defaultNC, Scope: Subtree, Filter: filter, Attributes: c.asked(passAttributes), ExtendedDN: true}
	err = c.Search(ctx, q, func(e Entry) error {
		o, ok := c.decode(e, f)
		if !slices.Contains(accountTypes, e.First("sAMAccountType")) {
			o.Class = ClassOther
		}
		if !ok || o.Class == ClassOther && since == 0 {
			return nil
		}
		if o.Class != ClassOther {
			count++
		}
		return fn(o)
	})
	return count, err
}

// ReadOne reads one user or group by SID, objectGUID, oid or name (ByName:
// sAMAccountName, UPN, DOMAIN\name or name@dns.domain, any case; other kinds
// are fault.Malformed). fault.NotFound when there is none; fault.Conflict when
// there are several.
func (c *Conn) ReadOne(ctx context.Context, key identity.Key) (Object, error) {
	const op = "read one object of the directory"
	f, err := c.know(ctx)
	if err != nil {
		return Object{}, err
	}
	q := Query{Base: f.defaultNC, Scope: Subtree, Attributes: c.asked(objectAttributes), ExtendedDN: true}
	switch key.Kind {
	case identity.BySID:
		q.Base, q.Scope = "<SID="+key.SID.String()+">", Base
	case identity.ByObjectGUID:
		q.Base, q.Scope = "<GUID="+key.GUID.String()+">", Base
	case identity.ByOID:
		// As text, and as the 16 bytes that the undocumented syntax may be.
		q.Filter = fmt.Sprintf("(&%s(|(msDS-aadObjectId=%[2]s)(msDS-AzureADObjectId=%[2]s)(msDS-aadObjectId=%[3]s)(msDS-AzureADObjectId=%[3]s)))",
			people, key.GUID, escapeBytes(key.GUID.Bytes()))
	case identity.ByName:
		if err := identity.CheckAsked(key.Name); err != nil {
			return Object{}, fault.Wrap(fault.Unknown, op, err)
		}
		return c.readName(ctx, f, key.Name)
	default:
		return Object{}, fault.Errorf(fault.Malformed, "%s: the directory knows no key of kind %d", op, key.Kind)
	}
	if (key.Kind == identity.BySID && key.SID.IsZero()) || (key.Kind != identity.BySID && key.GUID.IsZero()) {
		return Object{}, fault.New(fault.Malformed, op+": the key is empty")
	}
	return c.readThe(ctx, f, q)
}

// readName reads one object by any form of its name: first as a UPN where it
// looks like one, because a UPN's suffix need not be the domain's, then as the
// account of that name in the domain.
func (c *Conn) readName(ctx context.Context, f facts, name string) (Object, error) {
	none := fault.Errorf(fault.NotFound, "the directory has no user or group %q", name)
	q := Query{Base: f.defaultNC, Scope: Subtree, Attributes: c.asked(objectAttributes), ExtendedDN: true}
	ours := func(domain string) bool {
		return strings.EqualFold(domain, f.netBIOS) || strings.EqualFold(strings.TrimSuffix(domain, "."), f.dnsDomain)
	}
	if domain, account, ok := strings.Cut(name, `\`); ok {
		if !ours(domain) || account == "" {
			return Object{}, none
		}
		name = account
	} else if at := strings.LastIndexByte(name, '@'); at >= 0 {
		q.Filter = "(&" + people + "(userPrincipalName=" + EscapeFilter(name) + "))"
		o, err := c.readThe(ctx, f, q)
		if !fault.Is(err, fault.NotFound) {
			return o, err
		}
		if !ours(name[at+1:]) || at == 0 {
			return Object{}, none
		}
		name = name[:at]
	}
	q.Filter = "(&" + people + "(sAMAccountName=" + EscapeFilter(name) + "))"
	o, err := c.readThe(ctx, f, q)
	if fault.Is(err, fault.NotFound) {
		return Object{}, none
	}
	return o, err
}

// readThe reads the one user or group that q finds.
func (c *Conn) readThe(ctx context.Context, f facts, q Query) (Object, error) {
	const op = "read one object of the directory"
	var found []Object
	err := c.Search(ctx, q, func(e Entry) error {
		if o, ok := c.decode(e, f); ok && o.Class != ClassOther {
			found = append(found, o)
		}
		return nil
	})
	switch {
	case err != nil:
		return Object{}, fault.Wrap(fault.Unknown, op, err)
	case len(found) == 0:
		return Object{}, fault.New(fault.NotFound, op+": there is none")
	case len(found) > 1:
		return Object{}, fault.Errorf(fault.Conflict, "%s: %d objects answer to the same key", op, len(found))
	}
	return found[0], nil
}

// ID is what the deletion sweep compares.
type ID struct {
	ObjectGUID identity.GUID
	OID        identity.GUID // zero when there is none or it cannot be read
	SID        identity.SID
}

// ReadIDs hands the ids of every user and group to fn: what a full pass would
// see, at a fraction of its cost. An error of fn stops the sweep and is
// returned as it is.
func (c *Conn) ReadIDs(ctx context.Context, fn func(ID) error) (count int, err error) {
	f, err := c.know(ctx)
	if err != nil {
		return 0, err
	}
	q := Query{Base: f.defaultNC, Scope: Subtree, Filter: people,
		Attributes: []string{"objectClass", "objectGUID", "objectSid", "msDS-aadObjectId", "msDS-AzureADObjectId"}}
	err = c.Search(ctx, q, func(e Entry) error {
		o, ok := c.decode(e, f)
		if !ok || o.Class == ClassOther {
			return nil
		}
		count++
		return fn(ID{o.ObjectGUID, o.OID, o.SID})
	})
	return count, err
}

// TokenGroups returns the SIDs of every group that the object is in, nested
// groups, primary group and local groups of the domain included (tokenGroups,
// MS-ADTS 3.1.1.4.5.19). dn may be "<SID=…>" or "<GUID=…>". A value that is no
// SID is fault.Malformed.
func (c *Conn) TokenGroups(ctx context.Context, dn string) ([]identity.SID, error) {
	e, err := c.Get(ctx, dn, "tokenGroups")
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "read the groups of a token", err)
	}
	var out []identity.SID
	for _, v := range e.Values("tokenGroups") {
		sid, err := identity.SIDFromBytes(v)
		if err != nil {
			return nil, fault.Wrap(fault.Malformed, "read the groups of a token", err)
		}
		out = append(out, sid)
	}
	return out, nil
}
