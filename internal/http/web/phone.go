package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/provision"
)

// turn issues a credential for the tenant's TURN servers to a person who is signed in. It is for
// scripts on pages of this host: another site's page can neither make the request nor read the
// answer.
func (s *Site) turn(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	a, err := s.signedIn(r)
	if fault.Is(err, fault.Unauthorized) {
		// RFC 9110 section 15.5.2 requires a challenge. Browsers ignore a scheme that they do not
		// know.
		w.Header().Set("WWW-Authenticate", "Cookie")
		return fault.New(fault.Unauthorized,
			"sign in first; credentials for TURN are for people who are signed in")
	} else if err != nil {
		return err
	}
	if len(r.tenant.TURNURIs) == 0 {
		return fault.New(fault.NotFound,
			"this platform has no TURN servers; make calls without one")
	}
	issuer := s.deps.TURN()
	if issuer == nil {
		return errors.New(
			"the tenant has TURN servers, and there is no turn.key; make it with: dialtone turn secret")
	}
	c := issuer.Issue(r.tenant, a.User)
	// The members are those of draft-uberti-behave-turn-rest-00 section 2.2.
	return answer.JSON(w, http.StatusOK, struct {
		Username string   `json:"username"`
		Password string   `json:"password"`
		TTL      int      `json:"ttl"`
		URIs     []string `json:"uris"`
	}{c.Username, c.Password.Reveal(), int(c.Life.Seconds()), c.URIs})
}

// programs returns the formats that the account page offers.
func programs(p provision.Phone) []provision.Format {
	return slices.DeleteFunc(slices.Clone(provision.Formats), func(f provision.Format) bool {
		return f == provision.Text || !p.Offers(f)
	})
}

// provisionPath is the address of the file of a format. The token of a link follows in the query,
// which we do not log.
func provisionPath(f provision.Format) string { return "/provision/" + string(f) + ".xml" }

// provision answers the form on the account page. The link that it makes is only in this answer.
func (s *Site) provision(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	return s.personal(s.provisionPage)(w, r)
}

func (s *Site) provisionPage(w http.ResponseWriter, r *request, a account.Account) error {
	sp := s.pageLanguage(r)
	if r.URL.RawQuery == "lang="+string(sp.tag) {
		r.URL.RawQuery = "" // the page's language is the only query that its form may have
	}
	format := form.Field{Name: "format"}
	if err := readForm(w, r.Request, &format); err != nil {
		return err
	}
	phone, f := provision.New(r.tenant, a), provision.Format(format.Value)
	if !slices.Contains(programs(phone), f) {
		return fault.Field("format", "choose one of the programs on your account page")
	}
	p := provisionPage{frame: s.newFrame(r.tenant, sp), Program: string(f)}
	code := phone.Scan(f)
	if slices.Contains(provision.Fetched, f) {
		query := url.Values{"token": {s.deps.Links.Make(r.Context(), r.tenant, a, f, r.from)}}
		p.Link = r.tenant.PublicURL + provisionPath(f) + "?" + query.Encode()
		code = p.Link
	}
	if code != "" {
		var err error
		if p.Code, err = newQR(code); err != nil {
			return err
		}
		return s.show(w, sp, "provision", p)
	}
	file, err := phone.In(f)
	if err != nil {
		return err
	}
	p.Text = string(file.Text)
	return s.show(w, sp, "provision", p)
}

// errPrefetch is for a client that only looks at a link that works once: a browser that guesses where
// a person will go, a messenger that draws a preview with HEAD.
var errPrefetch = fault.New(fault.Overloaded, "this link works once and cannot be fetched "+
	"ahead of time; open it in the program that it is for")

func (s *Site) provisionFile(f provision.Format) handler {
	return func(w http.ResponseWriter, r *request) error {
		if r.Method != http.MethodGet || speculative(r.Header) {
			return errPrefetch
		}
		file, err := s.deps.Links.Open(r.Context(), r.tenant, f, tokenOf(r.URL), r.from)
		if err != nil {
			return err
		}
		h := w.Header()
		h.Set("Content-Type", file.Type)
		h.Set("Content-Disposition", `attachment; filename="`+file.Name+`"`)
		answer.SetLength(h, len(file.Text))
		w.Write(file.Text)
		return nil
	}
}
