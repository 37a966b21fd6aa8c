// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"time"
)

// TB is what the package needs of a test: *testing.T and *testing.B are it.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	Context() context.Context
}

// Start starts a lab with a domain for a test and ends it with the test. When
// the test failed, what Samba said is in its log.
func Start(t TB, options DomainOptions) *Domain {
	t.Helper()
	ctx := t.Context()
	l, err := Up(ctx, Options{Progress: logProgress(t)})
	if err != nil {
		t.Fatalf("starting a lab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Logf("ending the lab: %v", err)
		}
	})
	d, err := l.Domain(ctx, options)
	if err != nil {
		t.Fatalf("starting a domain: %v", err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if log, err := d.DC.Log(ctx); err == nil {
			t.Logf("the domain controller's last words:\n%s", lastLines(log, 30))
		}
	})
	return d
}

// StartBox starts a box beside the domain and ends it with the test.
func (d *Domain) StartBox(t TB, name string, options BoxOptions) *Box {
	t.Helper()
	box, err := d.lab.Box(t.Context(), name, options)
	if err != nil {
		t.Fatalf("starting the box %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		box.PowerOff(ctx)
	})
	return box
}

// Lab returns the lab that the domain is in.
func (d *Domain) Lab() *Lab { return d.lab }

// logProgress tells a test's log how long the steps took.
func logProgress(t TB) Progress {
	return func(s Step) {
		if s.Done {
			t.Logf("%s: %s", s.Name, roundSeconds(s.Took))
		}
	}
}
