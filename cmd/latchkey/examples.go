// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are the lines that --help and the man pages show of a command, for
// those that do not bring their own. A test reads each as a command line.
var examples = map[string][]string{
	"leave":              {"latchkey leave --user alice@contoso.com", "latchkey leave --keep-account", "latchkey leave --etc-only"},
	"status":             {"latchkey status", "latchkey status --json"},
	"sync":               {"latchkey sync", "latchkey sync --full", "latchkey sync --accept-deletions"},
	"doctor":             {"latchkey doctor"},
	"user get":           {"latchkey user get alice", `latchkey user get 'CONTOSO\alice'`, "latchkey user get 100001104"},
	"user list":          {"latchkey user list --filter muel", "latchkey user list --unpublished"},
	"user groups":        {"latchkey user groups alice@contoso.com"},
	"group get":          {"latchkey group get 'NAS Admins'"},
	"group list":         {"latchkey group list --filter nas", "latchkey group list --unpublished"},
	"group members":      {"latchkey group members 'NAS Admins'"},
	"group check":        {"latchkey group check alice 'NAS Admins' designers"},
	"search":             {"latchkey search mue", "latchkey search nas --groups"},
	"resolve":            {"latchkey resolve alice S-1-5-21-1-2-3-1104 gid:100000514"},
	"watch":              {"latchkey watch --no-snapshot", "latchkey watch --users --json"},
	"access list":        {"latchkey access list", "latchkey access list sshd"},
	"access sudo":        {"latchkey access sudo 'NAS Admins'", "latchkey access sudo --remove 'NAS Admins'"},
	"audit":              {"latchkey audit --user alice --since 3d", "latchkey audit --outcome refused --follow"},
	"ssh-keys":           {"latchkey ssh-keys alice"},
	"machine rotate":     {"latchkey machine rotate"},
	"ids export":         {"latchkey ids export numbers.jsonl"},
	"ids import":         {"latchkey ids import --dry-run numbers.jsonl"},
	"samba enable":       {"latchkey samba enable"},
	"samba check":        {"latchkey samba check"},
	"samba disable":      {"latchkey samba disable"},
	"sso test":           {"latchkey sso test"},
	"sso status":         {"latchkey sso status"},
	"sso browser-policy": {"latchkey sso browser-policy"},
	"session list":       {"latchkey session list", "latchkey session list alice"},
	"session revoke":     {"latchkey session revoke --user alice"},
	"config check":       {"latchkey config check", "latchkey config check ./latchkey.toml"},
	"config show":        {"latchkey config show", "latchkey config show nss.shell"},
	"config set":         {"latchkey config set nss.shell /bin/zsh", `latchkey config set api.admins '["%AAD DC Administrators"]'`, "latchkey config set nss.shell ''"},
	"version":            {"latchkey version"},
}

// exemplify gives the commands their examples.
func exemplify(c *cobra.Command) {
	if lines := examples[strings.TrimPrefix(c.CommandPath(), "latchkey ")]; lines != nil && c.Example == "" {
		c.Example = "  " + strings.Join(lines, "\n  ")
	}
	for _, sub := range c.Commands() {
		exemplify(sub)
	}
}
