// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// azure stands for the Azure CLI: it writes down what it was asked, one line for
// each call, and answers as a tenant with no app of that name, or with one.
const azure = `#!/bin/sh
for a in "$@"; do printf '[%s] ' "$a"; done >>"$LOG"
echo >>"$LOG"
case "$*" in
"account show"*) echo 8b0f2a6e-3c4d-4e5f-9a1b-2c3d4e5f6a7b ;;
"ad app list"*) printf '%s' "$FOUND" ;;
"ad app create"*) echo 1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90 ;;
*"credential reset"*--password*|*"credential reset"*--years*) echo the~secret.value ;;
esac
`

// The script of docs/entra.md asks the Azure CLI for the app that we want, keeps
// the secret off the screen, and prints a command that this program takes.
func TestRegisterApp(t *testing.T) {
	script, err := filepath.Abs("../../packaging/entra/register-app.sh")
	if err != nil {
		t.Fatal(err)
	}
	run := func(found string, args ...string) (dir, out, asked string, err error) {
		t.Helper()
		dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "az"), []byte(azure), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", append([]string{script}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "LOG="+filepath.Join(dir, "log"), "FOUND="+found)
		text, err := cmd.CombinedOutput()
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return dir, string(text), string(log), err
	}
	const uri = "https://nas.contoso.com:8443/auth/oidc/callback"
	dir, out, asked, err := run("", uri, "nas-office")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"[--sign-in-audience] [AzureADMyOrg]", "[--web-redirect-uris] [" + uri + "]", "[--enable-id-token-issuance] [false] [--enable-access-token-issuance] [false]",
		`"logoutUrl":"https://nas.contoso.com:8443/auth/oidc/signed-out"`, `{"name":"sid"}`, "[ad] [sp] [create] [--id] [1f6a2f0c-51c5-4e0e-9f6b-7a3c7d1e2b90]"} {
		if !strings.Contains(asked, want) {
			t.Errorf("the Azure CLI is not asked for %s:\n%s", want, asked)
		}
	}
	if strings.Contains(asked, "permission") || strings.Contains(asked, "consent") {
		t.Errorf("permissions are asked for:\n%s", asked)
	}
	secret := filepath.Join(dir, "nas-office.secret")
	text, err := os.ReadFile(secret)
	info, statErr := os.Stat(secret)
	if err != nil || statErr != nil || strings.TrimSpace(string(text)) != "the~secret.value" || info.Mode().Perm() != 0o600 || strings.Contains(out, "the~secret") {
		t.Errorf("the secret is kept as %q (%v), mode %v; the screen has\n%s", text, err, info.Mode(), out)
	}
	line := regexp.MustCompile(`(?m)^  latchkey (sso set .*--secret-stdin.*) <\./nas-office\.secret$`).FindStringSubmatch(out)
	if line == nil {
		t.Fatalf("no command is printed:\n%s", out)
	}
	b := newBench(t)
	b.in = strings.NewReader(string(text))
	if got, exit := b.run(strings.Fields(line[1])...); exit != 0 {
		t.Errorf("latchkey %s: exit %d\n%s", line[1], exit, got)
	}

	if _, out, _, err := run("99999999-9999-4999-8999-999999999999", uri, "nas-office"); err == nil || !strings.Contains(out, "there is an app of the name nas-office already") {
		t.Errorf("an app of that name: %v\n%s", err, out)
	}
	for _, bad := range []string{"http://nas.contoso.com/auth/oidc/callback", "nas.contoso.com", "https://nas.contoso.com"} {
		if _, out, asked, err := run("", bad); err == nil || asked != "" {
			t.Errorf("%s: %v\n%s%s", bad, err, out, asked)
		}
	}
}
