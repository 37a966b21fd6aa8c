// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/net/publicsuffix"

	"github.com/latchkey-nas/latchkey/internal/fault"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

// policyFile is one file that tells browsers to offer this machine a ticket.
type policyFile struct {
	Name string // of the file
	For  string // what it is for, and where it goes
	Text string
}

func (a *app) browserPolicyCommand() *cobra.Command {
	var hosts []string
	var folder string
	cmd := &cobra.Command{
		Use:   "browser-policy",
		Short: "Print the files that let browsers sign in by the computer's own sign-in",
		Long: `Print ready files for Chrome, Edge and Firefox, the Windows zone settings, and
notes for Safari, with the name of this machine in them. Browsers that have them
offer this machine a Kerberos ticket and nobody else; none of them delegates.

Afterwards name the networks of those computers in web.negotiate_from, and open
/auth/negotiate/test in one of the browsers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(hosts) == 0 {
				name, err := a.ownName(cmd.Context())
				if err != nil {
					return err
				}
				hosts = []string{name}
			}
			for i, host := range hosts {
				hosts[i] = strings.ToLower(strings.TrimSuffix(host, "."))
				if err := checkPolicyHost(hosts[i]); err != nil {
					return err
				}
			}
			files := browserPolicies(hosts)
			switch {
			case folder != "":
				return a.writePolicies(folder, files)
			case a.json:
				list := make([]any, len(files))
				for i, f := range files {
					list[i] = object{{"name", f.Name}, {"for", f.For}, {"text", f.Text}}
				}
				return a.printJSON(object{{"hosts", hosts}, {"files", list}})
			}
			for i, f := range files {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				fmt.Fprintf(a.out, "== %s\n   %s\n\n%s", f.Name, strings.ReplaceAll(f.For, "\n", "\n   "), strings.ReplaceAll(f.Text, "\r\n", "\n"))
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "a name by which browsers reach this machine, instead of its name in the domain; may be given again")
	cmd.Flags().StringVar(&folder, "write", "", "write the files into this directory instead of printing them")
	return cmd
}

// ownName is the machine's full name in its domain.
func (a *app) ownName(ctx context.Context) (string, error) {
	conn, err := a.admin(ctx)
	if err == nil {
		defer conn.Close()
		ctx, cancel := context.WithTimeout(ctx, adminTimeout)
		defer cancel()
		var st *latchkeyv1.Status
		if st, err = conn.Admin.GetStatus(ctx, &latchkeyv1.GetStatusRequest{}); err == nil && st.GetDomain() != "" {
			return strings.ToLower(strings.TrimSuffix(st.GetComputerAccount(), "$") + "." + st.GetDomain()), nil
		}
	}
	return "", fault.WithRemedy(fault.Wrap(fault.Conflict, "find this machine's name in its domain", err), "join a domain first, or give the name: --host nas.contoso.com")
}

// checkPolicyHost wants a full name: for an address there are no tickets, and a
// short name needs other settings in every browser.
func checkPolicyHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return fault.WithRemedy(fault.Errorf(fault.Malformed, "%s is an address, and there are no Kerberos tickets for addresses", host), "give the machine's full name")
	}
	if !strings.Contains(host, ".") || len(host) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || slices.Contains(strings.Split(host, "."), "") {
		return fault.WithRemedy(fault.Errorf(fault.Malformed, "%.100q is no full host name", host), "give it with its domain: nas.contoso.com")
	}
	return nil
}

// writePolicies writes the files; nothing that is there is overwritten.
func (a *app) writePolicies(folder string, files []policyFile) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fault.Wrap(fault.Internal, "make the directory", err)
	}
	for _, f := range files {
		file, err := os.OpenFile(filepath.Join(folder, f.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fault.WithRemedy(fault.Wrap(fault.Conflict, "write a policy file", err), "name an empty directory")
		}
		_, err = file.WriteString(f.Text)
		if err2 := file.Close(); err == nil {
			err = err2
		}
		if err != nil {
			return fault.Wrap(fault.Internal, "write a policy file", err)
		}
		fmt.Fprintf(a.out, "%s: %s\n", file.Name(), strings.ReplaceAll(f.For, "\n", " "))
	}
	return nil
}

// browserPolicies makes the files for these names.
func browserPolicies(hosts []string) []policyFile {
	list := strings.Join(hosts, ",")
	indented := func(v any) string {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			panic(err) // maps of texts
		}
		return string(b) + "\n"
	}
	urls := make([]string, len(hosts))
	for i, h := range hosts {
		urls[i] = "https://" + h
	}
	chromium := indented(map[string]any{"AuthServerAllowlist": list})
	return []policyFile{
		{"windows-policy.reg", "Windows, for Chrome and Edge, locked for the people: import it on each computer, or set the same by group policy\n" +
			"(Chrome and Edge: \"Authentication server allowlist\"; Windows: \"Site to Zone Assignment List\", value 1, local intranet).\n" +
			"Where an allowlist exists already, add the name to it with a comma: this file would replace it.", windowsPolicy(hosts, list)},
		{"windows-preference.reg", "Windows, the zone of this machine as a preference that people may change: as a registry item of group policy preferences, or by import.\n" +
			"Value 1 is the local intranet; 4, restricted sites, would switch the automatic sign-in off, as for a kiosk.", windowsPreference(hosts)},
		{"chrome-linux.json", "Chrome on Linux: /etc/opt/chrome/policies/managed/latchkey.json; Chromium: /etc/chromium/policies/managed/latchkey.json.", chromium},
		{"edge-linux.json", "Edge on Linux: /etc/opt/edge/policies/managed/latchkey.json.", chromium},
		{"macos.mobileconfig", "Chrome and Edge on macOS: by device management, or open it and approve it under Profiles.\n" +
			"By hand: defaults write com.google.Chrome AuthServerAllowlist '" + list + "', and the same for com.microsoft.Edge.", macPolicy(list)},
		{"firefox-policies.json", "Firefox: distribution/policies.json beside the program on Windows and macOS, /etc/firefox/policies/policies.json on Linux.\n" +
			"PrivateBrowsing lets private windows sign in as well; take it out where they should not.",
			indented(map[string]any{"policies": map[string]any{"Authentication": map[string]any{"SPNEGO": urls, "PrivateBrowsing": true, "Locked": true}}})},
		{"notes.txt", "Safari, private windows, and what to check.", policyNotes(hosts[0])},
	}
}

func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

func windowsPolicy(hosts []string, list string) string {
	lines := []string{"Windows Registry Editor Version 5.00", "",
		`[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Google\Chrome]`, `"AuthServerAllowlist"="` + list + `"`, "",
		`[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Edge]`, `"AuthServerAllowlist"="` + list + `"`, "",
		`[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\CurrentVersion\Internet Settings\ZoneMapKey]`}
	for _, h := range hosts {
		lines = append(lines, `"https://`+h+`"="1"`)
	}
	return crlf(append(lines, "")...)
}

func windowsPreference(hosts []string) string {
	lines := []string{"Windows Registry Editor Version 5.00"}
	for _, h := range hosts {
		domain := registered(h)
		key := domain
		if before := strings.TrimSuffix(h, "."+domain); before != h {
			key += `\` + before
		}
		lines = append(lines, "", `[HKEY_CURRENT_USER\Software\Microsoft\Windows\CurrentVersion\Internet Settings\ZoneMap\Domains\`+key+`]`, `"https"=dword:00000001`)
	}
	return crlf(append(lines, "")...)
}

// registered is the part of a name that somebody has registered, by which Windows
// keeps zones: contoso.com, contoso.co.uk.
func registered(host string) string {
	if suffix, official := publicsuffix.PublicSuffix(host); official && suffix != host {
		if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
			return domain
		}
	}
	labels := strings.Split(host, ".")
	return strings.Join(labels[max(len(labels)-2, 0):], ".")
}

func macPolicy(list string) string {
	payload := func(domain, name, id string) string {
		return `    <dict>
      <key>PayloadType</key><string>` + domain + `</string>
      <key>PayloadIdentifier</key><string>latchkey.sso.` + name + `</string>
      <key>PayloadUUID</key><string>` + id + `</string>
      <key>PayloadVersion</key><integer>1</integer>
      <key>AuthServerAllowlist</key><string>` + list + `</string>
    </dict>
`
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadDisplayName</key><string>Automatic sign-in to ` + list + `</string>
  <key>PayloadIdentifier</key><string>latchkey.sso</string>
  <key>PayloadUUID</key><string>6B1D2C8E-52C7-4F0E-9B1A-0C6E0F4D7A10</string>
  <key>PayloadVersion</key><integer>1</integer>
  <key>PayloadContent</key>
  <array>
` + payload("com.google.Chrome", "chrome", "6B1D2C8E-52C7-4F0E-9B1A-0C6E0F4D7A11") + payload("com.microsoft.Edge", "edge", "6B1D2C8E-52C7-4F0E-9B1A-0C6E0F4D7A12") + `  </array>
</dict>
</plist>
`
}

func policyNotes(host string) string {
	return `Safari needs no setting: a Mac that is joined to the domain, or has a ticket
(kinit anna@` + strings.ToUpper(host[strings.Index(host, ".")+1:]) + `), offers it by itself.

Chrome, Chromium and Edge on Linux load Kerberos only after they were asked for a
ticket once: the second start is the first one that signs in.

Private and guest windows of Chrome and Edge offer no ticket. The policy
AmbientAuthenticationInPrivateModesEnabled changes that: 0 ordinary windows only,
1 private windows as well, 2 guest windows as well, 3 all. Leave it at 0 unless
you need it.

AuthNegotiateDelegateAllowlist is not needed: this machine wants no ticket of
anybody's for other services. Do not set it for it.

Once AuthServerAllowlist is set, Chrome and Edge on Windows look at it alone and
no longer at the zones: a list that was there before has to hold the old names
as well.

To check, on a computer that is signed in to the domain and reaches a domain
controller: open https://` + net.JoinHostPort(host, "8443") + `/auth/negotiate/test
`
}
