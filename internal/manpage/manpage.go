// Package manpage writes the manual page dialtone(1) from the grammar of the command line, in mdoc(7).
//
// The page contains the --help texts of all commands, so the two cannot differ. What is not in the
// grammar, such as files and exit statuses, is a text in this package.
package manpage

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Write writes the page, with the day on which the program was built.
func Write(w io.Writer, app *kong.Application, day time.Time) error {
	out := &strings.Builder{}
	fmt.Fprintf(out, ".Dd %s\n.Dt DIALTONE 1\n.Os\n", day.UTC().Format("January 2, 2006"))
	out.WriteString(".Sh NAME\n.Nm dialtone\n.Nd accounts for SIP and WebRTC phone platforms\n.Sh SYNOPSIS\n")
	out.WriteString(".Nm\n.Op Fl -config Ar FILE\n.Op Fl -data Ar DIR\n.Op Fl -database Ar URL\n")
	out.WriteString(".Ar command\n.Op Ar ...\n")
	out.WriteString(".Sh DESCRIPTION\n" + description)
	out.WriteString(".Pp\nAll commands take these flags:\n")
	flags(out, app.Node.Flags)
	out.WriteString(".Sh COMMANDS\n")
	var group string
	for _, n := range app.Leaves(true) {
		if g := n.ClosestGroup(); g != nil && g.Title != group {
			if group != "" {
				out.WriteString(".El\n")
			}
			group = g.Title
			fmt.Fprintf(out, ".Ss %s\n.Bl -tag -width Ds\n", group)
		}
		command(out, app, n)
	}
	if group != "" {
		out.WriteString(".El\n")
	}
	out.WriteString(rest)
	_, err := io.WriteString(w, out.String())
	return err
}

const description = `.Nm
is the server with which people sign up for accounts of a phone platform, and
the commands with which an operator manages it.
Phone servers read the accounts from it.
.Pp
The commands use the store that the flags, the environment or the
configuration file name.
They may run while a server runs.
`

const rest = `.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev DIALTONE_CONFIG
The configuration file.
.It Ev DIALTONE_DATA , DIALTONE_DATABASE , ...
Each key of the configuration has a variable, with
.Ql _
for
.Ql .\& :
.Ev DIALTONE_LOG_LEVEL
is the key
.Ql log.level .
A variable overrides the file, and a flag overrides both.
.It Ev NOTIFY_SOCKET , WATCHDOG_USEC
Set by
.Xr systemd 1 ;
see
.Xr sd_notify 3 .
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/dialtone/dialtone.toml
The configuration file of the Debian package.
Nothing is read from there unless
.Fl -config
or
.Ev DIALTONE_CONFIG
names it.
.It Pa /var/lib/dialtone
The data directory of the Debian package: the database and, in
.Pa keys ,
the keys.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
Done.
.It 1
Refused or failed.
.It 2
The command line is wrong.
.It 75
The disk failed while saving; start the server again.
.It 78
An operator has to correct the configuration, the keys or the store.
.El
.Sh SIGNALS
.Bl -tag -width Ds
.It Dv SIGTERM , SIGINT
The server finishes current requests and ends.
.It Dv SIGHUP
The server reads the level of the log and the templates of messages again.
The log names the changed keys that need a restart.
.El
.Sh SEE ALSO
.Xr turnserver 1 ,
.Xr kamailio 8
`

// command writes a command, its arguments and flags.
func command(out *strings.Builder, app *kong.Application, n *kong.Node) {
	fmt.Fprintf(out, ".It Ic %s", strings.TrimPrefix(n.FullPath(), app.Name+" "))
	for _, a := range n.Positional {
		name := word(strings.ToUpper(a.Name))
		if a.IsCumulative() {
			name += " ..."
		}
		if a.Required {
			fmt.Fprintf(out, " Ar %s", name)
		} else {
			fmt.Fprintf(out, " Op Ar %s", name)
		}
	}
	out.WriteString("\n")
	text(out, n.Help)
	if n.Detail != "" {
		for paragraph := range strings.SplitSeq(n.Detail, "\n\n") {
			out.WriteString(".Pp\n")
			text(out, paragraph)
		}
	}
	if len(n.Positional) > 0 {
		out.WriteString(".Bl -tag -width Ds\n")
		for _, a := range n.Positional {
			fmt.Fprintf(out, ".It Ar %s\n", word(strings.ToUpper(a.Name)))
			text(out, a.Help)
		}
		out.WriteString(".El\n")
	}
	flags(out, n.Flags)
}

func flags(out *strings.Builder, list []*kong.Flag) {
	begun := false
	for _, f := range list {
		if f.Hidden {
			continue
		}
		if !begun {
			out.WriteString(".Bl -tag -width Ds\n")
			begun = true
		}
		fmt.Fprintf(out, ".It Fl -%s", f.Name)
		if f.Short != 0 {
			fmt.Fprintf(out, " , Fl %c", f.Short)
		}
		if !f.IsBool() {
			fmt.Fprintf(out, " Ar %s", word(f.FormatPlaceHolder()))
		}
		out.WriteString("\n")
		text(out, f.Help)
	}
	if begun {
		out.WriteString(".El\n")
	}
}

// word returns text for a line with a macro, where quotes are special and names of macros are macros.
func word(text string) string {
	return `\&` + strings.NewReplacer(`\`, `\e`, `"`, "", "-", `\-`, ",...", ",\\&...").Replace(text)
}

// columns is the maximum length of a line of the source.
const columns = 80

var (
	sentence = regexp.MustCompile(`([.:?)]) +([A-Z])`)
	dashes   = regexp.MustCompile(`(^|[\s"(\[=])(--?[a-z])`)
)

// text writes a text, each sentence on a line of its own, as mdoc(7) wants it.
func text(out *strings.Builder, s string) {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = dashes.ReplaceAllStringFunc(s, func(m string) string { return strings.ReplaceAll(m, "-", `\-`) })
	s = sentence.ReplaceAllString(s, "$1\n$2")
	for line := range strings.Lines(s) {
		used := 0
		for _, w := range strings.Fields(line) {
			switch {
			case used > 0 && used+1+len(w) > columns:
				out.WriteString("\n")
				used = 0
			case used > 0:
				out.WriteString(" ")
				used++
			}
			if used == 0 && (w[0] == '.' || w[0] == '\'') {
				w = `\&` + w
			}
			out.WriteString(w)
			used += len(w)
		}
		out.WriteString("\n")
	}
}
