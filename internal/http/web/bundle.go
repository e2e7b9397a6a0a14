package web

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// Scripts are ES modules, so that each can be read and tested by itself. A page loads one file: the
// module of the page with all that it imports. It is put together at start, by text substitution and
// not by a build step, so the modules keep to a few forms of import and export. TestBundle lists them.
var (
	importForm = regexp.MustCompile(`(?m)^import (?:\{(\s*\w+(?:,\s*\w+)*,?\s*)\} from )?"\./([\w-]+\.js)";$`)
	exportForm = regexp.MustCompile(`(?m)^export ((?:async )?function|const) (\w+)`)
	otherForm  = regexp.MustCompile(`(?m)^(?:import|export)\b.*$`)
)

// bundles returns the scripts of the pages by name: the modules that no other module imports, each
// with everything that it imports. It fails for a module that imports a missing file, for modules that
// import each other in a cycle, and for other forms of import and export.
func bundles(files fs.FS) (map[string][]byte, error) {
	names, err := fs.Glob(files, "*.js")
	if err != nil {
		return nil, err
	}
	scripts, imported := map[string][]byte{}, map[string]bool{}
	for _, name := range names {
		b := bundler{files: files, imported: imported}
		if err := b.add(name, nil); err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		scripts[name] = []byte(b.out.String())
	}
	for name := range imported {
		delete(scripts, name)
	}
	return scripts, nil
}

// bundler puts one script together.
type bundler struct {
	files    fs.FS
	imported map[string]bool // shared: all modules that some module imports
	out      strings.Builder
	done     []string
}

// add adds a module after those that it imports. Each becomes a function that returns what the module
// exports, so the modules keep their own scopes.
func (b *bundler) add(name string, importers []string) error {
	if slices.Contains(b.done, name) {
		return nil
	}
	if importers = append(importers, name); slices.Contains(importers[:len(importers)-1], name) {
		return fmt.Errorf("modules import each other in a cycle: %s", strings.Join(importers, ", "))
	}
	content, err := fs.ReadFile(b.files, name)
	if err != nil {
		return err
	}
	source := string(content)
	for _, m := range importForm.FindAllStringSubmatch(source, -1) {
		b.imported[m[2]] = true
		if err := b.add(m[2], slices.Clone(importers)); err != nil {
			return err
		}
	}
	source = importForm.ReplaceAllStringFunc(source, func(line string) string {
		m := importForm.FindStringSubmatch(line)
		if m[1] == "" {
			return ""
		}
		return "const {" + m[1] + "} = " + variable(m[2]) + ";"
	})
	var exports []string
	source = exportForm.ReplaceAllStringFunc(source, func(line string) string {
		m := exportForm.FindStringSubmatch(line)
		exports = append(exports, m[2])
		return m[1] + " " + m[2]
	})
	if line := otherForm.FindString(source); line != "" {
		return fmt.Errorf("%s: this form is not supported: %s", name, line)
	}
	fmt.Fprintf(&b.out, "const %s = (() => {\n%s\nreturn { %s };\n})();\n",
		variable(name), source, strings.Join(exports, ", "))
	b.done = append(b.done, name)
	return nil
}

// variable returns the name of the variable for a module.
func variable(module string) string {
	return "$" + strings.ReplaceAll(strings.TrimSuffix(module, ".js"), "-", "_")
}
