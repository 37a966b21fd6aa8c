// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/identity"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/oidc"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// testTime is how long the tenant may take for all of a test.
const testTime = 25 * time.Second

// SetSso checks new settings by asking the tenant, and makes them count; where
// anything is wrong, everything stays as it was.
func (d *Daemon) SetSso(ctx context.Context, req *latchkeyv1.SetSsoRequest) (*latchkeyv1.SetSsoResponse, error) {
	if d.sso == nil {
		return nil, fault.Wrap(fault.Unreachable, "open the store", d.broken)
	}
	d.settingSso.Lock()
	defer d.settingSso.Unlock()
	values, err := ssoValues(req)
	if err != nil {
		return nil, err
	}
	kept, err := d.keepCredential(req, values)
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			for _, path := range kept {
				_ = os.Remove(path)
			}
		}
	}()
	before := d.settings.now()
	trial, err := config.Trial(d.opt.ConfigFile, d.opt.ConfigFolder, values)
	if err != nil {
		return nil, err
	}
	o, err := d.tryTenant(ctx, &trial.Config)
	if err != nil {
		return nil, err
	}
	defer o.Credential.Wipe()
	resp := &latchkeyv1.SetSsoResponse{Settings: d.toSsoSettings(&trial.Config, o.Credential), Warnings: d.ssoWarnings(&trial.Config, o.Credential)}
	if req.GetDryRun() {
		return resp, nil
	}
	if err := d.settings.setAll(values); err != nil {
		return nil, err
	}
	done = true
	d.log.Info("sign-in with Entra ID has been set up", "tenant", trial.SSO.Tenant, "client", trial.SSO.Client)
	d.apply(d.life, before)
	d.settleSso(d.life, true)
	for _, old := range []string{before.SSO.SecretFile, before.SSO.CertificateFile} {
		if now := d.settings.now().SSO; d.isOurs(old) && old != now.SecretFile && old != now.CertificateFile {
			_ = os.Remove(old)
		}
	}
	if err := d.opt.Monitor.Call(ctx, &control.Reconfigured{}, nil); err != nil {
		d.log.Warn("the monitor has not heard of the new settings", "error", err)
	}
	return resp, nil
}

// ssoValues are the keys that a request sets. fault.Malformed names the field.
func ssoValues(req *latchkeyv1.SetSsoRequest) (map[string]string, error) {
	values := map[string]string{}
	for _, id := range []struct{ field, key, text string }{{"tenant", "sso.tenant", req.GetTenant()}, {"client", "sso.client", req.GetClient()}} {
		guid, err := ParseID(id.field, id.text)
		if err != nil {
			return nil, err
		}
		values[id.key] = guid.String()
	}
	for key, text := range map[string]*string{"sso.authority": req.Authority, "sso.redirect_uri": req.RedirectUri, "sso.response_mode": req.ResponseMode, "sso.ca_file": req.CaFile} {
		if text != nil {
			values[key] = strings.TrimSpace(*text)
		}
	}
	n := 0
	for _, given := range []bool{req.Secret != nil, req.Certificate != nil, req.GetNoCredential()} {
		if given {
			n++
		}
	}
	if n > 1 {
		return nil, fault.New(fault.Malformed, "secret, certificate, no credential: only one of them can be given")
	}
	if n > 0 {
		values["sso.secret_file"], values["sso.certificate_file"], values["sso.secret_expires"] = "", "", ""
	}
	if req.GetSecretExpireTime() != nil {
		if req.Secret == nil {
			return nil, fault.New(fault.Malformed, "secret expires: no secret is given")
		}
		values["sso.secret_expires"] = req.GetSecretExpireTime().AsTime().Format(time.DateOnly)
	}
	return values, nil
}

// ParseID reads a tenant or client id as it was pasted. fault.Malformed says
// which field is wrong, and why.
func ParseID(field, text string) (identity.GUID, error) {
	text = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n', '\u00a0', '\u200b', '\ufeff':
			return -1 // what a browser copies along
		}
		return r
	}, text)
	const remedy = "copy it from the app registration's Overview in the portal"
	switch n := len([]rune(text)); {
	case n == 0:
		return identity.GUID{}, fault.WithRemedy(fault.Errorf(fault.Malformed, "%s: is empty", field), remedy)
	case n != 36:
		return identity.GUID{}, fault.WithRemedy(fault.Errorf(fault.Malformed, "%s: has %d characters, want exactly 36", field, n), remedy)
	}
	guid, err := identity.ParseGUID(text)
	if err != nil || guid.IsZero() {
		return identity.GUID{}, fault.WithRemedy(fault.Errorf(fault.Malformed, "%s: %.80q is no id of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx with digits and a to f", field, text), remedy)
	}
	return guid, nil
}

// Names of the files that SetSso makes beside the store.
const (
	secretPrefix      = "sso-secret-"
	certificatePrefix = "sso-certificate-"
)

func (d *Daemon) isOurs(path string) bool {
	name := filepath.Base(path)
	return path != "" && filepath.Dir(path) == filepath.Dir(d.opt.StoreFile) && (strings.HasPrefix(name, secretPrefix) || strings.HasPrefix(name, certificatePrefix))
}

// keepCredential writes a new secret or certificate to a new file of ours, and
// notes its path among the values. The caller removes what it returns if the
// settings do not come to count.
func (d *Daemon) keepCredential(req *latchkeyv1.SetSsoRequest, values map[string]string) ([]string, error) {
	var text []byte
	var prefix, key string
	switch {
	case req.Secret != nil:
		text, prefix, key = bytes.TrimSpace(req.Secret), secretPrefix, "sso.secret_file"
		if _, err := oidc.Secret(secret.Own(text), time.Time{}); err != nil {
			return nil, err
		}
	case req.Certificate != nil:
		text, prefix, key = req.Certificate, certificatePrefix, "sso.certificate_file"
		c, err := oidc.Certificate(secret.Own(text))
		if err != nil {
			return nil, err
		}
		c.Wipe()
	default:
		return nil, nil
	}
	var tail [8]byte
	_, _ = rand.Read(tail[:])
	path := filepath.Join(filepath.Dir(d.opt.StoreFile), prefix+hex.EncodeToString(tail[:]))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		_ = os.Remove(path)
		return nil, fault.Wrap(fault.Internal, "keep the credential", err)
	}
	values[key] = path
	return []string{path}, nil
}

// tryTenant asks the tenant with settings that do not count yet.
func (d *Daemon) tryTenant(ctx context.Context, c *config.Config) (oidc.Config, error) {
	o, err := d.oidcConfig(c)
	if err != nil {
		return o, err
	}
	if err := d.ownTenant(c); err != nil {
		return o, err
	}
	client, err := oidc.New(o)
	if err != nil {
		return o, err
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	if err := client.Check(ctx); err != nil {
		return o, err
	}
	if err := client.Probe(ctx); errors.Is(err, oidc.ErrCredential) {
		return o, err
	}
	return o, nil
}

// ownTenant refuses a tenant that is not the domain's: nobody could be found.
func (d *Daemon) ownTenant(c *config.Config) error {
	of := c.Directory.Tenant
	if m := d.current(); of.IsZero() && m != nil {
		of = m.tenant
	}
	if of.IsZero() || of == c.SSO.Tenant {
		return nil
	}
	return fault.WithRemedy(fault.Errorf(fault.Conflict, "tenant: %s is not the tenant of this domain, %s", c.SSO.Tenant, of),
		"use the domain's tenant, or correct directory.tenant")
}

// TestSso asks the tenant with the settings that count, one thing after the other.
func (d *Daemon) TestSso(ctx context.Context) (*latchkeyv1.TestSsoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	c := &d.settings.now().Config
	resp := &latchkeyv1.TestSsoResponse{}
	check := func(what string, err error) bool {
		one := &latchkeyv1.SsoCheck{What: what, Passed: err == nil}
		if err != nil {
			one.Detail, one.Remedy = err.Error(), fault.Remedy(err)
		}
		resp.Checks = append(resp.Checks, one)
		return err == nil
	}
	o, err := d.oidcConfig(c)
	defer o.Credential.Wipe()
	resp.Settings, resp.Warnings = d.toSsoSettings(c, o.Credential), d.ssoWarnings(c, o.Credential)
	if !check("settings", err) {
		return resp, nil
	}
	check("tenant of the domain", d.ownTenant(c))
	client, err := oidc.New(o)
	if !check("addresses", err) {
		return resp, nil
	}
	if !check("discovery, issuer and signing keys", client.Check(ctx)) {
		return resp, nil
	}
	check("client id and credential", client.Probe(ctx))
	check("clocks", client.CheckClock())
	return resp, nil
}

// GetSso says how things stand.
func (d *Daemon) GetSso(context.Context) (*latchkeyv1.GetSsoResponse, error) {
	if d.sso == nil {
		return nil, fault.Wrap(fault.Unreachable, "open the store", d.broken)
	}
	c := d.settings.now()
	d.sso.mu.Lock()
	client, why := d.sso.client, d.sso.why
	d.sso.mu.Unlock()
	var credential *oidc.Credential
	resp := &latchkeyv1.GetSsoResponse{Sessions: uint32(d.sso.sessions.Count())}
	if client != nil {
		credential, why, resp.Issuer = client.Credential(), client.Health(), client.Issuer()
	}
	resp.Settings = d.toSsoSettings(&c.Config, credential)
	if resp.Ready = why == nil; why != nil {
		resp.Detail, resp.Remedy = why.Error(), fault.Remedy(why)
	}
	if client != nil {
		resp.Warnings = d.ssoWarnings(&c.Config, credential)
	}
	for _, a := range c.SSO.Apps {
		resp.Apps = append(resp.Apps, &latchkeyv1.SsoApp{Name: a.Name, Users: []string{a.User}, RedirectUris: a.Redirects})
	}
	return resp, nil
}

func (d *Daemon) toSsoSettings(c *config.Config, credential *oidc.Credential) *latchkeyv1.SsoSettings {
	s := &latchkeyv1.SsoSettings{Tenant: c.SSO.Tenant.String(), Client: c.SSO.Client.String(), Authority: c.SSO.Authority, RedirectUri: d.redirectURI(c),
		ResponseMode: c.SSO.ResponseMode, CaFile: c.SSO.CAFile}
	if credential != nil {
		if s.Credential = credential.Kind; !credential.Expires.IsZero() {
			s.CredentialExpireTime = timestamppb.New(credential.Expires)
		}
	}
	return s
}
