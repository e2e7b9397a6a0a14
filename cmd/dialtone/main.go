// Dialtone manages user accounts of SIP and WebRTC phone platforms. One program contains the server with its web pages
// and the commands for operators.
//
// This package parses the command line, calls other packages, and prints their results. Commands that do more than that
// are in the packages below cmd/dialtone/internal, such as serve, backup and setup. Those connect the packages below
// internal, which contain the rules.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/doctor"
	"dialtone/cmd/dialtone/internal/exitstatus"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/store/sqlite"
)

// commandLine is the grammar of the command line.
type commandLine struct {
	Settings keyFlags `embed:""`
	Config   string   `placeholder:"FILE" help:"Configuration file (TOML)."`

	// The groups are the headings of the help, in this order.
	Init      initCommand      `cmd:"" group:"Run" help:"Set up a new installation."`
	Serve     serveCommand     `cmd:"" group:"Run" help:"Run the server."`
	Check     configCommand    `cmd:"" group:"Run" name:"config" help:"Check the configuration."`
	Health    healthCommand    `cmd:"" group:"Run" help:"Ask the server on this machine whether it is ready."`
	Doctor    doctorCommand    `cmd:"" group:"Run" help:"Find out what is wrong, and say what to do."`
	Version   versionCommand   `cmd:"" group:"Run" help:"Print the version."`
	Complete  completeCommand  `cmd:"" group:"Run" name:"completion" help:"Print a script for completion in a shell."`
	Man       manCommand       `cmd:"" group:"Run" help:"Print the manual page, dialtone(1)."`
	Help      helpCommand      `cmd:"" group:"Run" help:"Show the help of a command."`
	Account   accountCommand   `cmd:"" group:"Accounts" help:"Manage accounts."`
	Audit     auditCommand     `cmd:"" group:"Accounts" help:"List and export what operators and people changed."`
	Token     tokenCommand     `cmd:"" group:"Accounts" help:"Manage tokens of the API for operators."`
	Stats     statsCommand     `cmd:"" group:"Accounts" help:"Show what happened by day, and backlogs."`
	Provision provisionCommand `cmd:"" group:"Accounts" help:"Print the phone settings of an account."`
	Tenant    tenantCommand    `cmd:"" group:"Tenants" help:"Manage tenants."`
	Signups   signupsCommand   `cmd:"" group:"Tenants" help:"Open and close signups."`
	Directory directoryCommand `cmd:"" group:"Phone servers" help:"Manage look-up tokens, exported tables, and hooks."`
	TURN      turnCommand      `cmd:"" group:"Phone servers" name:"turn" help:"Manage the secret of the TURN servers."`
	Mail      mailCommand      `cmd:"" group:"Mail" help:"Manage the messages that servers send, and DKIM keys."`
	Verify    verifyCommand    `cmd:"" group:"Store and keys" help:"Check the data directory and the store for faults."`
	Backup    backupCommand    `cmd:"" group:"Store and keys" help:"Write a backup while a server runs."`
	Restore   restoreCommand   `cmd:"" group:"Store and keys" help:"Restore a backup, or finish another restore."`
	Store     storeCommand     `cmd:"" group:"Store and keys" help:"Update the schema, or copy the store."`
	Keys      keysCommand      `cmd:"" group:"Store and keys" help:"Manage the signing keys."`

	PrintVersion kong.VersionFlag `name:"version" help:"Print the version."`
}

// program holds the parts of the process that commands use, so that tests can replace them.
type program struct {
	ctx     context.Context
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	environ []string
	line    *commandLine
	command string // the command that runs, such as "dialtone account list"

	logLevel slog.LevelVar
	model    *kong.Application // the grammar as kong has completed it
}

func main() {
	// The memory contains keys and password hashes, which must not get into a core file. If the limit cannot be set,
	// the program runs nevertheless.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	ctx, stop := context.WithCancel(context.Background())
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go stopOnSignals(received, stop, !slices.Contains(os.Args[1:], "serve"))
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// stopOnSignals calls stop at the first signal. If again is set, the second signal ends the process at once, because a
// command may wait for a disk or a pipe, which stop does not interrupt. again is not set for a server, which may get
// the same signal twice, from its supervisor and from systemd, and needs time to end.
func stopOnSignals(received <-chan os.Signal, stop context.CancelFunc, again bool) {
	<-received
	stop()
	if number, ok := (<-received).(syscall.Signal); ok && again {
		os.Exit(128 + int(number)) // the status that a shell reports for a signal
	}
}

// run executes a command line and returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	ctx = audit.With(ctx, audit.Cause{Actor: commandActor(environ)})
	p := &program{ctx: ctx, stdin: os.Stdin, stdout: stdout, stderr: stderr, environ: environ, line: newCommandLine()}
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	}
	// For --help, kong ends the process.
	parser, err := kong.New(p.line,
		kong.IgnoreFields(unneeded(args)...),
		kong.Name("dialtone"),
		kong.Description("Accounts for SIP and WebRTC phone platforms."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"version": versionText()},
	)
	if err != nil {
		fmt.Fprintln(stderr, "dialtone:", err)
		return exitstatus.Failed
	}
	p.model = parser.Model
	c, err := parser.Parse(args)
	if err != nil {
		p.command = parser.Model.Name
		if e, ok := errors.AsType[*kong.ParseError](err); ok {
			err = p.wrongUsage(e)
		}
		return p.report(usageError{err})
	}
	p.command = c.Selected().FullPath()
	if err := c.Run(p); err != nil {
		return p.report(err)
	}
	return 0
}

// usageError is an error in the command line, whatever the store contains.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// notANumber matches the parser's error for an option or an argument that is a number.
var notANumber = regexp.MustCompile(`^(\S+): expected a valid \d+ bit u?int but got (.+)$`)

// wrongUsage sets p.command to the command that the parser has recognized, and returns the parser's error in plainer
// words. If a subcommand is missing, the parser names five; the returned error names all.
func (p *program) wrongUsage(err *kong.ParseError) error {
	node := err.Context.Model.Node
	for _, element := range err.Context.Path {
		if element.Command != nil {
			node = element.Command
		}
	}
	p.command = node.FullPath()
	if m := notANumber.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s: %s is not a whole number", m[1], m[2])
	}
	if len(node.Children) == 0 || !strings.HasPrefix(err.Error(), "expected one of ") {
		return err
	}
	var names []string
	for _, child := range node.Children {
		names = append(names, child.Name)
	}
	return fmt.Errorf("expected one of: %s", strings.Join(names, ", "))
}

// report prints an error, one line for each fault, and returns the exit status.
func (p *program) report(err error) int {
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = strings.ReplaceAll(text, context.Canceled.Error(), "the program was interrupted")
	}
	fmt.Fprintln(terminal.To(p.stderr), "dialtone:", text)
	if advice := sqlite.Advice(err); advice != "" {
		fmt.Fprintln(p.stderr, "dialtone:", advice)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(p.stderr, "see: %s --help\n", p.command)
		return exitstatus.Usage
	}
	return exitstatus.Of(err)
}

// settings loads the configuration from file, environment and flags.
func (p *program) settings() (config.Config, error) {
	flags := make(map[string]string)
	p.line.Settings.addTo(flags)
	p.line.Serve.Settings.addTo(flags)
	if c := p.line.Serve.Clusters; c != nil {
		flags["clusters"] = *c
	}
	return config.Load(p.line.Config, p.environ, flags)
}

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Report all errors in file, environment and flags."`
}

type configCheckCommand struct{}

// Run fails if a server would not start with the configuration. Other faults are notes.
func (configCheckCommand) Run(p *program) error {
	c, err := p.settings()
	if err != nil {
		return err
	}
	if err := doctor.CheckConfiguration(p.ctx, c, p.configFile(), p.environ, p.stderr); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "the configuration is valid")
	return nil
}
