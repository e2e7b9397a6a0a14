package web

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/provision"
)

// turn issues a credential for the tenant's TURN servers to a person who is signed in. It is only
// for scripts on pages of this host: another site's page can neither make the request nor read the
// answer.
func (s *Site) turn(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	a, err := s.signedIn(r)
	if err != nil {
		return signInFirst(w, err, "credentials for TURN are for people who are signed in")
	}
	if len(r.tenant.TURNURIs) == 0 {
		return fault.New(fault.NotFound,
			"this platform has no TURN servers; make calls without one")
	}
	issuer := s.deps.TURN()
	if issuer == nil {
		return errors.New(
			"the tenant has TURN servers, but there is no turn.key; create it with: dialtone turn secret")
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

// stores lists the pages where people get the generally available programs.
var stores = map[provision.Format][]store{
	provision.Linphone: {
		{"App Store", "https://apps.apple.com/app/linphone/id360065638"},
		{"Google Play", "https://play.google.com/store/apps/details?id=org.linphone"},
		{"linphone.org", "https://www.linphone.org/"},
	},
	provision.Zoiper: {
		{"App Store", "https://apps.apple.com/app/zoiper-lite-voip-soft-phone/id438949960"},
		{"Google Play", "https://play.google.com/store/apps/details?id=com.zoiper.android.app"},
		{"zoiper.com", "https://www.zoiper.com/"},
	},
	provision.Acrobits: {
		{"App Store", "https://apps.apple.com/app/cloud-softphone/id567475545"},
		{"Google Play", "https://play.google.com/store/apps/details?id=cz.acrobits.softphone.cloudphone"},
	},
}

// opener returns the address that opens a program on the device itself with the content of its
// code, or "" if the program has no such scheme. Linphone expects the link to its settings after
// linphone-config:, and the code of Cloud Softphone already is an address. The scheme zoiper: can
// only dial.
func opener(f provision.Format, code string) template.URL {
	switch f {
	case provision.Linphone:
		return template.URL("linphone-config:" + code)
	case provision.Acrobits:
		return template.URL(code)
	}
	return ""
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

// provision shows the page that sets up a program. The link that it creates is only in this
// response, and nothing is stored, so the page may be requested with GET and reloaded for a new
// link.
func (s *Site) provision(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	if speculative(r.Header) {
		return errPrefetch
	}
	return s.personal(s.provisionPage)(w, r)
}

// readFormat reads the program from the query of a GET, or from the form of a POST, whose only query
// may be the page's language.
func readFormat(w http.ResponseWriter, r *request, sp pageLanguage) (provision.Format, error) {
	format := form.Field{Name: "format"}
	if r.Method != http.MethodPost {
		err := form.Parse(r.URL.RawQuery, form.Strict, &format, &form.Field{Name: "lang", Optional: true})
		return provision.Format(format.Value), err
	}
	if r.URL.RawQuery == "lang="+string(sp.tag) {
		r.URL.RawQuery = ""
	}
	err := readForm(w, r.Request, &format)
	return provision.Format(format.Value), err
}

func (s *Site) provisionPage(w http.ResponseWriter, r *request, a account.Account) error {
	sp := s.pageLanguage(r)
	f, err := readFormat(w, r, sp)
	if err != nil {
		return err
	}
	phone := provision.New(r.tenant, a)
	if !slices.Contains(programs(phone), f) {
		return fault.Field("format", "choose one of the programs on your account page")
	}
	p := provisionPage{frame: s.newFrame(r.tenant, sp)}
	p.SignedIn = a.User
	if p.setup, err = s.setUp(r, a, phone, f); err != nil {
		return err
	}
	if p.Code == nil {
		file, err := phone.In(f)
		if err != nil {
			return err
		}
		p.Text = string(file.Text)
	}
	return s.show(w, sp, "provision", p)
}

// setUp creates a link for a program that fetches its settings, and the code for one that scans.
func (s *Site) setUp(
	r *request, a account.Account, phone provision.Phone, f provision.Format,
) (setup, error) {
	p := setup{Program: string(f), Stores: stores[f]}
	code := phone.Scan(f)
	if slices.Contains(provision.Fetched, f) {
		query := url.Values{"token": {s.deps.Links.Make(r.Context(), r.tenant, a, f, r.from)}}
		p.Link = r.tenant.PublicURL + provisionPath(f) + "?" + query.Encode()
		p.Seconds = int((provision.LinkLife - time.Minute) / time.Second)
		code = p.Link
	}
	if code == "" {
		return p, nil
	}
	p.Open = opener(f, code)
	var err error
	p.Code, err = newQR(code)
	return p, err
}

// errPrefetch is for clients that only preview a single-use link: a browser that guesses where a
// person will go next, or a messenger that requests a preview with HEAD.
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
