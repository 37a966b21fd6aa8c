// SPDX-License-Identifier: Apache-2.0

// Command latchkeyd is the daemon: `latchkeyd run` is root's half, which holds
// the sockets and watches the other half, `latchkeyd worker`, which does the
// work without any privilege and is started by nobody else.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/latchkey-nas/latchkey/internal/config"
	"github.com/latchkey-nas/latchkey/internal/daemon"
	"github.com/latchkey-nas/latchkey/internal/fault"
	"github.com/latchkey-nas/latchkey/internal/journal"
	"github.com/latchkey-nas/latchkey/internal/monitor"
	"github.com/latchkey-nas/latchkey/internal/monitor/control"
	"github.com/latchkey-nas/latchkey/internal/monitor/pamcheck"
	"github.com/latchkey-nas/latchkey/internal/peer"
	"github.com/latchkey-nas/latchkey/internal/release"
)

func main() {
	os.Exit(execute(newRoot()))
}

// execute runs the command line: 0 done, 1 failed, 2 wrong usage.
func execute(root *cobra.Command) int {
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "latchkeyd: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n    "))
	if remedy := fault.Remedy(err); remedy != "" {
		fmt.Fprintf(os.Stderr, "    %s\n", remedy)
	}
	if !started {
		return 2
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "latchkeyd",
		Short:         "The daemon that knows the people of a Microsoft Entra Domain Services domain",
		Long:          "latchkeyd mirrors the people and groups of a managed domain and answers who they are.\nIt starts without a configuration and in no domain; everything else is told to it by\nlatchkey(1).",
		Version:       release.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("latchkeyd {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(runCommand(), workerCommand(), pamCheckCommand())
	return root
}

func runCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon in the foreground, as root",
		Long:  "Run the daemon in the foreground, as root. It gives root up wherever it need not be.\nSIGHUP reads the configuration again, SIGTERM stops.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, level := newLog(file)
			m, err := monitor.New(monitor.Options{ConfigFile: file, ConfigFolder: config.Folder, Log: log, Level: level})
			if err != nil {
				return err
			}
			return m.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", config.File, "the configuration file")
	return cmd
}

// newLog writes to standard error in the form that the configuration wants; a
// bad one is complained about by whoever reads it next.
func newLog(file string) (*slog.Logger, *slog.LevelVar) {
	format, level := "text", &slog.LevelVar{}
	if c, err := config.Load(file, config.Folder); err == nil {
		format = c.Log.Format
		level.Set(journal.Level(c.Log.Level))
	}
	log := slog.New(journal.New(os.Stderr, level, format, journal.IsJournal(os.Stderr)))
	slog.SetDefault(log)
	return log, level
}

func workerCommand() *cobra.Command {
	var file string
	var fd, connections int
	cmd := &cobra.Command{
		Use:    "worker",
		Short:  "The half without privilege; `latchkeyd run` starts it",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE:   func(cmd *cobra.Command, _ []string) error { return work(cmd.Context(), file, fd, connections) },
	}
	cmd.Flags().StringVar(&file, "config", config.File, "the configuration file")
	cmd.Flags().IntVar(&fd, "control", -1, "the descriptor on which the monitor speaks")
	cmd.Flags().IntVar(&connections, "connections", -1, "the descriptor on which accepted connections come")
	return cmd
}

// work is the worker's life.
func work(ctx context.Context, file string, fd, connections int) error {
	if err := monitor.Harden(); err != nil {
		return err
	}
	unix.Umask(0o077)
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	// Where the runtime has one processor only, its watcher takes that away from
	// whatever waits in a system call, as the loop of forward-auth always does, and
	// each answer then costs two wake-ups of threads more.
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
	listeners, err := peer.Inherited()
	if err != nil {
		return err
	}
	if fd < 3 || connections < 3 {
		return fault.WithRemedy(fault.New(fault.Malformed, "the worker is started by the monitor only"), "start `latchkeyd run`")
	}
	conn, err := control.Open(os.NewFile(uintptr(fd), "control"))
	if err != nil {
		return err
	}
	defer conn.Close()
	handed, err := peer.OpenHanded(os.NewFile(uintptr(connections), "connections"))
	if err != nil {
		return err
	}
	client, err := control.NewClient(conn)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	// The monitor hears from us before anything that takes time is begun.
	o := newOrders()
	lost := make(chan error, 1)
	go func() {
		lost <- client.Run(context.WithoutCancel(ctx), o.handlers(stop))
		stop()
	}()
	log, level := newLog(file)
	d, err := daemon.New(ctx, daemon.Options{ConfigFile: file, ConfigFolder: config.Folder, StoreFile: config.StoreFile,
		KeytabFile: config.KeytabFile, Listeners: listeners, Handed: handed, Monitor: client, Log: log, Level: level})
	if err != nil {
		return err
	}
	o.obey(ctx, d)
	if err := d.Run(ctx); err != nil {
		return err
	}
	select {
	case err := <-lost: // the monitor is gone, so there is nobody to serve for
		return err
	default:
		return nil
	}
}

// orders are what the monitor wants of the daemon, which may not be there yet.
type orders struct {
	reload chan struct{}
	web    chan func(*daemon.Daemon) // in the order in which they came
}

func newOrders() *orders {
	return &orders{reload: make(chan struct{}, 1), web: make(chan func(*daemon.Daemon), 16)}
}

// handlers take orders, and never wait for one to be carried out.
func (o *orders) handlers(stop func()) control.Handlers {
	return control.Handlers{
		Stop: stop,
		Reload: func() {
			select {
			case o.reload <- struct{}{}:
			default: // one that is waiting will do
			}
		},
		ServeWeb: func(listener *os.File) { o.web <- func(d *daemon.Daemon) { d.ServeWeb(listener) } },
		LeaveWeb: func() { o.web <- (*daemon.Daemon).LeaveWeb },
	}
}

// obey carries orders out until ctx ends. The monitor waits for the web's
// listeners to be closed, whatever else is under way.
func (o *orders) obey(ctx context.Context, d *daemon.Daemon) {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-o.reload:
				d.Reload()
			}
		}
	}()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case change := <-o.web:
				change(d)
			}
		}
	}()
}

// pamCheckCommand becomes the one program of ours that is linked with libpam.
func pamCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "pam-check",
		Short:  "Try one password for the web sign-in; `latchkeyd run` starts it",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			err := syscall.Exec(pamcheck.Program, []string{"latchkey-pam-check"}, os.Environ())
			return fault.WithRemedy(fault.Wrap(fault.Internal, "start "+pamcheck.Program, err), "install the package again, or run make install")
		},
	}
}
