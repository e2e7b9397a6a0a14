package operator

import (
	"context"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// Stats are the counts of some days and the present backlogs, of a tenant or of all tenants.
type Stats struct {
	// Days has a row for each day, the oldest first. The last one is today, UTC.
	Days []stats.DayCounts
	// Total are the sums of Days.
	Total  stats.Counts
	Funnel Funnel
	Mail   MailBacklog
	Hooks  []HookBacklog
	// Certificates are those that the servers get by themselves, in order of host.
	Certificates []CertificateStatus
}

// Funnel is how far people got within the days of Stats. Who signed up before, and activated the account in these
// days, counts in the second step only.
type Funnel struct {
	Signups, Activations, FirstSignIns int64
}

// MailBacklog counts the messages of all servers that were not sent yet, and those that failed. Without a relay, only
// those wait that are not in the pickup directory yet: for about a second, or as long as the directory fails. Of one
// tenant, it counts only those among the oldest 10,000 of all tenants.
type MailBacklog struct {
	// Waiting counts those that are not in the pickup directory yet too.
	Waiting, Deferred, Failed stats.Bounded
	// Oldest is when the oldest of those that are waiting or deferred began to wait, or zero.
	Oldest time.Time
}

// HookBacklog is a hook that is for the tenant, with the notifications that wait for it.
type HookBacklog struct {
	Name    string
	Kind    hook.Kind
	Waiting stats.Bounded
	// Oldest is the time of the oldest of them, or zero.
	Oldest time.Time
	// LastFailure is when an attempt last failed, or zero, and LastError why.
	LastFailure time.Time
	LastError   string
	// GivenUp counts the notifications that were abandoned.
	GivenUp int64
	// Shared means that the hook is for other tenants too. Then the numbers are those of all its tenants, and a
	// caller of one tenant does not get LastError, which may name their servers.
	Shared bool
}

// CertificateStatus says how it stands with the certificate that the servers get for a tenant.
type CertificateStatus struct {
	Host string
	// Expires is when the certificate expires, or zero if there is none.
	Expires time.Time
	// Failures counts the orders that failed since the last success, and Failure says why the last one did.
	Failures int
	Failure  string
}

// StatsStore is what Stats reads.
type StatsStore interface {
	// Counts is that of stats.Store.
	Counts(ctx context.Context, tenant int64, from, to stats.Day) ([]stats.Count, error)
	// MailBacklog returns the backlog of a tenant, or of all tenants for 0.
	MailBacklog(ctx context.Context, tenant int64) (MailBacklog, error)
	// HookBacklogs returns the hooks for a tenant, or all hooks for 0, ordered by name.
	HookBacklogs(ctx context.Context, tenant int64) ([]HookBacklog, error)
	// CertificateStatuses returns that of a tenant, or of all tenants for 0, ordered by host. A tenant for which no
	// server has ordered a certificate has none.
	CertificateStatuses(ctx context.Context, tenant int64) ([]CertificateStatus, error)
}

// MaxStatsDays is how many days Stats returns at most.
const MaxStatsDays = stats.KeptDays

// Stats returns the counts of the last days, today included, and the backlogs: of a tenant, or of all tenants if t is
// nil. It fails with fault.Forbidden, and with fault.Invalid for a number of days that is not between 1 and
// MaxStatsDays.
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
