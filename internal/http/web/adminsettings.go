package web

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/http/form"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// settingField is a setting that a person with the role admin can change.
type settingField struct {
	// Name is the name of the field, and of its texts.
	Name string
	// Kind is text, lines, number or choice. Rule names the text about an invalid value.
	Kind, Rule string
	// Max is the maximum length of a text.
	Max     int
	Choices []string
	get     func(tenant.Settings) string
	set     func(*tenant.Settings, string) bool
}

// textField returns a field for a text.
func textField(name, kind, rule string, most int, at func(*tenant.Settings) *string) settingField {
	return settingField{
		Name: name, Kind: kind, Rule: rule, Max: most,
		get: func(s tenant.Settings) string { return *at(&s) },
		set: func(s *tenant.Settings, v string) bool { *at(s) = v; return true },
	}
}

// settingFields are the settings of the page, in its order.
var settingFields = []settingField{
	textField("product", "text", "text", 200, func(s *tenant.Settings) *string { return &s.Product }),
	textField("about", "lines", "prose", 600, func(s *tenant.Settings) *string { return &s.About }),
	textField("welcome", "lines", "prose", 600, func(s *tenant.Settings) *string { return &s.Welcome }),
	textField("terms_url", "text", "url", 200, func(s *tenant.Settings) *string { return &s.TermsURL }),
	textField("privacy_url", "text", "url", 200, func(s *tenant.Settings) *string { return &s.PrivacyURL }),
	textField("imprint_url", "text", "url", 200, func(s *tenant.Settings) *string { return &s.ImprintURL }),
	textField("support", "text", "support", 200, func(s *tenant.Settings) *string { return &s.Support }),
	{
		Name: "accent", Kind: "text", Rule: "accent", Max: 7,
		get: func(s tenant.Settings) string { return s.Accent },
		set: func(s *tenant.Settings, v string) bool { s.Accent = v; return true },
	},
	textField("reply_to", "text", "email", 200, func(s *tenant.Settings) *string { return &s.ReplyTo }),
	textField("mail_footer", "text", "text", 200, func(s *tenant.Settings) *string { return &s.MailFooter }),
	{
		Name: "activation", Kind: "choice", Rule: "choice", Choices: []string{"link", "confirm"},
		get: func(s tenant.Settings) string {
			if s.Activation == tenant.ActivationConfirm {
				return "confirm"
			}
			return "link"
		},
		set: func(s *tenant.Settings, v string) bool {
			s.Activation = tenant.Activation(v)
			return v == "link" || v == "confirm"
		},
	},
	{
		Name: "require_factor", Kind: "choice", Rule: "choice", Choices: []string{"none", "admin"},
		get: func(s tenant.Settings) string {
			if s.RequireFactor == tenant.RequireAdmin {
				return "admin"
			}
			return "none"
		},
		set: func(s *tenant.Settings, v string) bool {
			s.RequireFactor = tenant.RequireFactor(v)
			return v == "none" || v == "admin"
		},
	},
	{
		Name: "signups_per_hour", Kind: "number", Rule: "number", Max: 9,
		get: func(s tenant.Settings) string { return strconv.Itoa(s.SignupsPerHour) },
		set: func(s *tenant.Settings, v string) bool {
			n, err := strconv.Atoi(strings.TrimSpace(v))
			s.SignupsPerHour = n
			return err == nil && n >= 0 && n <= 1e9
		},
	},
}

// settingsView is /admin/settings.
type settingsView struct {
	adminFrame
	Settings []shownSetting
	Logo     bool // there is one
	// LogoProblem means that the uploaded file cannot be used.
	LogoProblem bool
	Version     string
	Reason      string
}

// shownSetting is a setting with its value, and whether that was refused.
type shownSetting struct {
	settingField
	Value   string
	Refused bool
	// Was is the stored value when the form was created, to find out what the person changes.
	Was string
	// Changed means that somebody else has meanwhile changed this setting to Theirs, which the
	// person changes too.
	Changed bool
	Theirs  string
}

// wasPrefix is the prefix of the field that contains a setting's value when the form was created.
const wasPrefix = "was_"

// The pages that the preview can show. The first one is the default.
var previews = []string{"signup", "home", "account"}

// Previews returns the pages that the preview can show.
func (settingsView) Previews() []string { return previews }

// applySettings applies the submitted fields that differ from the settings, one by one, and returns
// the names of the refused ones. An unset setting stays unset unless its field was changed.
func applySettings(t tenant.Tenant, f adminFields, logo []byte) (tenant.Tenant, map[string]bool) {
	// tenant.New modifies the lists, which other goroutines read.
	t.Origins, t.TURNURIs, t.Reserved = slices.Clone(t.Origins), slices.Clone(t.TURNURIs), slices.Clone(t.Reserved)
	refused := map[string]bool{}
	try := func(name string, change func(*tenant.Settings) bool) {
		next := t
		ok := change(&next.Settings)
		checked, err := tenant.New(next)
		if !ok || err != nil {
			refused[name] = true
			return
		}
		t.Settings = checked.Settings
	}
	for _, field := range settingFields {
		if value, sent := f[field.Name]; sent && value != field.get(t.Settings) {
			try(field.Name, func(s *tenant.Settings) bool { return field.set(s, value) })
		}
	}
	switch {
	case logo != nil:
		try("logo", func(s *tenant.Settings) bool { s.Logo = tenant.Logo{Data: logo}; return true })
	case f["logo_remove"] != "":
		t.Logo = tenant.Logo{}
	}
	return t, refused
}

// maxSettingsForm is the maximum size of the form of the settings, including a logo.
const maxSettingsForm = maxAdminForm + tenant.MaxLogo + 1024

// readSettings reads the form of the settings, and the logo in it.
func (s *Site) readSettings(w http.ResponseWriter, r *adminRequest) (adminFields, []byte, error) {
	if err := s.noQuery(r.request); err != nil {
		return nil, nil, err
	}
	body, logo, err := form.BodyFile(w, r.Request, maxSettingsForm, "logo")
	if err != nil {
		return nil, nil, err
	}
	fields := []*form.Field{{Name: "reason"}, {Name: "version"}, {Name: "logo_remove"}, {Name: "preview"}}
	for _, field := range settingFields {
		for _, name := range []string{field.Name, wasPrefix + field.Name} {
			fields = append(fields, &form.Field{Name: name, Lines: field.Kind == "lines"})
		}
	}
	values, err := parseFields(body, fields)
	return values, logo, err
}

var settingsPolicy = []string{policy[0] + "; frame-src 'self'"}

func (s *Site) showSettings(w http.ResponseWriter, r *adminRequest) error {
	return s.writeSettings(w, r, nil, nil, "")
}

// writeSettings writes the page with the settings as they are stored, or as they were submitted.
func (s *Site) writeSettings(
	w http.ResponseWriter, r *adminRequest, sent adminFields, refused map[string]bool, problem string,
) error {
	// Read the stored settings: this server's table may lag by a second.
	stored, err := s.deps.Operators.Tenant(r.Context(), r.caller, r.tenant)
	if err != nil {
		return err
	}
	now := stored.Version()
	version := hex.EncodeToString(now[:])
	conflict := problem == "settings_conflict"
	if sent != nil && !conflict {
		version = sent["version"]
	}
	v := settingsView{
		adminFrame: s.adminFrame(r, adminSettings, "settings-saved"), Logo: len(stored.Logo.Data) > 0,
		LogoProblem: refused["logo"], Version: version, Reason: sent["reason"],
	}
	v.Problem = problem
	for _, field := range settingFields {
		now := field.get(stored.Settings)
		x := shownSetting{settingField: field, Value: now, Was: now, Refused: refused[field.Name]}
		value, given := sent[field.Name]
		was, known := sent[wasPrefix+field.Name]
		switch {
		case !given:
		case !conflict:
			if x.Value = value; known {
				x.Was = was
			}
		case value != now && (!known || value != was): // the person changes it
			x.Value, x.Theirs, x.Changed = value, now, !known || was != now
		}
		if x.Refused || x.Changed {
			v.Fixes = append(v.Fixes, adminField{"s-" + field.Name, "admin.set." + field.Name})
		}
		v.Settings = append(v.Settings, x)
	}
	if v.LogoProblem {
		v.Fixes = append(v.Fixes, adminField{"logo", "admin.logo"})
	}
	w.Header()["Content-Security-Policy"] = settingsPolicy
	return s.adminShow(w, r, "admin-settings", v.Problem, v)
}

// settingsForm returns a handler for the form of the settings.
func (s *Site) settingsForm(
	do func(http.ResponseWriter, *adminRequest, adminFields, []byte) error,
) handler {
	return func(w http.ResponseWriter, r *request) error {
		if err := ownPage(r); err != nil {
			return err
		}
		// The person may have been disabled while the form arrived, as in adminForm.
		return s.admin(func(w http.ResponseWriter, r *adminRequest) error {
			f, logo, err := s.readSettings(w, r)
			if err != nil {
				return err
			}
			return s.admin(func(w http.ResponseWriter, r *adminRequest) error {
				return do(w, r, f, logo)
			})(w, r.request)
		})(w, r)
	}
}

func (s *Site) changeSettings(w http.ResponseWriter, r *adminRequest, f adminFields, logo []byte) error {
	if r.caller.Stale {
		return s.showAgain(w, r, f, "")
	}
	_, refused := applySettings(*r.tenant, f, logo)
	if len(refused) > 0 {
		return s.writeSettings(w, r, f, refused, "settings")
	}
	var seen tenant.Version
	b, err := hex.DecodeString(f["version"])
	if err != nil || len(b) != len(seen) {
		return fault.Field("version", "the form is not one of this page; load the page again")
	}
	copy(seen[:], b)
	ctx := tenant.OnlyIf(r.Context(), seen)
	_, err = s.deps.Operators.SetTenant(ctx, r.caller, r.tenant, f["reason"], func(t tenant.Tenant) (tenant.Tenant,
		error) {
		t, refused := applySettings(t, f, logo)
		if len(refused) > 0 {
			return t, fault.New(fault.Invalid, "a setting is not allowed")
		}
		return t, nil
	})
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	switch {
	case err == nil:
		// This server shows the saved settings immediately. Others follow within a second.
		if err := s.deps.Tenants.Refresh(r.Context()); err != nil {
			return err
		}
		return s.toAdmin(w, r, adminSettings, "settings-saved")
	case !ok:
		return err
	case problem == "conflict":
		return s.writeSettings(w, r, f, nil, "settings_conflict")
	}
	return s.writeSettings(w, r, f, nil, problem)
}

// The preview is shown in a frame of the settings page, and runs no scripts. Its style and logo are
// embedded.
var previewPolicy = []string{"default-src 'none'; style-src 'self' data:; img-src 'self' data:; " +
	"sandbox allow-same-origin; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"}

// activeParts matches the scripts of a page, and the notices for browsers without scripts.
var activeParts = regexp.MustCompile(`(?s)<script .*?</script>|<noscript>.*?</noscript>`)

func (s *Site) showPreview(w http.ResponseWriter, r *adminRequest) error {
	return s.preview(w, r, nil, nil)
}

// preview writes a page as it would look with the submitted settings. Refused settings keep their
// values.
func (s *Site) preview(w http.ResponseWriter, r *adminRequest, f adminFields, logo []byte) error {
	t, _ := applySettings(*r.tenant, f, logo)
	own := newTenantBrand(&t)
	b := own.brand
	for _, file := range own.files {
		content := file.asset.plain()
		address := template.URL("data:" + strings.ReplaceAll(file.asset.contentType, " ", "") + ";base64," +
			base64.StdEncoding.EncodeToString(content))
		if b.LogoURL == template.URL(file.url()) {
			b.LogoURL = address
		} else {
			b.StyleURL = address
		}
	}
	shown := frame{Product: t.Name(), Host: t.Host, Realm: t.Realm, Brand: b}
	name := f["preview"]
	var data any
	switch name {
	case "home":
		data = homePage{shown}
	case "account":
		shown.SignedIn = "alex"
		data = accountPage{frame: shown, Name: "Alex", Email: "alex@example.org", SIP: sipSettings{
			User: "alex", Domain: t.Host,
		}}
	default:
		name = previews[0]
		data = signupPage{
			frame: shown, MailFrom: t.Sender(), Confirm: t.Activation == tenant.ActivationConfirm,
		}
	}
	page, err := s.pages.render(r.page.tag, name, data)
	if err != nil {
		return err
	}
	w.Header()["Content-Security-Policy"] = previewPolicy
	writePage(w, http.StatusOK, activeParts.ReplaceAll(page, nil))
	return nil
}
