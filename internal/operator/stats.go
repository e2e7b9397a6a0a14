package operator

import (
	"context"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// Stats are the counts of some days and the current backlogs, of a tenant or of all tenants.
type Stats struct {
	// Days has a row for each day, oldest first. The last one is today, UTC.
	Days []stats.DayCounts
	// Total are the sums of Days.
	Total  stats.Counts
	Funnel Funnel
	Mail   MailBacklog
	Hooks  []HookBacklog
	// Certificates are those that the servers obtain by ACME, ordered by host.
	Certificates []CertificateStatus
}

// Funnel counts the steps that people took within the days of Stats. Somebody who signed up
// before, and activated the account in these days, counts only in the second step.
type Funnel struct {
	Signups, Activations, FirstSignIns int64
}

// MailBacklog counts the messages of all servers that were not sent yet, and those that failed.
// Without a relay, only messages that are not in the pickup directory yet are waiting: for
// about a second, or as long as the directory fails. For one tenant, it counts only messages
// among the oldest 10,000 of all tenants.
type MailBacklog struct {
	// Waiting includes those that are not in the pickup directory yet.
	Waiting, Deferred, Failed stats.Bounded
	// Oldest is when the oldest waiting or deferred message began to wait, or zero.
	Oldest time.Time
}

// HookBacklog is a hook of the tenant, with the number of its waiting notifications.
type HookBacklog struct {
	Name    string
	Kind    hook.Kind
	Waiting stats.Bounded
	// Oldest is the time of the oldest waiting notification, or zero.
	Oldest time.Time
	// LastFailure is when an attempt last failed, or zero, and LastError is its error.
	LastFailure time.Time
	LastError   string
	// GivenUp counts the notifications that were abandoned.
	GivenUp int64
	// Shared means that the hook is for other tenants too. Then the numbers cover all its
	// tenants, and a caller of one tenant does not get LastError, which may name servers of
	// others.
	Shared bool
}

// CertificateStatus is the status of the certificate that the servers obtain for a tenant.
type CertificateStatus struct {
	Host string
	// Expires is when the certificate expires, or zero if there is none.
	Expires time.Time
	// Failures counts the orders that failed since the last success, and Failure is the error of the last one.
	Failures int
	Failure  string
}

// StatsStore is what Stats reads.
type StatsStore interface {
	// Counts is stats.Store.Counts.
	Counts(ctx context.Context, tenant int64, from, to stats.Day) ([]stats.Count, error)
	// MailBacklog returns the backlog of a tenant, or of all tenants for 0.
	MailBacklog(ctx context.Context, tenant int64) (MailBacklog, error)
	// HookBacklogs returns the hooks for a tenant, or all hooks for 0, ordered by name.
	HookBacklogs(ctx context.Context, tenant int64) ([]HookBacklog, error)
	// CertificateStatuses returns the status of a tenant's certificate, or of those of all
	// tenants for 0, ordered by host. It omits tenants for which no server has ordered a
	// certificate.
	CertificateStatuses(ctx context.Context, tenant int64) ([]CertificateStatus, error)
}

// MaxStatsDays is the maximum number of days that Stats returns.
const MaxStatsDays = stats.KeptDays

// Stats returns the counts of the last days, including today, and the backlogs: of a tenant, or
// of all tenants if t is nil. It fails with fault.Forbidden, and with fault.Invalid for a
// number of days that is not between 1 and MaxStatsDays.
func (s *Service) Stats(ctx context.Context, c Caller, t *tenant.Tenant, days int) (Stats, error) {
	if err := c.Check(StatsRead, t); err != nil {
		return Stats{}, err
	}
	if days < 1 || days > MaxStatsDays {
		return Stats{}, fault.Field("days", "%d is not a number of days between 1 and %d", days, MaxStatsDays)
	}
	var id int64
	if t != nil {
		id = t.ID
	}
	to := stats.DayOf(s.deps.Now())
	from := to - stats.Day(days) + 1
	list, err := s.deps.Store.Counts(ctx, id, from, to)
	if err != nil {
		return Stats{}, err
	}
	var r Stats
	r.Days, r.Total = stats.Series(list, from, to)
	r.Funnel = Funnel{r.Total[stats.Signup], r.Total[stats.Activation], r.Total[stats.FirstSignIn]}
	if r.Mail, err = s.deps.Store.MailBacklog(ctx, id); err != nil {
		return Stats{}, err
	}
	if r.Certificates, err = s.deps.Store.CertificateStatuses(ctx, id); err != nil {
		return Stats{}, err
	}
	r.Hooks, err = s.deps.Store.HookBacklogs(ctx, id)
	for i := range r.Hooks {
		if h := &r.Hooks[i]; h.Shared && c.Tenant != 0 {
			h.LastError = ""
		}
	}
	return r, err
}
