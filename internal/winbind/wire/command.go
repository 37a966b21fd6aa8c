// SPDX-License-Identifier: Apache-2.0

package wire

import "fmt"

// Command is what a request asks for, in the numbers of version 32.
type Command uint8

// The commands.
const (
	InterfaceVersion Command = iota
	GetPwNam
	GetPwUID
	GetPwSID
	GetGrNam
	GetGrGID
	GetGroups
	SetPwEnt
	EndPwEnt
	GetPwEnt
	SetGrEnt
	EndGrEnt
	GetGrEnt
	PAMAuth
	PAMAuthCrap
	PAMChangePassword
	PAMLogoff
	PAMChangePasswordCrap
	ListUsers
	ListGroups
	ListTrustedDomains
	LookupSID
	LookupName
	LookupRIDs
	LookupSIDs
	SIDsToXIDs
	XIDsToSIDs
	AllocateUID
	AllocateGID
	CheckMachineAccount
	ChangeMachineAccount
	PingDC
	Ping
	Info
	DomainName
	DomainInfo
	GetDCName
	DsGetDCName
	DCInfo
	ShowSequence // none of 33
	WINSByIP
	WINSByName
	GetGrList
	NetBIOSName
	PrivilegedPipeDir
	GetUserSIDs
	GetUserDomainGroups
	GetSIDAliases
	CacheNTLMAuth
	CacheSave
	InitConnection // of 31 only
	Internal       // one of those that winbindd's own processes send each other

	commands
)

var commandNames = [...]string{"INTERFACE_VERSION", "GETPWNAM", "GETPWUID", "GETPWSID", "GETGRNAM", "GETGRGID", "GETGROUPS",
	"SETPWENT", "ENDPWENT", "GETPWENT", "SETGRENT", "ENDGRENT", "GETGRENT", "PAM_AUTH", "PAM_AUTH_CRAP", "PAM_CHAUTHTOK",
	"PAM_LOGOFF", "PAM_CHNG_PSWD_AUTH_CRAP", "LIST_USERS", "LIST_GROUPS", "LIST_TRUSTDOM", "LOOKUPSID", "LOOKUPNAME",
	"LOOKUPRIDS", "LOOKUPSIDS", "SIDS_TO_XIDS", "XIDS_TO_SIDS", "ALLOCATE_UID", "ALLOCATE_GID", "CHECK_MACHACC",
	"CHANGE_MACHACC", "PING_DC", "PING", "INFO", "DOMAIN_NAME", "DOMAIN_INFO", "GETDCNAME", "DSGETDCNAME", "DC_INFO",
	"SHOW_SEQUENCE", "WINS_BYIP", "WINS_BYNAME", "GETGRLST", "NETBIOS_NAME", "PRIV_PIPE_DIR", "GETUSERSIDS",
	"GETUSERDOMGROUPS", "GETSIDALIASES", "CCACHE_NTLMAUTH", "CCACHE_SAVE", "INIT_CONNECTION", "internal"}

// String names the command as Samba does.
func (c Command) String() string {
	if int(c) < len(commandNames) {
		return commandNames[c]
	}
	return fmt.Sprintf("command %d", uint8(c))
}

// Commands returns all of them.
func Commands() []Command {
	all := make([]Command, commands)
	for i := range all {
		all[i] = Command(i)
	}
	return all
}

// The commands of a version after the common ones, and how many internal ones
// stand between them.
const internals = 8

// command returns what a number means; false for none.
func (v Version) command(n uint32) (Command, bool) {
	switch {
	case v == V33 && n >= uint32(ShowSequence):
		n++
	case v == V31 && n == 48:
		return InitConnection, true
	case v == V31 && n > 48:
		n--
	}
	switch {
	case n <= uint32(GetSIDAliases):
		return Command(n), true
	case n < uint32(CacheNTLMAuth)+internals:
		return Internal, true
	case n <= uint32(CacheSave)+internals:
		return Command(n - internals), true
	}
	return 0, false
}

// Number returns the number of a command in a version; false where it has none,
// or several.
func (v Version) Number(c Command) (uint32, bool) {
	n := uint32(c)
	switch {
	case c == InitConnection:
		return 48, v == V31
	case c >= Internal || !v.Known():
		return 0, false
	case c == ShowSequence && v == V33:
		return 0, false
	case c > GetSIDAliases:
		n += internals
		if v == V31 {
			n++
		}
	}
	if v == V33 && c > ShowSequence {
		n--
	}
	return n, true
}
