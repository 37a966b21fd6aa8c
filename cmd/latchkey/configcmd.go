// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/latchkey-nas/latchkey/internal/accounts"
	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/grpcapi/client"
	latchkeyv1 "github.com/latchkey-nas/latchkey/proto/latchkey/v1"
)

func (a *app) configCommand() *cobra.Command {
	cmd := family("config", "Check, show and change settings")
	check := &cobra.Command{
		Use: "check [FILE]", Short: "Say what is wrong in the configuration, with file and line",
		Long: "Say what is wrong in the configuration, with file and line. FILE is checked in the\nplace of " + config.File + "; what `latchkey config set` wrote counts as well.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := a.configFile
			if len(args) == 1 {
				file = args[0]
			}
			l, err := config.Load(file, a.folder)
			if err == nil && len(args) == 0 { // a draft may be its author's
				err = a.readByDaemon(file)
			}
			if err != nil {
				return err
			}
			if a.json {
				warnings := make([]string, len(l.Warnings))
				for i, w := range l.Warnings {
					warnings[i] = w.Error()
				}
				return a.printJSON(object{{"ok", true}, {"file", file}, {"keys_set", len(l.Origin)}, {"warnings", warnings}})
			}
			for _, w := range l.Warnings {
				fmt.Fprintln(a.out, "note:", w.Error())
			}
			fmt.Fprintf(a.out, "%s: nothing is wrong; %s set\n", file, count(int64(len(l.Origin)), "key", "keys"))
			return nil
		},
	}
	show := &cobra.Command{
		Use: "show [KEY]", Short: "Show every setting, its value and where it comes from",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeKeys,
		RunE: func(_ *cobra.Command, args []string) error { return a.configShow(args) },
	}
	set := &cobra.Command{
		Use: "set KEY VALUE", Short: "Change one setting for good",
		Long: "Change one setting for good; the daemon uses it at once. VALUE is written as in the\nfile: a bare word, a number, [\"a\", \"list\"]. An empty VALUE takes the setting back.\nKeys under [locked] of latchkey.toml are refused.",
		Args: cobra.ExactArgs(2), ValidArgsFunction: completeKeys,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, ok := config.Lookup(args[0])
			if !ok { // the daemon would say the same; this works without one
				return config.Unknown(args[0])
			}
			if err := a.withAdmin(cmd.Context(), adminTimeout, func(ctx context.Context, conn *client.Conn) error {
				_, err := conn.Admin.SetConfig(ctx, &latchkeyv1.SetConfigRequest{Key: args[0], Value: args[1]})
				return err
			}); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(object{{"key", args[0]}, {"value", args[1]}})
			}
			fmt.Fprintf(a.out, "%s is set; it %s\n", args[0], key.Effect)
			return nil
		},
	}
	cmd.AddCommand(check, show, set)
	return cmd
}

func completeKeys(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, k := range config.Keys() {
		names = append(names, k.Name+"\t"+k.Doc)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// readByDaemon says whether the user latchkey may read a file that root can read:
// half of the daemon runs as that user. A file that is not there is no mistake.
func (a *app) readByDaemon(file string) error {
	info, err := os.Stat(file)
	local, err2 := accounts.Source{Dir: a.at("/etc")}.Read()
	if err != nil || err2 != nil || !a.root {
		return nil
	}
	uid, known := local.Users[config.WorkerUser]
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !known || !ok || sys.Uid == uid {
		return nil
	}
	may := info.Mode()&0o004 != 0
	if gid, known := local.Groups[config.WorkerUser]; known && sys.Gid == gid {
		may = info.Mode()&0o040 != 0
	}
	if may {
		return nil
	}
	return fault.WithRemedy(fault.Errorf(fault.Internal, "the user %s cannot read %s, which has mode %o", config.WorkerUser, file, info.Mode().Perm()),
		"chmod 644 "+file+"; no secret belongs in it")
}

func (a *app) configShow(args []string) error {
	l, err := config.Load(a.configFile, a.folder)
	if err != nil {
		return err
	}
	keys := config.Keys()
	if len(args) == 1 {
		k, ok := config.Lookup(args[0])
		if !ok {
			return config.Unknown(args[0])
		}
		keys = []config.Key{k}
	}
	if a.json {
		list := make([]any, len(keys))
		for i, k := range keys {
			list[i] = object{{"key", k.Name}, {"value", k.Value(&l.Config)}, {"origin", l.Origin[k.Name]}, {"locked", l.IsLocked(k.Name)}, {"allowed", k.Allowed()}, {"doc", k.Doc}}
		}
		return a.printJSON(object{{"keys", list}})
	}
	t := a.table("KEY", "VALUE", "FROM")
	for _, k := range keys {
		from := l.Origin[k.Name]
		if from == "" {
			from = "default"
		}
		if l.IsLocked(k.Name) {
			from += ", locked"
		}
		if err := t.row(k.Name, k.Value(&l.Config), from); err != nil {
			return err
		}
	}
	return t.flush()
}
