// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
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
