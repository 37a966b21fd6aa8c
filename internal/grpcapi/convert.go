// SPDX-License-Identifier: Apache-2.0

package grpcapi

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/rpcfault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/resolve"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func toUser(e resolve.Entry) *latchkeyv1.User {
	u := e.User
	return &latchkeyv1.User{
		Name:              resource(identity.KindUser, u.Row),
		Username:          u.Name,
		Uid:               uint32(u.UID),
		Gid:               uint32(u.GID),
		Sid:               u.SID.String(),
		Oid:               u.OID.String(),
		ObjectGuid:        u.ObjectGUID.String(),
		UserPrincipalName: u.UPN,
		AccountName:       u.Account,
		QualifiedName:     e.Qualified,
		Aliases:           u.Aliases,
		DisplayName:       u.DisplayName,
		GivenName:         u.GivenName,
		Surname:           u.Surname,
		Mail:              u.Mail,
		MailNickname:      u.MailNickname,
		Gecos:             u.Gecos,
		Home:              u.Home,
		Shell:             u.Shell,
		States:            toStates(u.State),
		UnpublishedReason: string(u.Unpublished),
		PastSids:          toSIDs(u.PastSIDs),
		HistorySids:       toSIDs(u.HistorySIDs),
		DistinguishedName: u.DN,
		PrimaryGroupSid:   u.PrimaryGroup.String(),
		PasswordSetTime:   toTime(u.PasswordLastSet),
		AccountExpireTime: toTime(u.AccountExpires),
		CreateTime:        toTime(u.Created),
		UpdateTime:        toTime(u.Changed),
	}
}

func toGroup(e resolve.Entry) *latchkeyv1.Group {
	g := e.Group
	return &latchkeyv1.Group{
		Name:              resource(identity.KindGroup, g.Row),
		Groupname:         g.Name,
		Gid:               uint32(g.GID),
		Sid:               g.SID.String(),
		Oid:               g.OID.String(),
		ObjectGuid:        g.ObjectGUID.String(),
		AccountName:       g.Account,
		QualifiedName:     e.Qualified,
		Aliases:           g.Aliases,
		DisplayName:       g.DisplayName,
		Mail:              g.Mail,
		MailNickname:      g.MailNickname,
		Scope:             scopes[g.Scope],
		Security:          g.Security,
		States:            toStates(g.State),
		UnpublishedReason: string(g.Unpublished),
		PastSids:          toSIDs(g.PastSIDs),
		HistorySids:       toSIDs(g.HistorySIDs),
		DistinguishedName: g.DN,
		ForeignMembers:    toSIDs(g.ForeignMembers),
		MemberCount:       uint32(e.Members),
		CreateTime:        toTime(g.Created),
		UpdateTime:        toTime(g.Changed),
	}
}

func toIdentity(e resolve.Entry) *latchkeyv1.Identity {
	switch {
	case e.User != nil:
		return &latchkeyv1.Identity{Identity: &latchkeyv1.Identity_User{User: toUser(e)}}
	case e.Group != nil:
		return &latchkeyv1.Identity{Identity: &latchkeyv1.Identity_Group{Group: toGroup(e)}}
	}
	return nil
}

var scopes = map[identity.Scope]latchkeyv1.GroupScope{
	identity.ScopeUnknown:     latchkeyv1.GroupScope_GROUP_SCOPE_UNSPECIFIED,
	identity.ScopeDomainLocal: latchkeyv1.GroupScope_GROUP_SCOPE_DOMAIN_LOCAL,
	identity.ScopeGlobal:      latchkeyv1.GroupScope_GROUP_SCOPE_GLOBAL,
	identity.ScopeUniversal:   latchkeyv1.GroupScope_GROUP_SCOPE_UNIVERSAL,
	identity.ScopeBuiltin:     latchkeyv1.GroupScope_GROUP_SCOPE_BUILTIN,
}

var states = [...]struct {
	bit  identity.State
	enum latchkeyv1.AccountState
}{
	{identity.Disabled, latchkeyv1.AccountState_ACCOUNT_STATE_DISABLED},
	{identity.LockedOut, latchkeyv1.AccountState_ACCOUNT_STATE_LOCKED_OUT},
	{identity.AccountExpired, latchkeyv1.AccountState_ACCOUNT_STATE_ACCOUNT_EXPIRED},
	{identity.PasswordExpired, latchkeyv1.AccountState_ACCOUNT_STATE_PASSWORD_EXPIRED},
	{identity.MustChange, latchkeyv1.AccountState_ACCOUNT_STATE_MUST_CHANGE_PASSWORD},
	{identity.Guest, latchkeyv1.AccountState_ACCOUNT_STATE_GUEST},
	{identity.Conflicted, latchkeyv1.AccountState_ACCOUNT_STATE_CONFLICTED},
	{identity.Missing, latchkeyv1.AccountState_ACCOUNT_STATE_MISSING},
}

func toStates(s identity.State) (list []latchkeyv1.AccountState) {
	if s == 0 {
		return nil
	}
	for _, st := range states {
		if s.Has(st.bit) {
			list = append(list, st.enum)
		}
	}
	return list
}

func toSIDs(sids []identity.SID) []string {
	if len(sids) == 0 {
		return nil
	}
	list := make([]string, len(sids))
	for i, s := range sids {
		list[i] = s.String()
	}
	return list
}

func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// toFailure is the error of one item of a batch, as a stranger may read it.
func toFailure(err error) *latchkeyv1.Failure {
	if b, ok := err.(*badRequest); ok {
		return &latchkeyv1.Failure{Code: int32(rpcfault.Code(fault.Malformed)),
			Reason: rpcfault.Reason(fault.Malformed), Message: b.Error()}
	}
	k := fault.KindOf(err)
	return &latchkeyv1.Failure{Code: int32(rpcfault.Code(k)), Reason: rpcfault.Reason(k), Message: rpcfault.Sentence(k)}
}
