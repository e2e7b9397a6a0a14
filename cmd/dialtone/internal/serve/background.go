package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/http/ops"
	"dialtone/internal/operator"
	"dialtone/internal/outage"
	"dialtone/internal/store/engine"
)

// The intervals of the background tasks. The documentation promises that a server sees a change of a tenant or of a
// phone server's token within a second.
const (
	refreshInterval  = 300 * time.Millisecond
	FlushInterval    = time.Second
	sweepInterval    = time.Minute
	takeOverInterval = 10 * time.Second
	// checkpointInterval is how often a server checks whether a checkpoint is due, and whether the newest one still
	// exists.
	checkpointInterval = 10 * time.Second
)

// outages log the failures of the background tasks.
type outages struct {
	refresh, keys, heartbeat, flush, forgotten, sweep, export, trail, schema, checkpoint, counts, bulk,
	certificates *outage.Log
}

func newOutages(log *slog.Logger) outages {
	of := func(failed, recovered string) *outage.Log { return outage.New(log, failed, recovered, time.Now) }
	return outages{
		refresh: of("refresh of tenants and phone servers failed",
			"refresh of tenants and phone servers works again"),
		keys:         of("keys not read again", "keys read again"),
		heartbeat:    of("heartbeat failed", "heartbeat works again"),
		flush:        of("outbox flush failed", "outbox flush works again"),
		forgotten:    of("forgotten passwords not handled", "forgotten passwords handled again"),
		sweep:        of("sweep failed", "sweep works again"),
		export:       of("export update failed", "export update works again"),
		trail:        of("audit trail not read", "audit trail read again"),
		schema:       of("database schema is not as made", "database schema is as made again"),
		checkpoint:   of("audit checkpoint not written", "audit checkpoint written again"),
		counts:       of("counts not written", "counts written again"),
		bulk:         of("bulk changes failed", "bulk changes work again"),
		certificates: of("TLS certificates not read again", "TLS certificates can be read again"),
	}
}

// tasks returns the background tasks. Each runs until its context ends.
func (s *server) tasks() []func(context.Context) {
	tasks := []func(context.Context){
		s.follow,
		every(takeOverInterval, s.takeOver),
		every(FlushInterval, s.flushOutbox),
		every(FlushInterval, s.serveForgotten),
		every(sweepInterval, s.sweep),
		every(FlushInterval, s.catchUpExport),
		every(refreshInterval, s.workBulk),
		s.followTrail,
		s.writeCounts,
		s.watchTrail,
		s.dispatcher.Run,
		s.authenticator.Run,
		s.registry.Run,
		s.tokens.Run,
		s.health.Run,
	}
	if len(s.Export.Htdigest) > 0 {
		tasks = append(tasks, every(refreshInterval, s.newHtdigestFollower().Update))
	}
	if s.exporter != nil {
		tasks = append(tasks, s.exporter.Run)
	}
	if s.queue != nil {
		tasks = append(tasks, s.sendMessages)
	}
	if s.files != nil || s.opsFiles != nil {
		tasks = append(tasks, every(FlushInterval, s.refreshCertificates))
	}
	if s.acme != nil {
		tasks = append(tasks, s.orderCertificates)
	}
	return tasks
}

// every returns a task that calls a function at an interval.
func every(interval time.Duration, do func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				do(ctx)
			}
		}
	}
}

// follow refreshes what other processes may have changed: at an interval, and at once if the store reports a change.
func (s *server) follow(ctx context.Context) {
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() {
		s.Store.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	defer watching.Wait()
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-ticker.C:
		}
		s.refresh(ctx)
	}
}

// refresh reads tenants, phone servers and keys again. It keeps the previous value of those that it cannot read.
func (s *server) refresh(ctx context.Context) {
	err := errors.Join(s.tenants.Refresh(ctx), s.registry.Refresh(ctx), s.refreshOldForm(ctx))
	s.outages.refresh.Report(ctx, err, "retry_in", refreshInterval.String())
	s.outages.keys.Report(ctx, s.refreshKeys(), "retry_in", refreshInterval.String())
}

// refreshKeys reads keys that have changed. A server that cannot read them is not ready: it may be
// using keys that were revoked.
func (s *server) refreshKeys() error {
	hadTURN := s.turn.Value() != nil
	err := errors.Join(s.sealKeyReadable(), s.signing.refresh(), s.turn.Refresh())
	if hadTURN && s.turn.Value() == nil {
		s.warnWithoutTURNKey()
	}
	if err == nil {
		s.keysErr.Store(nil)
	} else {
		s.keysErr.Store(&err)
	}
	return err
}

// sealKeyReadable returns an error if seal.key can no longer be read. The running server does not need the file, but it
// could not start again without it.
func (s *server) sealKeyReadable() error {
	if s.KeySources.Seal.FromEnv() {
		return nil
	}
	if _, err := s.KeySources.Seal.Read(); err != nil {
		return fmt.Errorf("%w; correct this, or restore the file, before the server stops", err)
	}
	return nil
}

// keysReady returns the error of the last attempt to read the keys.
func (s *server) keysReady(context.Context) error {
	if err := s.keysErr.Load(); err != nil {
		return *err
	}
	return nil
}

// takeOver sends the heartbeat of this server, and takes over the messages of servers whose heartbeat has stopped.
func (s *server) takeOver(ctx context.Context) {
	err := s.outbox.TakeOver(ctx)
	if errors.Is(err, engine.ErrNodeAlive) && s.nameLost.CompareAndSwap(false, true) {
		close(s.nameTaken)
	}
	s.outages.heartbeat.Report(ctx, err, "retry_in", takeOverInterval.String())
}

// flushOutbox makes new messages durable.
func (s *server) flushOutbox(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	s.outages.flush.Report(ctx, s.outbox.Flush(ctx), "retry_in", FlushInterval.String())
}

// serveForgotten sends links to people who have reported a forgotten password.
func (s *server) serveForgotten(ctx context.Context) {
	err := s.accounts.ServeForgotten(ctx, s.tenants.ByID)
	s.outages.forgotten.Report(ctx, err, "retry_in", FlushInterval.String())
}

// sweep removes what has expired.
func (s *server) sweep(ctx context.Context) {
	err := s.accounts.Sweep(ctx)
	if err == nil { // otherwise the clock may be wrong
		err = errors.Join(s.eraseOverdue(ctx), s.removeOldChanges(ctx), s.answers.Sweep(ctx), s.daily.Sweep(ctx),
			s.operator.RemoveOldBulks(ctx))
	}
	s.outages.sweep.Report(ctx, err, "retry_in", sweepInterval.String())
}

// workBulk counts and changes the accounts of bulk changes until no work is left.
func (s *server) workBulk(ctx context.Context) {
	for {
		b, err := s.operator.WorkBulk(ctx)
		if errors.Is(err, operator.ErrNoBulk) {
			s.outages.bulk.Report(ctx, nil)
			return
		}
		s.outages.bulk.Report(ctx, err, "retry_in", refreshInterval.String())
		if err != nil {
			return
		}
		if b.State == operator.BulkCounting || b.State == operator.BulkRunning {
			continue // it continues at its next turn
		}
		s.log.InfoContext(ctx, "bulk change", "bulk", b.ID.String(), "action", string(b.Action),
			"state", string(b.State), "found", b.Found, "changed", b.Done)
	}
}

// eraseOverdue erases the accounts of people who left.
func (s *server) eraseOverdue(ctx context.Context) error {
	n, err := s.accounts.EraseOverdue(ctx, s.tenants.ByID)
	if n > 0 {
		s.log.InfoContext(ctx, "accounts of people who left erased", "accounts", n)
		err = errors.Join(err, s.Store.Erase(ctx))
	}
	return err
}

// watchTrail checks the schema at once, and writes checkpoints at an interval. It is a task because checking the schema
// would delay the start.
func (s *server) watchTrail(ctx context.Context) {
	s.checkSchema(ctx)
	every(checkpointInterval, s.coverTrail)(ctx)
}

// coverTrail writes a checkpoint of the audit trail if one is due, and checks that nobody has added triggers or the
// like that change rows.
func (s *server) coverTrail(ctx context.Context) {
	s.checkSchema(ctx)
	s.reportTrail(ctx, s.keeper.Cover(ctx))
}

// coverTrailNow writes a checkpoint of the audit trail even if none is due.
func (s *server) coverTrailNow(ctx context.Context) { s.reportTrail(ctx, s.keeper.CoverNow(ctx)) }

func (s *server) reportTrail(ctx context.Context, err error) {
	s.trailErr.Store(&err)
	s.outages.checkpoint.Report(ctx, err, "retry_in", checkpointInterval.String())
}

// checkSchema compares the schema with the one that the migrations create. A fault does not prevent a server from
// starting: it may be a trigger of a program that replicates the database.
func (s *server) checkSchema(ctx context.Context) {
	var faults []string
	err := s.Store.CheckSchema(ctx, func(text string) { faults = append(faults, text) })
	if err == nil && len(faults) > 0 {
		err = errors.New(strings.Join(faults, "; "))
	}
	s.schemaErr.Store(&err)
	s.outages.schema.Report(ctx, err)
}

// trailReady is the check of /readyz that warns if the schema was changed or a checkpoint could not be written.
func (s *server) trailReady(context.Context) error {
	for _, last := range []*atomic.Pointer[error]{&s.schemaErr, &s.trailErr} {
		if err := last.Load(); err != nil && *err != nil {
			return ops.Warning((*err).Error())
		}
	}
	return nil
}

// removeOldChanges removes changes from the audit trail that are older than log.audit_days.
func (s *server) removeOldChanges(ctx context.Context) error {
	return s.keeper.Remove(ctx, time.Now().AddDate(0, 0, -s.Log.AuditDays))
}

// writeCounts writes the statistics to the store about once a second, and when ctx ends.
func (s *server) writeCounts(ctx context.Context) {
	write := func(ctx context.Context) {
		ctx = context.WithoutCancel(ctx)
		s.outages.counts.Report(ctx, s.daily.Flush(ctx), "retry_in", FlushInterval.String())
	}
	every(FlushInterval, write)(ctx)
	write(ctx) // the counts of the last second
}

// startTrail finds the last change of the audit trail, and whether accounts were deleted while this server did not run.
// Only then are messages without an account removed: otherwise they may belong to another store.
func (s *server) startTrail(ctx context.Context) (err error) {
	s.lastChange, s.orphans, err = s.Store.LastChange(ctx, deletions...)
	return err
}

// deletions are the changes that delete accounts.
var deletions = []audit.Action{audit.AccountDelete, audit.TenantRemove}

// loggedActors are the actors whose changes every server logs when it reads them from the audit trail. The server that
// makes a change for another actor logs it at once.
var loggedActors = []audit.ActorKind{audit.Command, audit.Admin, audit.Token}

// followTrail logs the changes that operators add to the audit trail. After a deletion of accounts, it removes the
// messages of these accounts from this server's directories.
func (s *server) followTrail(ctx context.Context) {
	read := func(ctx context.Context) {
		err := s.Store.Changes(ctx, audit.Filter{AfterID: s.lastChange}, func(c audit.Change) error {
			s.followChange(c)
			if slices.Contains(loggedActors, c.Actor.Kind) {
				s.events.RecordChange(ctx, c)
			}
			return nil
		})
		if err == nil && s.orphans {
			err = s.removeOrphans(ctx)
			s.orphans = err != nil
		}
		s.outages.trail.Report(ctx, err, "retry_in", FlushInterval.String())
	}
	every(FlushInterval, read)(ctx)
	read(context.WithoutCancel(ctx)) // the changes of the last second
}

func (s *server) followChange(c audit.Change) {
	s.lastChange = c.ID
	s.orphans = s.orphans || slices.Contains(deletions, c.Action)
}

// removeOrphans removes the messages of deleted accounts.
func (s *server) removeOrphans(ctx context.Context) error {
	removed, err := delivery.RemoveOrphans(ctx, s.Store, s.pickup)
	if removed > 0 {
		s.log.InfoContext(ctx, "messages of deleted accounts removed", "messages", removed)
	}
	return err
}
