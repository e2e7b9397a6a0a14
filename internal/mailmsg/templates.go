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

// Templates are an operator's templates, for the languages whose messages they replace. The zero value replaces none.
type Templates struct {
	replaced map[i18n.Tag]*form
}

// form is a message's two templates. The text may define a template "subject".
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
		text[ext] = strings.ReplaceAll(string(b), "\r\n", "\n") // as an operator's system may end lines
	}
	f = &form{}
	if f.text, err = texttemplate.New(names["txt"]).Parse(text["txt"]); err != nil {
		return nil, err
	}
	f.html, err = htmltemplate.New(names["html"]).Parse(text["html"])
	return f, err
}

// fill makes the subject and both parts of a letter.
func (f *form) fill(l *Message, c Content) error {
	var b strings.Builder
	if subject := f.text.Lookup("subject"); subject != nil {
		if err := subject.Execute(&b, c); err != nil {
			return err
		}
		c.Subject = strings.TrimSpace(b.String())
	}
	l.Subject = c.Subject
	b.Reset()
	if err := f.text.Execute(&b, c); err != nil {
		return err
	}
	l.Text = strings.Trim(b.String(), "\n") + "\n"
	b.Reset()
	if err := f.html.Execute(&b, c); err != nil {
		return err
	}
	l.HTML = b.String()
	return nil
}

// Load reads an operator's templates: activation.TAG.txt and activation.TAG.html for each language whose message is theirs.
// All are tried with made-up content. Its error has a line for each fault, which begins with the file and the line in it.
// Files whose names begin with a dot, and folders, are left alone.
func Load(files fs.FS) (Templates, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return Templates{}, err
	}
	there := make(map[i18n.Tag]map[string]string) // the files of a language, by extension
	var faults []error
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		part := strings.Split(name, ".")
		if len(part) != 3 || part[0] != "activation" || !slices.Contains(i18n.Tags, i18n.Tag(part[1])) || part[2] != "txt" && part[2] != "html" {
			faults = append(faults, fmt.Errorf("%s: no template is called that; they are activation.LANGUAGE.txt and .html, where LANGUAGE is one of %s", name, languages()))
			continue
		}
		tag := i18n.Tag(part[1])
		if there[tag] == nil {
			there[tag] = make(map[string]string)
		}
		there[tag][part[2]] = name
	}
	ts := Templates{replaced: make(map[i18n.Tag]*form)}
	for _, tag := range slices.Sorted(maps.Keys(there)) {
		f, err := load(files, tag, there[tag])
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
			return nil, fmt.Errorf("activation.%s.%s: it is missing; a message has text and HTML, so both are replaced or neither", tag, ext)
		}
	}
	f, err := parse(files, names)
	if err != nil {
		return nil, sourced(err)
	}
	for _, footer := range []string{"", "A footer"} {
		if err := f.try(files, tag, names, footer); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// try makes a message of a tenant that there is not, and looks for its link.
func (f *form) try(files fs.FS, tag i18n.Tag, names map[string]string, footer string) error {
	t := &tenant.Tenant{Host: "phone.example", PublicURL: "https://phone.example", Settings: tenant.Settings{Product: "Example", MailFooter: footer}}
	token := secret.NewToken()
	at := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	l, err := Templates{map[i18n.Tag]*form{tag: f}}.Activation(t, tag, ID{}, "person@example.org", token, at, at.Add(time.Hour))
	if err != nil {
		return sourced(err)
	}
	if _, err := l.Bytes(); err != nil {
		return fmt.Errorf("%s:%d: the subject must be one line of text", names["txt"], lineOf(files, names["txt"], `"subject"`))
	}
	link := t.PublicURL + linkPath + token.Text()
	if strings.Count(l.Text, link) != 1 || !strings.Contains("\n"+l.Text, "\n"+link+"\n") {
		return fmt.Errorf("%s:%d: the link must be there once, on a line of its own: {{.Link}}", names["txt"], lineOf(files, names["txt"], ".Link"))
	}
	if len(regexp.MustCompile(`href\s*=\s*["']?`+regexp.QuoteMeta(link)+`["'\s>]`).FindAllString(l.HTML, -1)) != 1 {
		return fmt.Errorf(`%s:%d: the link must be there once, as in <a href="{{.Link}}">`, names["html"], lineOf(files, names["html"], ".Link"))
	}
	return nil
}

// sourced is an error of a template without the word that it begins with: the file comes first, and the line.
func sourced(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "html/"), "template:")
	return errors.New(strings.TrimSpace(text))
}

// lineOf is the number of the first line that has some text in it, or else of the last line.
func lineOf(files fs.FS, name, text string) int {
	b, _ := fs.ReadFile(files, name) // which has just been read
	before, _, found := strings.Cut(string(b), text)
	if !found {
		before = strings.TrimRight(before, "\n")
	}
	return 1 + strings.Count(before, "\n")
}
