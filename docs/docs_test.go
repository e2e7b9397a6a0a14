// Package docs tests the documents: their links, the index of decisions, and the reasons for the
// libraries. The commands and the session that they show are tested in cmd/dialtone.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents returns the paths of all Markdown files of the project, relative to this directory.
func documents(t *testing.T) (list []string) {
	t.Helper()
	for _, pattern := range []string{
		"../*.md", "*.md", "decisions/*.md", "../deploy/*.md", "../deploy/*/*.md",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	if len(list) < 20 {
		t.Fatalf("only %d documents were found", len(list))
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// slug returns the anchor that GitHub and others generate for a heading.
func slug(heading string) string {
	heading = notSlug.ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(strings.TrimSpace(heading), " ", "-")
}

// brokenLinks returns the links of a document to missing files or headings.
func brokenLinks(t *testing.T, path string) (broken []string) {
	t.Helper()
	text := fence.ReplaceAllString(read(t, path), "")
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		target := m[1]
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		file, anchor, hasAnchor := strings.Cut(target, "#")
		to := path
		if file != "" {
			to = filepath.Join(filepath.Dir(path), filepath.FromSlash(file))
		}
		if _, err := os.Stat(to); err != nil {
			broken = append(broken, fmt.Sprintf("%s: no file %s", path, target))
			continue
		}
		if !hasAnchor {
			continue
		}
		found := false
		headings := fence.ReplaceAllString(read(t, to), "")
		for _, h := range heading.FindAllStringSubmatch(headings, -1) {
			found = found || slug(h[1]) == anchor
		}
		if !found {
			broken = append(broken, fmt.Sprintf("%s: no heading %s", path, target))
		}
	}
	return broken
}

func TestLinks(t *testing.T) {
	for _, path := range documents(t) {
		for _, message := range brokenLinks(t, path) {
			t.Error(message)
		}
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	text := "# A page\n\n[file](none.md) [heading](#none) [good](#a-page) [web](https://example.org/)\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := brokenLinks(t, path); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

// TestDecisions checks that every page of a decision has its headings and its number in the title, and
// one row in the index, with the text of the title.
func TestDecisions(t *testing.T) {
	pages, err := filepath.Glob("decisions/[0-9]*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	index := read(t, "decisions/README.md")
	numbers := make(map[string]bool)
	for _, path := range pages {
		name := filepath.Base(path)
		number := name[:4]
		if numbers[number] {
			t.Errorf("%s: another page has the number %s", name, number)
		}
		numbers[number] = true
		text := read(t, path)
		for _, heading := range []string{"Context", "Decision", "Price"} {
			if strings.Count(text, "\n## "+heading+"\n") != 1 {
				t.Errorf("%s: want one heading %s", name, heading)
			}
		}
		title, _, _ := strings.Cut(text, "\n")
		words, ok := strings.CutPrefix(title, "# "+number+" ")
		if !ok {
			t.Errorf("%s: the title is %q, want it to begin with %q", name, title, "# "+number)
			continue
		}
		if row := fmt.Sprintf("| [%s](%s) | %s |", number, name, words); !strings.Contains(index, row) {
			t.Errorf("decisions/README.md lacks the row\n%s", row)
		}
	}
	if rows := strings.Count(index, "\n| ["); rows != len(pages) {
		t.Errorf("the index has %d rows for %d pages", rows, len(pages))
	}
}

var requirement = regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)

// TestDependencies checks that decisions/0004 gives a reason for every direct dependency.
func TestDependencies(t *testing.T) {
	reasons := read(t, "decisions/0004-libraries.md")
	direct := requirement.FindAllStringSubmatch(read(t, "../go.mod"), -1)
	if len(direct) < 10 {
		t.Fatalf("only %d direct dependencies were found in go.mod", len(direct))
	}
	for _, m := range direct {
		if !strings.Contains(reasons, m[1]) {
			t.Errorf("decisions/0004-libraries.md gives no reason for %s", m[1])
		}
	}
}

var codePath = regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9_]+)*(?:\\.go|\\.txt)?)`")

// TestPaths checks that every package and file that architecture.md names exists below internal.
func TestPaths(t *testing.T) {
	text := read(t, "architecture.md")
	start, end := strings.Index(text, "## Where is"), strings.Index(text, "## A signup")
	checked := 0
	for _, m := range codePath.FindAllStringSubmatch(text[start:end], -1) {
		if !strings.Contains(m[1], "/") {
			continue // a name
		}
		checked++
		if _, err := os.Stat(filepath.Join("../internal", m[1])); err != nil {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("architecture.md names %s, which does not exist", m[1])
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d paths were found", checked)
	}
}
