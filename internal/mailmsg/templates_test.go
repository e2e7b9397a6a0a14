package mailmsg_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

// templatesDir returns a directory with an operator's templates.
func templatesDir(files map[string]string) fs.FS {
	all := fstest.MapFS{}
	for name, text := range files {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

const (
	goodText = "{{define \"subject\"}}Willkommen bei {{.Platform}}{{end}}\nHallo!\n\n{{.Link}}\n\n" +
		"{{.Wrap .Until}} {{.Host}}\n{{.Footer}}\n"
	goodHTML = "<html lang=\"{{.Lang}}\" dir=\"{{.Dir}}\"><title>{{.Subject}}</title>\n" +
		"<p>Hallo!\n<p><a href=\"{{.Link}}\">Los</a>\n"
)

func TestLoad(t *testing.T) {
	ts, err := mailmsg.Load(templatesDir(map[string]string{
		"activation.de.txt":      strings.ReplaceAll(goodText, "\n", "\r\n"),
		"activation.de.html":     goodHTML,
		".activation.de.txt.swp": "x",
		"old/activation.fr.txt":  "x",
	}))
	if err != nil {
		t.Fatal(err)
	}
	settings := tenant.Settings{Product: "Bürotelefon", MailFooter: "Haus 1"}
	l, err := build(ts, i18n.German, settings)
	if err != nil {
		t.Fatal(err)
	}
	want := "Hallo!\n\n" + link + "\n\nSonntag, 8. März 2026, 12:00 Uhr (UTC) phone.test\nHaus 1\n"
	if l.Text != want {
		t.Errorf("the text is %q, want %q", l.Text, want)
	}
	want = `<html lang="de" dir="ltr"><title>Willkommen bei Bürotelefon</title>` +
		"\n<p>Hallo!\n<p><a href=\"" + link + "\">Los</a>\n"
	if l.HTML != want {
		t.Errorf("the HTML is %q, want %q", l.HTML, want)
	}
	if l.Subject != "Willkommen bei Bürotelefon" {
		t.Errorf("the subject is %q", l.Subject)
	}
	b, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	check(t, l, b)
	french, err := build(ts, i18n.French, settings)
	if err != nil {
		t.Fatal(err)
	}
	if want := builtin(i18n.French, settings); french != want {
		t.Errorf("a language without templates: %v, want %v", french, want)
	}
	if ts, err := mailmsg.Load(templatesDir(nil)); err != nil {
		t.Errorf("an empty directory: %v", err)
	} else if l, err := build(ts, i18n.German, settings); err != nil || l != builtin(i18n.German, settings) {
		t.Errorf("an empty directory: %v, %v", l, err)
	}
}

// An operator's templates may contain the link for people who did not sign up.
func TestDeclineInTemplates(t *testing.T) {
	ts, err := mailmsg.Load(templatesDir(map[string]string{
		"activation.de.txt":  goodText + "Nicht Sie? {{.Decline}}\n",
		"activation.de.html": goodHTML + "<p><a href=\"{{.Decline}}\">Nicht Sie?</a>\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	l, err := build(ts, i18n.German, tenant.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	decline := strings.Replace(link, "/activate.ashx?token=", "/decline.html?link=", 1)
	if !strings.HasSuffix(l.Text, "Nicht Sie? "+decline+"\n") || !strings.Contains(l.HTML, `href="`+decline+`"`) {
		t.Errorf("got %s\n%s", l.Text, l.HTML)
	}
	token, ok := mailmsg.Token(l.Text)
	if want, _ := mailmsg.Token(link); !ok || token != want {
		t.Error("the token is not that of the link")
	}
}

func TestLoadErrors(t *testing.T) {
	const textFile, htmlFile = "activation.de.txt", "activation.de.html"
	// edited returns a template with old replaced by new.
	edited := func(template, old, new string) string {
		if !strings.Contains(template, old) {
			t.Fatalf("%q is not in %q", old, template)
		}
		return strings.Replace(template, old, new, 1)
	}
	text := func(old, new string) string { return edited(goodText, old, new) }
	html := func(old, new string) string { return edited(goodHTML, old, new) }
	const anchor = `<a href="{{.Link}}">Los</a>`
	for _, c := range []struct {
		name       string
		text, html string
		want       string
	}{
		{"unclosed brace in the text", text("{{.Host}}", "{{.Host"), goodHTML, textFile + ":7: "},
		{"unclosed brace in the HTML", goodText, html("{{.Link}}", "{{.Link"), htmlFile + ":3: "},
		{"unknown field in the text", text(".Platform", ".User"), goodHTML, textFile + ":1:"},
		{"unknown field in the HTML", goodText, html(".Subject", ".Name"), htmlFile + ":1:"},
		{"unknown field only with a footer",
			text("{{.Footer}}", "{{with .Footer}}{{.Nothing}}{{end}}"), goodHTML, textFile + ":7:"},
		{"only the other link", text("{{.Link}}", "{{.Decline}}"), goodHTML, textFile + ":7: the link"},
		{"no link in the text", text("{{.Link}}", "phone.test"), goodHTML, textFile + ":7: the link"},
		{"two links in the text", text("{{.Host}}", "\n{{.Link}}"), goodHTML, textFile + ":4: the link"},
		{"dot after the link", text("{{.Link}}", "{{.Link}}."), goodHTML, textFile + ":4: the link"},
		{"text before the link", text("{{.Link}}", "Hier: {{.Link}}"), goodHTML, textFile + ":4: the link"},
		{"shortened link",
			text("{{.Link}}", "{{printf \"%.40s\" .Link}}"), goodHTML, textFile + ":4: the link"},
		{"link only with a footer",
			text("{{.Link}}", "{{if .Footer}}{{.Link}}{{end}}"), goodHTML, textFile + ":4: the link"},
		{"no link in the HTML", goodText, html("{{.Link}}", "/"), htmlFile + ":3: the link"},
		{"link as text in the HTML", goodText, html(anchor, "{{.Link}}"), htmlFile + ":3: the link"},
		{"two links in the HTML",
			goodText, goodHTML + `<a href='{{.Link}}'>Los</a>`, htmlFile + ":3: the link"},
		{"two lines in the subject",
			text("Willkommen", "Willkommen\n"), goodHTML, textFile + ":1: the subject"},
		{"value in an unsafe context",
			goodText, html("<p>Hallo!", "<script>if ({{.Platform}}) {"), htmlFile + ":"},
		{"HTML ends within a tag", goodText, goodHTML + "<a href=\"", htmlFile},
		{"no HTML file", goodText, "", htmlFile + ": the file is missing"},
		{"no text file", "", goodHTML, textFile + ": the file is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{}
			if c.text != "" {
				files[textFile] = c.text
			}
			if c.html != "" {
				files[htmlFile] = c.html
			}
			_, err := mailmsg.Load(templatesDir(files))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	for _, name := range []string{
		"activation.txt", "activation.xx.txt", "activation.de.md", "activation.DE.txt", "welcome.de.txt",
		"activation.de.txt~", "README",
	} {
		_, err := mailmsg.Load(templatesDir(map[string]string{name: goodText}))
		if err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	several := map[string]string{
		textFile: "x", htmlFile: goodHTML, "activation.fr.txt": goodText, "what": "",
	}
	if _, err := mailmsg.Load(templatesDir(several)); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want all three errors, got: %v", err)
	}
}
