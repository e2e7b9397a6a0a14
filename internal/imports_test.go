package internal

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The architecture, expressed as rules about imports. Test files may import anything.
//
//  1. Vocabulary packages import only each other.
//  2. Domain packages import only vocabulary and domain packages.
//  3. Neither touches the network, a database or files, and neither imports a library, except those
//     in pure.
//  4. Every other package below internal is an adapter to one outside system. Adapters import
//     vocabulary and domain packages, and of the adapters only the shared ones and the foundation
//     of their own group. The packages of the store are layers: each imports only those below it. Its
//     statements, which are package store, import no library.
//  5. Test support, internal/test, is imported only by tests, by itself and by bench.
//  6. Only cmd and bench import packages from several groups. Nothing imports cmd or bench, and
//     only cmd imports deploy, which embeds files.
//  7. The packages below cmd/dialtone/internal are layers: each imports only those below it. Those of
//     the two lowest layers are adapters, so rule 4 holds for them. Only package main imports them all.
var (
	vocabulary = []string{
		"digest", "fault", "i18n", "metric", "outage", "recorder", "redact", "secret", "shellword", "totp", "trace",
		"weakpass",
	}

	domain = []string{
		"account", "audit", "captcha", "certificate", "delivery", "export", "hook", "mailmsg", "operator",
		"operator/opjson", "outbox", "passkey", "provision", "session", "sipserver", "sipserver/cache", "stats",
		"tenant", "throttle", "turn",
	}

	// shared are adapters that all others may use.
	shared = []string{"atomicfile", "pathwalk", "regularfile", "secret/keyfile"}

	// foundations are the packages that others of their group are built on.
	foundations = []string{
		"hook/httpclient", "http/answer", "http/form", "http/server", "config",
	}

	// storeLayers are the packages of the store, starting with the lowest layer.
	storeLayers = [][]string{
		{"store/engine", "store/sqlite/conn"},
		{"store/admission", "store/migrations"},
		{"store/sqlite", "store/postgres"},
		{"store/phonetables"},
		{"store"},
		{"store/transfer"},
	}

	// programLayers are the packages below cmd/dialtone/internal, from the lowest layer up.
	programLayers = [][]string{
		{"exitstatus", "finding", "owner", "terminal"},
		{"runas"},
		{"adapter", "installation", "outfile"},
		{"keys"},
		{"serve", "backup", "restore", "setup", "doctor", "bulk", "certfile", "exporter", "importer", "storecopy"},
	}

	// outside are the packages of the standard library that rule 3 forbids.
	outside = []string{
		"database/sql", "io/ioutil", "log/syslog", "net", "net/http", "net/smtp", "net/rpc",
		"os", "os/exec", "os/signal", "plugin", "syscall",
	}

	// pure are libraries without I/O.
	pure = []string{
		"github.com/go-webauthn/webauthn/protocol", "github.com/go-webauthn/webauthn/protocol/webauthncose",
		"golang.org/x/net/idna", "golang.org/x/sys/cpu", "golang.org/x/text/unicode/norm",
	}
)

const (
	module  = "dialtone/"
	program = "cmd/dialtone"
	parts   = program + "/internal/" // of the program

	// wiring is the index of the lowest of programLayers whose packages are not adapters.
	wiring = 2
)

func TestImports(t *testing.T) {
	found := make(map[string]bool)
	for _, root := range []string{".", "../cmd", "../bench"} {
		err := filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() || d.Name() == "testdata" {
				return err
			}
			if strings.HasPrefix(d.Name(), "_") { // a module of its own
				return fs.SkipDir
			}
			p, err := build.ImportDir(dir, 0)
			if _, empty := errors.AsType[*build.NoGoError](err); empty {
				return nil
			}
			if err != nil {
				return err
			}
			if dir == "." || len(p.GoFiles) == 0 {
				return nil
			}
			name := strings.TrimPrefix(path.Join("internal", filepath.ToSlash(dir)), "internal/")
			found[name] = true
			for _, message := range violations(name, p.Imports) {
				t.Error(message)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !found["cmd/dialtone"] || !found["bench"] {
		t.Error("cmd/dialtone and bench were not checked")
	}
}

// violations checks the imports of one package, named by its path below internal, or from the
// module's root for cmd and bench.
func violations(name string, imports []string) (messages []string) {
	refuse := func(format string, args ...any) {
		messages = append(messages, name+" "+fmt.Sprintf(format, args...))
	}
	inner := slices.Contains(vocabulary, name) || slices.Contains(domain, name)
	wires := group(name) == "cmd" && layer(programLayers, partOf(module+name)) >= wiring || name == "bench"
	for _, imported := range imports {
		own, ours := strings.CutPrefix(imported, module)
		own, internal := strings.CutPrefix(own, "internal/")
		switch {
		case imported == module+"deploy" && group(name) == "cmd": // allowed
		case strings.HasPrefix(imported, module+parts) && group(name) == "cmd":
			if layer(programLayers, partOf(imported)) >= layer(programLayers, partOf(module+name)) {
				refuse("imports %s, which is not in a lower layer of the program", imported)
			}
		case ours && !internal:
			refuse("imports %s, which is a program", imported)
		case !ours && inner && slices.Contains(outside, imported):
			refuse("is a vocabulary or domain package and imports %s", imported)
		case !ours && inner && strings.Contains(imported, ".") && !slices.Contains(pure, imported):
			refuse("is a vocabulary or domain package and imports the library %s", imported)
		case !ours && name == "store" && strings.Contains(imported, "."):
			refuse("has the statements of the store and imports the library %s", imported)
		case !ours || wires && (group(own) != "test" || name == "bench"): // allowed
		case group(own) == "test" && group(name) != "test":
			refuse("imports the test support %s", own)
		case slices.Contains(vocabulary, own), group(name) == "test": // allowed
		case slices.Contains(vocabulary, name):
			refuse("is a vocabulary package and imports %s", own)
		case slices.Contains(domain, own): // allowed
		case inner:
			refuse("is a domain package and imports the adapter %s", own)
		case slices.Contains(shared, own): // allowed
		case group(own) == "store" && group(name) == "store":
			if layer(storeLayers, own) >= layer(storeLayers, name) {
				refuse("is in the store and imports %s, which is not in a lower layer", own)
			}
		case group(own) != group(name) || !slices.Contains(foundations, own):
			refuse("is an adapter and imports the adapter %s", own)
		}
	}
	return messages
}

// layer returns the layer of a package of a group. A package in no layer is above all others.
func layer(layers [][]string, name string) int {
	i := slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, name) })
	if i < 0 {
		return len(layers)
	}
	return i
}

// partOf returns the path of a package relative to cmd/dialtone/internal. It returns other paths unchanged.
func partOf(imported string) string { return strings.TrimPrefix(imported, module+parts) }

// group returns the first element of a package's path.
func group(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

func TestViolations(t *testing.T) {
	for _, c := range []struct {
		claim, name, imports string
		allowed              bool
	}{
		{"vocabulary uses vocabulary", "digest", "dialtone/internal/fault", true},
		{"vocabulary does not use the domain", "digest", "dialtone/internal/account", false},
		{"the domain uses the domain", "session", "dialtone/internal/account", true},
		{"the domain does not use adapters", "account", "dialtone/internal/store", false},
		{"the domain does not use files", "account", "os", false},
		{"the domain does not use the network", "hook", "net/http", false},
		{"the domain does not use system calls", "captcha", "syscall", false},
		{"the domain does not use libraries", "digest", "github.com/some/library", false},
		{"the domain uses tables", "account", "golang.org/x/net/idna", true},
		{"adapters use the domain", "store", "dialtone/internal/account", true},
		{"adapters use libraries", "mail/dkim", "github.com/some/library", true},
		{"adapters use the foundation of their group", "http/web", "dialtone/internal/http/form", true},
		{"adapters use the shared ones", "secret/keyfile", "dialtone/internal/atomicfile", true},
		{"the domain does not use the shared ones", "account", "dialtone/internal/atomicfile", false},
		{"vocabulary does not use files", "secret", "os", false},
		{"adapters do not use each other", "http/web", "dialtone/internal/http/lookup", false},
		{"adapters do not use other groups", "http/web", "dialtone/internal/mail/pickup", false},
		{"the store uses its engine", "store", "dialtone/internal/store/engine", true},
		{"engines do not use the statements", "store/sqlite", "dialtone/internal/store", false},
		{"engines do not use each other", "store/sqlite", "dialtone/internal/store/postgres", false},
		{"the engines' interface knows no engine", "store/engine", "dialtone/internal/store/sqlite", false},
		{"statements know no driver", "store", "github.com/jackc/pgx/v5", false},
		{"engines use drivers", "store/postgres", "github.com/jackc/pgx/v5", true},
		{"a new package is an adapter", "util", "dialtone/internal/store", false},
		{"programs are not imported", "http/web", "dialtone/cmd/dialtone", false},
		{"cmd wires", "cmd/dialtone", "dialtone/internal/http/web", true},
		{"cmd uses its parts", "cmd/dialtone", "dialtone/cmd/dialtone/internal/terminal", true},
		{"parts of cmd wire", "cmd/dialtone/internal/serve", "dialtone/internal/http/web", true},
		{"the lowest parts of cmd are adapters", "cmd/dialtone/internal/terminal", "dialtone/internal/http/web",
			false},
		{"the second layer of cmd uses the lowest", "cmd/dialtone/internal/runas",
			"dialtone/cmd/dialtone/internal/owner", true},
		{"the second layer of cmd has adapters too", "cmd/dialtone/internal/runas", "dialtone/internal/config", false},
		{"the third layer of cmd wires", "cmd/dialtone/internal/installation", "dialtone/internal/config", true},
		{"a new part is above the others", "cmd/dialtone/internal/new", "dialtone/cmd/dialtone/internal/terminal",
			true},
		{"nothing uses a new part", "cmd/dialtone/internal/terminal", "dialtone/cmd/dialtone/internal/new", false},
		{"other programs do not use them", "bench", "dialtone/cmd/dialtone/internal/terminal", false},
		{"cmd does not ship test support", "cmd/dialtone", "dialtone/internal/test/crashfs", false},
		{"adapters do not ship test support", "store", "dialtone/internal/test/crashfs", false},
		{"test support uses what it tests", "test/conformance", "dialtone/internal/account", true},
	} {
		if got := len(violations(c.name, []string{c.imports})) == 0; got != c.allowed {
			t.Errorf("%s: %s imports %s: allowed %v", c.claim, c.name, c.imports, got)
		}
	}
}
