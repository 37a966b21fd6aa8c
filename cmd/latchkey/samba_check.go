// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/kerberos"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/smbconf"
	wb "github.com/latchkey-nas/latchkey/internal/winbind/wire"
)

// look is one thing that is looked at.
type look struct {
	id, title string
	warn      bool // what is wrong need not keep anybody out
	at        func(ctx context.Context) (detail string, err error)
}

const enableAgain = "latchkey samba enable"

func (a *app) sambaCheck(ctx context.Context, smbConf string) error {
	if err := a.needRoot("samba check"); err != nil {
		return err
	}
	s := &samba{app: a}
	switch err := s.ask(ctx); {
	case client.NotReachable(err):
		return err
	case err != nil:
		if out := a.finding("member", "Membership", err, "", false); out != nil {
			return out
		}
		return quiet(exitFailed)
	}
	if err := s.look(smbConf); err != nil {
		return err
	}
	bad := false
	for _, l := range s.looks() {
		ill, err := a.lookAt(ctx, l)
		if err != nil {
			return err
		}
		bad = bad || ill
	}
	return a.verdict(bad)
}

// looks are the pieces that `samba enable` puts together.
func (s *samba) looks() []look {
	return []look{
		{"samba", "Samba", false, s.lookVersion},
		{"winbindd", "No winbindd", false, s.lookWinbindd},
		{"winbindd-boot", "No winbindd at the next boot", true, s.lookBoot},
		{"nsswitch", "nsswitch.conf names latchkey", false, func(context.Context) (string, error) { return "", checkSwitch(s.nsswitch) }},
		{"smb-conf", s.smbConf, false, s.lookConf},
		{"testparm", "What holds in smb.conf", false, s.lookValues},
		{"keytab", smbconf.Keytab, false, s.lookKeytab},
		{"sids", "SIDs in Samba's secrets.tdb", false, s.lookSIDs},
		{"pipes", "winbind's pipes", false, s.lookPipes},
		{"channel", "Secure channel, for passwords (NTLM)", false, s.lookChannel},
		{"cache", "Samba's cache of ids", false, s.lookCache},
		{"guest", "Unknown names", true, s.lookGuests},
		{"names", "Names in smb.conf", true, s.lookNames},
		{"smbd", "smbd", true, s.lookSmbd},
	}
}

func (s *samba) lookVersion(ctx context.Context) (string, error) {
	if err := s.askSamba(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, winbind interface %d", s.version, s.protocol), nil
}

func (s *samba) lookWinbindd(context.Context) (string, error) {
	return "none runs", s.noWinbindd()
}

// lookBoot finds a winbindd that systemd starts at boot: it would take the pipes
// over.
func (s *samba) lookBoot(ctx context.Context) (string, error) {
	if out, err := s.tool(ctx, "systemctl", "is-enabled", "winbind.service"); err == nil && strings.TrimSpace(out) == "enabled" {
		return "", fault.WithRemedy(fault.New(fault.Conflict, "winbind.service is enabled"), "systemctl mask winbind")
	}
	return "", nil
}

func (s *samba) lookConf(ctx context.Context) (string, error) {
	switch {
	case s.state.Text == nil:
		return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "there is no %s: latchkey is not enabled", smbconf.Fragment), enableAgain)
	case !s.state.Made:
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s was not made by latchkey", smbconf.Fragment), "move it away, then "+enableAgain)
	case s.state.Changed:
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s was changed by hand", smbconf.Fragment), "move your lines to "+s.smbConf+", then "+enableAgain)
	case !s.state.Included:
		return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "%s does not include %s", s.smbConf, smbconf.Fragment), enableAgain)
	}
	s.askRanges(ctx)
	want, err := smbconf.Render(s.settings, s.state.Record)
	if err != nil {
		return "", err
	}
	if string(want) != string(s.state.Text) {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s is of another membership or of other ranges of ids", smbconf.Fragment), enableAgain)
	}
	return "includes " + smbconf.Fragment, nil
}

func (s *samba) lookValues(ctx context.Context) (string, error) {
	if !s.state.Included {
		return "", fault.WithRemedy(fault.New(fault.NotFound, "nothing of latchkey's"), enableAgain)
	}
	if err := s.testparm(ctx, s.smbConf); err != nil {
		return "", err
	}
	return "testparm is content, and nothing overrules the fragment", nil
}

// lookKeytab looks whether smbd can open tickets for this machine.
func (s *samba) lookKeytab(context.Context) (string, error) {
	again := "the daemon writes it at its next rotation, or at once: latchkey machine rotate"
	text, err := os.ReadFile(s.krb5.Root + smbconf.Keytab)
	if err != nil {
		return "", fault.WithRemedy(fault.Wrap(fault.NotFound, "read root's copy of the host keys", err), again)
	}
	defer secret.Wipe(text)
	keys, err := kerberos.ParseKeytab(text)
	if err != nil {
		return "", fault.WithRemedy(err, again)
	}
	defer keys.Wipe()
	realm, kvno := s.status.GetRealm(), uint32(s.status.GetKeyVersion())
	have := []uint32{}
	for _, e := range keys.Entries {
		if e.Principal.Realm == realm && len(e.Principal.Name) > 0 && (strings.EqualFold(e.Principal.Name[0], s.status.GetComputerAccount()) || strings.EqualFold(e.Principal.Name[0], "host")) &&
			!slices.Contains(have, e.KVNO) {
			have = append(have, e.KVNO)
		}
	}
	if !slices.Contains(have, kvno) {
		return "", fault.WithRemedy(fault.Errorf(fault.NotFound, "no key of version %d, which the domain uses, for %s", kvno, s.status.GetComputerAccount()), again)
	}
	return fmt.Sprintf("has the key of version %d", kvno), nil
}

func (s *samba) lookSIDs(ctx context.Context) (string, error) {
	now, err := s.sid(ctx, s.settings.Workgroup)
	if err != nil {
		return "", err
	}
	if want := s.status.GetDomainSid(); now != want {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "Samba has %s for %s, the domain is %s", dash(now), s.settings.Workgroup, want), enableAgain)
	}
	return s.settings.Workgroup + " is " + now, nil
}

// lookPipes asks both pipes, as Samba's client finds them.
func (s *samba) lookPipes(ctx context.Context) (string, error) {
	again := "see the daemon's log: journalctl -u latchkeyd; then " + enableAgain
	if !s.cfg.Samba.Pipes {
		return "", fault.WithRemedy(fault.New(fault.NotFound, "they are switched off (samba.pipes)"), enableAgain)
	}
	if err := s.askPipe(ctx, s.cfg.Samba.Pipe); err != nil {
		if fault.Remedy(err) == "" {
			err = fault.WithRemedy(err, again)
		}
		return "", err
	}
	p, err := s.openPipe(ctx, s.cfg.Samba.Pipe)
	if err != nil {
		return "", err
	}
	defer p.Close()
	resp, err := p.ask(wb.PrivilegedPipeDir, nil)
	if err != nil {
		return "", err
	}
	dir := strings.TrimRight(string(resp.Extra()), "\x00")
	if !resp.Succeeded() || dir+"/pipe" != s.cfg.Samba.PrivilegedPipe {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "the privileged pipe is told to be in %q, and is %s", dir, s.cfg.Samba.PrivilegedPipe), again)
	}
	info, err := os.Lstat(dir)
	if err != nil || info.Mode().Perm()&0o007 != 0 {
		return "", fault.WithRemedy(errors.Join(fault.Errorf(fault.Conflict, "everybody may enter %s", dir), err), "chmod 0750 "+dir)
	}
	priv, err := s.openPipe(ctx, s.cfg.Samba.PrivilegedPipe)
	if err != nil {
		return "", fault.WithRemedy(err, again)
	}
	defer priv.Close()
	if resp, err := priv.ask(wb.Ping, nil); err != nil || !resp.Succeeded() {
		return "", fault.WithRemedy(errors.Join(fault.New(fault.Unreachable, "the privileged pipe does not answer"), err), again)
	}
	return "both answer", nil
}

// lookChannel asks whether the domain controllers take this machine's password.
func (s *samba) lookChannel(ctx context.Context) (string, error) {
	p, err := s.openPipe(ctx, s.cfg.Samba.PrivilegedPipe)
	if err != nil {
		return "", fault.WithRemedy(err, "see the line above")
	}
	defer p.Close()
	resp, err := p.ask(wb.CheckMachineAccount, func(r *wb.Request) { r.SetDomain(s.settings.Workgroup) })
	if err != nil {
		return "", err
	}
	if resp.Succeeded() {
		return "a domain controller takes the machine's password", nil
	}
	why := "no domain controller takes the machine's password"
	if a, err := resp.Auth(); err == nil && a.StatusName != "" {
		why += ": " + a.StatusName
	}
	return "", fault.WithRemedy(fault.New(fault.Unreachable, why), "latchkey doctor says whether domain controllers answer at all; tickets work without this")
}

// maxStale is how many entries of the cache are compared.
const maxStale = 200

// lookCache compares what Samba has cached of our domain with what the daemon
// says: entries of an old winbindd win for a week.
func (s *samba) lookCache(ctx context.Context) (string, error) {
	out, err := s.net(ctx, "cache", "list")
	if err != nil {
		return "", err
	}
	cached := cachedIDs(out, s.status.GetDomainSid()+"-")
	if len(cached) == 0 {
		return "knows nothing of the domain that could be old", nil
	}
	cached = cached[:min(len(cached), maxStale)]
	p, err := s.openPipe(ctx, s.cfg.Samba.PrivilegedPipe)
	if err != nil {
		return "", fault.WithRemedy(err, "see the line above")
	}
	defer p.Close()
	var asked strings.Builder
	for _, c := range cached {
		asked.WriteString(c.sid + "\n")
	}
	resp, err := p.ask(wb.SIDsToXIDs, func(r *wb.Request) { r.SetExtra(append([]byte(asked.String()), 0)) })
	if err != nil {
		return "", err
	}
	answers := strings.Split(strings.TrimRight(string(resp.Extra()), "\x00"), "\n")
	wrong, first := 0, ""
	for i, c := range cached {
		if i < len(answers) && len(answers[i]) > 1 && answers[i][1:] != c.id {
			if wrong++; first == "" {
				first = fmt.Sprintf("%s is %s there and %s here", c.sid, dash(c.id), answers[i][1:])
			}
		}
	}
	if wrong > 0 {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "%s of an old winbindd: %s", count(int64(wrong), "entry", "entries"), first), "net cache flush")
	}
	return count(int64(len(cached)), "entry agrees", "entries agree"), nil
}

type cachedID struct{ sid, id string }

// cachedIDs reads what `net cache list` prints of SIDs with a prefix.
func cachedIDs(list, prefix string) (all []cachedID) {
	for line := range strings.Lines(list) {
		_, rest, ok := strings.Cut(line, "IDMAP/SID2XID/"+prefix)
		if !ok {
			continue
		}
		rid := strings.Fields(rest + " ")
		_, value, ok := strings.Cut(line, "Value:")
		if !ok || len(rid) == 0 {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimSpace(value), ":")
		all = append(all, cachedID{prefix + rid[0], strings.TrimSpace(id)})
	}
	return all
}

// lookGuests warns of Debian's default, by which a misspelt name is a guest.
func (s *samba) lookGuests(ctx context.Context) (string, error) {
	out, err := s.tool(ctx, "testparm", "-s", "-v", s.smbConf)
	if err != nil {
		return "", err
	}
	if v := smbconf.Effective(out)["map to guest"]; !strings.EqualFold(v, "never") {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "map to guest = %s: who misspells a name comes in as guest, and sees empty or no shares", v),
			"unless you want guests: map to guest = never in "+s.smbConf)
	}
	return "are refused", nil
}

// lookNames warns of a bare name that somebody of the domain and somebody of this
// machine have: Samba takes it for the domain's, and "admin users = root" makes
// root of whomever the domain calls so.
func (s *samba) lookNames(ctx context.Context) (string, error) {
	out, err := s.tool(ctx, "testparm", "-s", "-v", s.smbConf)
	if err != nil {
		return "", err
	}
	own, err := accounts.Source{Dir: s.smb.Root + "/etc"}.Read()
	if err != nil {
		return "", err
	}
	local := own.Names()
	p, err := s.openPipe(ctx, s.cfg.Samba.Pipe)
	if err != nil {
		return "", fault.WithRemedy(err, "see the line about winbind's pipes")
	}
	defer p.Close()
	var both []string
	for _, name := range smbconf.BareNames(out) {
		if _, ok := local[identity.Fold(name)]; !ok {
			continue
		}
		resp, err := p.ask(wb.LookupName, func(r *wb.Request) { r.SetLookupName(s.settings.Workgroup, name) })
		if err != nil {
			return "", err
		}
		if resp.Succeeded() {
			both = append(both, name)
		}
	}
	if len(both) > 0 {
		return "", fault.WithRemedy(fault.Errorf(fault.Conflict, "this machine and the domain both have %s; Samba takes a bare name for the domain's", strings.Join(both, ", ")),
			fmt.Sprintf(`for this machine's write "Unix User\NAME", "Unix Group\NAME" or, where smbpasswd knows it, %s\NAME; for the domain's, %s\NAME`, s.settings.Netbios, s.settings.Workgroup))
	}
	return "none means two", nil
}

func (s *samba) lookSmbd(context.Context) (string, error) {
	since, n, err := s.running("smbd")
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", fault.WithRemedy(fault.New(fault.NotFound, "does not run"), "systemctl enable --now smbd")
	}
	info, err := os.Stat(s.smb.Root + smbconf.Fragment)
	if err == nil && since.Before(info.ModTime().Truncate(1e9)) {
		return "", fault.WithRemedy(fault.New(fault.Conflict, "runs since before it was enabled, and asks as it did then"), "systemctl restart smbd")
	}
	return "runs since " + since.Local().Format("2006-01-02 15:04"), nil
}
