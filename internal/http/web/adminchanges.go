package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/audit"
	"dialtone/internal/operator/opjson"
)

// changeFilter is the filter of the audit trail as it is in the address, for the fields of the
// form. Bulk is allBulk, or empty to leave out the rows of single accounts in bulk changes. A bulk
// change also has one row for all its accounts.
type changeFilter struct{ User, Action, Actor, Net, Since, Before, Bulk string }

const allBulk = "all"

func (f changeFilter) pairs() []string {
	return []string{
		"user", f.User, "action", f.Action, "actor", f.Actor, "net", f.Net, "since", f.Since, "before", f.Before,
		"bulk", f.Bulk,
	}
}

// changeFields are the names of the fields of a changeFilter.
var changeFields = []string{"user", "action", "actor", "net", "since", "before", "bulk"}

func newChangeFilter(get func(string) string) changeFilter {
	return changeFilter{
		User: strings.TrimSpace(get("user")), Action: strings.TrimSpace(get("action")),
		Actor: strings.TrimSpace(get("actor")), Net: strings.TrimSpace(get("net")),
		Since: strings.TrimSpace(get("since")), Before: strings.TrimSpace(get("before")), Bulk: get("bulk"),
	}
}

// LeavesOut reports whether the single accounts of bulk changes are left out. They are never left
// out in the list of one account.
func (f changeFilter) LeavesOut() bool { return f.Bulk != allBulk && f.User == "" }

// Any reports whether the filter selects only some changes, apart from LeavesOut.
func (f changeFilter) Any() bool {
	f.Bulk = ""
	return f != changeFilter{}
}

// filter converts f to a filter of the trail, or returns the name of the first invalid field.
func (f changeFilter) filter(now time.Time) (a audit.Filter, problem string) {
	for _, text := range []struct{ name, value string }{
		{"user", f.User}, {"action", f.Action}, {"actor", f.Actor},
	} {
		if len(text.value) > maxFilterText || !utf8.ValidString(text.value) ||
			strings.ContainsFunc(text.value, unicode.IsControl) {
			return a, text.name
		}
	}
	a.User, a.Action, a.Actor, a.Newest, a.NoBulk = f.User, f.Action, f.Actor, true, f.LeavesOut()
	var ok bool
	if a.Net, ok = parseNetwork(f.Net); !ok {
		return a, "net"
	}
	a.Since, a.Before, problem = parseTimes(f.Since, f.Before, now)
	return a, problem
}

// fixed returns the filter with times instead of durations before now, for a form that is sent
// later.
func (f changeFilter) fixed(now time.Time) changeFilter {
	f.Since, f.Before = fixedTime(f.Since, now), fixedTime(f.Before, now)
	return f
}

// changesView is /admin/changes.
type changesView struct {
	adminFrame
	wrongFilter
	Filter changeFilter
	// Fixed is Filter with fixed times, for the form for an export.
	Fixed changeFilter
	// NotSearched means that the filter or the address has a problem.
	NotSearched bool
	Changes     []listedChange
	// Next is the address of the next page, or empty. Partial means that this page is not full
	// although there may be more changes.
	Next    string
	Partial bool
	First   string
	Reason  string
	// All is the address of the list that includes the single accounts of bulk changes, if they are
	// left out.
	All string
}

// Groups returns the actions that the filter offers.
func (v changesView) Groups() []actionGroup { return actionGroups }

// Other reports whether the filter has an action that Groups does not offer.
func (v changesView) Other() bool {
	return v.Filter.Action != "" && !slices.ContainsFunc(actionGroups, func(g actionGroup) bool {
		return v.Filter.Action == g.Prefix || slices.Contains(g.Actions, audit.Action(v.Filter.Action))
	})
}

// A page of the list reads more of the trail until it is full. It makes at most changeLooks reads,
// and starts none after changeTime.
const (
	changeLooks = 50
	changeTime  = 200 * time.Millisecond
)

func (s *Site) showChanges(w http.ResponseWriter, r *adminRequest) error {
	q := adminQuery(r)
	v := changesView{adminFrame: s.adminFrame(r, adminChanges), Filter: newChangeFilter(q.Get)}
	return s.listChanges(w, r, v, q.Get("next"))
}

func (s *Site) listChanges(w http.ResponseWriter, r *adminRequest, v changesView, next string) error {
	now := s.deps.Operators.Now()
	filter, problem := v.Filter.filter(now)
	v.Fixed = v.Filter.fixed(now)
	if v.NotSearched = problem != ""; v.NotSearched {
		v.wrongFilter = newWrongFilter(problem)
		v.Problem, v.Fixes = "filter", v.fixes()
	} else {
		first, began, looks := next, time.Now(), 0
		for {
			page, err := s.deps.Operators.Changes(r.Context(), r.caller, r.tenant, filter, next,
				adminPageSize-len(v.Changes))
			if p, ok := problemOf(err); ok && next != "" {
				v.Problem, v.NotSearched = "list_"+p, true
			} else if err != nil {
				return err
			}
			for _, c := range page.Changes {
				v.Changes = append(v.Changes, newListedChange(v.adminFrame, c))
			}
			next = page.Next
			if looks++; next == "" || len(v.Changes) == adminPageSize || looks == changeLooks ||
				time.Since(began) > changeTime {
				break
			}
		}
		if next != "" {
			v.Next = v.Link(adminChanges, append(v.Filter.pairs(), "next", next)...)
			v.Partial = len(v.Changes) < adminPageSize
		}
		if v.Filter.LeavesOut() {
			all := v.Filter
			all.Bulk = allBulk
			v.All = v.Link(adminChanges, all.pairs()...)
		}
		if first != "" {
			v.First = v.Link(adminChanges, v.Filter.pairs()...)
		}
	}
	return s.adminShow(w, r, "admin-changes", v.Problem, v)
}

var exportType = []string{"application/jsonl; charset=utf-8"}

// exportChanges writes the changes that a filter selects, as JSON lines.
func (s *Site) exportChanges(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	v := changesView{
		adminFrame: s.adminFrame(r, adminChanges), Filter: newChangeFilter(func(name string) string { return f[name] }),
		Reason: f["reason"],
	}
	filter, problem := v.Filter.filter(s.deps.Operators.Now())
	if problem != "" {
		return s.listChanges(w, r, v, "")
	}
	filter.Newest = false
	begun := false
	begin := func() {
		if begun {
			return
		}
		begun = true
		h := w.Header()
		h["Content-Type"] = exportType
		h["Content-Disposition"] = []string{`attachment; filename="changes.jsonl"`}
		w.WriteHeader(http.StatusOK)
	}
	out := json.NewEncoder(w)
	err := s.deps.Operators.ExportChanges(r.Context(), r.caller, r.tenant, filter, f["reason"],
		func(c audit.Change) error {
			begin()
			return out.Encode(opjson.OfChange(c))
		})
	problem, ok := problemOf(err)
	switch {
	case err == nil:
		begin()
		return nil
	case begun:
		// A truncated file must not look complete.
		s.deps.Log.ErrorContext(r.Context(), "export failed", "request", r.from.Request, "err", err)
		panic(http.ErrAbortHandler)
	case !ok:
		return err
	}
	v.Problem = problem
	return s.listChanges(w, r, v, "")
}
