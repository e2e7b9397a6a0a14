package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/hook/kamailio"
	"dialtone/internal/hook/webhook"
)

type hookCommand struct {
	Add    hookAdd    `cmd:"" help:"Notify a phone server of changes."`
	List   hookList   `cmd:"" help:"List all hooks and their backlog."`
	Remove hookRemove `cmd:"" help:"Stop notifying a phone server."`
	Test   hookTest   `cmd:"" help:"Call a phone server, and show its response."`
}

type hookAdd struct {
	Name      string   `arg:"" help:"A name for the hook."`
	Kamailio  string   `xor:"kind" required:"" placeholder:"URL" help:"A Kamailio's URL for JSON-RPC over HTTP."`
	Webhook   string   `xor:"kind" required:"" placeholder:"URL" help:"Another server's URL for signed POST requests."`
	Tenant    []string `placeholder:"HOST" help:"Only changes of this tenant. Can be repeated (all tenants)."`
	Bearer    string   `xor:"secret" placeholder:"FILE" help:"File with the Kamailio's bearer token; - for stdin."`
	Basic     string   `xor:"secret" placeholder:"FILE" help:"File with the Kamailio's user:password; - for stdin."`
	Events    []string `placeholder:"EVENT" help:"These events, or all (the changes that phone servers need)."`
	PlainHTTP bool     `name:"plain-http" help:"Allow http to addresses that are not private."`
}

// Help is what "dialtone directory hook add --help" adds.
func (hookAdd) Help() string {
	return "The command creates the secret of a webhook and prints it once. Without --events, the receiver is " +
		"notified of the changes that phone servers need. The events are: " + hook.JoinEvents(hook.Events, ", ") + "."
}

// events returns the given events without duplicates.
func (c *hookAdd) events() (list []hook.EventType) {
	if slices.Contains(c.Events, "all") {
		return hook.Events
	}
	for _, e := range c.Events {
		if e := hook.EventType(e); !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list
}

func (c *hookAdd) Run(p *program) error {
	secret, err := c.secret(p)
	if err != nil {
		return err
	}
	h := hook.Hook{
		Name:       c.Name,
		Kind:       hook.Kamailio,
		URL:        c.Kamailio,
		PlainHTTP:  c.PlainHTTP,
		AllTenants: c.Tenant == nil,
		Events:     c.events(),
		// The precision of the store.
		Created: time.Now().UTC().Truncate(time.Microsecond),
	}
	if c.Webhook != "" {
		h.Kind, h.URL = hook.Webhook, c.Webhook
	}
	if h, err = hook.New(h); err != nil {
		return err
	}
	return p.with(func(in *installation.Installation) error {
		for _, host := range c.Tenant {
			t, err := in.TenantOf(p.ctx, host)
			if err != nil {
				return err
			}
			h.Tenants = append(h.Tenants, t.ID)
		}
		hook.NewSealer(in.Seal).Seal(&h, secret)
		err := in.Store.AddHook(p.ctx, h)
		if err == nil && h.Kind == hook.Webhook {
			_, err = fmt.Fprintln(p.stdout, secret.Reveal())
		}
		return err
	})
}

// secret returns the secret that was given by a flag, or a new one for a webhook.
func (c *hookAdd) secret(p *program) (hook.Secret, error) {
	file := c.Bearer + c.Basic
	switch {
	case c.Webhook != "" && file != "":
		return hook.Secret{}, usageError{fault.Field("secret", "--bearer and --basic are for a Kamailio; "+
			"a webhook is signed with a secret that this command creates and prints")}
	case c.Webhook != "":
		return webhook.NewSecret(), nil
	case file == "":
		return hook.Secret{}, nil
	}
	text, err := p.secretFile(file)
	if err != nil {
		return hook.Secret{}, err
	}
	if c.Bearer != "" {
		return kamailio.BearerSecret(text)
	}
	return kamailio.BasicSecret(text)
}

// secretFile reads a file, or standard input for "-", without the newline at its end.
func (p *program) secretFile(path string) (string, error) {
	from := p.stdin
	if path != "-" {
		f, err := runas.OpenNamed(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	}
	const maxSize = 4096
	text, err := io.ReadAll(io.LimitReader(from, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("%s is longer than a secret can be (%d bytes); give a file that contains only the secret",
			path, maxSize)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), err
}

type hookRemove struct {
	Name string `arg:"" help:"The name of the hook."`
	Yes  bool   `help:"Do not ask for confirmation on a terminal."`
}

// Help is what "dialtone directory hook remove --help" adds.
func (hookRemove) Help() string { return "Notifications that were not delivered are removed too." }

func (c *hookRemove) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		h, err := hookOf(p.ctx, in, c.Name)
		if err != nil {
			return err
		}
		what := "the hook " + c.Name
		if h.Waiting > 0 {
			what += " and its " + terminal.Counted(h.Waiting, "notification") + " not delivered yet"
			if !c.Yes {
				if err := p.confirm("remove " + what); err != nil {
					return err
				}
			}
		}
		if err := in.Store.RemoveHook(p.ctx, c.Name); err != nil {
			return err
		}
		return p.printf("removed %s", what)
	})
}

type hookTest struct {
	Name string `arg:"" help:"The name of the hook."`
}

// Help is what "dialtone directory hook test --help" adds.
func (hookTest) Help() string { return "The call changes nothing at the phone server." }

func (c *hookTest) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		state, err := hookOf(p.ctx, in, c.Name)
		if err != nil {
			return err
		}
		h := state.Hook
		secret, err := hook.NewSealer(in.Seal).Open(h)
		if err != nil {
			return err
		}
		client := httpclient.New()
		defer client.Close()
		return p.recorded(p.ctx, in, audit.Change{Action: audit.HookTest, Subject: c.Name}, func() error {
			report, err := adapter.HookTransports(client)[h.Kind].Test(p.ctx, h, secret)
			if err != nil {
				return fault.New(fault.Conflict, "%s at %s: %v", h.Name, h.URL, err)
			}
			terminal.PrintLine(p.stdout, "", h.Name+" at "+h.URL+": "+report)
			return nil
		})
	})
}

// hookOf returns the hook with a name.
func hookOf(ctx context.Context, in *installation.Installation, name string) (hook.State, error) {
	list, err := in.Store.Hooks(ctx)
	if err != nil {
		return hook.State{}, err
	}
	i := slices.IndexFunc(list, func(h hook.State) bool { return h.Name == name })
	if i < 0 {
		return hook.State{}, fault.New(fault.NotFound, "there is no hook %s; see: dialtone directory hook list", name)
	}
	return list[i], nil
}

type hookList struct {
	JSON bool `name:"json" help:"Print a JSON array."`
}

// hookView is the JSON form of a hook, without its secret.
type hookView struct {
	Name       string    `json:"name"`
	Kind       hook.Kind `json:"kind"`
	URL        string    `json:"url"`
	PlainHTTP  bool      `json:"plain_http"`
	AllTenants bool      `json:"all_tenants"`
	Tenants    []string  `json:"tenants"`
	// Events is empty for those that phone servers need.
	Events      []hook.EventType `json:"events"`
	Created     time.Time        `json:"created"`
	Waiting     int64            `json:"waiting"`
	Oldest      *time.Time       `json:"oldest"`
	GivenUp     int64            `json:"given_up"`
	LastFailure *time.Time       `json:"failed"`
	LastError   string           `json:"error"`
}

func (c *hookList) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		list, err := listHooks(p.ctx, in)
		if err != nil {
			return err
		}
		if c.JSON {
			return indented(p.stdout, list)
		}
		out := p.table()
		out.Row("NAME", "KIND", "TENANTS", "WAITING", "OLDEST", "GIVEN UP", "LAST ERROR", "EVENTS", "URL")
		for _, h := range list {
			tenants := strings.Join(h.Tenants, ",")
			if h.AllTenants {
				tenants = "all"
			} else if tenants == "" {
				tenants = "all removed"
			}
			oldest, failure := "-", "-"
			if h.Oldest != nil {
				oldest = max(time.Since(*h.Oldest), 0).Round(time.Second).String()
			}
			if h.LastFailure != nil {
				failure = failureText(*h.LastFailure, h.LastError, h.Waiting > 0)
			}
			events := "phone servers"
			if len(h.Events) > 0 {
				events = hook.JoinEvents(h.Events, ",")
			}
			out.Row(h.Name, h.Kind, tenants, h.Waiting, oldest, h.GivenUp, failure, events, h.URL)
		}
		return out.Flush()
	})
}

func listHooks(ctx context.Context, in *installation.Installation) ([]hookView, error) {
	hooks, err := in.Store.Hooks(ctx)
	if err != nil {
		return nil, err
	}
	tenants, _, err := in.Store.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]hookView, len(hooks))
	for i, h := range hooks {
		list[i] = hookView{
			Name:       h.Name,
			Kind:       h.Kind,
			URL:        h.URL,
			PlainHTTP:  h.PlainHTTP,
			AllTenants: h.AllTenants,
			Tenants:    hostsOf(tenants, h.Tenants),
			Events:     append([]hook.EventType{}, h.Events...),
			Created:    h.Created,
			Waiting:    h.Waiting,
			GivenUp:    h.GivenUp,
			LastError:  h.LastError,
		}
		if !h.Oldest.IsZero() {
			list[i].Oldest = &hooks[i].Oldest
		}
		if !h.LastFailure.IsZero() {
			list[i].LastFailure = &hooks[i].LastFailure
		}
	}
	return list, nil
}
