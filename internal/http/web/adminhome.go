package web

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// chartDays is how many days the overview is about.
const chartDays = 30

// homeView is /admin/.
type homeView struct {
	adminFrame
	Funnel []funnelStep
	Chart  chart
	Mail   operator.MailBacklog
	Hooks  []operator.HookBacklog
	// Closed is whether people cannot sign up, Frozen whether that is so at all tenants. Note is what visitors read.
	Closed, Frozen bool
	Note           string
	Reason         string
}

// funnelStep is a step of the funnel. Percent is its part of the first step, and Width that of the bar.
type funnelStep struct {
	Name    string
	Count   int64
	Percent int64
	Width   int64
}

// newFunnel returns the steps of a funnel. A later step can have more people than the first one, who signed up before
// its days.
func newFunnel(f operator.Funnel) []funnelStep {
	steps := []funnelStep{
		{Name: "signup", Count: f.Signups}, {Name: "activation", Count: f.Activations},
		{Name: "first_signin", Count: f.FirstSignIns},
	}
	most := max(f.Signups, f.Activations, f.FirstSignIns, 1)
	for i := range steps {
		steps[i].Width = steps[i].Count * 100 / most
		if f.Signups > 0 {
			steps[i].Percent = steps[i].Count * 100 / f.Signups
		}
	}
	return steps
}

// chart is what the overview draws over time: for each day a bar of each kind.
type chart struct {
	Width, Height int
	Bars          []chartBar
	Rows          []chartRow
	// Most is the largest count. Empty says that nothing was counted.
	Most  int64
	Empty bool
}

// chartBar is a rectangle. Kind is a word for its colour.
type chartBar struct {
	X, Y, Width, Height int
	Kind                string
}

// chartRow is a day of the chart in numbers.
type chartRow struct {
	Day                                time.Time
	Signups, Activations, FirstSignIns int64
}

// chartKinds are what the chart shows.
var chartKinds = []stats.Kind{stats.Signup, stats.Activation, stats.FirstSignIn}

func newChart(days []stats.DayCounts) chart {
	const day, bar, height = 24, 6, 200
	c := chart{Width: day * len(days), Height: height}
	for _, d := range days {
		for _, kind := range chartKinds {
			c.Most = max(c.Most, d.Counts[kind])
		}
	}
	c.Empty = c.Most == 0
	for i, d := range days {
		c.Rows = append(c.Rows, chartRow{
			d.Day.Time(), d.Counts[stats.Signup], d.Counts[stats.Activation], d.Counts[stats.FirstSignIn],
		})
		for k, kind := range chartKinds {
			n := d.Counts[kind]
			if n <= 0 {
				continue
			}
			h := max(2, int(float64(height)*float64(n)/float64(c.Most)))
			c.Bars = append(c.Bars, chartBar{i*day + 3 + k*bar, height - h, bar, h, string(kind)})
		}
	}
	return c
}

// Box returns the value of the attribute viewBox.
func (c chart) Box() string { return fmt.Sprintf("0 0 %d %d", c.Width, c.Height) }

func (s *Site) showAdminHome(w http.ResponseWriter, r *adminRequest) error {
	return s.writeAdminHome(w, r, func(*homeView) {})
}

func (s *Site) writeAdminHome(w http.ResponseWriter, r *adminRequest, change func(*homeView)) error {
	v := homeView{adminFrame: s.adminFrame(r, adminHome, "signups-open", "signups-closed")}
	counts, err := s.deps.Operators.Stats(r.Context(), r.caller, r.tenant, chartDays)
	if err != nil {
		return err
	}
	v.Funnel, v.Chart, v.Mail, v.Hooks = newFunnel(counts.Funnel), newChart(counts.Days), counts.Mail, counts.Hooks
	state, err := s.deps.Operators.Signups(r.Context(), r.caller, r.tenant)
	if err != nil {
		return err
	}
	v.Closed, v.Frozen, v.Note = state.Mode != tenant.SignupsOpen || state.Freeze != nil, state.Freeze != nil,
		state.Note
	change(&v)
	return s.adminShow(w, r, "admin-home", v.Problem, v)
}

// switchFields are the fields of the switch for sign-ups.
var switchFields = []string{"signups", "note", "reason"}

// switchSignups opens or closes sign-ups.
func (s *Site) switchSignups(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	mode, note := tenant.Signups(f["signups"]), strings.TrimSpace(f["note"])
	_, err := s.deps.Operators.SetSignups(r.Context(), r.caller, r.tenant, mode, &note, f["reason"])
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	if fe, is := errors.AsType[*fault.Error](err); is && fe.Field == "signups-note" {
		problem = "note"
	}
	switch {
	case err == nil:
		return s.toAdmin(w, r, adminHome, "signups-"+string(mode))
	case !ok:
		return err
	}
	return s.writeAdminHome(w, r, func(v *homeView) { v.Problem, v.Note, v.Reason = problem, f["note"], f["reason"] })
}
