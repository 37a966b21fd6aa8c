// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/nas"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

// financeShare is what the administrator of the demo has in smb.conf.
const financeShare = `[finance]
   path = /srv/shares/finance
   read only = no
   valid users = @finance
   vfs objects = acl_xattr
`

// shares opens one share by password and by ticket, from another machine, and
// asks everybody who owns the file.
func (s *show) shares() {
	if s.err != nil {
		return
	}
	s.say("A share, by an unmodified smbd and with no winbindd: `latchkey samba enable` makes smbd ask latchkey.")
	if _, s.err = s.nas.Output(s.ctx, "sh", "-c", "install -d -m 2770 /srv/shares/finance && chgrp finance /srv/shares/finance"); s.err != nil {
		return
	}
	running := false
	if r, err := s.nas.Run(s.ctx, "pgrep", "-x", "smbd"); err == nil {
		running = r.Ok()
	}
	if !running {
		if s.err = s.nas.WriteFile(s.ctx, "/etc/samba/smb.conf", []byte(nas.SMBConf+financeShare), 0o644); s.err != nil {
			return
		}
		if _, s.err = s.nas.Output(s.ctx, "systemctl", "mask", "winbind.service"); s.err != nil {
			return
		}
		s.enter("latchkey samba enable | grep -v '^[-+@ ]'")
		s.print("systemctl restart smbd")
	}
	server := &smb.Server{Box: s.nas.Box, FQDN: s.nas.Hostname() + "." + s.domain.DNS}
	if !running && s.err == nil {
		s.err = server.Start(s.ctx)
	}
	s.enter("pgrep -l 'smbd|winbindd' | sort -uk2; latchkey samba check")
	laptop := s.laptop(server)
	if laptop == nil {
		return
	}
	share := "//" + server.FQDN + "/finance"
	s.say("From a laptop: with a password (NTLM), and with a Kerberos ticket.")
	s.typed(laptop, "smbclient "+share+" --use-kerberos=off -U 'juergen.mueller%"+lab.DemoPassword+"' -c 'put /etc/hostname by-password.txt; ls'")
	s.typed(laptop, "echo '"+lab.DemoPassword+"' | kinit juergen.mueller && smbclient "+share+" --use-kerberos=required -N -c 'put /etc/hostname by-ticket.txt' && klist | grep cifs")
	s.say("ls, id, Windows' security tab and gRPC agree on who owns the files.")
	s.enter("ls -ln /srv/shares/finance; ls -l /srv/shares/finance; id -u juergen.mueller")
	s.typed(laptop, "smbcacls "+share+" by-ticket.txt --use-kerberos=required -N | head -4")
	s.enter("latchkey user get juergen.mueller | grep -e '^uid' -e '^SID'; stat -c '%u' /srv/shares/finance/by-*.txt | xargs -n1 latchkey user get | grep ^name")
	s.say("Windows ACLs are set by name, and POSIX sees them.")
	s.typed(laptop, "smbcacls "+share+` by-ticket.txt --use-kerberos=required -N --add 'ACL:`+s.domain.NetBIOS+`\amelie.dubois:ALLOWED/0x0/READ'`)
	s.enter("getfacl -cp /srv/shares/finance/by-ticket.txt | grep amelie")
}

// laptop is another machine of the domain's people.
func (s *show) laptop(server *smb.Server) *lab.Box {
	if s.err != nil {
		return nil
	}
	l := s.domain.Lab()
	box, err := l.OpenBox("laptop")
	if err != nil {
		if box, err = l.Box(s.ctx, "laptop", lab.BoxOptions{UseDNS: true, Krb5Conf: true}); err == nil {
			_, err = smb.Connect(s.ctx, box, server, s.domain)
		}
	}
	if s.err = err; err != nil {
		return nil
	}
	conf := fmt.Sprintf("[global]\n   workgroup = %s\n   realm = %s\n", s.domain.NetBIOS, s.domain.Realm())
	s.err = box.WriteFile(s.ctx, "/etc/samba/smb.conf", []byte(conf), 0o644)
	return box
}

// typed is enter on another machine.
func (s *show) typed(box *lab.Box, line string) {
	if s.err != nil {
		return
	}
	fmt.Fprintf(s.out, "\n\033[36m%s$\033[0m %s\n", box.Name(), strings.ReplaceAll(line, lab.DemoPassword, "********"))
	r, err := box.Run(s.ctx, "bash", "-c", "exec 2>&1; "+line)
	if r != nil {
		fmt.Fprint(s.out, r.Stdout)
	}
	switch {
	case err != nil:
		s.err = err
	case !r.Ok():
		s.err = fmt.Errorf("%s on %s ended with status %d", line, box.Name(), r.Exit)
	}
}
