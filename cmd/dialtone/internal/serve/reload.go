package serve

import (
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/internal/config"
)

// reloader applies the settings that can change while a server runs: the level of the log, and the templates of
// messages. For other settings, it logs that they need a restart.
type reloader struct {
	options Options
	server  *server
	running config.Config // the configuration that is in effect
	systemd *supervisor
}

// appliedNow are the keys of the configuration that reload applies.
var appliedNow = map[string]bool{"log.level": true, "mail.templates_dir": true}

// reload reads the configuration and the templates again. If either is wrong, nothing changes.
func (r *reloader) reload() {
	r.systemd.reloading()
	defer r.systemd.ready()
	conf, err := r.options.Settings()
	if err != nil {
		r.server.log.Error("configuration not reloaded", "err", err)
		return
	}
	messages, err := adapter.Templates(conf.Mail.TemplatesDir)
	if err != nil {
		r.server.log.Error("configuration not reloaded", "err", err)
		return
	}
	applied, restart := []string{}, []string(nil)
	for _, key := range config.Changed(r.running, conf) {
		if appliedNow[key] {
			applied = append(applied, key)
		} else {
			restart = append(restart, key)
		}
	}
	// Log the outcome with the lower of the two levels.
	r.options.Level.Set(min(conf.Log.Level, r.running.Log.Level))
	defer r.options.Level.Set(conf.Log.Level)
	r.server.outbox.SetTemplates(messages)
	r.running.Log.Level, r.running.Mail.TemplatesDir = conf.Log.Level, conf.Mail.TemplatesDir
	attrs := []any{"applied", applied}
	if conf.Mail.TemplatesDir != "" {
		attrs = append(attrs, "templates_read", conf.Mail.TemplatesDir)
	}
	r.server.log.Info("configuration reloaded", attrs...)
	if restart != nil {
		r.server.log.Warn("changed keys need a restart", "keys", restart)
	}
}

// signals handles the signals that mean "reload" or "reopen the log" for many programs. Without it, they would end the
// process.
type signals struct {
	reload atomic.Pointer[reloader] // nil while the server starts
}

// handleSignals handles signals until stop is called.
func handleSignals(log *slog.Logger) (s *signals, stop func()) {
	s = new(signals)
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for got := range received {
			if r := s.reload.Load(); got == syscall.SIGHUP && r != nil {
				r.reload()
				continue
			}
			log.Warn("signal ignored", "signal", unix.SignalName(got.(syscall.Signal)),
				"hint", "SIGHUP reloads the configuration of a server that has started; nothing else does anything")
		}
	}()
	return s, func() {
		signal.Stop(received)
		close(received)
		<-ended
	}
}
