// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

func openDomain() (*lab.Domain, error) {
	l, err := open()
	if err != nil {
		return nil, err
	}
	return l.OpenDomain()
}

// faultCommand does one thing to the domain controllers that are named, or to
// every one.
func faultCommand(use, short string, do func(*lab.DC, context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " [DC...]", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDomain()
			if err != nil {
				return err
			}
			for _, name := range args {
				if !slices.ContainsFunc(d.DCs, func(dc *lab.DC) bool { return dc.Name() == name }) {
					return fmt.Errorf("the domain has no domain controller %q", name)
				}
			}
			for _, dc := range d.DCs {
				if len(args) > 0 && !slices.Contains(args, dc.Name()) {
					continue
				}
				if err := do(dc, cmd.Context()); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func addDCCommand() *cobra.Command {
	return &cobra.Command{
		Use: "add-dc HOSTNAME", Short: "Add a domain controller to the domain", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDomain()
			if err != nil {
				return err
			}
			dc, err := d.AddDC(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%s is at %s\n", dc.FQDN(), dc.IP())
			return nil
		},
	}
}

func blackholeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "blackhole-dc [PORT...]", Short: "Let the domain controller swallow packets without an answer",
		RunE: func(cmd *cobra.Command, args []string) error {
			var ports []int
			for _, arg := range args {
				port, err := strconv.Atoi(arg)
				if err != nil {
					return err
				}
				ports = append(ports, port)
			}
			d, err := openDomain()
			if err != nil {
				return err
			}
			return d.DC.Blackhole(cmd.Context(), ports...)
		},
	}
}

func healCommand() *cobra.Command {
	return faultCommand("heal-dc", "Take back what blackhole-dc did", func(dc *lab.DC, ctx context.Context) error { return dc.Heal(ctx) })
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the labs that run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reports, err := lab.Status()
			if err != nil {
				return err
			}
			if asJSON {
				encoder := json.NewEncoder(os.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(reports)
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(table, "LAB\tMACHINE\tKIND\tADDRESS\tINIT")
			for _, report := range reports {
				for _, m := range report.Machines {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\n", report.Name, m.Name, m.Kind, m.IP, m.PID)
				}
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return cmd
}

func pidCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pid NAME", Short: "Print the pid of a machine's init, for nsenter -t PID -a", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			m, err := l.Machine(args[0])
			if err != nil {
				return err
			}
			fmt.Println(m.PID())
			return nil
		},
	}
}
