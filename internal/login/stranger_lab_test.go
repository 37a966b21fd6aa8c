// SPDX-License-Identifier: Apache-2.0

//go:build lab

package login_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/lab"
	"github.com/latchkey-nas/latchkey/internal/login"
)

// BenchmarkLabStrangers measures whether a stranger can tell by the time who
// exists, by password and by NTLM: medians of 200 refusals each, in turns, against
// a real domain controller. Reported are both in ms and their ratio.
//
//	go test -tags lab -run '^$' -bench LabStrangers -benchtime 1x ./internal/login
func BenchmarkLabStrangers(b *testing.B) {
	g := newGround(b)
	for what, try := range map[string]func(name, password string) error{
		"password": func(name, password string) error { _, err := g.try(name, password); return err },
		"NTLM":     func(name, password string) error { _, err := g.respond(name, password); return err },
	} {
		b.Run(what, func(b *testing.B) {
			refuse := func(name, password string) time.Duration {
				at := time.Now()
				err := try(name, password)
				spent := time.Since(at)
				if fault.KindOf(login.ForStranger(err)) != fault.BadCredential {
					b.Fatalf("%s: %v", name, err)
				}
				return spent
			}
			for i := range 10 { // connections are open, and it is known how long a refusal takes
				refuse(lab.UserName(i), "warm up")
				refuse(fmt.Sprint("nobody", i), "warm up")
			}
			for b.Loop() {
				var wrong, unknown []time.Duration
				for i := range 200 {
					wrong = append(wrong, refuse(lab.UserName(i), fmt.Sprint("guess", i)))
					unknown = append(unknown, refuse(fmt.Sprint("nobody", 1000+i), fmt.Sprint("guess", i)))
				}
				slices.Sort(wrong)
				slices.Sort(unknown)
				w, u := wrong[100], unknown[100]
				b.ReportMetric(float64(w.Microseconds())/1000, "wrong-ms")
				b.ReportMetric(float64(u.Microseconds())/1000, "unknown-ms")
				b.ReportMetric(float64(u)/float64(w), "ratio")
			}
		})
	}
}
