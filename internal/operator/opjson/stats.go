package opjson

import (
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// Stats are the counts of some days, and the current backlogs.
type Stats struct {
	Tenant *string      `json:"tenant" doc:"The host, or null for all tenants."`
	Days   []Day        `json:"days" doc:"The oldest first. The last one is today, UTC."`
	Total  stats.Counts `json:"total"`
	Funnel Funnel       `json:"funnel"`
	Mail   MailBacklog  `json:"mail_backlog"`
	Hooks  []Hook       `json:"hook_backlogs"`
	// Certificates are those obtained by ACME.
	Certificates []Certificate `json:"certificates" doc:"The certificates that the servers get by ACME."`

	Open   *bool `json:"open" doc:"Whether people can sign up, or null if that depends on the tenant."`
	Frozen bool  `json:"frozen" doc:"Whether the signups of all tenants are closed."`
}

// Certificate is the status of a tenant's certificate.
type Certificate struct {
	Host     string     `json:"host"`
	Expires  *time.Time `json:"expires" doc:"Null if there is none yet."`
	Failures int        `json:"failures" doc:"Orders that failed since the last success."`
	Failure  string     `json:"failure" doc:"Why the last one failed."`
}

// OfCertificate returns the view of a certificate.
func OfCertificate(c operator.CertificateStatus) Certificate {
	return Certificate{c.Host, TimeOrNil(c.Expires), c.Failures, c.Failure}
}

// Day are the counts of a day.
type Day struct {
	Day    string       `json:"day" doc:"A date, UTC."`
	Counts stats.Counts `json:"counts"`
}

// Funnel counts the steps that people took.
type Funnel struct {
	Signups      int64 `json:"signups"`
	Activations  int64 `json:"activations"`
	FirstSignIns int64 `json:"first_signins"`
}

// MailBacklog counts messages by state, each count up to 1001.
type MailBacklog struct {
	Waiting  stats.Bounded `json:"waiting"`
	Deferred stats.Bounded `json:"deferred"`
	Failed   stats.Bounded `json:"failed"`
	Oldest   *time.Time    `json:"oldest" doc:"When the oldest waiting message began to wait."`
}

// Hook is a hook and its backlog.
type Hook struct {
	Name        string        `json:"name"`
	Kind        hook.Kind     `json:"kind"`
	Waiting     stats.Bounded `json:"waiting" doc:"Notifications that wait, up to 1001: more are not counted."`
	Oldest      *time.Time    `json:"oldest"`
	LastFailure *time.Time    `json:"failed" doc:"When an attempt last failed. It may have succeeded since."`
	LastError   string        `json:"error" doc:"Why it failed then."`
	GivenUp     int64         `json:"given_up"`
}

// OfStats returns the view of counts and signups: those of a tenant, or of all if t is nil.
func OfStats(t *tenant.Tenant, s operator.Stats, signups operator.Signups) Stats {
	v := Stats{
		Days: []Day{}, Total: s.Total, Funnel: Funnel(s.Funnel), Hooks: All(s.Hooks, OfHook),
		Mail:   MailBacklog{s.Mail.Waiting, s.Mail.Deferred, s.Mail.Failed, TimeOrNil(s.Mail.Oldest)},
		Frozen: signups.Freeze != nil, Certificates: All(s.Certificates, OfCertificate),
	}
	for _, d := range s.Days {
		v.Days = append(v.Days, Day{d.Day.String(), d.Counts})
	}
	switch {
	case t != nil:
		v.Tenant, v.Open = &t.Host, &[]bool{OfSignups(t.Host, signups).Open}[0]
	case v.Frozen:
		v.Open = new(bool)
	}
	return v
}

// OfHook returns the view of a hook and its backlog.
func OfHook(h operator.HookBacklog) Hook {
	return Hook{h.Name, h.Kind, h.Waiting, TimeOrNil(h.Oldest), TimeOrNil(h.LastFailure), h.LastError, h.GivenUp}
}
