// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

// What root's command line changes in /etc is one event each of the audit; a
// daemon that is not there stops nothing, and the person is told.
func TestFilesThatChangeAreRecorded(t *testing.T) {
	b := newBench(t)
	b.sudoBox(t, nil)
	for _, line := range [][]string{
		{"join", "aadds.contoso.test", "--user", "alice", "--password-stdin"},
		{"access", "sudo", "designers"},
		{"access", "sudo"},
		{"access", "sudo", "--remove", "designers"},
		{"leave"},
		{"leave"},
	} {
		b.in = strings.NewReader("Passw0rd\n")
		if text, exit := b.run(line...); exit != 0 {
			t.Error(text)
		}
	}
	want := []string{"join: /etc/krb5.conf.d/latchkey.conf, /etc/krb5.conf", "access sudo designers: /etc/sudoers.d/latchkey-100001201",
		"access sudo --remove designers: /etc/sudoers.d/latchkey-100001201", "leave: /etc/krb5.conf, /etc/krb5.conf.d/latchkey.conf"}
	if !slices.Equal(b.daemon.files, want) {
		t.Errorf("recorded %q, want %q", b.daemon.files, want)
	}
	if text, exit := b.run("access", "sudo", "designers"); exit != 0 {
		t.Error(text)
	}
	b.adminSocket = "/nonexistent"
	if text, exit := b.run("access", "sudo", "--remove", "designers"); exit != 0 || !strings.Contains(text, "the audit has nothing of this") {
		t.Errorf("without a daemon:\n%s", text)
	}
}
