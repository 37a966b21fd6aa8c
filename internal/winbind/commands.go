// SPDX-License-Identifier: Apache-2.0

package winbind

import (
	"github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// handler answers one command. The answer begins as a failure: a handler that
// returns an error leaves it one, and the error is for the log.
type handler func(c *client, req *wire.Request, resp *wire.Response) error

// commands is what is answered. What is not in it is refused: the answer is a
// plain failure, which every client takes for "not available".
var commands [256]handler

func init() {
	for cmd, do := range map[wire.Command]handler{
		wire.InterfaceVersion:  (*client).interfaceVersion,
		wire.PrivilegedPipeDir: (*client).privilegedDir,
		wire.Ping:              (*client).ping,
		wire.Info:              (*client).info,
		wire.NetBIOSName:       (*client).netBIOSName,
		wire.DomainName:        (*client).domainName,
		wire.DomainInfo:        (*client).domainInfo,

		wire.GetPwNam:  (*client).getPwNam,
		wire.GetPwUID:  (*client).getPwUID,
		wire.GetPwSID:  (*client).getPwSID,
		wire.GetGrNam:  (*client).getGrNam,
		wire.GetGrGID:  (*client).getGrGID,
		wire.GetGroups: (*client).getGroups,
		wire.SetPwEnt:  (*client).setPwEnt,
		wire.EndPwEnt:  (*client).setPwEnt,
		wire.GetPwEnt:  (*client).getPwEnt,
		wire.SetGrEnt:  (*client).setGrEnt,
		wire.EndGrEnt:  (*client).setGrEnt,
		wire.GetGrEnt:  (*client).getGrEnt,

		wire.LookupName:          (*client).lookupName,
		wire.LookupSID:           (*client).lookupSID,
		wire.LookupRIDs:          (*client).lookupRIDs,
		wire.LookupSIDs:          (*client).lookupSIDs,
		wire.SIDsToXIDs:          (*client).sidsToXIDs,
		wire.XIDsToSIDs:          (*client).xidsToSIDs,
		wire.GetUserSIDs:         (*client).getUserSIDs,
		wire.GetUserDomainGroups: (*client).getUserSIDs,
		wire.GetSIDAliases:       (*client).getSIDAliases,
		wire.ListUsers:           (*client).listUsers,
		wire.ListGroups:          (*client).listGroups,

		wire.ListTrustedDomains:  (*client).listTrustedDomains,
		wire.CheckMachineAccount: (*client).checkMachineAccount,
		wire.PingDC:              (*client).pingDC,
		wire.DCInfo:              (*client).dcInfo,
		wire.GetDCName:           (*client).getDCName,
		wire.DsGetDCName:         (*client).dsGetDCName,

		wire.PAMAuth:               (*client).pamAuth,
		wire.PAMAuthCrap:           (*client).pamAuthCrap,
		wire.PAMChangePassword:     (*client).notHere,
		wire.PAMChangePasswordCrap: (*client).notHere,
		wire.PAMLogoff:             (*client).notHere,
		wire.ChangeMachineAccount:  (*client).notHere,
	} {
		commands[cmd] = do
	}
}

func (c *client) interfaceVersion(req *wire.Request, resp *wire.Response) error {
	resp.OK()
	resp.SetNumber(uint32(req.Version))
	return nil
}

func (c *client) privilegedDir(_ *wire.Request, resp *wire.Response) error {
	resp.OK()
	resp.Append(c.s.cfg.PrivilegedDir)
	resp.Append("\x00")
	return nil
}

func (c *client) ping(_ *wire.Request, resp *wire.Response) error {
	resp.OK()
	return nil
}

func (c *client) info(_ *wire.Request, resp *wire.Response) error {
	v, err := c.s.samba.now(c.s.life)
	if err != nil {
		return err
	}
	resp.OK()
	resp.SetInfo('\\', v.Release)
	return nil
}

// notHere refuses what would change something, in words for a person.
func (c *client) notHere(_ *wire.Request, resp *wire.Response) error {
	resp.SetAuth(&wire.Auth{Status: statusNotSupported, StatusName: statusName(statusNotSupported), PAMError: pamPermDenied, Authoritative: true,
		Message: "latchkey does not do this for winbind's clients; see latchkey(1)."})
	return nil
}
