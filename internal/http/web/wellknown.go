package web

import (
	"cmp"
	"net/http"

	"dialtone/internal/http/answer"
)

// robots keeps search engines away from links and from addresses for programs.
func (s *Site) robots(w http.ResponseWriter, _ *request) error {
	answer.Bytes(w, http.StatusOK, answer.TextType, []byte("User-agent: *\n"+
		"Disallow: /*.ashx\nDisallow: /account.html\nDisallow: /password.html\n"+
		"Disallow: /profile.html\nDisallow: /provision\nDisallow: /turn\n"))
	return nil
}

// favicon redirects browsers that request the icon without having loaded a page.
func (s *Site) favicon(w http.ResponseWriter, r *request) error {
	icon := cmp.Or(string(s.brands.of(r.tenant).brand.LogoURL), s.assets.url("favicon.svg"))
	http.Redirect(w, r.Request, icon, http.StatusFound)
	return nil
}

func (s *Site) securityTxt(w http.ResponseWriter, _ *request) error {
	text, err := s.deps.SecurityTxt()
	if err != nil {
		return err
	}
	answer.Bytes(w, http.StatusOK, answer.TextType, text)
	return nil
}
