package web

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// Scripts are ES modules, so that each can be read and tested separately. A page loads one file:
// the page's module with everything that it imports. The file is assembled at startup by text
// substitution, not by a build step, so the modules may use only a few forms of import and export.
// TestBundle lists them.
var (
	importForm = regexp.MustCompile(`^import (?:\{(\s*\w+(?:,\s*\w+)*,?\s*)\} from )?"\./([\w-]+\.js)";(?:\n|$)`)
	exportForm = regexp.MustCompile(`^export ((?:async )?function|const) (\w+)`)
	otherForm  = regexp.MustCompile(`^(?:import|export)\b`)
)

// bundles returns the scripts of the pages by name, in parts: the modules that no other module imports, each
// with everything that it imports. It fails for a module that imports a missing file, for modules that
// import each other in a cycle, and for other forms of import and export.
func bundles(files fs.FS) (map[string][][]byte, error) {
	names, err := fs.Glob(files, "*.js")
	if err != nil {
		return nil, err
	}
	modules, imported := map[string]module{}, map[string]bool{}
	for _, name := range names {
		m, err := readModule(files, name)
		if err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		modules[name] = m
		for _, other := range m.imports {
			imported[other] = true
		}
	}
	scripts := map[string][][]byte{}
	for _, name := range names {
		b := bundler{modules: modules}
		if err := b.add(name, nil); err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		if !imported[name] {
			scripts[name] = b.out
		}
	}
	return scripts, nil
}

// module is one file of scripts.
type module struct {
	imports []string
	// text is the module as a function that returns its exports, so that the module keeps its own
	// scope.
	text []byte
}

func readModule(files fs.FS, name string) (m module, err error) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return m, err
	}
	var source strings.Builder
	var exports []string
	// The expressions are tried only where a line begins with the keyword, since searching the
	// whole text is slow.
	for rest := string(content); rest != ""; {
		line := rest
		if end := strings.IndexByte(rest, '\n'); end >= 0 {
			line = rest[:end+1]
		}
		out := line
		if strings.HasPrefix(line, "import") || strings.HasPrefix(line, "export") {
			if match := importForm.FindStringSubmatch(rest); match != nil {
				m.imports = append(m.imports, match[2])
				if line, out = match[0], "\n"; match[1] != "" {
					out = "const {" + match[1] + "} = " + variable(match[2]) + ";\n"
				}
			} else if match := exportForm.FindStringSubmatch(rest); match != nil {
				exports = append(exports, match[2])
				line, out = match[0], match[1]+" "+match[2]
			} else if otherForm.MatchString(line) {
				return m, fmt.Errorf("%s: this form is not supported: %s", name, strings.TrimSuffix(line, "\n"))
			}
		}
		source.WriteString(out)
		rest = rest[len(line):]
	}
	m.text = fmt.Appendf(nil, "const %s = (() => {\n%s\nreturn { %s };\n})();\n",
		variable(name), source.String(), strings.Join(exports, ", "))
	return m, nil
}

// bundler assembles one script.
type bundler struct {
	modules map[string]module
	out     [][]byte
	done    []string
}

// add adds a module after those that it imports.
func (b *bundler) add(name string, importers []string) error {
	if slices.Contains(b.done, name) {
		return nil
	}
	if importers = append(importers, name); slices.Contains(importers[:len(importers)-1], name) {
		return fmt.Errorf("modules import each other in a cycle: %s", strings.Join(importers, ", "))
	}
	m, ok := b.modules[name]
	if !ok {
		return fmt.Errorf("a module imports a missing file: %s", strings.Join(importers, ", "))
	}
	for _, other := range m.imports {
		if err := b.add(other, importers); err != nil {
			return err
		}
	}
	b.out, b.done = append(b.out, m.text), append(b.done, name)
	return nil
}

// variable returns the name of the variable for a module.
func variable(module string) string {
	return "$" + strings.ReplaceAll(strings.TrimSuffix(module, ".js"), "-", "_")
}
