// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"os"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/fault"
)

func TestPasswordsThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	for name, p := range map[string]string{"empty": "", "long": strings.Repeat("x", 1025), "not UTF-8": "a\xff", "NUL": "wonder land\x00"} {
		_, err := w.try("alice", p)
		wantKind(t, name, err, fault.BadCredential)
	}
	for _, r := range w.kdc.Requests() {
		if r.Kind == "AS" {
			t.Errorf("the KDC was asked: %+v", r)
		}
	}
}

func TestNoPasswordInTheAudit(t *testing.T) {
	w := newWorld(t)
	w.allow("sshd", "*")
	_, _ = w.try("alice", "wonder land")
	_, _ = w.try("alice", "s3cret-guess")
	w.events()
	text, err := os.ReadFile(w.file)
	if err != nil || strings.Contains(string(text), "wonder land") || strings.Contains(string(text), "s3cret-guess") {
		t.Errorf("%v; the audit: %s", err, text)
	}
}
