// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"

	"github.com/latchkey-nas/latchkey/internal/identity"
)

// ReadAll hands every user and group of the domain to fn, computers and trusts
// excluded, with complete member lists. since 0 is a full pass; otherwise only
// objects whose uSNChanged is at least since. Take the next since from
// RootDSE().HighestCommittedUSN+1 read on the same Conn before the pass, and
// start afresh when the invocation id is another one. An error of fn stops the
// pass and is returned as it is. count is how many objects fn saw.
func (c *Conn) ReadAll(ctx context.Context, since USN, fn func(Object) error) (count int, err error) {
	return 0, errUnbuilt
}

// ReadOne reads one user or group by SID, objectGUID, oid or name (ByName:
// sAMAccountName, UPN, DOMAIN\name or name@dns.domain, any case; other kinds
// are fault.Malformed). fault.NotFound when there is none; fault.Conflict when
// there are several.
func (c *Conn) ReadOne(ctx context.Context, key identity.Key) (Object, error) {
	return Object{}, errUnbuilt
}

// ID is what the deletion sweep compares.
type ID struct {
	ObjectGUID identity.GUID
	OID        identity.GUID // zero when there is none or it cannot be read
	SID        identity.SID
}

// ReadIDs hands the ids of every user and group to fn: what a full pass would
// see, at a fraction of its cost.
func (c *Conn) ReadIDs(ctx context.Context, fn func(ID) error) (count int, err error) {
	return 0, errUnbuilt
}

// TokenGroups returns the SIDs of every group that the object is in, nested
// groups, primary group and local groups of the domain included (tokenGroups,
// MS-ADTS 3.1.1.4.5.19). dn may be "<SID=…>" or "<GUID=…>".
func (c *Conn) TokenGroups(ctx context.Context, dn string) ([]identity.SID, error) {
	return nil, errUnbuilt
}
