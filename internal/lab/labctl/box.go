// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/lab"
)

func boxCommand() *cobra.Command {
	var options lab.BoxOptions
	var binds []string
	cmd := &cobra.Command{
		Use: "box NAME", Short: "Start a box: a bare NAS with its own address", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, bind := range binds {
				host, inside, both := strings.Cut(bind, ":")
				if !both {
					inside = host
				}
				options.Binds = append(options.Binds, lab.Bind{Host: host, Inside: inside})
			}
			l, err := open()
			if err != nil {
				return err
			}
			box, err := l.Box(cmd.Context(), args[0], options)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "box %s is at %s\n", box.Name(), box.IP())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Hostname, "hostname", "", "host name (NAME)")
	flags.BoolVar(&options.UseDNS, "use-dns", false, "resolv.conf points at the domain controller")
	flags.BoolVar(&options.Krb5Conf, "krb5-conf", false, "write an /etc/krb5.conf for the domain")
	flags.StringVar(&options.DiskSize, "disk", "", "size of its disk (4g)")
	flags.StringVar(&options.Suite, "suite", "", "another Debian release than the lab's")
	flags.StringArrayVar(&binds, "bind", nil, "HOST[:INSIDE], a part of the host to show, read-only")
	return cmd
}

func rmCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "End a box", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			box, err := l.OpenBox(args[0])
			if err != nil {
				return err
			}
			return box.PowerOff(cmd.Context())
		},
	}
}

func runCommand() *cobra.Command {
	var user, dir string
	var env []string
	var send bool
	cmd := &cobra.Command{
		Use:   "run NAME [CMD...]",
		Short: "Run a command, or a shell, in a box",
		Long: `Run a command, or a shell, in a box.

With --send the command is a file of this machine: it is copied into the box
first. So a test binary runs in a box:

    go test -tags lab -exec 'labctl run --send BOX' ./internal/...`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			m, err := l.Machine(args[0])
			if err != nil {
				return err
			}
			command := args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			if send && len(command) > 0 {
				inside := "/tmp/" + path.Base(command[0])
				if err := m.CopyIn(cmd.Context(), command[0], inside, 0o755); err != nil {
					return err
				}
				command[0] = inside
			}
			c := m.Command(command...)
			c.User, c.Dir, c.Env = user, dir, env
			return runIn(cmd.Context(), c)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVarP(&user, "user", "u", "", "as this local user of the box")
	flags.StringVarP(&dir, "dir", "C", "", "in this directory")
	flags.StringArrayVarP(&env, "env", "e", nil, "NAME=VALUE")
	flags.BoolVar(&send, "send", false, "copy the command into the box first")
	return cmd
}

func dcCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dc [CMD...]", Short: "Run a command, or a shell, on the domain controller (samba-tool, ldbsearch)",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDomain()
			if err != nil {
				return err
			}
			return runIn(cmd.Context(), d.DC.Command(args...))
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}
