package web

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/http/form"
	"dialtone/internal/operator"
	"dialtone/internal/session"
)

// The pages for operators. They are for people with the role admin, and show only their own tenant.
// For everybody else who is signed in, they do not exist. Package operator decides what these
// people may do.
const (
	adminHome     = "/admin/"
	adminAccounts = "/admin/accounts"
	adminAccount  = "/admin/account"
	adminAdd      = "/admin/add"
	adminBulk     = "/admin/bulk"
	adminChanges  = "/admin/changes"
	adminMessages = "/admin/messages"
	adminSettings = "/admin/settings"
	adminPreview  = "/admin/preview"
	adminAgain    = "/admin/again"
)

// adminPages are the pages for operators to which a person can return after signing in.
var adminPages = []string{
	adminHome, adminAccounts, adminAccount, adminAdd, adminBulk, adminChanges, adminMessages, adminSettings,
}

// adminRoutes returns the pages for operators.
func (s *Site) adminRoutes() map[string]route {
	return map[string]route{
		adminHome:     {get: s.admin(s.showAdminHome), post: s.adminForm(switchFields, s.switchSignups)},
		adminAccounts: {get: s.admin(s.showAccounts)},
		adminBulk:     {get: s.admin(s.showBulk), post: s.adminForm(bulkFields, s.changeBulk)},
		adminChanges: {
			get: s.admin(s.showChanges), post: s.adminForm(append([]string{"reason"}, changeFields...),
				s.exportChanges),
		},
		adminAccount:  {get: s.admin(s.showAccount), post: s.adminForm(accountFields, s.changeAccount)},
		adminAdd:      {get: s.admin(s.showAdd), post: s.adminForm(addFields, s.addAccount)},
		adminMessages: {get: s.admin(s.showMessages), post: s.adminForm(messageFields, s.changeMessage)},
		adminSettings: {get: s.admin(s.showSettings), post: s.settingsForm(s.changeSettings)},
		adminPreview:  {get: s.admin(s.showPreview), post: s.settingsForm(s.preview)},
		adminAgain:    {get: s.admin(s.signInAgain)},
	}
}

// adminRequest is a request by a person with the role admin.
type adminRequest struct {
	*request
	caller operator.Caller
	page   pageLanguage
	// sent holds the fields of the submitted form, if any.
	sent adminFields
}

type adminHandler func(http.ResponseWriter, *adminRequest) error

var noIndex = []string{"noindex"}

// admin returns a handler that authenticates an operator and calls do.
func (s *Site) admin(do adminHandler) handler {
	return func(w http.ResponseWriter, r *request) error {
		w.Header()["X-Robots-Tag"] = noIndex
		current, err := s.deps.Authenticator.Current(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
		if fault.Is(err, fault.Unauthorized) {
			s.toLoginFor(w, r, returnTo(r), ended(r))
			return nil
		}
		if errors.Is(err, session.ErrFactorMissing) {
			s.toTwoStep(w, r)
			return nil
		}
		if err != nil {
			return err
		}
		caller, err := s.deps.Operators.Admin(current, r.from)
		if fault.Is(err, fault.NotFound) {
			return errNoPage
		}
		if err != nil {
			return err
		}
		r.lang = current.Owner.Lang
		ar := &adminRequest{request: r, caller: caller, page: s.pageLanguage(r)}
		err = do(w, ar)
		if r.Method != http.MethodPost && fault.Is(err, fault.NotFound) {
			return s.showGone(w, ar)
		}
		return err
	}
}

// returnTo returns the address to which a person returns after signing in. For a submitted form,
// that is the page of the form.
func returnTo(r *request) string {
	if r.Method == http.MethodPost {
		return r.URL.Path
	}
	return r.URL.RequestURI()
}

// adminAddress returns raw in normal form if it is the address of one of adminPages.
func adminAddress(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > 1000 || !slices.Contains(adminPages, raw[:min(len(raw), len(u.Path))]) {
		return "", false
	}
	return u.RequestURI(), true
}

// adminFields are the fields of a form, by name. A field that was not sent is empty.
type adminFields map[string]string

// maxAdminForm bounds a form of these pages. The form of the settings has the longest texts.
const maxAdminForm = 32 << 10

// noQuery refuses an address whose query contains more than the language.
func (s *Site) noQuery(r *request) error {
	u := *r.URL
	if u.RawQuery == "lang="+string(s.pageLanguage(r).tag) {
		u.RawQuery = ""
	}
	return form.NoQuery(&u)
}

// readAdminForm reads a form whose address may contain the language.
func (s *Site) readAdminForm(w http.ResponseWriter, r *request, names []string) (adminFields, error) {
	if err := s.noQuery(r); err != nil {
		return nil, err
	}
	body, err := form.Body(w, r.Request, maxAdminForm)
	if err != nil {
		return nil, err
	}
	fields := make([]*form.Field, len(names))
	for i, name := range names {
		fields[i] = &form.Field{Name: name}
	}
	return parseFields(body, fields)
}

// parseFields returns the fields that were sent in a form.
func parseFields(body string, fields []*form.Field) (adminFields, error) {
	if err := form.Parse(body, form.Strict, fields...); err != nil {
		return nil, err
	}
	values := adminFields{}
	for _, f := range fields {
		if f.Sent {
			values[f.Name] = f.Value
		}
	}
	return values, nil
}

// adminForm returns a handler for a form of a page for operators. If the sign-in is too old for
// changes, the person signs in again, and then the form is sent again. The permission is checked
// again after the form has arrived, since the sender controls how long that takes.
func (s *Site) adminForm(
	names []string, do func(http.ResponseWriter, *adminRequest, adminFields) error,
) handler {
	return func(w http.ResponseWriter, r *request) error {
		if err := ownPage(r); err != nil {
			return err
		}
		return s.admin(func(w http.ResponseWriter, r *adminRequest) error {
			fields, err := s.readAdminForm(w, r.request, names)
			if err != nil {
				return err
			}
			return s.admin(func(w http.ResponseWriter, r *adminRequest) error {
				r.sent = fields
				if r.caller.Stale {
					return s.showAgain(w, r, fields, "")
				}
				return do(w, r, fields)
			})(w, r.request)
		})(w, r)
	}
}

// adminFrame is the data that all pages for operators share.
type adminFrame struct {
	frame
	// Here is the path of the page in the navigation.
	Here string
	// Stale means that the person must sign in again before changing anything, at the address
	// Again.
	Stale bool
	Again string
	// Says lists the texts that a fragment of the address may select.
	Says []string
	// Problem names the text that explains why nothing was done, or is empty. Fixes lists the
	// fields to correct: the ID of each, and the key of its label.
	Problem string
	Fixes   []adminField
	// Address is the address that the browser should show for this page, if it is the answer to a
	// form: with the form's own address, the browser would offer to send the form again.
	Address string
}

// Link returns the address of another page for operators, in the chosen language. The pairs of name
// and value form its query; pairs with an empty value are left out.
func (f adminFrame) Link(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if f.Chosen != "" {
		q.Set("lang", string(f.Chosen))
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// adminEntry is an entry of the navigation.
type adminEntry struct{ Path, Name string }

// Nav returns the entries of the navigation, with the names of their texts.
func (f adminFrame) Nav() []adminEntry {
	return []adminEntry{
		{adminHome, "overview"}, {adminAccounts, "accounts"}, {adminChanges, "changes"},
		{adminMessages, "messages"}, {adminSettings, "settings"},
	}
}

// adminFrame returns the frame of a page for operators.
func (s *Site) adminFrame(r *adminRequest, here string, done ...string) adminFrame {
	f := adminFrame{
		frame: s.newFrame(r.tenant, r.page), Here: here, Stale: r.caller.Stale, Says: done,
	}
	f.SignedIn, f.Parts = r.caller.Actor.Name, true
	if r.Method == http.MethodPost {
		f.Address = f.formAddress(r.URL.Path, r.sent)
	} else {
		q := adminQuery(r)
		q.Del("lang")
		if f.Switch = true; len(q) > 0 {
			f.Keep = template.URL("&" + q.Encode())
		}
	}
	if f.Stale && r.Method != http.MethodPost {
		f.Again = f.Link(adminAgain, "next", r.URL.RequestURI())
	}
	return f
}

// formAddress returns the address of the page that a form was sent from.
func (f adminFrame) formAddress(path string, sent adminFields) string {
	switch {
	case path == adminAccount:
		return f.Link(path, "user", sent["user"])
	case path == adminBulk && sent["id"] != "":
		return f.Link(path, "id", sent["id"])
	case path == adminBulk:
		return f.Link(adminAccounts, newAccountFilter(func(name string) string { return sent[name] }).pairs()...)
	case path == adminChanges:
		return f.Link(path, newChangeFilter(func(name string) string { return sent[name] }).pairs()...)
	}
	return f.Link(path)
}

// goneView is the page for operators about an object that does not exist: an account, by its name,
// or something else.
type goneView struct {
	adminFrame
	// User is the name of the account, or empty. Changes lists the changes of accounts that had
	// that name.
	User        string
	Changes     []listedChange
	MoreChanges string
}

// maxGoneChanges is how many changes the page about an account that does not exist shows.
const maxGoneChanges = 20

// showGone answers with a goneView.
func (s *Site) showGone(w http.ResponseWriter, r *adminRequest) error {
	v := goneView{adminFrame: s.adminFrame(r, "")}
	user := strings.ToLower(strings.TrimSpace(adminQuery(r).Get("user")))
	if r.URL.Path == adminAccount && account.WellFormedUser(user) {
		v.Here, v.User = adminAccounts, user
		v.MoreChanges = v.Link(adminChanges, "user", user)
		filter := audit.Filter{User: user, Newest: true}
		page, err := s.deps.Operators.Changes(r.Context(), r.caller, r.tenant, filter, "", maxGoneChanges)
		if err != nil {
			return err
		}
		for _, c := range page.Changes {
			l := newListedChange(v.adminFrame, c)
			l.UserURL = "" // it is this page
			v.Changes = append(v.Changes, l)
		}
	}
	page, err := s.pages.render(r.page.tag, "admin-gone", v)
	if err == nil {
		writePage(w, http.StatusNotFound, page)
	}
	return err
}

// toAdmin redirects to a page after a change. The fragment done selects the text that confirms it.
func (s *Site) toAdmin(w http.ResponseWriter, r *adminRequest, path, done string, pairs ...string) error {
	f := adminFrame{frame: s.newFrame(r.tenant, r.page)}
	address := f.Link(path, pairs...)
	if done != "" {
		address += "#" + done
	}
	http.Redirect(w, r.Request, address, http.StatusSeeOther)
	return nil
}

// problemOf returns the name of the text about an error that a person can correct, and false for
// any other error.
func problemOf(err error) (string, bool) {
	fe, _ := errors.AsType[*fault.Error](err)
	switch {
	case errors.Is(err, operator.ErrOwnAccount):
		return "own", true
	case fault.Is(err, fault.NotFound):
		return "gone", true
	case errors.Is(err, account.ErrChanged):
		return "changed", true
	case fault.Is(err, fault.Conflict), fault.Is(err, fault.Changed):
		return "conflict", true
	case fault.Is(err, fault.Limited):
		return "limited", true
	case errors.Is(err, errNotTyped):
		return "user", true
	case fault.Is(err, fault.Invalid) && fe != nil:
		switch fe.Field {
		case "name":
			return "fields", true
		case "reason", "email", "role", "user":
			return fe.Field, true
		}
		return "form", true
	}
	return "", false
}

// problemStatus returns the HTTP status of a page with a problem.
func problemStatus(problem string) int {
	switch problem {
	case "own", "conflict", "changed", "bulk_other", "bulk_state", "gone", "count", "message", "settings_conflict":
		return http.StatusConflict
	case "limited":
		return http.StatusTooManyRequests
	}
	return http.StatusBadRequest
}

// adminShow writes a page. Its status depends on the problem, if any.
func (s *Site) adminShow(w http.ResponseWriter, r *adminRequest, name, problem string, data any) error {
	page, err := s.pages.render(r.page.tag, name, data)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if problem != "" {
		status = problemStatus(problem)
	}
	writePage(w, status, page)
	return nil
}

// againPage is /admin/again, where a person signs in again. Afterwards, the form is sent again to
// Action.
type againPage struct {
	adminFrame
	Action string
	Fields []adminField
	// Next is the page to open afterwards if there is no form.
	Next string
	// Passkeys means that browsers let pages of this address use passkeys.
	Passkeys bool
}

// adminField is a name and a value: a field of a form that is sent again, or the ID and label of a
// field to correct.
type adminField struct{ Name, Value string }

// Form returns the form for signing in.
func (p againPage) Form() signInForm {
	next := p.Next
	if p.Action != "" {
		next = "#again"
	}
	return signInForm{frame: p.frame, User: p.SignedIn, Next: next, Passkeys: p.Passkeys}
}

// signInAgain shows the page for signing in again, which then opens the page given in its address.
func (s *Site) signInAgain(w http.ResponseWriter, r *adminRequest) error {
	next, ok := adminAddress(r.URL.Query().Get("next"))
	if !ok {
		next = adminHome
	}
	return s.showAgain(w, r, nil, next)
}

func (s *Site) showAgain(w http.ResponseWriter, r *adminRequest, fields adminFields, next string) error {
	_, passkeys := account.Party(r.tenant)
	p := againPage{adminFrame: s.adminFrame(r, ""), Next: next, Passkeys: passkeys}
	p.Parts = false
	status := http.StatusOK
	if fields != nil {
		status = http.StatusForbidden
		p.Action = p.To(r.URL.Path)
		for name, value := range fields {
			p.Fields = append(p.Fields, adminField{name, value})
		}
		slices.SortFunc(p.Fields, func(x, y adminField) int { return strings.Compare(x.Name, y.Name) })
	}
	page, err := s.pages.render(r.page.tag, "admin-again", p)
	if err == nil {
		writePage(w, status, page)
	}
	return err
}
