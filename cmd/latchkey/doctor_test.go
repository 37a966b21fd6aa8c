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

// Root can read what the daemon's other half cannot.
func TestConfigurationThatTheDaemonCannotRead(t *testing.T) {
	b := newBench(t)
	b.healthy(t)
	b.set(t, "")
	for name, text := range map[string]string{"passwd": "root:x:0:0::/root:/bin/sh\nlatchkey:x:4000000001:4000000002::/:/bin/false\n", "group": "root:x:0:\nlatchkey:x:4000000002:\n"} {
		if err := os.WriteFile(b.at("/etc/"+name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for mode, fine := range map[os.FileMode]bool{0o644: true, 0o600: false, 0o640: false} {
		if err := os.Chmod(b.configFile, mode); err != nil {
			t.Fatal(err)
		}
		text, exit := b.run("config", "check")
		if (exit == 0) != fine || !fine && (exit != exitFailed || !strings.Contains(text, "chmod 644")) {
			t.Errorf("mode %o:\n%s", mode, text)
		}
		if text, _ := b.run("doctor"); strings.Contains(text, "✗ Configuration") == fine {
			t.Errorf("mode %o:\n%s", mode, text)
		}
	}
}
