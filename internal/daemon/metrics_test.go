// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-nas/latchkey/internal/audit"
)

var (
	sampleLine = regexp.MustCompile(`^(latchkey_[a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*\})? ([0-9.e+-]+)$`)
	headLine   = regexp.MustCompile(`^# (HELP|TYPE) (latchkey_[a-z_]+) (.+)$`)
)

// The metrics are what Prometheus can read: every name with one head, in one
// piece, counters and units named by its conventions, histograms whole.
func TestMetrics(t *testing.T) {
	b := newBox(t)
	b.joined()
	d, _, api, _ := b.start()
	for _, name := range []string{"alice", "nobody"} {
		_, _ = api.Identity.GetUser(t.Context(), byName(name))
	}
	d.audit.Record(audit.Event{Action: audit.SignIn, Outcome: audit.Refused, Door: "pam", Service: "a \"service\" \\ with\nall\x01 of it", Asked: "alice", Name: "alice", Milliseconds: 31})
	d.audit.Record(audit.Event{Action: audit.SignIn, Outcome: audit.Allowed, Door: "pam", Service: "sshd", Name: "alice", Milliseconds: 80})
	b.waitFor("a pass has failed", func() bool { return len(d.took.passes.Histograms()) > 0 })
	text, err := d.metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds, order := map[string]string{}, []string{}
	values := map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if h := headLine.FindStringSubmatch(line); h != nil {
			if h[1] == "TYPE" {
				if kinds[h[2]] != "" {
					t.Errorf("%s has two heads", h[2])
				}
				kinds[h[2]], order = h[3], append(order, h[2])
			}
			continue
		}
		s := sampleLine.FindStringSubmatch(line)
		if s == nil {
			t.Errorf("no sample: %q", line)
			continue
		}
		name := s[1]
		if kinds[name] == "" {
			name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		}
		if len(order) == 0 || order[len(order)-1] != name {
			t.Errorf("%q does not stand below its own head", line)
		}
		values[s[1]+s[2]], _ = strconv.ParseFloat(s[3], 64)
	}
	for name, kind := range kinds {
		if strings.HasSuffix(name, "_total") != (kind == "counter") || kind == "histogram" && !strings.HasSuffix(name, "_seconds") {
			t.Errorf("%s is a %s", name, kind)
		}
	}
	for sample, want := range map[string]float64{
		`latchkey_grpc_call_duration_seconds_count{method="/latchkey.v1.IdentityService/GetUser",code="OK"}`:                   1,
		`latchkey_grpc_call_duration_seconds_count{method="/latchkey.v1.IdentityService/GetUser",code="NotFound"}`:             1,
		`latchkey_grpc_call_duration_seconds_bucket{method="/latchkey.v1.IdentityService/GetUser",code="OK",le="+Inf"}`:        1,
		`latchkey_sign_in_duration_seconds_bucket{door="pam",outcome="refused",le="0.025"}`:                                    0,
		`latchkey_sign_in_duration_seconds_bucket{door="pam",outcome="refused",le="0.05"}`:                                     1,
		`latchkey_sign_in_duration_seconds_sum{door="pam",outcome="allowed"}`:                                                  0.08,
		`latchkey_attempts_total{action="sign-in",outcome="allowed",service="sshd"}`:                                           1,
		`latchkey_attempts_total{action="sign-in",outcome="refused",service="a \"service\" \\ with\nall` + "\x01" + ` of it"}`: 1,
		`latchkey_users`: 2, `latchkey_joined`: 1, `latchkey_worker_restarts_total`: 3,
	} {
		if got, ok := values[sample]; !ok || got != want {
			t.Errorf("%s: got %v (%v), want %v", sample, got, ok, want)
		}
	}
	if kinds["latchkey_directory_pass_duration_seconds"] != "histogram" {
		t.Error("the passes over the directory are not told")
	}
	if words := strings.FieldsFunc(text, func(r rune) bool { return r < 'a' || r > 'z' }); slices.Contains(words, "alice") {
		t.Error("the name of a person is in the metrics")
	}
}
