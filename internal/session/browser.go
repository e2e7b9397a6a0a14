package session

import "strings"

// labels maps marks in a User-Agent to words of a label. The first mark that is contained wins,
// since browsers claim to be other browsers besides naming themselves.
type labels []struct{ mark, label string }

var (
	browsers = labels{
		{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"},
		{"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Vivaldi/", "Vivaldi"},
		{"CriOS/", "Chrome"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"},
	}
	systems = labels{
		{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"CrOS", "ChromeOS"},
		{"Windows", "Windows"}, {"Macintosh", "Mac"}, {"Linux", "Linux"},
	}
)

func (l labels) of(agent string) string {
	for _, x := range l {
		if strings.Contains(agent, x.mark) {
			return x.label
		}
	}
	return ""
}

// BrowserOf returns a label for a User-Agent, such as "Firefox on Linux", or "" if it is
// unknown. Labels have a fixed vocabulary and never contain text of the request.
func BrowserOf(agent string) string {
	agent = agent[:min(len(agent), 512)]
	browser, system := browsers.of(agent), systems.of(agent)
	if browser == "" || system == "" {
		return browser + system
	}
	return browser + " on " + system
}
