package web

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/operator"
)

// bulkView is /admin/bulk: one bulk change.
type bulkView struct {
	adminFrame
	listedBulk
	Reason  string
	Failure string
	// Accounts are some of the accounts that belong to the bulk change.
	Accounts []listedAccount
	// Waiting means that the page will soon be reloaded from Self.
	Waiting bool
	Self    string
	// Filter describes the accounts.
	Filter []describedFilter
	// Mine means that the viewer started the bulk change. Only that person may run it.
	Mine bool
}

// listedBulk is a bulk change in a list.
type listedBulk struct {
	URL         string
	ID          string
	Action      operator.BulkAction
	State       operator.BulkState
	Found, Done int64
	Made        time.Time
	Actor       listedActor
}

// describedFilter is one field of a filter: the name of its text, and the value.
type describedFilter struct{ Name, Value string }

func newListedBulk(f adminFrame, b operator.Bulk) listedBulk {
	return listedBulk{
		f.Link(adminBulk, "id", b.ID.String()), b.ID.String(), b.Action, b.State, b.Found, b.Done, b.Made,
		newListedActor(b.Cause.Actor),
	}
}

// timeText formats a time in UTC in the format of filters.
func timeText(t time.Time) string {
	t = t.UTC()
	if t.Equal(t.Truncate(24 * time.Hour)) {
		return t.Format(time.DateOnly)
	}
	return t.Truncate(time.Second).Format("2006-01-02 15:04:05")
}

// maxBulks is how many recent bulk changes the list of accounts shows.
const maxBulks = 5

// previewSize is how many accounts a bulk change shows before it runs.
const previewSize = 10

func (s *Site) showBulk(w http.ResponseWriter, r *adminRequest) error {
	return s.writeBulk(w, r, adminQuery(r).Get("id"), func(*bulkView) {})
}

func (s *Site) writeBulk(w http.ResponseWriter, r *adminRequest, text string, change func(*bulkView)) error {
	id, err := operator.ParseBulkID(text)
	if err != nil {
		return errNoPage
	}
	b, err := s.deps.Operators.Bulk(r.Context(), r.caller, r.tenant, id)
	if err != nil {
		return err
	}
	f := s.adminFrame(r, adminAccounts, "bulk-run", "bulk-cancelled")
	v := bulkView{
		adminFrame: f, listedBulk: newListedBulk(f, b), Reason: b.Cause.Reason, Failure: b.Failure,
		Waiting: b.State == operator.BulkCounting || b.State == operator.BulkRunning,
		Mine:    b.Cause.Actor == r.caller.Actor,
	}
	v.Self = v.URL
	if v.Again != "" {
		v.Again = v.Link(adminAgain, "next", v.URL)
	}
	q := b.Query
	add := func(name, value string) {
		if value != "" {
			v.Filter = append(v.Filter, describedFilter{name, value})
		}
	}
	add("text", q.Text)
	for _, state := range q.States {
		add("state", string(state))
	}
	for _, role := range q.Roles {
		add("role", string(role))
	}
	if q.Net.IsValid() {
		add("net", q.Net.String())
	}
	if !q.Since.IsZero() {
		add("since", timeText(q.Since))
	}
	if !q.Before.IsZero() {
		add("before", timeText(q.Before))
	}
	if q.Confirmed != nil {
		add("confirmed", map[bool]string{true: "yes", false: "no"}[*q.Confirmed])
	}
	if b.State == operator.BulkReady {
		page, err := s.deps.Operators.PreviewBulk(r.Context(), r.caller, r.tenant, id, "", previewSize)
		if err != nil {
			return err
		}
		v.Accounts = v.listed(page.Accounts)
	}
	change(&v)
	return s.adminShow(w, r, "admin-bulk", v.Problem, v)
}

// bulkFields are the fields of the forms of /admin/bulk: those of the filter, to start a bulk
// change, and those to run or cancel one.
var bulkFields = append([]string{"do", "action", "reason", "id", "count"}, filterFields...)

func (s *Site) changeBulk(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	ctx, do := r.Context(), f["do"]
	if do == "start" {
		return s.startBulk(w, r, f)
	}
	id, err := operator.ParseBulkID(f["id"])
	if err != nil {
		return errNoPage
	}
	switch do {
	case "run":
		n, wrong := strconv.ParseInt(strings.TrimSpace(f["count"]), 10, 64)
		if wrong != nil {
			n = -1 // never the number of a bulk change
		}
		_, err = s.deps.Operators.RunBulk(ctx, r.caller, r.tenant, id, n)
	case "cancel":
		_, err = s.deps.Operators.CancelBulk(ctx, r.caller, r.tenant, id)
	default:
		return fault.New(fault.Invalid, "the form is not one of this page; load the page again")
	}
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	switch {
	case err == nil && do == "run":
		return s.toAdmin(w, r, adminBulk, "bulk-run", "id", f["id"])
	case err == nil:
		return s.toAdmin(w, r, adminBulk, "bulk-cancelled", "id", f["id"])
	case !ok:
		return err
	}
	return s.writeBulk(w, r, f["id"], func(v *bulkView) {
		switch v.Problem = problem; {
		case problem != "conflict":
		case !v.Mine:
			v.Problem = "bulk_other"
		case v.State != operator.BulkReady:
			v.Problem = "bulk_state"
		default:
			v.Problem = "count"
		}
	})
}

// startBulk starts a bulk change of the accounts that a filter selects.
func (s *Site) startBulk(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	filter := newAccountFilter(func(name string) string { return f[name] })
	q, problem := filter.query(r.tenant.Host, s.deps.Operators.Now())
	if problem == "" {
		b, err := s.deps.Operators.StartBulk(r.Context(), r.caller, r.tenant, operator.BulkAction(f["action"]), q,
			f["reason"])
		if errors.Is(err, operator.ErrSignInAgain) {
			return s.showAgain(w, r, f, "")
		}
		var ok bool
		if problem, ok = problemOf(err); err == nil {
			return s.toAdmin(w, r, adminBulk, "", "id", b.ID.String())
		} else if !ok {
			return err
		}
	}
	v := s.newAccountsView(r, filter)
	v.Problem, v.Action, v.Reason = problem, f["action"], f["reason"]
	return s.listAccounts(w, r, v, "")
}
