package web

import (
	"errors"
	"net/http"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/session"
)

const twoStepPage = "/two-step.html"

// twoStepForm is a change of the authenticator app. The field do selects it.
type twoStepForm struct{ do, code string }

// The values of the field do.
const (
	twoStepBegin  = "begin"
	twoStepFinish = "finish"
	twoStepRenew  = "renew"
	twoStepOff    = "off"
)

// twoStepActions maps values of do to the actions under which failed proofs are logged.
var twoStepActions = map[string]audit.Action{
	twoStepBegin: audit.TwoStepBegin, twoStepFinish: audit.TwoStepOn, twoStepRenew: audit.TwoStepCodes,
	twoStepOff: audit.TwoStepOff,
}

func readTwoStep(w http.ResponseWriter, r *http.Request, at *session.Attempt) (f twoStepForm, err error) {
	do, code := form.Field{Name: "do", Into: &f.do}, form.Field{Name: "code", Into: &f.code}
	if err := readForm(w, r, &do, &code); err != nil {
		return f, err
	}
	action, ok := twoStepActions[f.do]
	if !ok {
		return f, fault.Field("do", "send begin, finish, renew or off")
	}
	if f.do == twoStepFinish && f.code == "" {
		return f, fault.Field("code", "send the code that the app shows")
	}
	at.Action = action
	return f, nil
}

// twoStep changes the authenticator app of an account whose password was proved, and also the code
// if it already has an app.
func (s *Site) twoStep(w http.ResponseWriter, r *request, proved account.Account, f twoStepForm) error {
	v, err := s.changeTwoStep(w, r, proved, f)
	if errors.Is(err, account.ErrNotActivated) {
		return s.notActivated(r, proved, err)
	}
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, v)
}

// changeTwoStep carries out a change, and returns the answer.
func (s *Site) changeTwoStep(w http.ResponseWriter, r *request, proved account.Account, f twoStepForm) (any, error) {
	type codes struct {
		OK    bool     `json:"ok"`
		Codes []string `json:"codes"`
	}
	ctx, t, accounts := r.Context(), r.tenant, s.deps.Accounts
	switch f.do {
	case twoStepBegin:
		app, err := accounts.StartApp(ctx, t, proved, r.from)
		if err != nil {
			return nil, err
		}
		uri := app.URI(t.Name(), proved.User+"@"+t.Host)
		code, err := newQR(uri)
		return struct {
			OK     bool   `json:"ok"`
			Secret string `json:"secret"`
			URI    string `json:"uri"`
			QR     qrJSON `json:"qr"`
		}{true, app.Base32(), uri, qrJSON(*code)}, err
	case twoStepFinish:
		// Turning the app on ends all sessions.
		continues, _ := s.continues(r, proved)
		list, a, err := accounts.FinishApp(ctx, t, proved, f.code, r.from)
		if err == nil && continues {
			setGrant(w, r, s.deps.Authenticator.Continue(ctx, t, a, r.from, session.ByCode))
		}
		return codes{true, list}, err
	case twoStepRenew:
		list, err := accounts.RenewCodes(ctx, t, proved, r.from)
		return codes{true, list}, err
	default:
		err := accounts.RemoveApp(ctx, t, proved, r.from)
		return okUser{true, proved.User}, err
	}
}

// qrJSON is a qrCode for a script.
type qrJSON struct {
	Size int    `json:"size"`
	Path string `json:"path"`
}

// showTwoStep is the page where a person turns the second step of signing in on and off.
func (s *Site) showTwoStep(w http.ResponseWriter, r *request, a account.Account) error {
	state, err := s.deps.Accounts.TwoStep(r.Context(), a)
	if err != nil {
		return err
	}
	sp := s.pageLanguage(r)
	v := twoStepView{
		frame: s.switching(r.tenant, sp), On: !state.Since.IsZero(), Since: state.Since, Codes: state.Codes,
		Required: session.FactorMissing(r.tenant, a),
	}
	v.SignedIn = a.User
	return s.show(w, sp, "two-step", v)
}

// toTwoStep redirects a person who needs a second factor to the page that sets one up.
func (s *Site) toTwoStep(w http.ResponseWriter, r *request) {
	page := s.newFrame(r.tenant, s.pageLanguage(r)).To(twoStepPage) + "#required"
	http.Redirect(w, r.Request, page, http.StatusSeeOther)
}
