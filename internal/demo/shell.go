// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

// startSSH is a Debian's sshd, with tickets switched on.
const startSSH = `pgrep -x sshd >/dev/null || { ssh-keygen -A >/dev/null; mkdir -p /run/sshd
	/usr/sbin/sshd -o UsePAM=yes -o KbdInteractiveAuthentication=yes -o GSSAPIAuthentication=yes -o GSSAPIStrictAcceptorCheck=no; }`

// shells signs people in by SSH from another machine: by password, by ticket and
// by key, with somebody who is disabled, and without a domain controller.
func (s *show) shells() {
	if s.err != nil {
		return
	}
	if _, s.err = s.nas.Output(s.ctx, "sh", "-c", startSSH); s.err != nil {
		return
	}
	s.say("A shell is open to nobody until somebody opens it. PAM asks latchkey after one command.")
	s.enter("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable latchkey latchkey-password")
	s.enter("latchkey access allow sshd grace.nakamura olivia.smith %finance")
	fqdn := s.nas.Hostname() + "." + s.domain.DNS
	laptop := s.laptop(&smb.Server{Box: s.nas.Box, FQDN: fqdn})
	if laptop == nil {
		return
	}
	conf := "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  GSSAPIAuthentication yes\n"
	if _, s.err = laptop.Output(s.ctx, "sh", "-c", "umask 077; mkdir -p ~/.ssh; echo '"+conf+"' >~/.ssh/config; test -e ~/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519"); s.err != nil {
		return
	}
	byPassword := "SSHPASS='" + lab.DemoPassword + "' sshpass -e ssh -o PubkeyAuthentication=no -o GSSAPIAuthentication=no "
	s.say("SSH by password, with tickets of one's own; by ticket; by key.")
	s.typed(laptop, byPassword+"grace.nakamura@"+fqdn+" 'id -un; klist | grep krbtgt'")
	s.typed(laptop, "echo '"+lab.DemoPassword+"' | kinit juergen.mueller && ssh -o PreferredAuthentications=gssapi-with-mic juergen.mueller@"+fqdn+" id -un")
	s.typed(laptop, byPassword+"olivia.smith@"+fqdn+" 'mkdir -p -m 700 .ssh; cat >.ssh/authorized_keys' <~/.ssh/id_ed25519.pub; ssh -o PreferredAuthentications=publickey olivia.smith@"+fqdn+" id -un")
	if s.err != nil {
		return
	}
	s.say("Olivia leaves the company: her key opens nothing any more.")
	if s.err = s.domain.Disable(s.ctx, "olivia.smith", true); s.err != nil {
		return
	}
	s.typed(laptop, "ssh -o PreferredAuthentications=publickey olivia.smith@"+fqdn+" id -un || echo refused")
	s.enter("latchkey audit --user olivia.smith | tail -1")
	if err := s.domain.Disable(s.ctx, "olivia.smith", false); s.err == nil {
		s.err = err
	}
	s.say("The VPN is down: who was here before gets in with the last good password.")
	if err := s.domain.DC.Blackhole(s.ctx); s.err == nil {
		s.err = err
	}
	s.typed(laptop, byPassword+"-tt grace.nakamura@"+s.nas.IP()+" <<<exit | grep -a remembers")
	if err := s.domain.DC.Heal(s.ctx); s.err == nil {
		s.err = err
	}
}
