package web

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/operator"
	"dialtone/internal/session"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// adminViews returns the pages for operators, with text in every place that shows a value.
func adminViews(in frame, text string) map[string]view {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	in.Parts = true
	f := func(here string) adminFrame { return adminFrame{frame: in, Here: here} }
	accounts := []listedAccount{
		{
			URL: "/admin/account?user=x", User: text, Name: text, Email: text, State: account.Waiting,
			Role: account.Guest, Created: at, Net: text,
		},
		{
			URL: "/admin/account?user=y", User: text, Name: text, Email: text, State: account.Active,
			Role: account.Admin, Created: at, Confirmed: true,
		},
	}
	changes := []listedChange{
		{
			At: at, Action: text, User: text, UserURL: "/admin/account?user=x", Subject: listedValue{Text: text},
			Values: []changedValue{
				{Before: listedValue{Text: text}, After: listedValue{Key: "admin.state.closed"}},
				{Key: "admin.set.about", Before: listedValue{Text: text}}, {Name: text, After: listedValue{Text: text}},
			},
			By: listedActor{audit.Admin, text}, Reason: text, Net: text,
		},
		{At: at, Action: text, User: text, Failed: true, By: listedActor{audit.Command, text}},
		{
			At: at, Text: "admin.bulk.delete", Bulk: "/admin/bulk?id=1", Count: "300",
			By: listedActor{Kind: audit.System},
		},
		{
			At: at, Text: "admin.act.account.delete", User: text, Bulk: "/admin/bulk?id=1",
			By: listedActor{audit.Token, text},
		},
		{At: at, Text: "admin.act.account.leave", User: text, By: listedActor{Kind: audit.Person}},
	}
	who := listedActor{audit.Admin, text}
	filter := accountFilter{
		Text: text, State: "waiting", Role: "guest", Net: text, Since: "2026-11-01", Before: "2026-11-29",
		Confirmed: "no",
	}
	list := accountsView{
		adminFrame: f(adminAccounts), States: account.States, Roles: account.Roles, Accounts: accounts,
		Next: "/admin/accounts?next=x",
	}
	found := list
	found.Filter, found.Filtered, found.Partial, found.First = filter, true, true, "/admin/accounts"
	found.Reason, found.Stale, found.Again = text, true, "/admin/again?next=%2Fadmin%2F"
	found.Bulks = []listedBulk{{
		URL: "/admin/bulk?id=1", ID: text, Action: operator.BulkDelete, State: operator.BulkDone, Found: 500,
		Done: 500, Made: at, Actor: who,
	}}
	found.Problem, found.wrongFilter, found.NotSearched = "filter", newWrongFilter("since"), true
	found.Fixes = found.fixes()
	var days []stats.DayCounts
	for i := range 90 {
		days = append(days, stats.DayCounts{Day: stats.DayOf(at) - 89 + stats.Day(i), Counts: stats.Counts{
			stats.Signup: int64(i * i % 37), stats.Activation: int64(i * i % 23), stats.FirstSignIn: int64(i % 9),
			stats.SignIn: int64(i * 7 % 500),
		}})
	}
	detail := accountView{
		adminFrame: f(adminAccounts), User: text, UID: text, Name: text, Email: text, Role: account.User,
		Roles: account.Roles, State: account.Active, Since: at, By: who, Why: text, Until: at, Created: at,
		Activated: at, Confirmed: at, FirstSignIn: at, Net: text, App: true, Codes: 7, Passkeys: []string{text},
		Messages: []account.DataMessage{
			{To: text, State: "replaced", Kind: "reset", Since: at, Ended: &at, Attempts: 2, Answer: text},
			{To: text, State: "writing", Since: at},
			{To: text, State: "written", Since: at},
		},
		Sessions: []listedSession{
			{Browser: text, System: text, Net: text, Began: at, Seen: at, How: session.ByCode},
			{How: session.ByPasskey}, {},
		},
		Lookups: []listedPhoneServer{{text, at}}, Changes: changes, MoreChanges: "/admin/changes?user=x",
		Form: "delete", Fields: adminFields{"reason": text}, ResetLink: text, LinkUntil: at,
	}
	detail.Says, detail.Problem = accountDone, "user"
	detail.Fixes = []adminField{{"delete-confirm", fieldLabels["confirm"]}}
	detail.Wrong, detail.Error = "confirm", "admin.bad.confirm"
	waiting := detail
	waiting.State, waiting.Form, waiting.ResetLink, waiting.Problem = account.Waiting, "resend", "", "own"
	waiting.Fields = adminFields{"reason": text, "email": text}
	waiting.Wrong, waiting.Error, waiting.ChangedAt = "email", "admin.bad.email", at
	waiting.ChangedBy = listedActor{audit.Admin, text}
	added := addView{adminFrame: f(adminAccounts), Roles: account.Roles, Fields: adminFields{}}
	added.Errors = map[string]string{}
	for _, name := range addFields {
		added.Fields[name], added.Errors[name] = text, "admin.bad."+name
	}
	added.Errors["active"], added.Problem = "", "fields"
	added.Fixes = []adminField{{"add-user", fieldLabels["user"]}}
	own := accountView{
		adminFrame: f(adminAccounts), User: text, Role: account.Admin, Roles: account.Roles, State: account.Disabled,
		Own: true,
	}
	own.Says = accountDone
	bulk := func(state operator.BulkState, mine bool) bulkView {
		return bulkView{
			adminFrame: f(adminAccounts), Reason: text, Failure: text, Mine: mine, Self: "/admin/bulk?id=1",
			listedBulk: listedBulk{
				URL: "/admin/bulk?id=1", ID: text, Action: operator.BulkDelete, State: state, Found: 500,
				Done: 20, Made: at, Actor: who,
			},
			Waiting: state == operator.BulkCounting || state == operator.BulkRunning, Accounts: accounts,
			Filter: []describedFilter{
				{"text", text}, {"state", "waiting"}, {"role", "guest"}, {"net", text}, {"since", "2026-11-01"},
				{"before", "2026-11-29"}, {"confirmed", "no"},
			},
		}
	}
	settings := settingsView{adminFrame: f(adminSettings), Logo: true, LogoProblem: true, Version: text, Reason: text}
	settings.Problem, settings.Fixes = "settings", []adminField{{"logo", "admin.logo"}}
	for i, field := range settingFields {
		x := shownSetting{settingField: field, Value: text, Refused: i%2 == 0, Was: text, Changed: i%3 == 0}
		if i%6 == 0 {
			x.Theirs = text
		}
		if field.Kind == "choice" {
			x.Value = field.get(tenant.Settings{})
		}
		settings.Settings = append(settings.Settings, x)
	}
	again := againPage{
		adminFrame: f(""), Action: adminAccount, Fields: []adminField{{"reason", text}}, Passkeys: true,
	}
	again.Parts = false
	return map[string]view{
		"admin home": {"admin-home", homeView{
			adminFrame: f(adminHome), Funnel: newFunnel(operator.Funnel{Signups: 120, Activations: 80,
				FirstSignIns: 60}),
			Chart:   newChart(days[60:], 200, stats.Signup, stats.Activation, stats.FirstSignIn),
			SignIns: newChart(days[60:], 100, stats.SignIn), Rows: newChartRows(days[60:]), Days: 30,
			Periods: []homePeriod{
				{Days: 7, URL: "/admin/?days=7"}, {Days: 30, URL: "/admin/?days=30"},
				{Days: 90, URL: "/admin/?days=90"},
			},
			Mail: operator.MailBacklog{Waiting: 3, Deferred: 2000, Failed: 1, Oldest: at},
			Hooks: []operator.HookBacklog{{
				Name: text, Kind: hook.Kind(text), Waiting: 3, Oldest: at, LastFailure: at, LastError: text, GivenUp: 2,
			}},
			Closed: true, Frozen: true, FrozenNote: text, Own: tenant.SignupsOpen, Note: text, Reason: text,
		}},
		"admin home closed": {"admin-home", homeView{
			adminFrame: f(adminHome), Days: 90, Rows: newChartRows(days), SignIns: newChart(days, 100, stats.SignIn),
			Chart:  newChart(days, 200, stats.Signup, stats.Activation, stats.FirstSignIn),
			Closed: true, Own: tenant.SignupsClosed,
			Since: at, By: listedActor{audit.Admin, text}, Why: text,
		}},
		"admin home empty": {"admin-home", homeView{
			adminFrame: f(adminHome), Days: 7, Chart: newChart(nil, 200), SignIns: newChart(nil, 100),
			Own: tenant.SignupsOpen,
		}},
		"admin gone": {"admin-gone", goneView{
			adminFrame: f(adminAccounts), User: text, Changes: changes, MoreChanges: "/admin/changes?user=x",
		}},
		"admin nothing":  {"admin-gone", goneView{adminFrame: f("")}},
		"admin accounts": {"admin-accounts", list},
		"admin found":    {"admin-accounts", found},
		"admin nobody":   {"admin-accounts", accountsView{adminFrame: f(adminAccounts)}},
		"admin account":  {"admin-account", detail},
		"admin waiting":  {"admin-account", waiting},
		"admin own":      {"admin-account", own},
		"admin closed": {"admin-account", accountView{
			adminFrame: f(adminAccounts), User: text, Closed: at, By: who, Why: text,
		}},
		"admin add":         {"admin-add", added},
		"admin counting":    {"admin-bulk", bulk(operator.BulkCounting, true)},
		"admin ready":       {"admin-bulk", bulk(operator.BulkReady, true)},
		"admin other's":     {"admin-bulk", bulk(operator.BulkReady, false)},
		"admin running":     {"admin-bulk", bulk(operator.BulkRunning, true)},
		"admin failed":      {"admin-bulk", bulk(operator.BulkFailed, true)},
		"admin cancelled":   {"admin-bulk", bulk(operator.BulkCancelled, true)},
		"admin unconfirmed": {"admin-bulk", bulk(operator.BulkUnconfirmed, true)},
		"admin bulk done":   {"admin-bulk", bulk(operator.BulkDone, true)},
		"admin changes": {"admin-changes", changesView{
			adminFrame: f(adminChanges), Changes: changes,
			Filter: changeFilter{User: text, Action: text, Actor: text, Net: text},
			Next:   "/admin/changes?next=1", Reason: text, All: "/admin/changes?bulk=all",
		}},
		"admin messages": {"admin-messages", messagesView{adminFrame: f(adminMessages), Messages: []listedMessage{
			{
				ID: text, User: text, UserURL: "/admin/account?user=x", To: text, Kind: "reset", Answer: text,
				State: delivery.Deferred, Since: at, Due: at, Attempts: 3, Retry: true,
			},
			{
				ID: text + "2", User: text, UserURL: "/admin/account?user=x", To: text, State: delivery.Waiting,
				Since: at,
			},
		}}},
		"admin settings": {"admin-settings", settings},
		"admin again":    {"admin-again", again},
		"admin return":   {"admin-again", againPage{adminFrame: again.adminFrame, Next: adminHome}},
	}
}
