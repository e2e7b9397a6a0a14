package mailmsg

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Templates are an operator's templates for activation messages, by language. The zero value replaces no message.
type Templates struct {
	replaced map[i18n.Tag]*form
}

// form is a message's two templates. The text template may define a template "subject".
type form struct {
	text *texttemplate.Template
	html *htmltemplate.Template
}

func parse(files fs.FS, names map[string]string) (f *form, err error) {
	text := make(map[string]string)
	for ext, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		text[ext] = strings.ReplaceAll(string(b), "\r\n", "\n") // an operator's file may have CRLF
	}
	f = &form{}
	if f.text, err = texttemplate.New(names["txt"]).Parse(text["txt"]); err != nil {
		return nil, err
	}
	f.html, err = htmltemplate.New(names["html"]).Parse(text["html"])
	return f, err
}

// fill sets the subject and both parts of a message.
func (f *form) fill(m *Message, c Content) error {
	var b strings.Builder
	if subject := f.text.Lookup("subject"); subject != nil {
		if err := subject.Execute(&b, c); err != nil {
			return err
		}
		c.Subject = strings.TrimSpace(b.String())
		if !strings.Contains(c.Subject, c.Resent) {
			c.Subject += " (" + c.Resent + ")" // see Activation
		}
	}
	m.Subject = c.Subject
	b.Reset()
	if err := f.text.Execute(&b, c); err != nil {
		return err
	}
	m.Text = strings.Trim(b.String(), "\n") + "\n"
	b.Reset()
	if err := f.html.Execute(&b, c); err != nil {
		return err
	}
	m.HTML = b.String()
	return nil
}

// Load reads an operator's templates: activation.TAG.txt and activation.TAG.html for each language.
// It checks each one with sample content. Its error has one line for each mistake, with file and
// line number. It ignores directories and files whose names begin with a dot.
func Load(files fs.FS) (Templates, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return Templates{}, err
	}
	byTag := make(map[i18n.Tag]map[string]string) // files of a language, by extension
	var faults []error
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		part := strings.Split(name, ".")
		if len(part) != 3 || part[0] != "activation" ||
			!slices.Contains(i18n.Tags, i18n.Tag(part[1])) || part[2] != "txt" && part[2] != "html" {
			faults = append(faults, fmt.Errorf("%s: not the name of a template; use "+
				"activation.LANGUAGE.txt and .html, where LANGUAGE is one of %s", name, languages()))
			continue
		}
		tag := i18n.Tag(part[1])
		if byTag[tag] == nil {
			byTag[tag] = make(map[string]string)
		}
		byTag[tag][part[2]] = name
	}
	ts := Templates{replaced: make(map[i18n.Tag]*form)}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		f, err := load(files, tag, byTag[tag])
		if err != nil {
			faults = append(faults, err)
			continue
		}
		ts.replaced[tag] = f
	}
	if len(faults) > 0 {
		return Templates{}, errors.Join(faults...)
	}
	return ts, nil
}

func languages() string {
	var list []string
	for _, t := range i18n.Tags {
		list = append(list, string(t))
	}
	return strings.Join(list, ", ")
}

func load(files fs.FS, tag i18n.Tag, names map[string]string) (*form, error) {
	for _, ext := range []string{"txt", "html"} {
		if names[ext] == "" {
			return nil, fmt.Errorf("activation.%s.%s: the file is missing; "+
				"a message has text and HTML, so replace both or neither", tag, ext)
		}
	}
	f, err := parse(files, names)
	if err != nil {
		return nil, sourced(err)
	}
	for _, s := range []tenant.Settings{
		{}, {MailFooter: "A footer", TermsURL: "https://www.example.org/terms", Support: "help@example.org"},
	} {
		for _, resent := range []bool{false, true} {
			if err := f.check(files, tag, names, s, resent); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// check builds a sample message and looks for its link.
func (f *form) check(files fs.FS, tag i18n.Tag, names map[string]string, s tenant.Settings, resent bool) error {
	s.Product = "Example"
	t := &tenant.Tenant{Host: "phone.example", PublicURL: "https://phone.example", Settings: s}
	token := secret.NewToken()
	at := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	m, err := Templates{map[i18n.Tag]*form{tag: f}}.Compose(
		t, tag, ID{}, "person@example.org",
		Link{Token: token, Made: at, Expires: at.Add(time.Hour), Resent: resent})
	if err != nil {
		return sourced(err)
	}
	if _, err := m.Bytes(); err != nil {
		return fmt.Errorf("%s:%d: the subject must be one line of text",
			names["txt"], lineOf(files, names["txt"], `"subject"`))
	}
	link := Link{Token: token}.url(t)
	if strings.Count(m.Text, link) != 1 || !strings.Contains("\n"+m.Text, "\n"+link+"\n") {
		return fmt.Errorf("%s:%d: the link must appear once, on its own line: {{.Link}}",
			names["txt"], lineOf(files, names["txt"], ".Link"))
	}
	href := regexp.MustCompile(`href\s*=\s*["']?` + regexp.QuoteMeta(link) + `["'\s>]`)
	if len(href.FindAllString(m.HTML, -1)) != 1 {
		return fmt.Errorf(`%s:%d: the link must appear once, as in <a href="{{.Link}}">`,
			names["html"], lineOf(files, names["html"], ".Link"))
	}
	return nil
}

// sourced removes the prefix of a template's error, so that file and line come first.
func sourced(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "html/"), "template:")
	return errors.New(strings.TrimSpace(text))
}

// lineOf returns the number of the first line that contains the text, or of the last line.
func lineOf(files fs.FS, name, text string) int {
	b, _ := fs.ReadFile(files, name) // it was already read once
	before, _, found := strings.Cut(string(b), text)
	if !found {
		before = strings.TrimRight(before, "\n")
	}
	return 1 + strings.Count(before, "\n")
}
