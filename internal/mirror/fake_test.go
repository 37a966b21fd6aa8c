// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-nas/latchkey/internal/directory"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// fakeDC is a directory in memory: one domain controller that can be made to
// fail, to be another, to be rebuilt.
type fakeDC struct {
	lock       sync.Mutex
	domain     identity.SID
	invocation identity.GUID
	usn        uint64
	objects    map[identity.GUID]*directory.Object
	nextRID    uint32
	nextGUID   uint64

	down      bool           // nobody answers
	refuses   error          // what becomes of a sign-in to it
	noIDs     error          // what becomes of a sweep
	dieAfter  int            // objects of the next ReadAll until the connection breaks; 0: never
	during    func()         // called once in the middle of the next ReadAll
	reads     []string       // what was asked for
	watchers  map[int]func() // of Watch
	watcherID int
}

var errDown = fault.New(fault.Unreachable, "the domain controller does not answer")

const base = "DC=aadds,DC=contoso,DC=test"

func newFakeDC() *fakeDC {
	dc := &fakeDC{domain: identity.MustParseSID("S-1-5-21-1-2-3"), usn: 100, objects: make(map[identity.GUID]*directory.Object),
		nextRID: 1000, watchers: make(map[int]func())}
	dc.invocation[0] = 1
	dc.wellKnown()
	return dc
}

// wellKnown makes what every domain has.
func (dc *fakeDC) wellKnown() {
	for rid, name := range map[uint32]string{512: "Domain Admins", 513: "Domain Users", 514: "Domain Guests"} {
		o := dc.newObject(directory.ClassGroup, name, "CN=Users,"+base)
		o.SID, o.GroupType = dc.domain.WithRID(rid), directory.GroupGlobal|directory.GroupSecurity
	}
	for rid, name := range map[uint32]string{544: "Administrators", 545: "Users"} {
		o := dc.newObject(directory.ClassGroup, name, "CN=Builtin,"+base)
		o.SID, o.GroupType = builtin.WithRID(rid), directory.GroupBuiltin|directory.GroupDomainLocal|directory.GroupSecurity
	}
	for rid, name := range map[uint32]string{500: "Administrator", 502: "krbtgt"} {
		o := dc.newObject(directory.ClassUser, name, "CN=Users,"+base)
		o.SID, o.UPN = dc.domain.WithRID(rid), ""
	}
}

func (dc *fakeDC) newObject(class directory.Class, name, parent string) *directory.Object {
	dc.nextGUID++
	dc.nextRID++
	dc.usn++
	o := &directory.Object{DN: "CN=" + name + "," + parent, Class: class, SAMAccountName: name, DisplayName: name,
		SID: dc.domain.WithRID(dc.nextRID), USNChanged: directory.USN(dc.usn), UnderSyncedOU: strings.HasPrefix(parent, "OU=AADDC Users")}
	binary.BigEndian.PutUint64(o.ObjectGUID[:], dc.nextGUID)
	o.ObjectGUID[15] = dc.invocation[0]
	if class == directory.ClassUser {
		o.UPN, o.PrimaryGroupID, o.UserAccountControl = name+"@contoso.com", 513, directory.UACNormal
	} else {
		o.GroupType = directory.GroupGlobal | directory.GroupSecurity
	}
	dc.objects[o.ObjectGUID] = o
	return o
}

const synced, custom = "OU=AADDC Users," + base, "OU=Machines," + base

// oidOf gives a person an Entra object id.
func oidOf(name string) (g identity.GUID) {
	copy(g[:], fmt.Sprintf("%-16.16s", name))
	return g
}

// user makes a synchronised user, group a synchronised group.
func (dc *fakeDC) user(name string) identity.GUID {
	dc.lock.Lock()
	defer dc.lock.Unlock()
	o := dc.newObject(directory.ClassUser, name, synced)
	o.OID = oidOf(name)
	return o.ObjectGUID
}

func (dc *fakeDC) group(name string, members ...identity.GUID) identity.GUID {
	dc.lock.Lock()
	o := dc.newObject(directory.ClassGroup, name, synced)
	o.OID = oidOf("g:" + name)
	dc.lock.Unlock()
	dc.setMembers(o.ObjectGUID, members...)
	return o.ObjectGUID
}

func (dc *fakeDC) setMembers(group identity.GUID, members ...identity.GUID) {
	dc.change(group, func(o *directory.Object) {
		o.Members = nil
		for _, m := range members {
			o.Members = append(o.Members, directory.Reference{DN: dc.objects[m].DN, GUID: m, SID: dc.objects[m].SID})
		}
	})
}

// change changes an object; its USN moves.
func (dc *fakeDC) change(guid identity.GUID, fn func(*directory.Object)) {
	dc.lock.Lock()
	defer dc.lock.Unlock()
	dc.usn++
	o := dc.objects[guid]
	c := *o
	fn(&c)
	c.USNChanged = directory.USN(dc.usn)
	dc.objects[guid] = &c
}

// remove deletes an object. As in AD, the groups that listed it lose it without
// a change of their own USN.
func (dc *fakeDC) remove(guid identity.GUID) {
	dc.lock.Lock()
	defer dc.lock.Unlock()
	dc.usn++
	delete(dc.objects, guid)
	for g, o := range dc.objects {
		if slices.ContainsFunc(o.Members, func(r directory.Reference) bool { return r.GUID == guid }) {
			c := *o
			c.Members = slices.DeleteFunc(slices.Clone(o.Members), func(r directory.Reference) bool { return r.GUID == guid })
			dc.objects[g] = &c
		}
	}
}

// recreate makes the domain anew: another SID, other objectGUIDs, RIDs given in
// the order of names; the same people by oid.
func (dc *fakeDC) recreate(domain identity.SID, names ...string) {
	dc.lock.Lock()
	dc.domain, dc.invocation[0] = domain, dc.invocation[0]+1
	dc.objects, dc.nextRID, dc.usn = make(map[identity.GUID]*directory.Object), 1000, 50
	dc.wellKnown()
	dc.lock.Unlock()
	for _, n := range names {
		dc.user(n)
	}
}

func (dc *fakeDC) find(name string) identity.GUID {
	dc.lock.Lock()
	defer dc.lock.Unlock()
	for g, o := range dc.objects {
		if o.SAMAccountName == name {
			return g
		}
	}
	panic("no object " + name)
}

func (dc *fakeDC) Session(ctx context.Context) (Session, error) {
	dc.lock.Lock()
	defer dc.lock.Unlock()
	if dc.down {
		return nil, errDown
	}
	if dc.refuses != nil {
		return nil, dc.refuses
	}
	return fakeConn{dc}, nil
}

func (dc *fakeDC) Another(ctx context.Context, _ Session) (Session, error) { return dc.Session(ctx) }

func (dc *fakeDC) Doubted(Session) bool { return false }

func (dc *fakeDC) Watch(ctx context.Context, ready, changed func()) error {
	dc.lock.Lock()
	if dc.down {
		dc.lock.Unlock()
		return errDown
	}
	dc.watcherID++
	id := dc.watcherID
	dc.watchers[id] = changed
	dc.lock.Unlock()
	ready()
	<-ctx.Done()
	dc.lock.Lock()
	defer dc.lock.Unlock()
	delete(dc.watchers, id)
	return ctx.Err()
}

// tell notifies everybody who watches.
func (dc *fakeDC) tell() (told int) {
	dc.lock.Lock()
	all := slices.Collect(maps.Values(dc.watchers))
	dc.lock.Unlock()
	for _, fn := range all {
		fn()
	}
	return len(all)
}

type fakeConn struct{ dc *fakeDC }

func (c fakeConn) RootDSE(ctx context.Context) (directory.RootDSE, error) {
	c.dc.lock.Lock()
	defer c.dc.lock.Unlock()
	if c.dc.down {
		return directory.RootDSE{}, errDown
	}
	return directory.RootDSE{DNSHost: "dc1.aadds.contoso.test", InvocationID: c.dc.invocation, HighestCommittedUSN: directory.USN(c.dc.usn), CurrentTime: time.Now()}, nil
}

func (c fakeConn) ReadAll(ctx context.Context, since directory.USN, fn func(directory.Object) error) (int, error) {
	c.dc.lock.Lock()
	c.dc.reads = append(c.dc.reads, fmt.Sprintf("all since %d", since))
	var all []directory.Object
	for _, o := range c.dc.objects {
		if o.USNChanged >= since {
			all = append(all, *o)
		}
	}
	dieAfter, during := c.dc.dieAfter, c.dc.during
	c.dc.dieAfter, c.dc.during = 0, nil
	c.dc.lock.Unlock()
	for i, o := range all {
		if dieAfter > 0 && i == dieAfter {
			return i, errDown
		}
		if during != nil && i == len(all)/2 {
			during()
		}
		if err := fn(o); err != nil {
			return i, err
		}
	}
	return len(all), ctx.Err()
}

func (c fakeConn) ReadOne(ctx context.Context, key identity.Key) (directory.Object, error) {
	c.dc.lock.Lock()
	defer c.dc.lock.Unlock()
	c.dc.reads = append(c.dc.reads, fmt.Sprintf("one by %d", key.Kind))
	if c.dc.down {
		return directory.Object{}, errDown
	}
	var found []directory.Object
	for _, o := range c.dc.objects {
		switch key.Kind {
		case identity.ByObjectGUID:
			if o.ObjectGUID != key.GUID {
				continue
			}
		case identity.ByOID:
			if o.OID != key.GUID {
				continue
			}
		case identity.BySID:
			if o.SID != key.SID {
				continue
			}
		case identity.ByName:
			if !strings.EqualFold(o.SAMAccountName, key.Name) && !strings.EqualFold(o.UPN, key.Name) {
				continue
			}
		default:
			return directory.Object{}, fault.New(fault.Malformed, "no such key")
		}
		found = append(found, *o)
	}
	switch len(found) {
	case 0:
		return directory.Object{}, fault.New(fault.NotFound, "no such object")
	case 1:
		return found[0], nil
	}
	return directory.Object{}, fault.New(fault.Conflict, "several objects")
}

func (c fakeConn) ReadIDs(ctx context.Context, fn func(directory.ID) error) (int, error) {
	c.dc.lock.Lock()
	c.dc.reads = append(c.dc.reads, "ids")
	var all []directory.ID
	for _, o := range c.dc.objects {
		all = append(all, directory.ID{ObjectGUID: o.ObjectGUID, OID: o.OID, SID: o.SID})
	}
	down, refused := c.dc.down, c.dc.noIDs
	c.dc.lock.Unlock()
	if down {
		return 0, errDown
	}
	if refused != nil {
		return 0, refused
	}
	for i, id := range all {
		if err := fn(id); err != nil {
			return i, err
		}
	}
	return len(all), nil
}

func (c fakeConn) TokenGroups(ctx context.Context, dn string) ([]identity.SID, error) {
	c.dc.lock.Lock()
	defer c.dc.lock.Unlock()
	guid, err := identity.ParseGUID(strings.TrimSuffix(strings.TrimPrefix(dn, "<GUID="), ">"))
	if err != nil {
		return nil, err
	}
	o := c.dc.objects[guid]
	if c.dc.down || o == nil {
		return nil, errDown
	}
	seen := map[identity.GUID]bool{}
	var sids []identity.SID
	var walk func(member identity.GUID)
	enter := func(g *directory.Object) {
		if !seen[g.ObjectGUID] && g.GroupType&directory.GroupSecurity != 0 {
			seen[g.ObjectGUID] = true
			sids = append(sids, g.SID)
			walk(g.ObjectGUID)
		}
	}
	walk = func(member identity.GUID) {
		for _, g := range c.dc.objects {
			if slices.ContainsFunc(g.Members, func(r directory.Reference) bool { return r.GUID == member }) {
				enter(g)
			}
		}
	}
	walk(guid)
	for _, g := range c.dc.objects {
		if g.SID == o.SID.Domain().WithRID(o.PrimaryGroupID) {
			enter(g)
		}
	}
	return sids, nil
}

// user returns a person by oid.
func (b *box) user(name string) *identity.User {
	b.t.Helper()
	e, err := b.entry(identity.Key{Kind: identity.ByOID, GUID: oidOf(name)})
	if err != nil || e.User == nil {
		b.t.Fatalf("%s: %+v, %v", name, e, err)
	}
	return e.User
}
