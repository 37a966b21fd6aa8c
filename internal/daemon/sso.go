// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/session"
)

// sso is the sign-in by a browser: the tenant as it is set up, and the sessions.
type sso struct {
	sessions *session.Sessions

	set  atomic.Pointer[session.Settings]
	fqdn atomic.Pointer[string] // of this machine in its domain

	mu     sync.Mutex
	client *oidc.Client // nil: not set up, or why says what is wrong
	why    error
	with   config.SSO // that client was made with
	uri    string
	cancel context.CancelFunc
}

// openSso reads the sessions; the store is open, and login is. False: they cannot
// be read, and there is no sign-in by a browser.
func (d *Daemon) openSso(ctx context.Context) bool {
	d.sso = &sso{}
	d.sso.set.Store(d.ssoSettings())
	var err error
	d.sso.sessions, err = session.New(ctx, session.Config{Store: d.store, Log: d.log, Audit: d.audit, Accept: d.login.AcceptFederated, Policy: d.login.Policy,
		Provider: d.provider, Settings: func() session.Settings { return *d.sso.set.Load() }, Local: d.hasLocal,
		Present: func(u *identity.User) {
			if d.publisher != nil {
				d.publisher.Present(u)
			}
		}})
	if err != nil {
		d.log.Error("nobody can sign in by a browser", "error", err)
		d.sso = nil
	}
	return err == nil
}

// runSso ends sessions of people who may not have one any longer, until ctx ends.
func (d *Daemon) runSso(ctx context.Context) {
	if d.sso != nil {
		d.sso.sessions.Run(ctx)
	}
}

// provider is where people sign in; nil while nothing is set up.
func (d *Daemon) provider() session.Provider {
	d.sso.mu.Lock()
	defer d.sso.mu.Unlock()
	if d.sso.client == nil {
		return nil
	}
	return d.sso.client
}

// hasLocal says whether an account of this machine still is what it was.
func (d *Daemon) hasLocal(name string, uid identity.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.local.Users[name]
	return ok && identity.UID(n) == uid
}

// ssoSettings is [sso] as package session has it.
func (d *Daemon) ssoSettings() *session.Settings {
	c := d.settings.now()
	d.mu.Lock()
	local := d.local
	d.mu.Unlock()
	set := &session.Settings{Idle: c.SSO.Idle, Absolute: c.SSO.Lifetime}
	if u, err := url.Parse(d.redirectURI(&c.Config)); err == nil && u.Host != "" {
		set.Base = u.Scheme + "://" + u.Host
	}
	for _, a := range c.SSO.Apps {
		app := session.App{Name: a.Name, Redirects: a.Redirects}
		app.UIDs, app.GIDs = idsOf(a.User, &local)
		set.Apps = append(set.Apps, app)
	}
	return set
}

// redirectURI is where the tenant sends browsers back to: as it is set, or by the
// machine's name in its domain. Empty while that is not known.
func (d *Daemon) redirectURI(c *config.Config) string {
	if c.SSO.RedirectURI != "" {
		return c.SSO.RedirectURI
	}
	host := ""
	if name := d.sso.fqdn.Load(); name != nil { // not under mu, which settleSso holds
		host = *name
	}
	if len(c.Web.Hostnames) > 0 {
		host = strings.ToLower(c.Web.Hostnames[0])
	} else if host != "" {
	} else if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
		host = strings.ToLower(name)
	}
	if host == "" {
		return ""
	}
	if _, port, err := net.SplitHostPort(c.Web.Listen); err == nil && port != "443" {
		host = net.JoinHostPort(host, port)
	}
	return "https://" + host + oidc.Callback
}

// oidcConfig is what a client of the tenant is made with. fault.NotFound: nothing
// is set up.
func (d *Daemon) oidcConfig(c *config.Config) (oidc.Config, error) {
	s := &c.SSO
	if s.Tenant.IsZero() && s.Client.IsZero() {
		return oidc.Config{}, fault.WithRemedy(fault.New(fault.NotFound, "sign-in with Entra ID is not set up"), "`latchkey sso set --tenant ID --client ID`")
	}
	o := oidc.Config{Authority: s.Authority, Tenant: s.Tenant, Client: s.Client, RedirectURI: d.redirectURI(c), ResponseMode: s.ResponseMode, CAFile: s.CAFile, Log: d.log}
	var err error
	switch {
	case o.RedirectURI == "":
		return o, fault.WithRemedy(fault.New(fault.Malformed, "redirect URI: the name of this machine is not known"), "join a domain, or set sso.redirect_uri")
	case s.CertificateFile != "" && s.SecretFile != "":
		return o, fault.WithRemedy(fault.New(fault.Malformed, "certificate: there is a client secret as well"), "set one of sso.secret_file and sso.certificate_file")
	case s.CertificateFile != "":
		o.Credential, err = oidc.ReadCertificate(s.CertificateFile)
	case s.SecretFile != "":
		o.Credential, err = oidc.ReadSecret(s.SecretFile, dayOf(s.SecretExpires))
	}
	return o, err
}

// dayOf reads a day that the configuration has checked; zero for none.
func dayOf(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// settleSso makes the settings of [sso], the machine's name and its accounts
// count. What has not changed goes on.
func (d *Daemon) settleSso(ctx context.Context, anew bool) {
	if d.sso == nil {
		return
	}
	s, fqdn := d.sso, ""
	if machine, err := d.store.Machine(ctx); err == nil {
		fqdn = machine.FQDN
		machine.Wipe()
	}
	s.fqdn.Store(&fqdn)
	s.set.Store(d.ssoSettings())
	c := d.settings.now()
	uri := d.redirectURI(&c.Config)
	s.mu.Lock()
	defer s.mu.Unlock()
	with := c.SSO
	with.Apps, with.Idle, with.Lifetime = nil, 0, 0
	if !anew && s.uri == uri && sameSso(&s.with, &with) {
		return
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.client, s.cancel, s.with, s.uri = nil, nil, with, uri
	o, err := d.oidcConfig(&c.Config)
	if err == nil {
		s.client, err = oidc.New(o)
	}
	if s.why = err; err != nil {
		if !fault.Is(err, fault.NotFound) {
			d.log.Warn("sign-in with Entra ID is not offered", "error", err, "remedy", fault.Remedy(err))
		}
		return
	}
	ctx, s.cancel = context.WithCancel(d.life)
	go s.client.Run(ctx)
	for _, w := range d.ssoWarnings(&c.Config, o.Credential) {
		d.log.Warn("sign-in with Entra ID", "warning", w)
	}
}

func sameSso(a, b *config.SSO) bool {
	return a.Tenant == b.Tenant && a.Client == b.Client && a.Authority == b.Authority && a.RedirectURI == b.RedirectURI && a.ResponseMode == b.ResponseMode &&
		a.SecretFile == b.SecretFile && a.SecretExpires == b.SecretExpires && a.CertificateFile == b.CertificateFile && a.CAFile == b.CAFile
}

// ssoWarnings are what an administrator should know, as sentences.
func (d *Daemon) ssoWarnings(c *config.Config, credential *oidc.Credential) []string {
	var all []string
	if u, err := url.Parse(d.redirectURI(c)); err == nil {
		host := u.Hostname()
		if _, err := netip.ParseAddr(host); err == nil {
			all = append(all, fmt.Sprintf("The redirect URI has the address %s in the place of a name: its certificate will not fit, and browsers bring no Kerberos ticket. Set sso.redirect_uri to the machine's name.", host))
		} else if !strings.Contains(host, ".") && host != "localhost" {
			all = append(all, fmt.Sprintf("The redirect URI's host %s is no full name: browsers elsewhere in the network may not find it.", host))
		}
	}
	if s := &c.SSO; credential == nil && s.SecretFile == "" && s.CertificateFile == "" && !s.Tenant.IsZero() {
		all = append(all, "There is neither a client secret nor a certificate: Entra ID takes that only for a redirect URI of the platform \"Mobile and desktop applications\", not for \"Web\".")
	}
	if at, soon := credential.Ends(time.Now()); soon {
		what := "ends"
		if !time.Now().Before(at) {
			what = "ended"
		}
		all = append(all, fmt.Sprintf("The %s of the app registration %s on %s: make a new one and `latchkey sso set` it.", credential.Kind, what, at.Format(time.DateOnly)))
	}
	return all
}

// fillSso tells of what keeps people from signing in with Entra ID, or will soon.
func (d *Daemon) fillSso(problem func(id, summary, remedy string, since time.Time)) {
	if d.sso == nil {
		return
	}
	d.sso.mu.Lock()
	client, why := d.sso.client, d.sso.why
	d.sso.mu.Unlock()
	if client == nil {
		if why != nil && !fault.Is(why, fault.NotFound) {
			problem("sso", "sign-in with Entra ID is not offered: "+why.Error(), fault.Remedy(why), time.Time{})
		}
		return
	}
	if err := client.Health(); err != nil && !errors.Is(err, oidc.ErrNotAsked) {
		problem("sso-unreachable", "sign-in with Entra ID is not offered: "+err.Error(), fault.Remedy(err), time.Time{})
	}
	if c := client.Credential(); c != nil {
		if at, soon := c.Ends(time.Now()); soon {
			problem("sso-credential", fmt.Sprintf("the %s of the app registration ends on %s", c.Kind, at.Format(time.DateOnly)),
				"make a new one in the portal and `latchkey sso set` it", time.Time{})
		}
	}
}
