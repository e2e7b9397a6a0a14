package session

import "strings"

// labels are the words of a label, each with what a User-Agent contains that has it. The first that
// is contained counts: browsers claim to be others, and name themselves too.
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

// BrowserOf returns a label for a User-Agent, such as "Firefox on Linux", or "" for one that it does
// not know. It is made of a fixed vocabulary: text of the request is never in it.
func BrowserOf(agent string) string {
	agent = agent[:min(len(agent), 512)]
	browser, system := browsers.of(agent), systems.of(agent)
	if browser == "" || system == "" {
		return browser + system
	}
	return browser + " on " + system
}
