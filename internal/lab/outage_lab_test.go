// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcome says how a connection from the box to a port of the DC goes. Silence
// is believed soon where it is expected; anything else gets its time.
func outcome(t *testing.T, box *Box, d *Domain, port, want string) string {
	t.Helper()
	patience := 20 * time.Second
	if want == "silent" {
		patience = 300 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := box.Dial(ctx, "tcp", d.DC.IP()+":"+port)
	var timeout net.Error
	switch {
	case err == nil:
		conn.Close()
		return "open"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, syscall.EHOSTUNREACH):
		return "silent"
	}
	return err.Error()
}

func TestOutages(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{})
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want map[string]string) {
		t.Helper()
		for port, want := range want {
			if got := outcome(t, box, d, port, want); got != want {
				t.Errorf("%s: port %s is %s, want %s", what, port, got, want)
			}
		}
	}
	well := map[string]string{"88": "open", "389": "open", "445": "open"}
	expect("at first", well)

	do(d.DC.Stop(ctx))
	expect("stopped", map[string]string{"88": "refused", "389": "refused"})
	do(d.DC.Start(ctx))
	expect("started", well)

	do(d.DC.Kill(ctx))
	expect("killed", map[string]string{"88": "refused", "389": "refused"})
	do(d.DC.Start(ctx))
	expect("started after a kill", well)

	do(d.DC.Blackhole(ctx, 389))
	expect("389 swallowed", map[string]string{"88": "open", "389": "silent"})
	do(d.DC.Refuse(ctx, 88))
	expect("and 88 refused", map[string]string{"88": "refused", "389": "silent", "445": "open"})
	do(d.DC.Heal(ctx))
	expect("healed", well)
	do(d.DC.Blackhole(ctx))
	expect("all swallowed", map[string]string{"88": "silent", "389": "silent"})
	do(d.DC.Heal(ctx))

	do(d.DC.SetLink(false))
	expect("cable out", map[string]string{"88": "silent", "389": "silent"})
	do(d.DC.SetLink(true))
	do(poll(ctx, 50*time.Millisecond, "the cable is in again", func() error {
		if got := outcome(t, box, d, "389", "open"); got != "open" {
			return errors.New(got)
		}
		return nil
	}))

	// A frozen DC takes the connection and says nothing.
	do(d.DC.Freeze(ctx))
	search := []string{"timeout", "1", "ldapsearch", "-x", "-LLL", "-H", "ldap://" + d.DC.IP(), "-s", "base", "-b", "", "currentTime"}
	if got, err := box.Run(ctx, search...); err != nil || got.Ok() {
		t.Errorf("a frozen DC answered: %v %v", got, err)
	}
	do(d.DC.Thaw(ctx))
	if got := must(t, box.Machine, search...); !strings.Contains(got, "currentTime: ") {
		t.Errorf("after thawing: got %q", got)
	}
}

func TestDelay(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{})
	ping := func() time.Duration {
		t.Helper()
		out := must(t, box.Machine, "ping", "-q", "-c", "3", "-i", "0.2", d.DC.IP())
		_, numbers, _ := strings.Cut(out, "rtt min/avg/max/mdev = ")
		least, _, _ := strings.Cut(numbers, "/")
		took, err := time.ParseDuration(least + "ms")
		if err != nil {
			t.Fatalf("time in %q: %v", out, err)
		}
		return took
	}
	if err := d.DC.Delay(ctx, 80*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := ping(); got < 80*time.Millisecond {
		t.Errorf("round trip with a delay of 80 ms: got %s", got)
	}
	// Large segments come through whole.
	if got := kinit(t, box, JoinUser, JoinPassword); !got.Ok() {
		t.Fatal(got)
	}
	if got := ldap(t, box, d, "", "ldapsearch", "-LLL", "-b", "CN=Schema,CN=Configuration,"+d.BaseDN(), "(objectClass=attributeSchema)", "cn"); !got.Ok() || strings.Count(got.Stdout, "\ncn: ") < 1000 {
		t.Errorf("a large answer: got exit %d and %d bytes %s", got.Exit, len(got.Stdout), got.Stderr)
	}
	if err := d.DC.Delay(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, box, d, "389", "open"); got != "open" {
		t.Errorf("after the delay: port 389 is %s", got)
	}
}

func TestSkewedClock(t *testing.T) {
	ctx := t.Context()
	d, box := member(t, DomainOptions{})
	for _, want := range []time.Duration{10 * time.Minute, -10 * time.Minute, 0} {
		if err := d.DC.Skew(ctx, want); err != nil {
			t.Fatal(err)
		}
		if result := kinit(t, box, JoinUser, JoinPassword); !result.Ok() {
			t.Fatalf("kinit, %s off: %s", want, result)
		}
		// A ticket begins at the KDC's time.
		out := must(t, box.Machine, "sh", "-c", "TZ=UTC klist | grep krbtgt/")
		start, err := time.Parse("01/02/06 15:04:05", strings.Join(strings.Fields(out)[:2], " "))
		if err != nil {
			t.Fatalf("start of the ticket in %q: %v", out, err)
		}
		if got := time.Until(start); (got - want).Abs() > time.Minute {
			t.Errorf("clock of the KDC: got %s off, want %s", got, want)
		}
		out = must(t, box.Machine, "ldapsearch", "-x", "-LLL", "-H", "ldap://"+d.DC.IP(), "-s", "base", "-b", "", "currentTime")
		_, value, _ := strings.Cut(out, "currentTime: ")
		now, err := time.Parse("20060102150405.0Z", strings.TrimSpace(value))
		if err != nil {
			t.Fatalf("time of the directory in %q: %v", out, err)
		}
		if got := time.Until(now); (got - want).Abs() > time.Minute {
			t.Errorf("clock of the directory: got %s off, want %s", got, want)
		}
	}
}
