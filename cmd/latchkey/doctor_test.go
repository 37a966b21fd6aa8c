// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckSwitch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nsswitch.conf")
	for text, want := range map[string]string{
		"passwd: files latchkey\ngroup: files latchkey\n":                                         "",
		"passwd:files [SUCCESS=merge] latchkey sss # x\ngroup:\tcompat latchkey[NOTFOUND=return]": "",
		"passwd: files\ngroup: files # latchkey\n":                                                "the line of passwd and of group does not",
		"passwd: files latchkey\n":                                                                "the line of group does not",
		"passwd: files [NOTFOUND=return] latchkey\ngroup: files latchkey\n":                       "the line of passwd ends at [NOTFOUND=RETURN]",
		"passwd: files latchkey\ngroup: files latchkey\ninitgroups: files sss\n":                  "the line initgroups does not",
		"passwd: files latchkey\ngroup: files latchkey\ninitgroups: files latchkey\n":             "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := checkSwitch(file); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := checkSwitch(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there passes")
	}
}
