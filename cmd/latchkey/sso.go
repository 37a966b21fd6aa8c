// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	"github.com/latchkey-nas/latchkey/internal/secret"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// ssoTimeout bounds what the tenant is asked, a slow one included.
const ssoTimeout = 40 * time.Second

func (a *app) ssoCommand() *cobra.Command {
	cmd := family("sso", "Set up the sign-in with Microsoft Entra ID by a browser")
	cmd.Long = `Set up the sign-in with Microsoft Entra ID by a browser.

The tenant needs one app registration: accounts of this directory only, platform
"Web", the redirect URI that this command prints, and a client secret or certificate.
Leave both boxes of "Implicit grant and hybrid flows" empty: tokens that come through
a browser are refused. No API permission has to be granted.`
	cmd.AddCommand(a.browserPolicyCommand())
	cmd.AddCommand(a.ssoSetCommand(),
		&cobra.Command{Use: "test", Short: "Ask the tenant with the settings that count", Args: cobra.NoArgs,
			Long: `Ask the tenant with the settings that count, one thing after the other: settings,
discovery, issuer, signing keys, whether it knows the app and takes its secret or
certificate, and whether its clock is ours. Nobody is signed in. Exit status 1 where a check fails.`,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.withAdmin(cmd.Context(), ssoTimeout, a.ssoTest) }},
		&cobra.Command{Use: "status", Short: "Show the settings, and whether the sign-in is offered", Args: cobra.NoArgs,
			Long: "Show the settings, and whether the sign-in is offered: exit status 0 where it is,\n1 where not. Nobody is asked.",
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.withAdmin(cmd.Context(), adminTimeout, a.ssoStatus)
			}})
	return cmd
}

// ssoSet is what `sso set` was told.
type ssoSet struct {
	req                                  latchkeyv1.SetSsoRequest
	authority, redirect, mode, ca, until string
	certificate                          string
	secret, secretStdin                  bool
}

func (a *app) ssoSetCommand() *cobra.Command {
	s := &ssoSet{}
	cmd := &cobra.Command{
		Use: "set --tenant ID --client ID", Short: "Check new settings with the tenant, and make them count", Args: cobra.NoArgs,
		Long: `Check new settings with the tenant, and make them count. Where anything is wrong,
everything stays as it was, and the field that is wrong is named.

The client secret is read from the first line of standard input or asked for, never
taken from the command line; --certificate names a PEM file with a certificate and
its RSA key. What is not given stays as it is.`,
		Example: "  latchkey sso set --tenant 8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b --client 1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90 --secret-stdin < secret",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.ssoSet(cmd, s) },
	}
	f := cmd.Flags()
	f.StringVar(&s.req.Tenant, "tenant", "", `"Directory (tenant) ID" of the app registration`)
	f.StringVar(&s.req.Client, "client", "", `"Application (client) ID" of the app registration`)
	f.BoolVar(&s.secret, "secret", false, "ask for a client secret at the terminal")
	f.BoolVar(&s.secretStdin, "secret-stdin", false, "read the client secret from the first line of standard input")
	f.StringVar(&s.until, "expires", "", "the day on which the secret ends, as 2027-06-30")
	f.StringVar(&s.certificate, "certificate", "", "prove the app by this certificate and key, a PEM file, in the place of a secret")
	f.BoolVar(&s.req.NoCredential, "no-credential", false, `neither secret nor certificate: a public client ("Mobile and desktop applications")`)
	f.StringVar(&s.redirect, "redirect-uri", "", "the redirect URI, where it is not this machine's name and port")
	f.StringVar(&s.authority, "authority", "", "the issuer of another cloud, with {tenant} in the place of the tenant's id")
	f.StringVar(&s.mode, "response-mode", "", "form_post or query")
	f.StringVar(&s.ca, "ca-file", "", "a PEM file of certificates to trust for the tenant besides the machine's own; the user latchkey must be able to read it")
	f.BoolVar(&s.req.DryRun, "dry-run", false, "only check")
	return cmd
}

func (a *app) ssoSet(cmd *cobra.Command, s *ssoSet) error {
	for flag, to := range map[string]struct {
		value *string
		field **string
	}{"redirect-uri": {&s.redirect, &s.req.RedirectUri}, "authority": {&s.authority, &s.req.Authority}, "response-mode": {&s.mode, &s.req.ResponseMode}, "ca-file": {&s.ca, &s.req.CaFile}} {
		if cmd.Flags().Changed(flag) {
			*to.field = to.value
		}
	}
	if s.ca != "" { // the daemon reads it, from another directory
		path, err := filepath.Abs(s.ca)
		if err != nil {
			return fault.Wrap(fault.Malformed, "--ca-file", err)
		}
		s.ca = path
	}
	if s.until != "" {
		day, err := time.Parse(time.DateOnly, s.until)
		if err != nil {
			return fault.Errorf(fault.Malformed, "--expires is %q, which is no day; write it as 2027-06-30", s.until)
		}
		s.req.SecretExpireTime = timestamppb.New(day)
	}
	if s.certificate != "" {
		text, err := os.ReadFile(s.certificate)
		if err != nil {
			return fault.Wrap(fault.Malformed, "read the certificate", err)
		}
		defer secret.Wipe(text)
		s.req.Certificate = text
	}
	conn, err := a.admin(cmd.Context()) // before the secret is asked for
	if err != nil {
		return err
	}
	defer conn.Close()
	if s.secret && !s.secretStdin && !a.people {
		return fault.WithRemedy(fault.New(fault.Malformed, "there is no terminal to ask for the secret at"), "give it on standard input with --secret-stdin")
	}
	if s.secret || s.secretStdin {
		text, err := a.readPassword(cmd.Context(), s.secretStdin, "Client secret: ")
		if err != nil {
			return err
		}
		defer text.Wipe()
		s.req.Secret = bytes.TrimSpace(text.Reveal())
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), ssoTimeout)
	defer cancel()
	resp, err := conn.SsoAdmin.SetSso(ctx, &s.req)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(jsonOf(resp))
	}
	verb := "Set. "
	if s.req.DryRun {
		verb = "Nothing is wrong, and nothing was changed. "
	}
	fmt.Fprintf(a.out, "%sThe redirect URI to register is\n\n  %s\n", verb, tame(resp.GetSettings().GetRedirectUri()))
	a.ssoWarnings(resp.GetWarnings())
	return nil
}

func (a *app) ssoWarnings(all []string) {
	for _, w := range all {
		fmt.Fprintf(a.out, "\nNote: %s\n", tame(w))
	}
}

func (a *app) ssoTest(ctx context.Context, conn *client.Conn) error {
	resp, err := conn.SsoAdmin.TestSso(ctx, &latchkeyv1.TestSsoRequest{})
	if err != nil {
		return err
	}
	failed := false
	for _, c := range resp.GetChecks() {
		failed = failed || !c.GetPassed()
	}
	if a.json {
		err = a.printJSON(jsonOf(resp))
	} else {
		for _, c := range resp.GetChecks() {
			mark := a.sign("✓", "ok  ")
			if !c.GetPassed() {
				mark = a.sign("✗", "FAIL")
			}
			fmt.Fprintf(a.out, "%s %s\n", mark, tame(c.GetWhat()))
			if !c.GetPassed() {
				fmt.Fprintf(a.out, "    %s\n", tame(c.GetDetail()))
			}
			if c.GetRemedy() != "" {
				fmt.Fprintf(a.out, "    %s\n", tame(c.GetRemedy()))
			}
		}
		if uri := resp.GetSettings().GetRedirectUri(); uri != "" {
			fmt.Fprintf(a.out, "\nThe redirect URI to register is\n\n  %s\n", tame(uri))
		}
		a.ssoWarnings(resp.GetWarnings())
	}
	if err == nil && failed {
		return quiet(exitFailed)
	}
	return err
}

func (a *app) ssoStatus(ctx context.Context, conn *client.Conn) error {
	resp, err := conn.SsoAdmin.GetSso(ctx, &latchkeyv1.GetSsoRequest{})
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(jsonOf(resp))
	} else {
		err = a.ssoShow(resp)
	}
	if err == nil && !resp.GetReady() {
		return quiet(exitFailed)
	}
	return err
}

func (a *app) ssoShow(resp *latchkeyv1.GetSsoResponse) error {
	r, set := a.record(), resp.GetSettings()
	if resp.GetReady() {
		r.row("sign-in", "offered: the tenant answered when it was asked last")
	} else {
		r.row("sign-in", "not offered: "+resp.GetDetail())
		r.row("what to do", resp.GetRemedy())
	}
	r.row("tenant", set.GetTenant())
	r.row("client", set.GetClient())
	r.row("issuer", resp.GetIssuer())
	r.row("redirect URI", set.GetRedirectUri())
	r.row("answer by", set.GetResponseMode())
	credential := set.GetCredential()
	switch at := set.GetCredentialExpireTime(); {
	case credential == "" && set.GetTenant() != "":
		credential = "none: a public client"
	case at != nil:
		credential += ", ends " + at.AsTime().Format(time.DateOnly)
	case credential != "":
		credential += ", its end is not known (`latchkey sso set --expires`)"
	}
	r.row("proof", credential)
	r.row("CA file", set.GetCaFile())
	r.row("sessions", fmt.Sprint(resp.GetSessions()))
	for _, app := range resp.GetApps() {
		r.row("app "+app.GetName(), strings.Join(app.GetUsers(), " ")+", "+strings.Join(app.GetRedirectUris(), " "))
	}
	err := r.flush()
	a.ssoWarnings(resp.GetWarnings())
	return err
}
