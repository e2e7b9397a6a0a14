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

// turn mints a credential for the tenant's TURN servers. Whoever is signed in gets one, for the page that a script of this host
// runs in: no other site's page can ask, and none is told that it may read the answer.
func (s *Site) turn(w http.ResponseWriter, v *visit) error {
	if err := sameSite(v); err != nil {
		return err
	}
	a, err := s.who(v)
	if fault.Is(err, fault.Unauthorized) {
		// RFC 9110 §15.5.2 wants a challenge; browsers pass over a scheme that they do not know.
		w.Header().Set("WWW-Authenticate", "Cookie")
		return fault.New(fault.Unauthorized, "sign in first; credentials for TURN are for people who are signed in")
	} else if err != nil {
		return err
	}
	if len(v.tenant.TURNURIs) == 0 {
		return fault.New(fault.NotFound, "this platform has no TURN servers; make calls without one")
	}
	issuer := s.TURN()
	if issuer == nil {
		return errors.New("the tenant has TURN servers, and there is no turn.key; make it with: dialtone turn secret")
	}
	c := issuer.Issue(v.tenant, a.User)
	// The members of draft-uberti-behave-turn-rest-00 §2.2.
	return answer.JSON(w, http.StatusOK, struct {
		Username string   `json:"username"`
		Password string   `json:"password"`
		TTL      int      `json:"ttl"`
		URIs     []string `json:"uris"`
	}{c.Username, string(c.Password), int(c.Life.Seconds()), c.URIs})
}

// programs are the formats that the account page offers.
func programs(p provision.Phone) []provision.Format {
	return slices.DeleteFunc(slices.Clone(provision.Formats), func(f provision.Format) bool { return f == provision.Text || !p.Offers(f) })
}

// provisionPath is where the file of a format is fetched, with the token of a link behind it. The token stands in the query, which
// is in no log of ours.
func provisionPath(f provision.Format) string { return "/provision/" + string(f) + ".xml" }

// provision answers the form on the account page. The link that it makes is nowhere but in this answer.
func (s *Site) provision(w http.ResponseWriter, v *visit) error {
	if err := sameSite(v); err != nil {
		return err
	}
	return s.personal(s.provisionPage)(w, v)
}

func (s *Site) provisionPage(w http.ResponseWriter, v *visit, a account.Account) error {
	sp := s.speech(v)
	if v.URL.RawQuery == "lang="+string(sp.tag) {
		v.URL.RawQuery = "" // the page's language, which its form takes along; a form has nothing else there
	}
	format := form.Field{Name: "format"}
	if err := readForm(w, v.Request, &format); err != nil {
		return err
	}
	phone, f := provision.New(v.tenant, a), provision.Format(format.Value)
	if !slices.Contains(programs(phone), f) {
		return fault.Field("format", "choose one of the programs on your account page")
	}
	p := provisionPage{frame: newFrame(v.tenant, sp), Program: string(f)}
	code := phone.Scan(f)
	if slices.Contains(provision.Fetched, f) {
		query := url.Values{"token": {s.Links.Make(v.Context(), v.tenant, a, f, v.from)}}
		p.Link = v.tenant.PublicURL + provisionPath(f) + "?" + query.Encode()
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

// errAhead is told to whoever only looks at a link that works once: a browser that guesses where a person will go, a messenger
// that draws a preview with HEAD.
var errAhead = fault.New(fault.Overloaded, "this link works once, and nothing is fetched ahead of time; open it in the program that it is for")

func (s *Site) provisionFile(f provision.Format) handler {
	return func(w http.ResponseWriter, v *visit) error {
		if v.Method != http.MethodGet || speculative(v.Header) {
			return errAhead
		}
		file, err := s.Links.Open(v.Context(), v.tenant, f, tokenOf(v.URL), v.from)
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
