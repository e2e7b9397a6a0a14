package web

type brand struct {
	About, Welcome                        string
	Links                                 []brandLink
	LogoURL, StyleURL, Accent, DarkAccent string
}
type brandLink struct{ Label, URL string }
