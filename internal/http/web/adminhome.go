package web

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// homeDays are the periods of the overview, in days. The first one is the default.
var homeDays = []int{30, 7, 90}

// homeView is /admin/.
type homeView struct {
	adminFrame
	// Days is the period of the counts, and Periods lists the periods to choose from.
	Days    int
	Periods []homePeriod
	Funnel  []funnelStep
	Chart   chart
	// SignIns is the chart of the sign-ins, which has its own scale.
	SignIns chart
	Rows    []chartRow
	Mail    operator.MailBacklog
	Hooks   []operator.HookBacklog
	// Closed means that people cannot sign up. Frozen means that this is so at all tenants, and
	// FrozenNote is the note that visitors then see. Own is the tenant's own setting, which applies
	// while signups are not frozen.
	Closed, Frozen bool
	FrozenNote     string
	Own            tenant.Signups
	// Since is when somebody closed sign-ups, By and Why are by whom and why, if known.
	Since  time.Time
	By     listedActor
	Why    string
	Note   string
	Reason string
}

// Open reports whether the tenant's own setting lets people sign up.
func (v homeView) Open() bool { return v.Own == tenant.SignupsOpen }

// homePeriod is a number of days to choose, with the address of the overview for it.
type homePeriod struct {
	Days int
	URL  string
}

// funnelStep is a step of the funnel. Percent is its share of the first step, and Width the width
// of its bar in percent.
type funnelStep struct {
	Name    string
	Count   int64
	Percent int64
	Width   int64
}

// newFunnel returns the steps of a funnel. A later step can be larger than the first one, since it
// includes people who signed up before the period.
func newFunnel(f operator.Funnel) []funnelStep {
	steps := []funnelStep{
		{Name: "signup", Count: f.Signups}, {Name: "activation", Count: f.Activations},
		{Name: "first_signin", Count: f.FirstSignIns},
	}
	most := max(f.Signups, f.Activations, f.FirstSignIns, 1)
	for i := range steps {
		steps[i].Width = steps[i].Count * 100 / most
		if f.Signups > 0 {
			steps[i].Percent = (steps[i].Count*100 + f.Signups/2) / f.Signups
		}
	}
	return steps
}

// chart is a bar chart of the overview: for each day a bar of each kind.
type chart struct {
	Width, Height int
	Bars          []chartBar
	// First is the first day.
	First time.Time
	// Most is the largest count. Empty means that nothing was counted.
	Most  int64
	Empty bool
}

// chartBar is a rectangle. Kind selects its colour.
type chartBar struct {
	X, Y, Width, Height int
	Kind                string
}

// chartRow is a day in numbers.
type chartRow struct {
	Day                                         time.Time
	Signups, Activations, FirstSignIns, SignIns int64
}

// newChartRows returns the days in numbers, the newest first.
func newChartRows(days []stats.DayCounts) (rows []chartRow) {
	for _, d := range slices.Backward(days) {
		rows = append(rows, chartRow{
			d.Day.Time(), d.Counts[stats.Signup], d.Counts[stats.Activation], d.Counts[stats.FirstSignIn],
			d.Counts[stats.SignIn],
		})
	}
	return rows
}

// newChart returns the chart of some kinds over the days, the oldest first.
func newChart(days []stats.DayCounts, height int, kinds ...stats.Kind) chart {
	if len(days) == 0 {
		return chart{Empty: true}
	}
	day := max(720/len(days), len(kinds)+1)
	bar := max(day/(len(kinds)+1), 1)
	c := chart{Width: day * len(days), Height: height, First: days[0].Day.Time()}
	for _, d := range days {
		for _, kind := range kinds {
			c.Most = max(c.Most, d.Counts[kind])
		}
	}
	c.Empty = c.Most == 0
	for i, d := range days {
		for k, kind := range kinds {
			n := d.Counts[kind]
			if n <= 0 {
				continue
			}
			h := max(2, int(float64(height)*float64(n)/float64(c.Most)))
			x := i*day + (day-bar*len(kinds))/2 + k*bar
			c.Bars = append(c.Bars, chartBar{x, height - h, bar, h, string(kind)})
		}
	}
	return c
}

// Lines returns the path of the lines at the top, in the middle and at the bottom.
func (c chart) Lines() string {
	return fmt.Sprintf("M0 .5h%dM0 %dh%dM0 %d.5h%[1]d", c.Width, c.Height/2, c.Width, c.Height-1)
}

// Box returns the value of the attribute viewBox.
func (c chart) Box() string { return fmt.Sprintf("0 0 %d %d", c.Width, c.Height) }

func (s *Site) showAdminHome(w http.ResponseWriter, r *adminRequest) error {
	return s.writeAdminHome(w, r, func(*homeView) {})
}

// homeDone lists the fragments of the address that confirm a change on the overview.
var homeDone = []string{"signups-open", "signups-closed", "signups-frozen", "note-saved"}

func (s *Site) writeAdminHome(w http.ResponseWriter, r *adminRequest, change func(*homeView)) error {
	v := homeView{adminFrame: s.adminFrame(r, adminHome, homeDone...), Days: homeDays[0]}
	for _, days := range homeDays {
		if adminQuery(r).Get("days") == strconv.Itoa(days) {
			v.Days = days
		}
		v.Periods = append(v.Periods, homePeriod{days, v.Link(adminHome, "days", strconv.Itoa(days))})
	}
	slices.SortFunc(v.Periods, func(a, b homePeriod) int { return a.Days - b.Days })
	counts, err := s.deps.Operators.Stats(r.Context(), r.caller, r.tenant, v.Days)
	if err != nil {
		return err
	}
	v.Funnel, v.Mail, v.Hooks = newFunnel(counts.Funnel), counts.Mail, counts.Hooks
	v.Chart = newChart(counts.Days, 200, stats.Signup, stats.Activation, stats.FirstSignIn)
	v.SignIns = newChart(counts.Days, 100, stats.SignIn)
	v.Rows = newChartRows(counts.Days)
	// Read the stored state: this server's table may lag by a second.
	state, err := s.deps.Operators.Signups(r.Context(), r.caller, r.tenant)
	if err != nil {
		return err
	}
	v.Own, v.Note = state.Mode, state.Note
	if v.Frozen = state.Freeze != nil; v.Frozen {
		v.FrozenNote = state.Freeze.Note
	}
	v.Closed = v.Frozen || !v.Open()
	if !v.Open() {
		c, found, err := s.deps.Operators.SignupsChange(r.Context(), r.caller, r.tenant, state.Mode)
		if err != nil {
			return err
		}
		if found {
			v.Since, v.By, v.Why = c.At, newListedActor(c.Actor), c.Reason
		}
	}
	change(&v)
	return s.adminShow(w, r, "admin-home", v.Problem, v)
}

// switchFields are the fields of the switch for sign-ups.
var switchFields = []string{"signups", "note", "reason"}

// saveNote is the value of the button that changes only the note. It is the form's first button,
// which the Enter key presses.
const saveNote = "note"

// switchSignups opens or closes sign-ups, or changes the note.
func (s *Site) switchSignups(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	mode, note := tenant.Signups(f["signups"]), strings.TrimSpace(f["note"])
	done := "signups-" + string(mode)
	var err error
	if mode == saveNote {
		done = "note-saved"
		err = s.deps.Operators.SetSignupsNote(r.Context(), r.caller, r.tenant, note, f["reason"])
	} else {
		var state operator.Signups
		state, err = s.deps.Operators.SetSignups(r.Context(), r.caller, r.tenant, mode, &note, f["reason"])
		if state.Freeze != nil && mode == tenant.SignupsOpen {
			done = "signups-frozen" // people still cannot sign up
		}
	}
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	if fe, is := errors.AsType[*fault.Error](err); is && fe.Field == "signups-note" {
		problem = "note"
	}
	switch {
	case err == nil:
		return s.toAdmin(w, r, adminHome, done)
	case !ok:
		return err
	}
	return s.writeAdminHome(w, r, func(v *homeView) { v.Problem, v.Note, v.Reason = problem, f["note"], f["reason"] })
}
