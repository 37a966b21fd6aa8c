// SPDX-License-Identifier: Apache-2.0

// Command bench measures what a user would call performance, beside the peer,
// in one run on one lab, and prints the tables of docs/benchmarks.md.
//
// Figures are medians with their range; what matters is the ratio in a row,
// since both sides were measured in turn on the same machine. It never ships.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

// A chapter is one group of measurements.
type chapter struct {
	name  string
	about string
	run   func(ctx context.Context, s *stage, r *report) error
}

var chapters = []chapter{
	{"sync", "mirroring 5,000 users and 500 groups", benchSync},
	{"memory", "memory and disk of the daemon, after the load", benchMemory},
	{"grpc", "GetUser beside an empty unary call", benchGRPC},
	{"nss", "names, beside SSSD and winbindd", benchNSS},
	{"pipe", "requests on winbind's pipe, beside a bare round trip and winbindd", benchPipe},
	{"netlogon", "a sign-in by NTLM on winbind's pipe, beside winbindd", benchNetlogon},
	{"smb", "signing in to a share and listing it, beside winbindd", benchSMB},
	{"web", "a sign-in by a browser, and forward-auth beside bare net/http and nginx", benchWeb},
	{"signin", "a password at PAM and SSH, beside SSSD, winbindd and kinit", benchSignIn},
	{"enumerate", "listing everybody right after the start, beside SSSD and winbindd", benchEnumerate},
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == emptyServer {
		if err := serveEmpty(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == bareServer {
		fmt.Fprintln(os.Stderr, "bench:", serveBare(os.Args[2])) // it ends by a fault only
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == plainServer {
		if err := servePlain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("only", "", "run these chapters, comma-separated")
	users := flag.Int("users", 5000, "people in the domain")
	groups := flag.Int("groups", 500, "groups in the domain")
	out := flag.String("o", "build/benchmarks.md", "where the tables go, besides the terminal")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: bench [flags]; chapters:")
		for _, c := range chapters {
			fmt.Fprintf(os.Stderr, "  %-10s %s\n", c.name, c.about)
		}
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *users, *groups, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, users, groups int, out string) error {
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	s, err := newStage(ctx, lab.Population{Users: users, Groups: groups})
	if err != nil {
		return err
	}
	defer s.close()
	r := newReport(os.Stdout, file)
	r.conditions(users, groups)
	for _, c := range chapters {
		if only != "" && !slices.Contains(strings.Split(only, ","), c.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", c.about)
		if err := c.run(ctx, s, r); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}
