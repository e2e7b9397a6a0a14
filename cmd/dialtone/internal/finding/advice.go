package finding

import (
	"fmt"
	"path/filepath"

	"dialtone/internal/pathwalk"
)

// advice collects findings. Some advise the operator to change the owner or the mode of a path. If
// the path leads through a link that somebody other than root or the caller has made, or can
// replace, a finding about the link replaces that advice. Otherwise the maker of the link could
// trick root into changing a file that belongs to somebody else.
type advice struct {
	findings []Finding
	links    map[string]bool // which have a finding
}

func (a *advice) add(f Finding) { a.findings = append(a.findings, f) }

// change adds a finding that advises changing the owner or the mode of a path.
func (a *advice) change(path string, f Finding) {
	if l := pathwalk.ForeignLink(path); l != nil {
		a.link(l.Path, ofLink(f.Check, l))
	} else {
		a.add(f)
	}
}

// link adds a finding about a link, unless there already is one.
func (a *advice) link(path string, f Finding) {
	if path, err := filepath.Abs(path); err == nil && !a.links[path] {
		if a.links == nil {
			a.links = make(map[string]bool)
		}
		a.links[path] = true
		a.add(f)
	}
}

// Change returns the finding, which advises changing the owner or the mode of a path, or the one
// that replaces it.
func Change(path string, f Finding) Finding {
	var a advice
	a.change(path, f)
	return a.findings[0]
}

// Link returns the finding that replaces advice to change the owner or the mode of a path, or nil
// if such advice is safe.
func Link(check, path string) *Finding {
	if l := pathwalk.ForeignLink(path); l != nil {
		f := ofLink(check, l)
		return &f
	}
	return nil
}

func ofLink(check string, l *pathwalk.Link) Finding {
	what := describeLink(l.Path, l.Target, l.Owner)
	if l.Owner == 0 {
		what += fmt.Sprintf(", and users such as %s can replace it", pathwalk.UserName(l.Above))
	}
	return New(Fault, check, AboutStart, what, findOut)
}

const findOut = "find out who made it; then move what it is for back in its place, or set its place in the " +
	"configuration"

func describeLink(path, target string, owner uint32) string {
	return fmt.Sprintf("%s is a link of the user %s to %s; commands and the server follow it, though it may "+
		"not lead to where the data belongs", path, pathwalk.UserName(owner), target)
}
