// SPDX-License-Identifier: Apache-2.0

//go:build lab

package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// ownerEnv turns the test binary into an owner of a lab that waits to be
// killed, for the tests of what is left behind then.
const ownerEnv = "LATCHKEY_LAB_TEST_OWNER"

func TestMain(m *testing.M) {
	if name := os.Getenv(ownerEnv); name != "" {
		if err := waitToBeKilled(name); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func waitToBeKilled(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := Up(ctx, Options{Name: name})
	if err != nil {
		return err
	}
	if _, err := l.Domain(ctx, DomainOptions{}); err != nil {
		return err
	}
	if _, err := l.Box(ctx, "nas1", BoxOptions{}); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return ctx.Err()
}

// kinit gets a ticket in a box; it returns what the program said.
func kinit(t *testing.T, box *Box, principal, password string, options ...string) *Result {
	t.Helper()
	command := box.Command(append(append([]string{"kinit"}, options...), principal)...)
	command.Stdin = stringReader(password + "\n")
	result, err := command.Run(t.Context())
	if err != nil {
		t.Fatalf("kinit %s: %v", principal, err)
	}
	return result
}

// member starts a domain and a box that finds it.
func member(t *testing.T, options DomainOptions) (*Domain, *Box) {
	t.Helper()
	d := Start(t, options)
	return d, d.StartBox(t, "nas1", BoxOptions{UseDNS: true, Krb5Conf: true})
}

// must runs a command that has to succeed and returns what it printed.
func must(t *testing.T, m *Machine, args ...string) string {
	t.Helper()
	out, err := m.Output(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func itoa(n uint32) string { return fmt.Sprint(n) }
