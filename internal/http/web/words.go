package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialtone/internal/i18n"
	"dialtone/internal/stats"
)

// wording provides the texts of one language to the templates, as functions. They escape the texts,
// so that the inserted values can be markup.
type wording struct {
	*i18n.Words
	markups, scripts *sync.Map // cached results of markup, by key, and of texts, by prefixes
}

func newWording(words *i18n.Words) wording { return wording{words, new(sync.Map), new(sync.Map)} }

func (w wording) functions() template.FuncMap {
	return template.FuncMap{
		"lang":      func() i18n.Tag { return w.Tag },
		"dir":       func() string { return w.Dir },
		"languages": w.languages,
		"say":       w.say,
		"texts":     w.texts,
		"bdi":       bdi,
		"breakable": breakable,
		"address":   address,
		"operator":  w.operator,
		"program":   w.program,
		"code":      code,
		"setting":   newSetting,
		"secret":    newSecretInput,
		"moment":    w.moment,
		"dated":     w.dated,
		"about":     w.about,
		"day":       w.Day,
		"reason":    newReasonField,
		"wrong":     newWrongField,
		"brief":     w.brief,
		"counted":   w.counted,
		"browser":   w.browser,
		"value":     w.value,
		"actor":     w.actor,
		"changed":   w.changed,
	}
}

// setting is a row of a list of settings. The row is left out if Value is empty.
type setting struct {
	ID, Label, Value string // Label is the key of a text.
}

func newSetting(label, value string) setting {
	_, id, _ := strings.Cut(label, ".")
	return setting{id, label, value}
}

// secretInput is a password field with its button. Kind is new or current, and What names the value
// that the button reveals.
type secretInput struct {
	ID, Kind string
	What     template.HTML
}

func newSecretInput(id, kind string, what template.HTML) secretInput {
	return secretInput{id, kind, what}
}

// counted returns a number, or the text "more than" if it exceeds the bound.
func (w wording) counted(n stats.Bounded) (template.HTML, error) {
	if n > stats.MaxCounted {
		return w.say("admin.more_than", "count", stats.MaxCounted)
	}
	return template.HTML(strconv.FormatInt(int64(n), 10)), nil
}

// reasonField is the field for the reason of a change. ID is the ID of its form, and the prefix of
// the field's ID.
type reasonField struct{ ID, Value, Error string }

// newReasonField returns the field. wrong may contain the name of the form's wrong field, and the
// key of the text about it.
func newReasonField(id, value string, wrong ...string) reasonField {
	f := reasonField{ID: id, Value: value}
	if len(wrong) == 2 && wrong[0] == "reason" {
		f.Error = wrong[1]
	}
	return f
}

// wrongField is the ID of a field, the key of the text about what is wrong with it, and the ID of
// its hint. The last two may be empty.
type wrongField struct{ ID, Error, Hint string }

// newWrongField returns the field called name of the form id. wrong and text are the name of the
// form's wrong field and the key of the text about it. hint may contain the ID of the field's hint.
func newWrongField(id, name, wrong, text string, hint ...string) wrongField {
	if name != wrong {
		text = ""
	}
	return wrongField{id + "-" + name, text, strings.Join(hint, " ")}
}

// choice is an entry of the menu of languages.
type choice struct {
	*i18n.Words
	Current bool
}

func (w wording) languages() (list []choice) {
	for _, t := range i18n.Tags {
		list = append(list, choice{i18n.In(t), t == w.Tag})
	}
	return list
}

// say returns a text for a page. The pairs of name and value replace its placeholders in braces:
// markup is inserted unchanged, anything else is escaped. *Stars* make words strong, and [brackets]
// form a link to the value named link, which must be an address of this site.
func (w wording) say(key string, slots ...any) (template.HTML, error) {
	text, ok := w.markup(key)
	if !ok || len(slots)%2 != 0 {
		return "", fmt.Errorf("no text %s with %d slots", key, len(slots))
	}
	pairs := make([]string, 0, len(slots)+2)
	for i := 0; i < len(slots); i += 2 {
		name, value := slots[i].(string), ""
		if markup, ok := slots[i+1].(template.HTML); ok {
			value = string(markup)
		} else {
			value = template.HTMLEscapeString(fmt.Sprint(slots[i+1]))
		}
		if name == "link" {
			name, value = linkSlot, ` href="`+value+`"`
		}
		pairs = append(pairs, name, value)
	}
	return template.HTML(i18n.Fill(text, append(pairs, linkSlot, "")...)), nil
}

// linkSlot is the placeholder for the attribute of a link. It does not occur in texts.
const linkSlot = " href"

// markup returns a text with markup instead of stars and brackets.
func (w wording) markup(key string) (string, bool) {
	if known, ok := w.markups.Load(key); ok {
		return known.(string), true
	}
	text, ok := w.Find(key)
	if !ok {
		return "", false
	}
	text = template.HTMLEscapeString(text)
	for strings.Count(text, "*") > 1 {
		text = strings.Replace(strings.Replace(text, "*", "<strong>", 1), "*", "</strong>", 1)
	}
	text = strings.NewReplacer("[", "<a{"+linkSlot+"}>", "]", "</a>").Replace(text)
	w.markups.Store(key, text)
	return text, true
}

// texts returns the texts for a page's scripts, by their prefixes, as a JSON object.
func (w wording) texts(prefixes ...string) (template.JS, error) {
	key := strings.Join(prefixes, " ")
	if known, ok := w.scripts.Load(key); ok {
		return known.(template.JS), nil
	}
	all := make(map[string]string)
	for _, prefix := range prefixes {
		maps.Copy(all, w.Under(prefix))
	}
	text, err := json.Marshal(all) // which escapes what would end a script
	w.scripts.Store(key, template.JS(text))
	return template.JS(text), err
}

// bdi returns text that keeps its own writing direction within a sentence. The class may be empty.
func bdi(class, text string) template.HTML {
	if class != "" {
		class = ` class="` + template.HTMLEscapeString(class) + `"`
	}
	return template.HTML("<bdi"+class+">") + breakable(text) + "</bdi>"
}

// breakable returns text in which lines preferably break before @ and dots, as in a phone address
// or a host name, and not within a word.
func breakable(text string) template.HTML {
	escaped := template.HTMLEscapeString(text)
	return template.HTML(betweenWords.ReplaceAllString(escaped, "$1<wbr>$2"))
}

// betweenWords matches @ or a dot before a letter or digit.
var betweenWords = regexp.MustCompile(`([@.])([\pL\pN])`)

// address returns the element into which a script puts an e-mail address.
func address(id string) template.HTML {
	return template.HTML(`<strong dir="ltr" class="address" id="` + id + `"></strong>`)
}

// operator returns the text that names the operator of a platform, for the end of a sentence.
func (w wording) operator(platform string) (template.HTML, error) {
	return w.say("layout.operator", "platform", bdi("", platform))
}

// code returns a text from a program or a file, which is always written from left to right.
func code(text string) template.HTML {
	return template.HTML(`<span class="code" dir="ltr">` + template.HTMLEscapeString(text) + `</span>`)
}

// moment returns the element with a time in words. A script prepends how long ago that was, as in
// "3 minutes ago (Monday, 30 November 2026, 12:00 UTC)".
func (w wording) moment(t time.Time) template.HTML { return w.timeIn("ago", t) }

// dated is like moment for a time after a preposition, as in "until Monday": the script appends the
// rest.
func (w wording) dated(t time.Time) template.HTML { return w.timeIn("ago_date", t) }

// about is like moment for an approximate time in the past.
func (w wording) about(t time.Time) template.HTML { return w.timeIn("ago_about", t) }

// timeIn returns the element with a time. form is the name of the script's text for it.
func (w wording) timeIn(form string, t time.Time) template.HTML {
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-form="%s" data-seconds="%d">%s</time>`,
		t.UTC().Format(time.RFC3339), form, int64(time.Until(t)/time.Second),
		template.HTMLEscapeString(w.Moment(t))))
}

// brief returns a time in digits, in UTC, for lists. The title is the time in words.
func (w wording) brief(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(`<span class="brief" dir="ltr" title="` + template.HTMLEscapeString(w.Moment(t)) + `">` +
		t.Format("2006-01-02 15:04") + `</span>`)
}

// browser returns the name of a browser and its operating system. Both may be empty.
func (w wording) browser(browser, system string) (template.HTML, error) {
	switch {
	case browser != "" && system != "":
		return w.say("sessions.on", "browser", bdi("", browser), "system", bdi("", system))
	case browser+system != "":
		return bdi("", browser+system), nil
	}
	return w.say("sessions.unknown")
}

// programNames are the names of programs that are the same in every language.
var programNames = map[string]string{
	"linphone": "Linphone", "zoiper": "Zoiper", "acrobits": "Cloud Softphone", "baresip": "baresip",
}

// program returns the name of a softphone program.
func (w wording) program(format string) (template.HTML, error) {
	if name, ok := programNames[format]; ok {
		return template.HTML(name), nil
	}
	return w.say("provision." + format)
}
