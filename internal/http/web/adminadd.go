package web

import (
	"errors"
	"net/http"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
)

// addView is /admin/add, where an account is added.
type addView struct {
	adminFrame
	Roles  []account.Role
	Fields adminFields
	// Errors maps wrong fields to the keys of the texts next to them.
	Errors map[string]string
}

// addFields are the fields of the form of /admin/add.
var addFields = []string{"user", "name", "email", "role", "lang", "active", "reason"}

func (s *Site) showAdd(w http.ResponseWriter, r *adminRequest) error {
	return s.writeAdd(w, r, adminFields{"role": string(account.Guest), "lang": string(r.page.tag)}, "", nil)
}

func (s *Site) writeAdd(w http.ResponseWriter, r *adminRequest, f adminFields, problem string,
	wrong map[string]string) error {
	v := addView{adminFrame: s.adminFrame(r, adminAccounts), Roles: account.Roles, Fields: adminFields{}, Errors: wrong}
	for _, name := range addFields { // templates fail for missing fields
		v.Fields[name] = f[name]
	}
	if v.Errors == nil {
		v.Errors = map[string]string{}
	}
	v.Problem = problem
	for _, name := range addFields {
		if _, ok := v.Errors[name]; !ok {
			v.Errors[name] = ""
		} else {
			v.Fixes = append(v.Fixes, adminField{"add-" + name, fieldLabels[name]})
		}
	}
	return s.adminShow(w, r, "admin-add", v.Problem, v)
}

// addAccount adds the account of a form.
func (s *Site) addAccount(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	for _, name := range []string{"user", "name", "email"} {
		f[name] = strings.TrimSpace(f[name])
	}
	wrong := map[string]string{}
	for name, text := range map[string]string{
		"user": "signup.say.user_empty", "name": "admin.bad.name_empty", "email": "admin.bad.email",
	} {
		if f[name] == "" {
			wrong[name] = text
		}
	}
	if len(wrong) > 0 {
		return s.writeAdd(w, r, f, "fields", wrong)
	}
	n := account.NewAccount{
		User: f["user"], Name: f["name"], Email: f["email"], Role: account.Role(f["role"]), Lang: i18n.Tag(f["lang"]),
		Active: f["active"] != "",
	}
	a, err := s.deps.Operators.Add(r.Context(), r.caller, r.tenant, n, f["reason"])
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	if err == nil {
		return s.toAdmin(w, r, adminAccount, "added", "user", a.User)
	}
	if name, text := fieldError(err); name != "" {
		return s.writeAdd(w, r, f, "fields", map[string]string{name: text})
	}
	problem, ok := problemOf(err)
	if !ok || fault.Is(err, fault.NotFound) {
		return err
	}
	return s.writeAdd(w, r, f, problem, nil)
}
