// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"slices"
	"strings"
	"testing"
)

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILu1Q1zb7rTyHZzVtgQ1t4yMpqsXWMT1aHkfW0m5pS5x"

func TestSSHKey(t *testing.T) {
	for value, want := range map[string]string{
		testKey:                       testKey,
		testKey + " alice@laptop":     testKey,
		"  " + testKey + "\t":         testKey,
		"SSHKey:" + testKey + " home": testKey,
		"sshkey: " + testKey:          testKey,
		`command="rm -rf /",environment="A=b" ` + testKey:          testKey,
		"ssh-rsa" + strings.TrimPrefix(testKey, "ssh-ed25519"):     "", // the blob says otherwise
		"ssh-dss AAAAB3NzaC1kc3MAAACBAPY8ZOHY2yFSJA6XYC9HRwNHxaeh": "",
		"ssh-ed25519":                       "",
		"ssh-ed25519 !!!!":                  "",
		"ssh-ed25519 AAAA":                  "",
		testKey + "\nssh-ed25519 AAAA":      "",
		"X509:<I>DC=com,CN=CA<S>CN=alice":   "",
		"":                                  "",
		strings.Repeat("x", 5000) + testKey: "",
	} {
		if got, ok := SSHKey(value); got != want || ok != (want != "") {
			t.Errorf("%.60q: %q, %v, want %q", value, got, ok, want)
		}
	}
}

func TestSSHKeysOfAnEntry(t *testing.T) {
	e := Entry{Attributes: []Attribute{Text("altSecurityIdentities", "X509:<S>CN=a", testKey+" two", testKey+" one", "Kerberos:a@B")}}
	if got := sshKeys(e, "altSecurityIdentities"); !slices.Equal(got, []string{testKey}) {
		t.Errorf("got %q", got)
	}
	if got := sshKeys(e, ""); got != nil {
		t.Errorf("without an attribute: %q", got)
	}
	many := Attribute{Name: "k"}
	for i := range 100 {
		many.Values = append(many.Values, []byte(strings.Replace(testKey, "Lu1Q1", "Lu1Q"+string(rune('A'+i%26))+string(rune('a'+i/26)), 1)[:len(testKey)]))
	}
	if got := sshKeys(Entry{Attributes: []Attribute{many}}, "k"); len(got) > maxSSHKeys {
		t.Errorf("%d keys", len(got))
	}
}

func FuzzSSHKey(f *testing.F) {
	f.Add(testKey)
	f.Add("SSHKey:" + testKey + " c")
	f.Add("ssh-rsa AAAAB3NzaC1yc2E= x")
	f.Fuzz(func(t *testing.T, value string) {
		line, ok := SSHKey(value)
		if !ok {
			return
		}
		if strings.ContainsAny(line, "\r\n\x00\"") || strings.Count(line, " ") != 1 {
			t.Errorf("%q became %q", value, line)
		}
		if again, ok := SSHKey(line); !ok || again != line {
			t.Errorf("%q prints back as %q", line, again)
		}
	})
}
