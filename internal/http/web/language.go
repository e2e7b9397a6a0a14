package web

import (
	"net/url"
	"strings"
	"sync"

	"golang.org/x/text/language"

	"dialtone/internal/i18n"
)

// pageLanguage is the language of a page, and how it was determined.
type pageLanguage struct {
	tag i18n.Tag
	// chosen means that the person chose the language on a page, not in the browser. The links of
	// the page then contain it. A cookie would do the same, but would be set before anybody has
	// signed in.
	chosen bool
}

// pageLanguage returns the language that ?lang= in the address requests, or else that of the person
// who is signed in, or else the one that the browser requests. It is for pages: programs get
// English.
func (s *Site) pageLanguage(r *request) pageLanguage {
	if tag, ok := requestedLanguage(r.URL); ok {
		return pageLanguage{tag, true}
	}
	if r.lang != "" {
		return pageLanguage{tag: r.lang}
	}
	return pageLanguage{tag: s.browserLanguage(r)}
}

// requestedLanguage returns the language that an address requests.
func requestedLanguage(u *url.URL) (i18n.Tag, bool) {
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if text, ok := strings.CutPrefix(pair, "lang="); ok {
			return i18n.Parse(text)
		}
	}
	return i18n.English, false
}

// browserLanguage returns the best match for the request's Accept-Language.
func (s *Site) browserLanguage(r *request) i18n.Tag {
	values := r.Header["Accept-Language"]
	switch len(values) {
	case 0:
		return i18n.English
	case 1:
		return s.negotiator.pick(values[0])
	default:
		return s.negotiator.pick(strings.Join(values, ","))
	}
}

// negotiator finds the language for the Accept-Language header of browsers (RFC 9110 section
// 12.5.4). Since only a few dozen different values are common, it caches the results. It is safe
// for concurrent use.
type negotiator struct {
	matcher language.Matcher
	mu      sync.RWMutex
	known   map[string]i18n.Tag
}

// Bounds on the work and memory that clients can cause: how much of a header a negotiator reads,
// and how many headers it caches.
const (
	maxHeader  = 256
	maxHeaders = 512
)

func newNegotiator() *negotiator {
	var tags []language.Tag
	for _, t := range i18n.Tags {
		tags = append(tags, language.Make(string(t)))
	}
	return &negotiator{matcher: language.NewMatcher(tags), known: make(map[string]i18n.Tag)}
}

func (n *negotiator) pick(header string) i18n.Tag {
	if len(header) > maxHeader {
		header = header[:maxHeader]
		header = header[:strings.LastIndexByte(header, ',')+1] // no partial tag
	}
	n.mu.RLock()
	tag, ok := n.known[header]
	n.mu.RUnlock()
	if ok {
		return tag
	}
	tag = n.match(header)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.known) < maxHeaders {
		n.known[strings.Clone(header)] = tag
	}
	return tag
}

func (n *negotiator) match(header string) i18n.Tag {
	wanted, _, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return i18n.English
	}
	_, i, _ := n.matcher.Match(wanted...)
	return i18n.Tags[i]
}
