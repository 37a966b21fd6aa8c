// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

func depsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "deps", Short: "Install what a lab needs of the host: debootstrap", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := exec.LookPath("debootstrap"); err == nil {
				return nil
			}
			for _, arguments := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "debootstrap"}} {
				apt := exec.CommandContext(cmd.Context(), "apt-get", arguments...)
				apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
				apt.Stdout, apt.Stderr = os.Stderr, os.Stderr
				if err := apt.Run(); err != nil {
					return fmt.Errorf("apt-get %s: %w", strings.Join(arguments, " "), err)
				}
			}
			return nil
		},
	}
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Say whether this machine can run a lab", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			missing := 0
			for _, need := range lab.Check() {
				if need.Err == nil {
					fmt.Printf("ok       %s\n", need.What)
					continue
				}
				missing++
				fmt.Printf("missing  %s: %v\n         to do: %s\n", need.What, need.Err, need.Fix)
			}
			if missing > 0 {
				return exitStatus(1)
			}
			return nil
		},
	}
}

func pruneCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove from the cache what was not used for two weeks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			unused := 14 * 24 * time.Hour
			if all {
				unused = 0
			}
			removed, err := lab.Prune(cmd.Context(), unused)
			for _, name := range removed {
				fmt.Println("removed", name)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove everything that no running lab stands on")
	return cmd
}

func suiteFlag(cmd *cobra.Command, spec *lab.BaseSpec) {
	cmd.Flags().StringVar(&spec.Suite, "suite", "bookworm", "Debian release of the machines")
}

func baseCommand() *cobra.Command {
	var spec lab.BaseSpec
	cmd := &cobra.Command{
		Use: "base", Short: "Build the Debian that machines are made of, and print where it is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := lab.Base(cmd.Context(), spec, progress())
			if err != nil {
				return err
			}
			fmt.Println(dir)
			return nil
		},
	}
	suiteFlag(cmd, &spec)
	return cmd
}

func upCommand() *cobra.Command {
	var options lab.Options
	var domain lab.DomainOptions
	cmd := &cobra.Command{
		Use: "up", Short: "Start a lab with a domain", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Name, options.Detached, options.Progress = labName, true, progress()
			l, err := lab.Up(cmd.Context(), options)
			if err != nil {
				return err
			}
			d, err := l.Domain(cmd.Context(), domain)
			if err != nil {
				l.Close()
				return err
			}
			fmt.Fprintf(os.Stderr, "lab %s is up: domain %s, %s at %s\n", l.Name, d.DNS, d.DC.FQDN(), d.DC.IP())
			return nil
		},
	}
	suiteFlag(cmd, &options.Base)
	flags := cmd.Flags()
	flags.BoolVar(&domain.Population.Demo, "demo", false, "a company of a hundred people")
	flags.IntVar(&domain.Population.Users, "users", 0, "how many of user00000, user00001, ...")
	flags.IntVar(&domain.Population.Groups, "groups", 0, "how many of group0000, group0001, ...")
	flags.IntVar(&domain.DCs, "dcs", 1, "how many domain controllers")
	flags.StringVar(&domain.DNS, "dns", "", "DNS name of the domain (aadds.contoso.test)")
	flags.StringVar(&domain.NetBIOS, "netbios", "", "NetBIOS name of the domain (AADDSCONTOSO)")
	flags.StringVar(&domain.UPNSuffix, "upn-suffix", "", "what people's sign-in names end in (contoso.test)")
	flags.StringVar(&domain.Variant, "variant", "", "another word: another domain of the same name, with other SIDs")
	return cmd
}

func downCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "down", Short: "End a lab and forget everything in it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{labName}
			if all {
				var err error
				if names, err = lab.List(); err != nil {
					return err
				}
			}
			var failed error
			for _, name := range names {
				l, err := lab.Open(name, nil)
				if err == nil {
					err = l.Close()
				}
				if err != nil {
					failed = err
					fmt.Fprintln(os.Stderr, "labctl:", err)
					continue
				}
				fmt.Fprintf(os.Stderr, "lab %s is down\n", name)
			}
			if _, err := lab.Sweep(cmd.Context()); err != nil {
				return err
			}
			if failed != nil {
				return exitStatus(1)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every lab that runs")
	return cmd
}
