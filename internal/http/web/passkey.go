package web

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/secret"
	"dialtone/internal/session"
)

const passkeysPage = "/passkeys.html"

const passkeysOfPeople = "the list of passkeys is for people who are signed in"

// passkeyOptions returns the options for signing in with a passkey. Apart from the challenge, they
// are the same for everybody. Like all endpoints for responses of authenticators, it is only for
// pages of this host: browsers let no other page use its passkeys.
func (s *Site) passkeyOptions(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	options, err := s.deps.Authenticator.PasskeyOptions(r.tenant)
	return writeOptions(w, options, err)
}

func writeOptions(w http.ResponseWriter, options []byte, err error) error {
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		PublicKey json.RawMessage `json:"publicKey"`
	}{options})
}

// passkeySignIn signs a person in with the response of a passkey.
func (s *Site) passkeySignIn(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	response := form.Field{Name: "response"}
	if err := readForm(w, r.Request, &response); err != nil {
		return err
	}
	a, err := s.verifyPasskey(w, r, audit.SignIn, response.Value)
	if err != nil {
		return err
	}
	grant, err := s.deps.Authenticator.SignIn(r.Context(), r.tenant, a, cookie(r, deviceCookie), r.from,
		session.ByPasskey)
	if err != nil {
		return err
	}
	s.startSession(w, r, grant)
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool         `json:"ok"`
		User string       `json:"user"`
		Role account.Role `json:"role"`
	}{true, a.User, a.Role})
}

// verifyPasskey returns the account whose passkey produced the response.
func (s *Site) verifyPasskey(
	w http.ResponseWriter, r *request, action audit.Action, response string,
) (account.Account, error) {
	a, err := s.deps.Authenticator.VerifyPasskey(r.Context(), r.tenant, session.PasskeyAttempt{
		Action: action, Response: response, Device: cookie(r, deviceCookie), From: r.from,
	})
	if fault.Is(err, fault.Unauthorized) {
		// RFC 9110 section 15.5.2 requires a challenge. Browsers ignore a scheme that they do not know.
		w.Header().Set("WWW-Authenticate", "Passkey")
	}
	return a, err
}

// newPasskey returns the options for a new passkey to somebody who has proved the password.
func (s *Site) newPasskey(w http.ResponseWriter, r *request, a account.Account, _ struct{}) error {
	options, err := s.deps.Authenticator.NewPasskeyOptions(r.Context(), r.tenant, a)
	return writeOptions(w, options, err)
}

// listPasskeys returns the passkeys of the person who is signed in.
func (s *Site) listPasskeys(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	a, err := s.signedIn(r)
	if err != nil {
		return signInFirst(w, err, passkeysOfPeople)
	}
	return s.listPasskeysOf(w, r, a, struct{}{})
}

// listPasskeysOf returns the passkeys of an account.
func (s *Site) listPasskeysOf(w http.ResponseWriter, r *request, a account.Account, _ struct{}) error {
	list, err := s.deps.Accounts.Passkeys(r.Context(), r.tenant, a)
	if err != nil {
		return err
	}
	members := make([]passkeyMember, len(list))
	for i, k := range list {
		members[i] = newPasskeyMember(k)
	}
	return answer.JSON(w, http.StatusOK, members)
}

// passkeyMember is a passkey in the API.
type passkeyMember struct {
	ID    string     `json:"id"`
	Name  string     `json:"name"`
	Added time.Time  `json:"added"`
	Used  *time.Time `json:"used"`
	// Synced means that the passkey may be on several devices.
	Synced bool `json:"synced"`
	Usable bool `json:"usable"`
}

func newPasskeyMember(k account.OwnPasskey) passkeyMember {
	m := passkeyMember{
		ID: base64.RawURLEncoding.EncodeToString(k.Passkey.ID), Name: k.Name,
		Added: k.Made.UTC().Truncate(time.Second), Synced: k.BackupEligible, Usable: k.Usable,
	}
	if !k.Used.IsZero() {
		used := k.Used.UTC().Truncate(time.Second)
		m.Used = &used
	}
	return m
}

// changePasskeys adds a passkey with the response to options from newPasskey, renames one, or
// removes one with the response of any passkey of the account. A form that was sent without
// scripts, which can only rename, is redirected back to the page.
func (s *Site) changePasskeys(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	sp := s.pageLanguage(r)
	if r.URL.RawQuery == "lang="+string(sp.tag) {
		r.URL.RawQuery = ""
	}
	var do, id, name, response string
	err := readForm(w, r.Request,
		&form.Field{Name: "do", Into: &do},
		&form.Field{Name: "id", Into: &id},
		&form.Field{Name: "name", Into: &name},
		&form.Field{Name: "response", Into: &response},
	)
	if err != nil {
		return err
	}
	switch do {
	case "add":
		return s.addPasskey(w, r, name, response)
	case "rename":
		err := s.renamePasskey(r, id, name)
		if wantsPage(r.Request) && (err == nil || fault.Is(err, fault.Unauthorized) || fault.Is(err, fault.Invalid)) {
			s.afterRename(w, r, sp, err)
			return nil
		}
		if err != nil {
			return signInFirst(w, err, passkeysOfPeople)
		}
		return answer.JSON(w, http.StatusOK, onlyOK{true})
	case "remove":
		raw, err := passkeyID(id)
		if err != nil {
			return err
		}
		a, err := s.verifyPasskey(w, r, audit.PasskeyRemove, response)
		if err != nil {
			return err
		}
		return s.removePasskey(w, r, a, raw)
	}
	return fault.Field("do", "send add, rename or remove")
}

// onlyOK is the answer to requests without another result.
type onlyOK struct {
	OK bool `json:"ok"`
}

func (s *Site) addPasskey(w http.ResponseWriter, r *request, name, response string) error {
	// A refused name must not use up the options.
	if _, err := account.CleanPasskeyName(name); err != nil {
		return err
	}
	made, owner, err := s.deps.Authenticator.NewPasskey(r.Context(), r.tenant, response)
	if err != nil {
		return err
	}
	continues, how := s.continues(r, owner)
	k, err := s.deps.Accounts.AddPasskey(r.Context(), r.tenant, owner, made, name, r.from)
	if fault.Is(err, fault.NotFound) { // the account was disabled or deleted since the proof
		err = account.ErrPasskeyStale
	}
	if err != nil {
		return err
	}
	if continues && how == session.ByPassword {
		// If a second factor is required, a session that began with the password alone is no longer
		// valid.
		setGrant(w, r, s.deps.Authenticator.Continue(r.Context(), r.tenant, owner, r.from, session.ByPasskey))
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool   `json:"ok"`
		ID   string `json:"id"`
		Name string `json:"name"`
	}{true, base64.RawURLEncoding.EncodeToString(k.ID), k.Name})
}

func (s *Site) renamePasskey(r *request, id, name string) error {
	owner, err := s.signedIn(r)
	if err != nil {
		return err
	}
	raw, err := passkeyID(id)
	if err != nil {
		return err
	}
	return s.deps.Accounts.RenamePasskey(r.Context(), r.tenant, owner, raw, name, r.from)
}

// afterRename redirects a form that was sent without scripts.
func (s *Site) afterRename(w http.ResponseWriter, r *request, sp pageLanguage, err error) {
	if fault.Is(err, fault.Unauthorized) {
		s.toLogin(w, r, "#ended")
		return
	}
	said := "#renamed"
	if err != nil {
		said = "#not-renamed"
	}
	http.Redirect(w, r.Request, s.newFrame(r.tenant, sp).To(passkeysPage)+said, http.StatusSeeOther)
}

// passkeyID parses the ID of a passkey in the format of the list.
func passkeyID(text string) ([]byte, error) {
	id, ok := secret.DecodeText(text)
	if !ok || len(id) == 0 {
		return nil, fault.Field("id", "send the id of a passkey from the list")
	}
	return id, nil
}

func readPasskeyID(w http.ResponseWriter, r *http.Request, _ *session.Attempt) (id []byte, err error) {
	text := form.Field{Name: "id"}
	if err := readForm(w, r, &text); err != nil {
		return nil, err
	}
	return passkeyID(text.Value)
}

// removePasskey removes a passkey of an account whose owner has proved to be present. That ends all
// sessions except that of the request.
func (s *Site) removePasskey(w http.ResponseWriter, r *request, proved account.Account, id []byte) error {
	continues, how := s.continues(r, proved)
	a, err := s.deps.Accounts.RemovePasskey(r.Context(), r.tenant, proved, id, r.from)
	if err != nil {
		return err
	}
	if continues {
		setGrant(w, r, s.deps.Authenticator.Continue(r.Context(), r.tenant, a, r.from, how))
	}
	return answer.JSON(w, http.StatusOK, onlyOK{true})
}

// passkeysView is /passkeys.html.
type passkeysView struct {
	frame
	// Offered means that browsers let pages of this address use passkeys.
	Offered  bool
	Passkeys []listedPasskey
	// Suggested is a name for a new passkey: the browser and its system, or empty.
	Suggested string
	// Required means that the platform requires a second factor for the account, which has none.
	Required bool
}

// listedPasskey is a passkey on the page.
type listedPasskey struct {
	ID, Name       string
	Added, Used    time.Time
	Synced, Usable bool
}

func (s *Site) showPasskeys(w http.ResponseWriter, r *request, a account.Account) error {
	list, err := s.deps.Accounts.Passkeys(r.Context(), r.tenant, a)
	if err != nil {
		return err
	}
	sp := s.pageLanguage(r)
	_, offered := account.Party(r.tenant)
	browser, system, _ := strings.Cut(session.BrowserOf(r.UserAgent()), " on ")
	v := passkeysView{
		frame: s.switching(r.tenant, sp), Offered: offered, Suggested: browser,
		Required: session.FactorMissing(r.tenant, a),
	}
	if browser != "" && system != "" {
		v.Suggested += " (" + system + ")"
	}
	v.SignedIn = a.User
	for _, k := range list {
		m := newPasskeyMember(k)
		v.Passkeys = append(v.Passkeys, listedPasskey{m.ID, m.Name, k.Made, k.Used, m.Synced, m.Usable})
	}
	return s.show(w, sp, "passkeys", v)
}
