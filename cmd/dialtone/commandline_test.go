package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"dialtone/internal/config"
	"dialtone/internal/hook"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/test/adminclient"
)

// commands returns all commands by name, without the subcommands that only group others.
func commands(t *testing.T) map[string]*kong.Node {
	t.Helper()
	all := make(map[string]*kong.Node)
	for _, n := range grammar(t, newCommandLine()).Model.Leaves(true) {
		all[strings.TrimPrefix(n.FullPath(), "dialtone ")] = n
	}
	if len(all) < 40 {
		t.Fatalf("there are only %d commands", len(all))
	}
	return all
}

// The help of the program has one line for each command, below the heading of its group.
func TestHelpHasOneLineForEachCommand(t *testing.T) {
	cmd := exec.Command(binary(t), "--help")
	cmd.Env = []string{"COLUMNS=80"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	if strings.Contains(string(out), "Commands:") {
		t.Error("a command has no group")
	}
	for name, n := range commands(t) {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  "+name+"  ") })
		if i < 0 || !strings.HasSuffix(lines[i], "  "+n.Help) {
			t.Errorf("%s: not on a separate line; the text is too long (%d), or does not end with a period: %s",
				name, len(n.Help), n.Help)
			continue
		}
		for strings.HasPrefix(lines[i], "  ") {
			i--
		}
		if heading := n.ClosestGroup(); heading == nil || lines[i] != heading.Title {
			t.Errorf("%s: below %q", name, lines[i])
		}
	}
}

// Every configuration key in a help text exists.
func TestHelpNamesKeys(t *testing.T) {
	var keys []string
	for _, k := range config.Keys() {
		keys = append(keys, k.Name)
	}
	dotted := regexp.MustCompile(`\b[a-z_]+\.[a-z_]+\b`)
	named := 0
	check := func(where, text string) {
		for _, word := range dotted.FindAllString(text, -1) {
			switch {
			case slices.Contains(keys, word):
				named++
			case slices.Contains(hook.Events, hook.EventType(word)):
			case slices.Contains([]string{"collector.example", "api.letsencrypt"}, word): // parts of hosts
			case word == "dialtone.toml": // a file
			case slices.Contains([]string{".key", ".min", ".txt"}, filepath.Ext(word)): // files
			default:
				t.Errorf("the help of %s names %s, which is not a key of the configuration", where, word)
			}
		}
	}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		check(n.FullPath(), n.Help+"\n"+n.Detail)
		for _, f := range n.Flags {
			check(n.FullPath()+" --"+f.Name, f.Help)
		}
		for _, arg := range n.Positional {
			check(n.FullPath()+" "+arg.Name, arg.Help)
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(grammar(t, newCommandLine()).Model.Node)
	if named == 0 {
		t.Error("no help text names a key")
	}
}

// The grammar that is read for one command alone gives the same help and the same errors as that of all commands.
func TestGrammarOfOneCommand(t *testing.T) {
	type exit struct{} // the panic that ends a parser after the help
	answer := func(parser *kong.Kong, args []string) (text string) {
		var out strings.Builder
		parser.Stdout = &out
		parser.Exit = func(int) { panic(exit{}) }
		defer func() {
			text += out.String()
			switch r := recover(); {
			case r == nil:
			case r != any(exit{}):
				panic(r)
			case text == "":
				t.Errorf("%s: no help", args)
			}
		}()
		_, err := parser.Parse(args)
		return fmt.Sprint(err)
	}
	all := grammar(t, newCommandLine())
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		path := strings.Fields(n.FullPath())[1:]
		alone := grammar(t, newCommandLine(), kong.IgnoreFields(unneeded(path)...))
		for _, further := range []string{"--help", "lst --nothing"} {
			args := strings.Fields(strings.Join(path, " ") + " " + further)
			if got, want := answer(alone, args), answer(all, args); got != want {
				t.Errorf("dialtone %s: %s\nwith all commands: %s", args, got, want)
			}
		}
		// A misspelt command is answered with the suggestions that all commands give.
		misspelt := strings.Fields(strings.ReplaceAll(strings.Join(path, " "), "-", ""))
		alone = grammar(t, newCommandLine(), kong.IgnoreFields(unneeded(misspelt)...))
		if got, want := answer(alone, misspelt), answer(all, misspelt); !slices.Equal(misspelt, path) && got != want {
			t.Errorf("dialtone %s: %s\nwith all commands: %s", misspelt, got, want)
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(all.Model.Node)
	alone := grammar(t, newCommandLine(), kong.IgnoreFields(unneeded([]string{"account", "list", "--json"})...))
	if got := len(alone.Model.Leaves(true)); got != 1 {
		t.Errorf("%d commands are read for one", got)
	}
}

// A usage error of a command points to the help of that command.
func TestUsageErrorsPointToHelp(t *testing.T) {
	for name := range commands(t) {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), append(strings.Fields(name), "--no-such-flag"), nil, &stdout, &stderr)
		want := "see: dialtone " + name + " --help\n"
		if name == "help" {
			continue // its arguments are the name of a command
		}
		if status != exitUsage || !strings.HasSuffix(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%s: status %d\n%s%s", name, status, stdout.String(), stderr.String())
		}
	}
}

// jsonMembers are the members that each command with --json prints: a list of objects if it begins
// with "[", otherwise one object. docs/operating.md has the rules for their values.
var jsonMembers = map[string]string{
	"doctor":       "[advice cause check level see",
	"account list": "[" + accountMembers,
	"account show": accountMembers + " app changes lookups mail passkeys recovery_codes sessions",
	"account add":  accountMembers, "account resend": accountMembers, "account rename": accountMembers,
	"account sign-out": accountMembers, "account enable": accountMembers,
	"account disable": accountMembers, "account role": accountMembers, "account delete": accountMembers,
	"account second-factor": accountMembers, "account email": accountMembers,
	"account import": "dry_run format imported notes realms refused rows tenant",
	"account bulk":   "action by changed done failure found id made query reason state tenant",
	"account names":  "[closed user", "account reset-link": "link to until user",
	"audit list": "[account action actor actor_id actor_kind after before change network outcome reason request " +
		"subject sudo_user tenant time user",
	"tenant list": "[about accent acrobits_cloud activation algorithm created host imprint_url logo mail_footer " +
		"mail_from origins privacy_url product support terms_url welcome " +
		"public_url realm reply_to require_factor reserved signups signups_note signups_per_hour sip_server " +
		"sip_transport sip_websocket " +
		"turn_seconds turn_uris",
	"stats":        "certificates days frozen funnel hook_backlogs mail_backlog open tenant total",
	"signups show": "[" + signupsMembers, "signups open": signupsMembers, "signups close": signupsMembers,
	"token add":               tokenMembers + " secret",
	"token list":              "[" + tokenMembers,
	"tenant reserved":         "[built_in name",
	"directory token list":    "[created name tenants",
	"directory export status": "blocked domains enabled entries faults group missing places whole",
	"directory hook list": "[all_tenants created error events failed given_up kind name oldest plain_http tenants " +
		"url waiting",
	"mail list": "[" + messageMembers, "mail show": messageMembers + " header",
	"mail retry": messageMembers + " header", "mail discard": messageMembers + " header",
	"mail dkim list": "[" + dkimMembers, "mail dkim add": dkimMembers,
	"mail doctor": "[add name ok says what",
	"verify": "accounts active audit_changes audit_checkpoints audit_confirmed audit_proved faults hooks messages " +
		"notes notices waiting",
}

const (
	accountMembers = "activated confirmed created disabled email erased first_signin id lang name role " +
		"second_factors signup_network state state_by state_reason state_since user"
	messageMembers = "answer attempts email ended expires id kind next server since state tenant user"
	signupsMembers = "frozen host open shown_note signups signups_note"
	tokenMembers   = "created created_by expired expires id name scopes tenant used"
	dkimMembers    = "algorithm created name record selector"
)

// The JSON output of a command has the same members as the API's JSON for the same object.
func TestCommandsAndAPIHaveOneJSON(t *testing.T) {
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(adminclient.Document, &document); err != nil {
		t.Fatal(err)
	}
	for command, schema := range map[string]string{
		"account list": "Account", "account show": "AccountDetail", "account bulk": "Bulk",
		"account names": "ClosedName", "account reset-link": "ResetLink", "audit list": "Change",
		"tenant list": "Tenant", "stats": "Stats", "signups show": "Signups", "token list": "Token",
		"token add": "MadeToken", "mail list": "Delivery",
	} {
		want := strings.Fields(strings.TrimPrefix(jsonMembers[command], "["))
		slices.Sort(want)
		got := slices.Sorted(maps.Keys(document.Components.Schemas[schema].Properties))
		if !slices.Equal(got, want) {
			t.Errorf("%s prints %v, and %s of the API has %v", command, want, schema, got)
		}
	}
	for member := range document.Components.Schemas["Hook"].Properties {
		if !slices.Contains(strings.Fields(jsonMembers["directory hook list"]), member) {
			t.Errorf("a hook has the member %s in the API, but not in the command's output", member)
		}
	}
}

// Every command with --json prints an array for a list, and the same members for each element. Members
// of one name have one type in all commands.
func TestJSON(t *testing.T) {
	all := commands(t)
	for name, n := range all {
		_, known := jsonMembers[name]
		has := slices.ContainsFunc(n.Flags, func(f *kong.Flag) bool { return f.Name == "json" })
		if has != known {
			t.Errorf("%s: has --json: %t; is in jsonMembers: %t", name, has, known)
		}
		if n.Name == "list" && !has {
			t.Errorf("%s has no --json", name)
		}
	}

	data := filepath.Join(t.TempDir(), "data")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	p := start(t, launch{data: data, flags: []string{"--mail-relay=smtp://" + closed.Addr().String()}})
	for _, user := range []string{"ann", "ben"} {
		v := newVisitor(p.address, "")
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
		v.leave()
	}
	p.mustStop(t)
	command := func(name string, args ...string) []byte {
		t.Helper()
		var stdout, stderr bytes.Buffer
		args = append(strings.Fields(name), append(args, "--data", data)...)
		status := run(t.Context(), args, nil, &stdout, &stderr)
		// These find faults, because the messages cannot be sent.
		if status != 0 && name != "mail doctor" && name != "verify" && name != "doctor" {
			t.Fatalf("%s: status %d\n%s", name, status, stderr.String())
		}
		return stdout.Bytes()
	}
	command("account enable", "ann", "--activate")
	command("account enable", "ben", "--activate")
	command("tenant add", "other.test")
	command("tenant remove", "other.test")
	command("directory token add", "one")
	command("token add", "one", "--scope", "accounts:read", "--expires", "90d")
	command("token add", "two", "--scope", "accounts:read,audit:read", "--tenant", "localhost")
	command("directory token add", "two", "--tenant", "localhost")
	command("directory hook add", "one", "--kamailio", "http://127.0.0.1:1/rpc")
	command("directory hook add", "two", "--webhook", "http://127.0.0.1:1", "--tenant", "localhost")
	command("mail dkim add", "--selector", "one", "--algorithm", "ed25519")
	var messages []opjson.Delivery
	if err := json.Unmarshal(command("mail list", "--json"), &messages); err != nil || len(messages) != 2 {
		t.Fatalf("%v, %v", messages, err)
	}
	ofAnn := slices.IndexFunc(messages, func(m opjson.Delivery) bool { return m.User == "ann" })
	id := messages[max(0, ofAnn)].ID // the other is deleted with its account

	types := make(map[string]string)
	check := func(name string, args ...string) {
		t.Helper()
		text := command(name, append(args, "--json")...)
		want, list := strings.CutPrefix(jsonMembers[name], "[")
		var objects []map[string]any
		if list {
			if err := json.Unmarshal(text, &objects); err != nil || len(objects) == 0 {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
		} else {
			objects = make([]map[string]any, 1)
			if err := json.Unmarshal(text, &objects[0]); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
		}
		for _, o := range objects {
			sorted := strings.Fields(want)
			slices.Sort(sorted)
			if got := slices.Sorted(maps.Keys(o)); !slices.Equal(got, sorted) {
				t.Errorf("%s: got the members %v, want %v", name, got, sorted)
			}
			for member, value := range o {
				kind := jsonType(value)
				if known, ok := types[member]; ok && known != kind && kind != "null" && known != "null" {
					t.Errorf("%s: %s is of type %s, elsewhere %s", name, member, kind, known)
				}
				if kind != "null" || types[member] == "" {
					types[member] = kind
				}
			}
		}
	}
	accounts := filepath.Join(t.TempDir(), "accounts.csv")
	if err := os.WriteFile(accounts, []byte("user,password\nota,the pass phrase of ota\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := map[string][]string{
		"account import": {accounts, "--format", "csv"},
		"account show":   {"ann"}, "account enable": {"ben"}, "account disable": {"ben"},
		"account role": {"ann", "user"}, "account delete": {"ben"}, "account reset-link": {"ann"},
		"token add": {"three", "--scope", "stats:read"}, "account bulk": {"enable", "--state", "disabled", "--yes"},
		"account add":    {"dan", "--name", "Dan", "--email", "dan@other.test"},
		"account resend": {"dan"}, "account rename": {"ann", "Ann Other"}, "account sign-out": {"ann"},
		"account second-factor": {"ann"}, "account email": {"ann", "ann@other.test"},
		"mail show": {id}, "mail retry": {id}, "mail discard": {id},
		"mail dkim add": {"--selector", "two", "--algorithm", "ed25519"},
		"mail doctor":   {"--resolver", "127.0.0.1:1"},
		"doctor":        {"--resolver", "127.0.0.1:1"},
	}
	// Commands that remove something come last.
	names := slices.Sorted(maps.Keys(jsonMembers))
	slices.SortStableFunc(names, func(a, b string) int {
		last := func(name string) int {
			switch {
			case name == "account names": // those of deleted accounts
				return 2
			case strings.HasSuffix(name, "delete") || strings.HasSuffix(name, "discard"):
				return 1
			}
			return 0
		}
		return last(a) - last(b)
	})
	for _, name := range names {
		check(name, args[name]...)
	}
	// Only a time, a logo, and the header of a message whose file is elsewhere may be null.
	delete(types, "logo")
	delete(types, "to")   // of a message
	delete(types, "open") // of all tenants
	for _, member := range []string{"state_since", "activated", "confirmed", "erased", "first_signin", "failed",
		"oldest", "next", "used", "expires", "app"} {
		if kind := types[member]; kind != "null" && kind != "time" {
			t.Errorf("%s is of type %s", member, kind)
		}
		delete(types, member)
	}
	for member, kind := range types {
		if kind == "null" {
			t.Errorf("%s is null", member)
		}
	}
	// An empty list is an array, too.
	notEmpty := []string{"doctor", "tenant list", "signups show", "tenant reserved", "mail doctor", "audit list"}
	data = filepath.Join(t.TempDir(), "empty")
	command("tenant add", "phone.example.org")
	for name, members := range jsonMembers {
		if !strings.HasPrefix(members, "[") || slices.Contains(notEmpty, name) {
			continue
		}
		if got := string(command(name, "--json")); got != "[]\n" {
			t.Errorf("%s: an empty list is %q", name, got)
		}
	}
}

// jsonType returns the type of a decoded value.
func jsonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			return "time"
		}
		return "text"
	case []any:
		return "list"
	case map[string]any:
		return "object"
	default:
		return fmt.Sprintf("%T", v)
	}
}
