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

// folder is an operator's templates, by name.
func folder(files map[string]string) fs.FS {
	all := fstest.MapFS{}
	for name, text := range files {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

const (
	goodText = "{{define \"subject\"}}Willkommen bei {{.Platform}}{{end}}\nHallo!\n\n{{.Link}}\n\n{{.Wrap .Until}} {{.Host}}\n{{.Footer}}\n"
	goodHTML = "<html lang=\"{{.Lang}}\" dir=\"{{.Dir}}\"><title>{{.Subject}}</title>\n<p>Hallo!\n<p><a href=\"{{.Link}}\">Los</a>\n"
)

func TestOperatorsTemplatesReplaceTheProgramsOwn(t *testing.T) {
	ts, err := mailmsg.Load(folder(map[string]string{
		"activation.de.txt": strings.ReplaceAll(goodText, "\n", "\r\n"), "activation.de.html": goodHTML, ".activation.de.txt.swp": "x", "old/activation.fr.txt": "x",
	}))
	if err != nil {
		t.Fatal(err)
	}
	settings := tenant.Settings{Product: "Bürotelefon", MailFooter: "Haus 1"}
	l, err := write(ts, i18n.German, settings)
	if err != nil {
		t.Fatal(err)
	}
	if want := "Hallo!\n\n" + link + "\n\nSonntag, 8. März 2026, 12:00 Uhr (UTC) phone.test\nHaus 1\n"; l.Text != want {
		t.Errorf("the text is %q, want %q", l.Text, want)
	}
	if want := `<html lang="de" dir="ltr"><title>Willkommen bei Bürotelefon</title>` + "\n<p>Hallo!\n<p><a href=\"" + link + "\">Los</a>\n"; l.HTML != want {
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
	french, err := write(ts, i18n.French, settings)
	if err != nil {
		t.Fatal(err)
	}
	if own := written(i18n.French, settings); french != own {
		t.Errorf("a language that was not replaced is %v, want %v", french, own)
	}
	if ts, err := mailmsg.Load(folder(nil)); err != nil {
		t.Errorf("an empty folder: %v", err)
	} else if l, err := write(ts, i18n.German, settings); err != nil || l != written(i18n.German, settings) {
		t.Errorf("an empty folder makes %v, %v", l, err)
	}
}

func TestFaultyTemplatesAreRefused(t *testing.T) {
	cut := func(text, old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in %q", old, text)
		}
		return strings.Replace(text, old, new, 1)
	}
	for _, c := range []struct {
		name       string
		text, html string
		want       string
	}{
		{"a brace that is not closed", cut(goodText, "{{.Host}}", "{{.Host"), goodHTML, "activation.de.txt:7: "},
		{"a brace that is not closed, in the HTML", goodText, cut(goodHTML, "{{.Link}}", "{{.Link"), "activation.de.html:3: "},
		{"a word that there is not", cut(goodText, ".Platform", ".User"), goodHTML, "activation.de.txt:1:"},
		{"a word that there is not, in the HTML", goodText, cut(goodHTML, ".Subject", ".Name"), "activation.de.html:1:"},
		{"a word only where there is a footer", cut(goodText, "{{.Footer}}", "{{with .Footer}}{{.Nothing}}{{end}}"), goodHTML, "activation.de.txt:7:"},
		{"no link in the text", cut(goodText, "{{.Link}}", "phone.test"), goodHTML, "activation.de.txt:7: the link"},
		{"two links in the text", cut(goodText, "{{.Host}}", "\n{{.Link}}"), goodHTML, "activation.de.txt:4: the link"},
		{"a link with a dot behind it", cut(goodText, "{{.Link}}", "{{.Link}}."), goodHTML, "activation.de.txt:4: the link"},
		{"a link in the middle of a line", cut(goodText, "{{.Link}}", "Hier: {{.Link}}"), goodHTML, "activation.de.txt:4: the link"},
		{"a link that is cut short", cut(goodText, "{{.Link}}", "{{printf \"%.40s\" .Link}}"), goodHTML, "activation.de.txt:4: the link"},
		{"a link only where there is a footer", cut(goodText, "{{.Link}}", "{{if .Footer}}{{.Link}}{{end}}"), goodHTML, "activation.de.txt:4: the link"},
		{"no link in the HTML", goodText, cut(goodHTML, "{{.Link}}", "/"), "activation.de.html:3: the link"},
		{"a link in the HTML that is text", goodText, cut(goodHTML, `<a href="{{.Link}}">Los</a>`, "{{.Link}}"), "activation.de.html:3: the link"},
		{"two links in the HTML", goodText, goodHTML + `<a href='{{.Link}}'>Los</a>`, "activation.de.html:3: the link"},
		{"a subject of two lines", cut(goodText, "Willkommen", "Willkommen\n"), goodHTML, "activation.de.txt:1: the subject"},
		{"HTML that no value is safe in", goodText, cut(goodHTML, "<p>Hallo!", "<script>if ({{.Platform}}) {"), "activation.de.html:"},
		{"HTML that ends within a tag", goodText, goodHTML + "<a href=\"", "activation.de.html"},
		{"no HTML", goodText, "", "activation.de.html: the file is missing"},
		{"no text", "", goodHTML, "activation.de.txt: the file is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{}
			if c.text != "" {
				files["activation.de.txt"] = c.text
			}
			if c.html != "" {
				files["activation.de.html"] = c.html
			}
			if _, err := mailmsg.Load(folder(files)); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	for _, name := range []string{"activation.txt", "activation.xx.txt", "activation.de.md", "activation.DE.txt", "welcome.de.txt", "activation.de.txt~", "README"} {
		if _, err := mailmsg.Load(folder(map[string]string{name: goodText})); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	both := map[string]string{"activation.de.txt": "x", "activation.de.html": goodHTML, "activation.fr.txt": goodText, "what": ""}
	if _, err := mailmsg.Load(folder(both)); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all faults are told: %v", err)
	}
}
