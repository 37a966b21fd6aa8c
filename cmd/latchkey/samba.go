// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/smbconf"
	wb "github.com/latchkey-nas/latchkey/internal/winbind/wire"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) sambaCommand() *cobra.Command {
	cmd := family("samba", "Let the smbd of this machine ask latchkey, with no winbindd")
	cmd.Long = `Let the smbd of this machine ask latchkey who somebody is, by password (NTLM) and by
ticket (Kerberos). No winbindd runs then; smbd itself is the one of the distribution.
What the shares are and who may use them stays in smb.conf.`
	var smbConf string
	file := func(c *cobra.Command, help string) *cobra.Command {
		c.Flags().StringVar(&smbConf, "smb-conf", "", help)
		return c
	}
	enable := file(&cobra.Command{
		Use: "enable", Short: "Make smbd ask latchkey",
		Long: `Make smbd ask latchkey: write ` + smbconf.Fragment + `, add one include line to smb.conf
(shown as a diff; the old file is kept beside it), let testparm check the result,
give Samba the domain's SID, empty its cache of ids, and open winbind's pipes. What
fails is rolled back. A smbd that runs goes on as it was until it is restarted, which
is left to you: open sessions end with it.

Refused while winbindd runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sambaEnable(cmd.Context(), smbConf) },
	}, "the smb.conf that smbd reads (default "+smbconf.Main+")")
	disable := file(&cobra.Command{
		Use: "disable", Short: "Undo `samba enable`",
		Long: "Undo `samba enable`: take the include line out of smb.conf, remove\n" + smbconf.Fragment + ", close the pipes. Ids and shares stay.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sambaDisable(cmd.Context(), smbConf) },
	}, "the smb.conf that was changed (default: the one that was)")
	check := file(&cobra.Command{
		Use: "check", Short: "Look at every piece that smbd needs, with what to do",
		Long: `Look at every piece that smbd needs to ask latchkey: versions, processes, smb.conf,
the keys, Samba's own databases, the pipes, the secure channel. One line each, with
what to do. Nothing is changed.

Exit status: 0 nothing that matters, 1 something, 5 the daemon is not running.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sambaCheck(cmd.Context(), smbConf) },
	}, "the smb.conf that smbd reads (default: the one that was changed)")
	cmd.AddCommand(enable, disable, check)
	return cmd
}

// samba is one run of one of the commands: what they all look at first.
type samba struct {
	*app
	status   *latchkeyv1.Status
	cfg      *config.Loaded
	settings smbconf.Settings
	state    *smbconf.State
	smbConf  string
	version  string // of Samba
	protocol wb.Version
}

// needRoot refuses everybody but root.
func (a *app) needRoot(what string) error {
	if a.root {
		return nil
	}
	return &fault.Error{Kind: fault.Denied, Op: what + " is root's: it changes files in /etc/samba and Samba's own", Remedy: "run it as root, by sudo"}
}

// ask reads the daemon's status and the configuration, and makes the settings.
func (s *samba) ask(ctx context.Context) error {
	conn, err := s.admin(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	if s.status, err = conn.Admin.GetStatus(ctx, &latchkeyv1.GetStatusRequest{}); err != nil {
		return err
	}
	if s.status.GetDomain() == "" {
		return fault.WithRemedy(fault.New(fault.Conflict, "this machine is in no domain"), "latchkey join DOMAIN --user NAME")
	}
	if s.cfg, err = config.Load(s.configFile, s.folder); err != nil {
		return err
	}
	low, high, err := s.cfg.IDMap.Range()
	if err != nil {
		return err
	}
	s.settings = smbconf.Settings{Realm: s.status.GetRealm(), Workgroup: s.status.GetNetbiosName(),
		Netbios: strings.TrimSuffix(s.status.GetComputerAccount(), "$"), Low: low, High: high}
	return nil
}

// look reads what is in place by now; name is the administrator's word for
// smb.conf, or empty.
func (s *samba) look(name string) (err error) {
	if s.state, err = s.smb.State(smbconf.Main); err != nil {
		return err
	}
	switch {
	case name != "":
		s.smbConf = name
	case s.state.Made && s.state.Record.SMBConf != "":
		s.smbConf = s.state.Record.SMBConf
	default:
		s.smbConf = smbconf.Main
	}
	s.state, err = s.smb.State(s.smbConf)
	return err
}

// askRanges completes the settings with what smb.conf says for a winbindd. What
// else testparm has to say about the file as it is does not matter here.
func (s *samba) askRanges(ctx context.Context) {
	out, _ := s.tool(ctx, "testparm", "-s", "-v", s.smbConf)
	s.settings.Aside = smbconf.IdmapDomains(smbconf.Effective(out))
}

// askSamba asks smbd for its version, and says which protocol it speaks.
func (s *samba) askSamba(ctx context.Context) error {
	out, err := s.tool(ctx, "smbd", "-V")
	if err != nil {
		return fault.WithRemedy(err, "install Samba: apt install samba")
	}
	s.version = strings.TrimPrefix(strings.TrimSpace(out), "Version ")
	if s.cfg != nil && s.cfg.Samba.Interface != 0 {
		s.protocol = wb.Version(s.cfg.Samba.Interface)
		return nil
	}
	s.protocol, err = wb.ForSamba(out)
	return fault.WithRemedy(fault.Wrap(fault.Conflict, "find out which protocol smbd speaks", err), "latchkey knows Samba 4.10 to 4.24; update latchkey, or, where you know the protocol's\nversion to be an old one, `latchkey config set samba.interface 33`")
}

// set changes one setting of the daemon.
func (s *samba) set(ctx context.Context, key, value string) error {
	conn, err := s.admin(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	_, err = conn.Admin.SetConfig(ctx, &latchkeyv1.SetConfigRequest{Key: key, Value: value})
	return err
}

// done prints one step that went well.
func (a *app) done(id, title, detail string) error { return a.finding(id, title, nil, detail, false) }

// known prints one step that went well, with something to know.
func (a *app) known(id, title, detail, remedy string) error {
	return a.finding(id, title, &fault.Error{Op: detail, Remedy: remedy}, "", true)
}

// net runs Samba's own tool with the smb.conf.
func (s *samba) net(ctx context.Context, args ...string) (string, error) {
	return s.tool(ctx, "net", append([]string{"--configfile=" + s.smbConf}, args...)...)
}

// sid asks Samba's secrets.tdb for the SID of a domain or a machine; "" where
// it has none. Without a name it is this machine's, which is made if need be.
func (s *samba) sid(ctx context.Context, name ...string) (string, error) {
	out, err := s.net(ctx, append([]string{"getlocalsid"}, name...)...)
	if err != nil && len(name) > 0 {
		return "", nil // that is how it says so
	}
	_, sid, ok := strings.Cut(out, " is: ")
	if err == nil && !ok {
		err = fault.Errorf(fault.Internal, "net getlocalsid says %.200q", out)
	}
	return strings.TrimSpace(sid), err
}

// tellSmbd says what becomes of a smbd that runs.
func (s *samba) tellSmbd(title string) error {
	since, n, err := s.running("smbd")
	switch {
	case err != nil:
		return s.known("smbd", title, brief(err), "restart smbd: systemctl restart smbd")
	case n == 0:
		return s.known("smbd", title, "smbd does not run", "systemctl enable --now smbd")
	}
	return s.known("smbd", title, fmt.Sprintf("runs since %s, as it was: it reads this at its next start", since.Local().Format("2006-01-02 15:04")),
		"when no file is open that matters: systemctl restart smbd")
}

// noWinbindd refuses while a winbindd runs.
func (s *samba) noWinbindd() error {
	_, n, err := s.running("winbindd")
	if err == nil && n > 0 {
		return &fault.Error{Kind: fault.Conflict, Op: "winbindd runs: it and latchkey cannot both own its pipes",
			Remedy: "systemctl disable --now winbind && systemctl mask winbind, then try again.\nTo keep winbindd, do not enable this: see \"Beside winbindd\" in docs/samba.md"}
	}
	return err
}

// testparm lets Samba read a file, and compares what holds then with what is
// needed.
func (s *samba) testparm(ctx context.Context, file string) error {
	out, err := s.tool(ctx, "testparm", "-s", "-v", file)
	if err != nil {
		return fault.WithRemedy(fault.Wrap(fault.Conflict, "testparm refuses the new smb.conf", err), "mend smb.conf, then try again: testparm -s "+s.smbConf)
	}
	if all := smbconf.Overruled(smbconf.Effective(out), s.settings); len(all) > 0 {
		return fault.WithRemedy(fault.Errorf(fault.Conflict, "something in smb.conf has the last word:\n%s", strings.Join(all, "\n")),
			"take those lines out of "+s.smbConf+" or of what it includes, then try again")
	}
	return nil
}

// ours reports whether a path belongs to the user that root's half of the
// daemon runs as; Samba's client believes nobody else.
func (a *app) ours(info os.FileInfo) bool { return ownerOf(info) == a.daemonUID }

// pipeWait is how long the daemon may take to open its pipes.
const pipeWait = 10 * time.Second
