// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The files are as they were looked through; -update writes them anew.
func TestBrowserPolicies(t *testing.T) {
	var all strings.Builder
	for _, f := range browserPolicies([]string{"nas.aadds.contoso.com", "files.contoso.com"}) {
		all.WriteString("== " + f.Name + "\n" + f.For + "\n\n" + strings.ReplaceAll(f.Text, "\r\n", "\n"))
		switch filepath.Ext(f.Name) {
		case ".json":
			if !json.Valid([]byte(f.Text)) {
				t.Errorf("%s is no JSON", f.Name)
			}
		case ".mobileconfig":
			d := xml.NewDecoder(strings.NewReader(f.Text))
			for {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s is no XML: %v", f.Name, err)
				}
			}
		case ".reg":
			if strings.Contains(strings.ReplaceAll(f.Text, "\r\n", ""), "\n") || !strings.HasPrefix(f.Text, "Windows Registry Editor Version 5.00\r\n\r\n") {
				t.Errorf("%s is not as regedit wants it", f.Name)
			}
		}
		if strings.Contains(f.Text, "DelegateAllowlist") && f.Name != "notes.txt" {
			t.Errorf("%s lets a browser delegate", f.Name)
		}
	}
	golden := filepath.Join("testdata", "browser_policy.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || all.String() != string(want) {
		t.Errorf("the files are not those of %s (%v):\n%s", golden, err, all.String())
	}
}

func TestBrowserPolicyHost(t *testing.T) {
	for host, ok := range map[string]bool{"nas.contoso.com": true, "nas": false, "10.0.0.5": false, "fd00::5": false, "": false, "nas..com": false, "nas.contoso.com/x": false,
		"a\"b.com": false, "nas.contoso.com\r\n": false} {
		if err := checkPolicyHost(host); (err == nil) != ok {
			t.Errorf("%q: %v", host, err)
		}
	}
}

// registry reads a .reg file as regedit does: keys in brackets, under each of
// them texts in quotes and numbers of 32 bits, lines that end in CR LF.
func registry(t *testing.T, text string) map[string]string {
	t.Helper()
	all, key := map[string]string{}, ""
	lines := strings.Split(text, "\r\n")
	if lines[0] != "Windows Registry Editor Version 5.00" || lines[1] != "" || lines[len(lines)-1] != "" || strings.ContainsAny(strings.Join(lines, ""), "\r\n") {
		t.Fatalf("the head, or the ends of lines:\n%q", text)
	}
	for _, line := range lines[2:] {
		value := regexp.MustCompile(`^"((?:[^"\\]|\\["\\])+)"=(?:"((?:[^"\\]|\\["\\])*)"|dword:([0-9a-f]{8}))$`).FindStringSubmatch(line)
		section := regexp.MustCompile(`^\[(HKEY_(?:LOCAL_MACHINE|CURRENT_USER)(?:\\[^\\\[\]]+)+)\]$`).FindStringSubmatch(line)
		switch {
		case line == "":
		case section != nil:
			key = section[1]
		case value != nil && key != "" && value[3] != "":
			all[key+`\`+value[1]] = "dword:" + value[3]
		case value != nil && key != "":
			all[key+`\`+value[1]] = value[2]
		default:
			t.Errorf("regedit does not understand %q", line)
		}
	}
	return all
}

// What Windows makes of the two files: the allowlist of both browsers, and the
// local intranet for each name and no other.
func TestRegistryFiles(t *testing.T) {
	text := map[string]string{}
	for _, f := range browserPolicies([]string{"nas.aadds.contoso.com", "files.contoso.co.uk", "nas.lan", "nas.corp.contoso.onmicrosoft.com"}) {
		text[f.Name] = f.Text
	}
	const list, map1 = "nas.aadds.contoso.com,files.contoso.co.uk,nas.lan,nas.corp.contoso.onmicrosoft.com", `HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\CurrentVersion\Internet Settings\ZoneMapKey\https://`
	const map2 = `HKEY_CURRENT_USER\Software\Microsoft\Windows\CurrentVersion\Internet Settings\ZoneMap\Domains\`
	for name, want := range map[string]map[string]string{
		"windows-policy.reg": {`HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Google\Chrome\AuthServerAllowlist`: list, `HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Edge\AuthServerAllowlist`: list,
			map1 + "nas.aadds.contoso.com": "1", map1 + "files.contoso.co.uk": "1", map1 + "nas.lan": "1", map1 + "nas.corp.contoso.onmicrosoft.com": "1"},
		"windows-preference.reg": {map2 + `contoso.com\nas.aadds\https`: "dword:00000001", map2 + `contoso.co.uk\files\https`: "dword:00000001", map2 + `nas.lan\https`: "dword:00000001",
			map2 + `onmicrosoft.com\nas.corp.contoso\https`: "dword:00000001"},
	} {
		if got := registry(t, text[name]); !maps.Equal(got, want) {
			t.Errorf("%s: got\n%q\nwant\n%q", name, got, want)
		}
	}
}
