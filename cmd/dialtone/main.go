// Dialtone manages user accounts of SIP and WebRTC phone platforms. It is one program: the server
// with its web pages, and the commands for operators.
//
// This package parses the command line, connects the packages below internal to each other, and
// prints what commands return. It has no rules of its own: those are in the packages below
// internal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"dialtone/internal/config"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite"
)

// The exit statuses that scripts may rely on. 75 and 78 are EX_TEMPFAIL and EX_CONFIG of
// sysexits.h.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitRestart = 75 // a commit failed: start the program again
	exitConfig  = 78
)

// commandLine is the grammar of the command line.
type commandLine struct {
	Settings keyFlags `embed:""`
	Config   string   `placeholder:"FILE" help:"Configuration file (TOML)."`

	Serve     serveCommand     `cmd:"" help:"Run the server."`
	Account   accountCommand   `cmd:"" help:"Manage accounts."`
	Tenant    tenantCommand    `cmd:"" help:"Manage tenants. A running server sees a change within a second."`
	Directory directoryCommand `cmd:"" help:"Manage phone servers: look-up tokens, exported tables, hooks."`
	Provision provisionCommand `cmd:"" help:"Print the phone settings of an account, without its password."`
	Mail      mailCommand      `cmd:"" help:"Manage the messages that servers send, and DKIM keys."`
	Verify    verifyCommand    `cmd:"" help:"Check the data directory and the store for faults."`
	Backup    backupCommand    `cmd:"" help:"Copy the store to a file while a server runs."`
	Store     storeCommand     `cmd:"" help:"Update the schema of the store, or copy the store to another database."`
	Keys      keysCommand      `cmd:"" help:"Manage the signing keys."`
	TURN      turnCommand      `cmd:"" name:"turn" help:"Manage the secret of the TURN servers."`
	Check     configCommand    `cmd:"" name:"config" help:"Check the configuration."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// program is what a command needs of the process. Tests replace it.
type program struct {
	ctx     context.Context
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	environ []string
	line    *commandLine
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run executes a command line and returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &program{ctx: ctx, stdin: os.Stdin, stdout: stdout, stderr: stderr, environ: environ, line: newCommandLine()}
	// For --help, kong ends the process.
	parser, err := kong.New(p.line,
		kong.Name("dialtone"),
		kong.Description("Accounts for SIP and WebRTC phone platforms."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(stderr, "dialtone:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	c, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "dialtone: %v\nsee: dialtone --help\n", err)
		return exitUsage
	}
	if err := c.Run(p); err != nil {
		return p.report(err)
	}
	return 0
}

// configErrors are errors that persist until an operator corrects the configuration, the keys or
// the store.
var configErrors = []error{
	errTemplates, keyfile.ErrUnusable,
	store.ErrSealKey, migrations.ErrNewer, sqlite.ErrDamaged, store.ErrUnfinished,
}

// report prints an error, one line for each fault, and returns the exit status.
func (p *program) report(err error) int {
	fmt.Fprintln(p.stderr, "dialtone:", err)
	if _, ok := errors.AsType[config.Faults](err); ok {
		return exitConfig
	}
	if errors.Is(err, engine.ErrFailed) {
		return exitRestart
	}
	if slices.ContainsFunc(configErrors, func(e error) bool { return errors.Is(err, e) }) {
		return exitConfig
	}
	return exitFailed
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

type versionCommand struct{}

func (versionCommand) Run(p *program) error {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	fmt.Fprintln(p.stdout, "dialtone", version)
	return nil
}

type configCommand struct {
	Check configCheckCommand `cmd:"" help:"Report all errors in the file, environment and flags."`
}

type configCheckCommand struct{}

func (configCheckCommand) Run(p *program) error {
	c, err := p.settings()
	if err != nil {
		return err
	}
	if _, err := templates(c.Mail.TemplatesDir); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "the configuration is valid")
	return nil
}
