// SPDX-License-Identifier: Apache-2.0

package nas

import (
	"context"
	"fmt"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/lab/smb"
)

// SMBConf is the head of an smb.conf as an administrator has it before latchkey
// is enabled: Debian's, without its comments and shares.
const SMBConf = `[global]
   workgroup = WORKGROUP
   log file = /var/log/samba/log.%m
   max log size = 1000
   logging = file
   panic action = /usr/share/samba/panic-action %d
   server role = standalone server
   obey pam restrictions = yes
   unix password sync = yes
   map to guest = never
`

// EnableSMB writes an smb.conf with these lines after SMBConf, switches winbind
// off for good, and runs `latchkey samba enable`.
func (n *NAS) EnableSMB(ctx context.Context, shares string) (*lab.Result, error) {
	if err := n.WriteFile(ctx, "/etc/samba/smb.conf", []byte(SMBConf+shares), 0o644); err != nil {
		return nil, err
	}
	if _, err := n.Output(ctx, "systemctl", "mask", "winbind.service"); err != nil {
		return nil, err
	}
	return n.CLI(ctx, "samba", "enable")
}

// ServeSMB is EnableSMB with a smbd that serves the shares.
func (n *NAS) ServeSMB(ctx context.Context, d *lab.Domain, shares string) (*smb.Server, error) {
	r, err := n.EnableSMB(ctx, shares)
	if err != nil {
		return nil, err
	}
	if !r.Ok() {
		return nil, fmt.Errorf("latchkey samba enable: %s", r)
	}
	return smb.Serve(ctx, n.Box, strings.ToLower(n.Hostname()+"."+d.DNS))
}
