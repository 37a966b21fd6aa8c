// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"slices"
	"sync/atomic"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
)

// Who is a class of callers.
type Who uint8

// The classes. Nobody is the zero value: what no rule names, nobody may do.
const (
	Nobody Who = iota
	// Anyone who could connect.
	Anyone
	// Authenticators bring other people's credentials: root, the login group
	// and the ids of [api] authenticators.
	Authenticators
	// Apps have people signed in by a browser: the authenticators, and whom
	// [[sso.app]] names. Behind the table stands that an app speaks for itself only.
	Apps
	// Administrators are root, the admin group, and whom [api] admins names.
	Administrators
)

// String names the class for logs and for the access table in the docs.
func (w Who) String() string {
	switch w {
	case Anyone:
		return "anyone"
	case Authenticators:
		return "authenticators"
	case Apps:
		return "registered apps"
	case Administrators:
		return "administrators"
	}
	return "nobody"
}

// rule says who may call a method on the socket for everybody and on the one
// for administrators. A container's root that was given api.sock is root to
// the kernel, so no class opens an admin method there.
type rule struct{ api, admin Who }

// access is the one table: full method name -> who may call it, where. What is
// not in it is refused, on every socket. Keep it sorted by service.
var access = map[string]rule{
	"/latchkey.v1.IdentityService/GetUser":           {Anyone, Administrators},
	"/latchkey.v1.IdentityService/GetGroup":          {Anyone, Administrators},
	"/latchkey.v1.IdentityService/ResolveIdentities": {Anyone, Administrators},
	"/latchkey.v1.IdentityService/ListUsers":         {Anyone, Administrators},
	"/latchkey.v1.IdentityService/ListGroups":        {Anyone, Administrators},
	"/latchkey.v1.IdentityService/SearchIdentities":  {Anyone, Administrators},
	"/latchkey.v1.IdentityService/ListUserGroups":    {Anyone, Administrators},
	"/latchkey.v1.IdentityService/ListGroupMembers":  {Anyone, Administrators},
	"/latchkey.v1.IdentityService/CheckMembership":   {Anyone, Administrators},
	"/latchkey.v1.IdentityService/WatchIdentities":   {Anyone, Administrators},
	"/latchkey.v1.IdentityService/ListSshKeys":       {Anyone, Administrators},

	"/latchkey.v1.AdminService/Join":      {Nobody, Administrators},
	"/latchkey.v1.AdminService/Leave":     {Nobody, Administrators},
	"/latchkey.v1.AdminService/GetStatus": {Nobody, Administrators},
	"/latchkey.v1.AdminService/Sync":      {Nobody, Administrators},
	"/latchkey.v1.AdminService/SetConfig": {Nobody, Administrators},

	"/latchkey.v1.MachineService/RotateMachineKey": {Nobody, Administrators},
	"/latchkey.v1.MachineService/ExportIds":        {Nobody, Administrators},
	"/latchkey.v1.MachineService/ImportIds":        {Nobody, Administrators},
	"/latchkey.v1.MachineService/ReadAudit":        {Nobody, Administrators},
	"/latchkey.v1.MachineService/RecordFiles":      {Nobody, Administrators},

	"/latchkey.v1.LoginService/Authenticate":    {Authenticators, Administrators},
	"/latchkey.v1.LoginService/CheckAccess":     {Authenticators, Administrators},
	"/latchkey.v1.LoginService/ChangePassword":  {Authenticators, Administrators},
	"/latchkey.v1.LoginService/Converse":        {Authenticators, Administrators},
	"/latchkey.v1.LoginService/Explain":         {Authenticators, Administrators},
	"/latchkey.v1.LoginService/VerifyNTLM":      {Authenticators, Administrators},
	"/latchkey.v1.LoginService/AcceptNegotiate": {Authenticators, Administrators},

	"/latchkey.v1.SsoService/BeginSignIn":   {Apps, Administrators},
	"/latchkey.v1.SsoService/ExchangeCode":  {Apps, Administrators},
	"/latchkey.v1.SsoService/GetSession":    {Apps, Administrators},
	"/latchkey.v1.SsoService/ListSessions":  {Apps, Administrators},
	"/latchkey.v1.SsoService/RevokeSession": {Apps, Administrators},

	"/latchkey.v1.SsoAdminService/SetSso":  {Nobody, Administrators},
	"/latchkey.v1.SsoAdminService/TestSso": {Nobody, Administrators},
	"/latchkey.v1.SsoAdminService/GetSso":  {Nobody, Administrators},

	"/latchkey.v1.AccessService/ListAccessRules": {Nobody, Administrators},
	"/latchkey.v1.AccessService/SetAccessRules":  {Nobody, Administrators},

	"/grpc.health.v1.Health/Check": {Anyone, Administrators},
	"/grpc.health.v1.Health/List":  {Anyone, Administrators},
	"/grpc.health.v1.Health/Watch": {Anyone, Administrators},

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      {Anyone, Administrators},
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {Anyone, Administrators},
}

// Methods returns every method that the table names, sorted.
func Methods() []string {
	all := make([]string, 0, len(access))
	for m := range access {
		all = append(all, m)
	}
	slices.Sort(all)
	return all
}

// Whose returns who may call a method on a socket. A method or socket that the
// table does not know gives Nobody.
func Whose(door Name, method string) Who {
	r := access[method]
	switch door {
	case API:
		return r.api
	case Admin:
		return r.admin
	}
	return Nobody
}

// Members says which ids make up the classes of callers. Zero ids name nobody
// but root, who is in every class.
type Members struct {
	// AdminGroups are the gids of latchkey-admin (none where it is missing).
	AdminGroups []identity.GID
	// AdminUIDs are people of the domain whom the configuration names, ascending.
	AdminUIDs []identity.UID
	// LoginGroups are the gids of latchkey-login.
	LoginGroups []identity.GID
	// AuthenticatorUIDs and AuthenticatorGIDs come from [api] authenticators.
	AuthenticatorUIDs []identity.UID
	AuthenticatorGIDs []identity.GID
	// AppUIDs and AppGIDs come from [[sso.app]].
	AppUIDs []identity.UID
	AppGIDs []identity.GID
}

// Policy decides whether a caller may call a method. Safe for concurrent use;
// the members may be replaced while it is in use. The zero value knows root only.
type Policy struct{ members atomic.Pointer[Members] }

// NewPolicy returns a policy with the given members.
func NewPolicy(m Members) *Policy {
	p := &Policy{}
	p.Set(m)
	return p
}

// Set replaces the members, for calls that begin after it returns.
func (p *Policy) Set(m Members) { p.members.Store(&m) }

// Check returns nil when the caller may call the method through this socket,
// and fault.Denied otherwise.
func (p *Policy) Check(door Name, method string, c Caller) error {
	who := Whose(door, method)
	if who == Anyone || p.is(c, who) {
		return nil
	}
	return fault.Errorf(fault.Denied, "%s may not call %s through %s: it is for %s", c, method, door, who)
}

func (p *Policy) is(c Caller, who Who) bool {
	if who == Nobody {
		return false
	}
	if c.UID == 0 {
		return true
	}
	m := p.members.Load()
	if m == nil || c.UID == nobody {
		return false
	}
	switch who {
	case Administrators:
		_, named := slices.BinarySearch(m.AdminUIDs, c.UID)
		return named || inAny(c, m.AdminGroups)
	case Authenticators:
		return slices.Contains(m.AuthenticatorUIDs, c.UID) || inAny(c, m.LoginGroups) || inAny(c, m.AuthenticatorGIDs)
	case Apps:
		return slices.Contains(m.AppUIDs, c.UID) || inAny(c, m.AppGIDs) || p.is(c, Authenticators)
	}
	return false
}

// inAny leaves out gid 0 and the overflow id, which a configuration may name by
// mistake: membership of root's group is no permission, and 65534 is everybody
// from another user namespace.
func inAny(c Caller, groups []identity.GID) bool {
	return slices.ContainsFunc(groups, func(g identity.GID) bool { return g != 0 && g != nobody && c.In(g) })
}
