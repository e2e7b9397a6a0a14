// Package completion writes scripts that complete the command line in bash, zsh and fish.
//
// The scripts are made from the grammar of the command line, so they cannot name a command or a flag that does
// not exist. They are static: to complete a word, a shell does not run the program, and so they can be made once,
// when a package is built. They complete commands, flags, the words that a flag or an argument allows, and names of
// files and directories. They do not complete what is in the store, such as user names.
package completion

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Shells are the supported shells.
var Shells = []string{"bash", "zsh", "fish"}

// Write writes the script for a shell, which must be one of Shells.
func Write(w io.Writer, shell string, app *kong.Application) error {
	places := placesOf(app.Node, "")
	out := &strings.Builder{}
	switch shell {
	case "bash":
		bash(out, app.Name, places)
	case "zsh":
		zsh(out, app.Name, places)
	case "fish":
		fish(out, app.Name, places)
	default:
		return fmt.Errorf("there is no script for %q", shell)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// place is a command, at which the command line may continue with words and flags.
type place struct {
	path  string // the words of the command, each with a space before it; "" for the program
	words []word // subcommands, or what an argument allows
	flags []flag
	file  bool // an argument is a file
}

type word struct{ text, help string }

type flag struct {
	name, help string // the name with its dashes
	value      bool   // a value follows
	words      []string
	file, dir  bool
}

// placesOf returns a node and all nodes below it.
func placesOf(n *kong.Node, path string) []place {
	p := place{path: path}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			p.flags = append(p.flags, flagOf(f))
		}
	}
	slices.SortStableFunc(p.flags, func(a, b flag) int { return strings.Compare(a.name, b.name) })
	for _, a := range n.Positional {
		for _, text := range a.EnumSlice() {
			p.words = append(p.words, word{text, a.Help})
		}
		p.file = p.file || strings.EqualFold(a.Name, "file")
	}
	var below []place
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		p.words = append(p.words, word{child.Name, child.Help})
		below = append(below, placesOf(child, path+" "+child.Name)...)
	}
	return append([]place{p}, below...)
}

func flagOf(f *kong.Flag) flag {
	to := flag{name: "--" + f.Name, help: f.Help, value: !f.IsBool()}
	if to.value {
		to.words = slices.DeleteFunc(f.EnumSlice(), func(s string) bool { return s == "" })
		to.file = strings.Contains(f.PlaceHolder, "FILE")
		to.dir = strings.Contains(f.PlaceHolder, "DIR")
	}
	return to
}

// quote returns text as one word that is the same in all three shells. They differ in how a quote
// is escaped inside quotes, and the backslash is special in the quotes of fish.
func quote(text string) string {
	text = strings.ReplaceAll(text, `\`, "/")
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (p place) names() string {
	var all []string
	for _, w := range p.words {
		all = append(all, w.text)
	}
	return strings.Join(all, " ")
}

func (p place) flagNames(keep func(flag) bool) string {
	var all []string
	for _, f := range p.flags {
		if keep(f) {
			all = append(all, f.name)
		}
	}
	return strings.Join(all, " ")
}

func every(flag) bool   { return true }
func value(f flag) bool { return f.value }

// values writes a case for each flag of all places whose values can be completed.
func values(out *strings.Builder, places []place, indent string, action func(flag) string) {
	by := map[string][]string{}
	var order []string
	for _, p := range places {
		for _, f := range p.flags {
			if a := action(f); a != "" {
				if by[a] == nil {
					order = append(order, a)
				}
				by[a] = append(by[a], quote(p.path+" "+f.name))
			}
		}
	}
	for _, a := range order {
		fmt.Fprintf(out, "%s%s) %s ;;\n", indent, strings.Join(by[a], "|"), a)
	}
}

func bash(out *strings.Builder, name string, places []place) {
	fmt.Fprintf(out, "# Completion of %s for bash. %[1]s completion bash prints it.\n\n", name)
	fmt.Fprintf(out, "_%s_at() {\n\tcase $1 in\n", name)
	for _, p := range places {
		fmt.Fprintf(out, "\t%s)\n\t\twords=%s\n\t\tflags=%s\n\t\twith_value=%s ;;\n",
			quote(p.path), quote(p.names()), quote(p.flagNames(every)), quote(p.flagNames(value)))
	}
	fmt.Fprintf(out, "\t*) return 1 ;;\n\tesac\n}\n\n_%s() {", name)
	out.WriteString(`
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local at= words flags with_value word i
	_NAME_at ''
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		-*)
			if [[ ${COMP_WORDS[i + 1]} == = ]]; then
				((i += 2))
			elif [[ " $with_value " == *" $word "* ]]; then
				((i++))
			fi ;;
		help) ;; # the names of commands follow
		*) [[ " $words " != *" $word "* ]] || { _NAME_at "$at $word" && at+=" $word"; } || _NAME_at "$at" ;;
		esac
	done
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	elif [[ " $with_value " != *" $prev "* ]]; then
		prev=
	fi
	COMPREPLY=()
	if [[ $prev == --* ]]; then
		case "$at $prev" in
`)
	values(out, places, "\t\t", func(f flag) string {
		switch {
		case len(f.words) > 0:
			return "mapfile -t COMPREPLY < <(compgen -W " + quote(strings.Join(f.words, " ")) + ` -- "$cur")`
		case f.file:
			return `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur")`
		case f.dir:
			return `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur")`
		}
		return ""
	})
	out.WriteString(`		esac
		return
	fi
	[[ $cur != -* ]] || words=$flags
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	case $at in
`)
	for _, p := range places {
		if p.file {
			fmt.Fprintf(out, "\t%s) [[ $cur == -* ]] || { compopt -o filenames; "+
				"mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); } ;;\n", quote(p.path))
		}
	}
	out.WriteString("\tesac\n}\n\ncomplete -F _NAME NAME\n")
	replaceName(out, name)
}

// replaceName puts the name of the program into the parts of a script that are the same for all programs.
func replaceName(out *strings.Builder, name string) {
	text := strings.ReplaceAll(out.String(), "NAME_at", name+"_at")
	text = strings.ReplaceAll(text, "-F _NAME NAME", "-F _"+name+" "+name)
	out.Reset()
	out.WriteString(text)
}

func zsh(out *strings.Builder, name string, places []place) {
	fmt.Fprintf(out, "#compdef %s\n# Completion of %[1]s for zsh. %[1]s completion zsh prints it.\n\n", name)
	fmt.Fprintf(out, "_%s_at() {\n\tcase $1 in\n", name)
	for _, p := range places {
		fmt.Fprintf(out, "\t%s)\n\t\twords_here=(%s)\n\t\tflags_here=(%s)\n\t\twith_value=(%s) ;;\n", quote(p.path),
			described(p.words), describedFlags(p.flags), p.flagNames(value))
	}
	fmt.Fprintf(out, "\t*) return 1 ;;\n\tesac\n}\n\n_%s() {", name)
	out.WriteString(`
	local at= word flag i
	local -a words_here flags_here with_value
	_NAME_at ''
	for ((i = 2; i < CURRENT; i++)); do
		word=$words[i]
		case $word in
		-*) ((! ${with_value[(Ie)$word]})) || ((i++)) ;;
		help) ;; # the names of commands follow
		*) ! _NAME_at "$at $word" || at+=" $word" ;;
		esac
	done
	word=$words[CURRENT] flag=
	if [[ $word == --*=* ]]; then
		flag=${word%%=*}
		compset -P '*='
	elif ((CURRENT > 2 && ${with_value[(Ie)$words[CURRENT-1]]})); then
		flag=$words[CURRENT-1]
	fi
	if [[ -n $flag ]]; then
		case "$at $flag" in
`)
	values(out, places, "\t\t", func(f flag) string {
		switch {
		case len(f.words) > 0:
			return "compadd -- " + strings.Join(f.words, " ")
		case f.file:
			return "_files"
		case f.dir:
			return "_files -/"
		}
		return ""
	})
	out.WriteString(`		esac
		return
	fi
	if [[ $word == -* ]]; then
		_describe flag flags_here
		return
	fi
	case $at in
`)
	for _, p := range places {
		if p.file {
			fmt.Fprintf(out, "\t%s) _files ;;\n", quote(p.path))
		}
	}
	fmt.Fprintf(out, "\t*) _describe command words_here ;;\n\tesac\n}\n\n"+
		"if [[ $funcstack[1] == _%s ]]; then\n\t_%[1]s \"$@\"\nelse\n\tcompdef _%[1]s %[1]s\nfi\n", name)
	replaceName(out, name)
}

func described(words []word) string {
	var all []string
	for _, w := range words {
		all = append(all, quote(w.text+":"+w.help))
	}
	return strings.Join(all, " ")
}

func describedFlags(flags []flag) string {
	var words []word
	for _, f := range flags {
		words = append(words, word{f.name, f.help})
	}
	return described(words)
}

func fish(out *strings.Builder, name string, places []place) {
	fmt.Fprintf(out, "# Completion of %s for fish. %[1]s completion fish prints it.\n\n", name)
	fmt.Fprintf(out, "set -g __%s_places", name)
	for _, p := range places[1:] {
		out.WriteString(" " + quote(p.path))
	}
	fmt.Fprintf(out, "\nset -g __%s_values", name)
	for _, p := range places {
		for _, f := range p.flags {
			if f.value {
				out.WriteString(" " + quote(p.path+" "+f.name))
			}
		}
	}
	fmt.Fprintf(out, `

# Whether the command line contains the command $argv[1]. fish asks this for each command.
function __%[1]s_at
    set -l line (commandline -pc)
    if test "$line" != "$__%[1]s_line"
        set -g __%[1]s_line $line
        set -g __%[1]s_command ''
        set -l skip 0
        set -l words (commandline -opc)
        set -e words[1]
        for word in $words
            set -l at "$__%[1]s_command $word"
            if test $skip = 1
                set skip 0
            else if string match -q -- '-*' $word
                contains -- $at $__%[1]s_values; and set skip 1
            else if test $word != help; and contains -- $at $__%[1]s_places
                set __%[1]s_command $at
            end
        end
    end
    test "$__%[1]s_command" = "$argv[1]"
end

complete -c %[1]s -f
`, name)
	for _, p := range places {
		condition := fmt.Sprintf("complete -c %s -n \"__%[1]s_at '%s'\"", name, p.path)
		for _, w := range p.words {
			fmt.Fprintf(out, "%s -a %s -d %s\n", condition, quote(w.text), quote(w.help))
		}
		if p.file {
			fmt.Fprintf(out, "%s -F\n", condition)
		}
		for _, f := range p.flags {
			fmt.Fprintf(out, "%s -l %s -d %s", condition, strings.TrimPrefix(f.name, "--"), quote(f.help))
			switch {
			case len(f.words) > 0:
				fmt.Fprintf(out, " -x -a %s", quote(strings.Join(f.words, " ")))
			case f.file:
				out.WriteString(" -r -F")
			case f.dir:
				out.WriteString(" -x -a '(__fish_complete_directories)'")
			case f.value:
				out.WriteString(" -x")
			}
			out.WriteString("\n")
		}
	}
}
