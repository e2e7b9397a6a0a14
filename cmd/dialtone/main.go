// Dialtone makes and keeps accounts for SIP and WebRTC phone platforms: one program, with its store, its pages and its
// commands for operators.
//
// This package wires and does nothing else: it reads the configuration, opens the data folder, and hands the parts to each
// other. Rules stand in the packages below internal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"dialtone/internal/config"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/sqlstore"
)

// The exit statuses that scripts may rely on (75 and 78 are EX_TEMPFAIL and EX_CONFIG of sysexits.h).
const (
	exitFailed  = 1
	exitUsage   = 2
	exitRestart = 75 // a commit failed: start the program again
	exitConfig  = 78
)

// commandLine is the whole grammar.
type commandLine struct {
	Settings keyFlags `embed:""`
	Config   string   `placeholder:"FILE" help:"Configuration file (TOML)."`

	Serve     serveCommand     `cmd:"" help:"Run the server."`
	Account   accountCommand   `cmd:"" help:"Manage accounts."`
	Tenant    tenantCommand    `cmd:"" help:"Manage tenants. A running server sees a change within a second."`
	Directory directoryCommand `cmd:"" help:"Manage phone servers: look-up tokens, exported tables, change notifications."`
	Provision provisionCommand `cmd:"" help:"Print the phone settings of an account, without its password."`
	Mail      mailCommand      `cmd:"" help:"Manage the messages that servers send, and DKIM keys."`
	Verify    verifyCommand    `cmd:"" help:"Check the data folder and the store for faults."`
	Backup    backupCommand    `cmd:"" help:"Copy the store to a file while a server runs."`
	Store     storeCommand     `cmd:"" help:"Update the schema of the store, or copy the store to another database."`
	Keys      keysCommand      `cmd:"" help:"Manage the signing keys."`
	TURN      turnCommand      `cmd:"" name:"turn" help:"Manage the secret of the TURN servers."`
	Check     configCommand    `cmd:"" name:"config" help:"Check the configuration."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// program is what a command runs with: the world outside, so that a test can be one.
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

// run does what the arguments say and returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	p := &program{ctx: ctx, stdin: os.Stdin, stdout: stdout, stderr: stderr, environ: environ, line: newCommandLine()}
	// kong ends the process after --help, which is the one thing here that does.
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

// report tells of an error, one line a fault, and gives the exit status that it deserves.
func (p *program) report(err error) int {
	fmt.Fprintln(p.stderr, "dialtone:", err)
	if _, ok := errors.AsType[config.Faults](err); ok {
		return exitConfig
	}
	if errors.Is(err, sqlstore.ErrFailed) {
		return exitRestart
	}
	for _, e := range []error{errKeys, errTemplates, keyfile.ErrMissing, sqlstore.ErrSealKey, sqlstore.ErrNewer, sqlstore.ErrDamaged, sqlstore.ErrUnfinished} {
		if errors.Is(err, e) {
			return exitConfig
		}
	}
	return exitFailed
}

// settings reads the configuration, with the flags of the command line.
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
	Check configCheckCommand `cmd:"" help:"Name every fault of file, environment and flags at once."`
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
	fmt.Fprintln(p.stdout, "the configuration is sound")
	return nil
}
