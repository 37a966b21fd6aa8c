// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/login"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/monitor/pamcheck"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/secret"
	"github.com/latchkey-nas/latchkey/internal/session"
	"github.com/latchkey-nas/latchkey/internal/web"
)

// openWeb prepares the pages for browsers. Without a store they say why nobody
// can sign in.
func (d *Daemon) openWeb() *web.Server {
	c := web.Config{Log: d.log, Settings: d.webSettings, Folder: filepath.Dir(d.opt.StoreFile)}
	if d.sso != nil {
		c.Sessions = d.sso.sessions
		c.Passwords = formPasswords{d}
		c.Negotiator = browserTickets{d}
	}
	return web.New(c)
}

// fillWeb tells of a certificate that browsers do not get to see.
func (d *Daemon) fillWeb(problem func(id, summary, remedy string, since time.Time)) {
	d.fillDelegation(problem)
	listen := d.settings.now().Web.Listen
	if d.web == nil || listen == "" {
		return
	}
	if d.webs.none() {
		problem("web-listen", "nobody can reach the web: "+listen+" could not be opened when latchkeyd started; another program has it, most likely",
			"`ss -ltnp` shows which; stop it and restart latchkeyd, or `latchkey config set web.listen :PORT` with a port that is free, or '' for no web", time.Time{})
	}
	if err := d.web.CertificateError(); err != nil {
		problem("web-certificate", "browsers see another certificate than [web] names: "+err.Error(), fault.Remedy(err), time.Time{})
	}
}

// webSettings is [web] as package web has it, with the machine's name where none
// is set.
func (d *Daemon) webSettings() web.Settings {
	c := d.settings.now()
	set := web.Settings{Hostnames: c.Web.Hostnames, Certificate: c.Web.Certificate, Key: c.Web.Key, Negotiate: c.Web.Negotiate, NegotiateGroups: c.Web.NegotiateGroups,
		Callbacks: []string{oidc.Callback, oidc.QNAPCallback}}
	for _, text := range c.Web.NegotiateFrom {
		if p, err := config.ParseNetwork(text); err == nil { // it was checked
			set.NegotiateFrom = append(set.NegotiateFrom, p)
		}
	}
	if d.sso == nil {
		return set
	}
	if u, err := url.Parse(d.redirectURI(&c.Config)); err == nil && u.Host != "" {
		if !slices.Contains(set.Callbacks, u.Path) {
			set.Callbacks = append(set.Callbacks, u.Path)
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && len(set.Hostnames) == 0 {
			set.Hostnames = []string{u.Hostname()}
		}
	}
	if len(set.Hostnames) == 0 {
		if m := d.current(); m != nil {
			set.Hostnames = []string{m.fqdn}
		}
	}
	return set
}

// formPasswords tries what was typed into the form with the PAM stack of this
// machine, in a process that the monitor starts.
type formPasswords struct{ d *Daemon }

// Check returns whose password it is.
func (f formPasswords) Check(ctx context.Context, name string, password secret.Bytes, remote string) (*web.Proven, error) {
	ours, theirs, err := pamcheck.Pair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	err = f.d.opt.Monitor.Call(ctx, &control.CheckPassword{}, theirs)
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, err
	}
	end := f.d.forms.begin(name, remote)
	reply, err := pamcheck.Ask(ctx, ours, pamcheck.Request{Name: name, RemoteHost: remote, Password: password})
	told := end()
	if err != nil {
		return nil, err
	}
	if err := reply.Err(); err != nil {
		if told != nil && !reply.Account {
			err = told
		}
		if fault.Is(err, fault.MustChange) {
			if url, here, placed := f.d.login.PasswordPlace(ctx, name); placed == nil && !here {
				err = &web.ChangeAt{Err: err, URL: url}
			}
		}
		return nil, err
	}
	return f.d.known(ctx, reply.User)
}

// known says whose account a name is that the PAM stack let in: one of this
// machine, or a row. A name of the machine is never the domain's.
func (d *Daemon) known(ctx context.Context, name string) (*web.Proven, error) {
	d.mu.Lock()
	uid, local := d.local.Users[name]
	groups := d.local.Groups
	d.mu.Unlock()
	if local {
		who := &session.Local{Name: name, UID: identity.UID(uid), Admin: uid == 0}
		// os/user reads /etc/passwd and /etc/group by itself in this program,
		// which is built without cgo: no name of the domain gets in.
		if u, err := user.Lookup(name); err == nil {
			if ids, err := u.GroupIds(); err == nil {
				for _, id := range ids {
					n, err := strconv.ParseUint(id, 10, 32)
					if err != nil {
						continue
					}
					for group, gid := range groups {
						if uint64(gid) == n {
							who.GIDs, who.Groups = append(who.GIDs, identity.GID(gid)), append(who.Groups, group)
							who.Admin = who.Admin || group == config.AdminGroup
						}
					}
				}
			}
		}
		return &web.Proven{Who: session.Who{Local: who}, Shown: name}, nil
	}
	e, err := d.resolver.User(ctx, identity.Key{Kind: identity.ByName, Name: name})
	if err != nil {
		return nil, fault.Wrap(fault.Unknown, "find the person whose password was right", err)
	}
	return &web.Proven{Who: session.Who{Row: e.User.Row}, Shown: e.User.Name}, nil
}

// browserTickets accepts what browsers send for Negotiate.
type browserTickets struct{ d *Daemon }

// Accept decides about one token.
func (b browserTickets) Accept(ctx context.Context, token []byte, remote string) (*web.Ticket, error) {
	in, err := b.d.login.AcceptNegotiate(ctx, login.Request{Service: session.Service, RemoteHost: remote, Door: "web", Caller: "browser"}, token)
	defer in.Wipe()
	t := &web.Ticket{Reply: in.Reply, SPN: in.SPN, KVNO: in.KVNO, Skew: in.Skew, Why: whyTicket(err)}
	switch in.Mechanism {
	case "kerberos":
		t.Mechanism = "Kerberos"
	case "ntlm":
		t.Mechanism, t.Why = "NTLM", "ntlm"
	default:
		t.Mechanism = in.Mechanism
	}
	switch in.EType {
	case 0:
	case 17:
		t.EType = "AES-128 (17)"
	case 18:
		t.EType = "AES-256 (18)"
	default:
		t.EType = strconv.Itoa(int(in.EType))
	}
	if err != nil && b.d.current() == nil {
		t.Why = "not-joined"
	}
	if r := in.Result; r != nil {
		t.Proven = web.Proven{Who: session.Who{Row: r.User.Row}, Shown: r.User.Name, Audit: r.Session}
		t.UID = uint32(r.User.UID)
		for _, g := range r.Groups {
			t.Groups = append(t.Groups, g.Name, g.Account, g.SID.String())
		}
	}
	return t, err
}

// whyTicket is the reason as the test page has it.
func whyTicket(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, login.ErrClock):
		return "clock"
	case errors.Is(err, login.ErrReplay):
		return "replay"
	case errors.Is(err, login.ErrKey):
		return "key"
	case errors.Is(err, login.ErrNoTicket):
		return "no-ticket"
	}
	switch fault.KindOf(err) {
	case fault.NotFound:
		return "person"
	case fault.Denied, fault.Disabled, fault.Expired, fault.Locked:
		return "denied"
	case fault.Unreachable:
		return "away"
	}
	return "other"
}
