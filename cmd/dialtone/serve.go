package main

import "dialtone/cmd/dialtone/internal/serve"

// serveCommand has a flag for each key of the configuration, except for those that are flags of all commands.
type serveCommand struct {
	Settings keyFlags `embed:""`
	Clusters *string  `hidden:"" help:"Removed; the configuration refuses it and says what to do."`
}

// Help is printed by dialtone serve --help.
func (c *serveCommand) Help() string {
	return "Exit status: 0 after SIGTERM or Ctrl-C; 1 if it cannot start; 75 if the disk failed while " +
		"saving, and a restart recovers; 78 if the configuration or the keys are wrong, or the store is damaged, " +
		"was removed, or cannot be written by this user. Have your supervisor restart it after a failure " +
		"(systemd: Restart=on-failure)."
}

// Run runs the server until the context of the program ends or the store fails.
func (c *serveCommand) Run(p *program) error {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	log, flush := p.serverLog(conf.Log)
	defer flush()
	return serve.Run(p.ctx, serve.Options{
		Config: conf, Settings: p.settings, Log: log, Level: &p.logLevel, Stdout: p.stdout,
	})
}
