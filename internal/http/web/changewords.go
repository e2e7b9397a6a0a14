package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/operator"
)

// actionGroup is a group of audit actions for which the list of changes has texts.
type actionGroup struct {
	// Name is the name of the group's text. Prefix selects the whole group in a filter, or is
	// empty.
	Name, Prefix string
	Actions      []audit.Action
}

// actionGroups contains the actions of changes at a tenant, in the order of the filter's menu.
var actionGroups = []actionGroup{
	{"account", "account.", []audit.Action{
		audit.AccountAdd, audit.AccountResend, audit.AccountEnable, audit.AccountDisable, audit.AccountRole,
		audit.EmailChange, audit.ProfileChange, audit.AccountFactors, audit.AccountDelete, audit.AccountFreeName,
		audit.AccountBulk, audit.AccountImport, audit.AccountExport, audit.AccountDecline, audit.AccountLeave,
		audit.AccountStay, audit.AccountData, audit.AccountView, audit.AccountList,
	}},
	{"access", "", []audit.Action{
		audit.PasswordLink, audit.PasswordChange, audit.PasswordReset, audit.PasswordNotMe, audit.SessionsEnd,
		audit.NewBrowser, audit.TwoStepOn, audit.TwoStepOff, audit.TwoStepCodes, audit.TwoStepRecovery,
		audit.PasskeyAdd, audit.PasskeyRename, audit.PasskeyRemove,
	}},
	{"message", "message.", []audit.Action{audit.MessageRetry, audit.MessageDiscard}},
	{"platform", "", []audit.Action{
		audit.TenantAdd, audit.TenantSet, audit.TenantRemove, audit.AuditExport, audit.ExportFile, audit.TokenAdd,
		audit.TokenRemove, audit.DirectoryTokenAdd, audit.DirectoryTokenRemove, audit.HookAdd, audit.HookRemove,
		audit.DKIMAdd, audit.DKIMRemove,
	}},
}

// actionText returns the key of the text about an action, or "" if there is none.
func actionText(a audit.Action) string {
	for _, g := range actionGroups {
		if slices.Contains(g.Actions, a) {
			return "admin.act." + string(a)
		}
	}
	return ""
}

// listedValue is a value in a list: a literal text, or the key of a translated one.
type listedValue struct{ Text, Key string }

// Empty reports whether there is no value.
func (v listedValue) Empty() bool { return v == listedValue{} }

// value returns a value in words.
func (w wording) value(v listedValue) (template.HTML, error) {
	if v.Key != "" {
		return w.say(v.Key)
	}
	return bdi("", v.Text), nil
}

// listedActor is who made a change.
type listedActor struct {
	Kind audit.ActorKind
	Name string
}

func newListedActor(a audit.Actor) listedActor {
	l := listedActor{a.Kind, a.Name}
	if a.Kind == audit.Command {
		l.Name = a.String() // with sudo
	}
	return l
}

// actor returns who made a change, in words.
func (w wording) actor(a listedActor) (template.HTML, error) {
	switch a.Kind {
	case audit.System, audit.Command, audit.Person, audit.Admin, audit.Token:
		return w.say("admin.actor."+string(a.Kind), "name", bdi("", a.Name))
	}
	return bdi("", a.Name), nil
}

// changedValue is a changed value. Key is the key of its label; without one, Name is its name.
type changedValue struct {
	Key, Name     string
	Before, After listedValue
}

// changed describes the change of a value in words.
func (w wording) changed(c changedValue) (template.HTML, error) {
	before, err := w.value(c.Before)
	if err != nil {
		return "", err
	}
	after, err := w.value(c.After)
	if err != nil {
		return "", err
	}
	switch {
	case c.Before == c.After:
		return w.say("admin.same", "value", after)
	case c.Before.Empty():
		return w.say("admin.after", "after", after)
	case c.After.Empty():
		return w.say("admin.before", "before", before)
	}
	return w.say("admin.before_after", "before", before, "after", after)
}

// wordsOf returns a value of an action as a translated text, if it is a state, a role or the like.
func wordsOf(a audit.Action, text string) listedValue {
	switch {
	case text == "":
		return listedValue{}
	case a == audit.AccountRole || a == audit.AccountAdd && slices.Contains(account.Roles, account.Role(text)):
		if slices.Contains(account.Roles, account.Role(text)) {
			return listedValue{Key: "admin.role." + text}
		}
	case a == audit.MessageRetry || a == audit.MessageDiscard:
		switch delivery.State(text) {
		case delivery.Waiting, delivery.Deferred, delivery.Sent, delivery.Failed, delivery.Discarded:
			return listedValue{Key: "admin.mail." + text}
		}
	case text == string(account.Closed) || slices.Contains(account.States, account.State(text)):
		return listedValue{Key: "admin.state." + text}
	}
	return listedValue{Text: text}
}

// subjects maps the fixed words that occur as subjects to the keys of their texts.
var subjects = map[audit.Action]map[string]string{
	audit.ProfileChange: {"name": "account.name", "email": "account.email"},
	audit.AccountResend: {"email": "admin.subject.email"},
	audit.PasswordLink:  {"message": "admin.subject.message"},
	audit.SessionsEnd:   {"all": "admin.subject.all"},
}

// listedChange is a change of the audit trail in a list.
type listedChange struct {
	At time.Time
	// Text is the key of the text about the action. If it is empty, Action is shown.
	Text, Action  string
	Failed        bool
	User, UserURL string
	Subject       listedValue
	// Bulk is the address of the bulk change, and Count its number of accounts.
	Bulk, Count string
	// Values are the changed values.
	Values       []changedValue
	By           listedActor
	Reason       string
	Net, Request string
}

func newListedChange(f adminFrame, c audit.Change) listedChange {
	l := listedChange{
		At: c.At, Text: actionText(c.Action), Action: string(c.Action), Failed: c.Outcome != audit.OK, User: c.User,
		By: newListedActor(c.Actor), Reason: c.Reason, Net: c.Net, Request: c.Request,
	}
	if account.WellFormedUser(c.User) {
		l.UserURL = f.Link(adminAccount, "user", c.User)
	}
	action, id, _ := strings.Cut(c.Subject, " ")
	switch {
	case c.Action == audit.AccountBulk && slices.Contains(operator.BulkActions, operator.BulkAction(action)):
		l.Text, l.Bulk, l.Count = "admin.bulk."+action, f.Link(adminBulk, "id", id), c.After
		return l
	case c.Action == audit.TenantSet:
		if l.Values = changedSettings(c.Before, c.After); l.Values != nil {
			return l
		}
	case strings.HasPrefix(c.Subject, audit.BulkSubject):
		l.Bulk = f.Link(adminBulk, "id", id)
	case c.Action == audit.MessageRetry || c.Action == audit.MessageDiscard: // the message's ID means nothing to people
	case subjects[c.Action][c.Subject] != "":
		l.Subject.Key = subjects[c.Action][c.Subject]
	default:
		l.Subject = wordsOf(c.Action, c.Subject)
	}
	if c.Before != "" || c.After != "" {
		l.Values = []changedValue{{Before: wordsOf(c.Action, c.Before), After: wordsOf(c.Action, c.After)}}
	}
	return l
}

// namedSettings are the settings of a tenant with a translated name, in addition to settingFields.
var namedSettings = []string{
	"realm", "public_url", "logo", "mail_from", "sip_server", "sip_transport", "sip_websocket", "turn_uris",
	"turn_seconds", "acrobits_cloud", "origins", "reserved", "algorithm", "signups", "signups_note",
}

// changedSettings returns the settings in two JSON objects, or nil if the texts are not JSON
// objects.
func changedSettings(before, after string) (list []changedValue) {
	var was, is map[string]any
	if json.Unmarshal([]byte(before), &was) != nil || json.Unmarshal([]byte(after), &is) != nil {
		return nil
	}
	var names []string
	for _, field := range settingFields {
		names = append(names, field.Name)
	}
	names = append(names, namedSettings...)
	known := len(names)
	var others []string
	for _, side := range []map[string]any{was, is} {
		for name := range side {
			if !slices.Contains(names, name) && !slices.Contains(others, name) {
				others = append(others, name)
			}
		}
	}
	slices.Sort(others)
	for i, name := range append(names, others...) {
		_, had := was[name]
		if _, has := is[name]; !had && !has {
			continue
		}
		c := changedValue{Name: name, Before: settingValue(name, was[name]), After: settingValue(name, is[name])}
		if i < known {
			c.Key = "admin.set." + name
		}
		list = append(list, c)
	}
	return list
}

// settingValue returns the value of a setting as a text.
func settingValue(name string, value any) listedValue {
	text := ""
	switch v := value.(type) {
	case nil:
	case string:
		text = v
	case []any:
		var parts []string
		for _, part := range v {
			parts = append(parts, fmt.Sprint(part))
		}
		text = strings.Join(parts, ", ")
	case float64:
		text = fmt.Sprintf("%.0f", v)
	default:
		text = fmt.Sprint(v)
	}
	switch {
	case text == "":
		return listedValue{Key: "admin.value.none"}
	case name == "logo":
		return listedValue{Key: "admin.value.picture"}
	case name == "signups" && (text == "open" || text == "closed"):
		return listedValue{Key: "admin.signups_" + text}
	}
	for _, field := range settingFields {
		if field.Name == name && slices.Contains(field.Choices, text) {
			return listedValue{Key: "admin.choice." + name + "." + text}
		}
	}
	return listedValue{Text: text}
}
