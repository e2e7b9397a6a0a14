package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/callout"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
)

type hookCommand struct {
	Add    hookAdd    `cmd:"" help:"Tell a phone server of changes from now on. For a webhook, its secret is printed, once."`
	List   hookList   `cmd:"" help:"List all hooks, and how they are doing."`
	Remove hookRemove `cmd:"" help:"Tell a phone server no more. What waits for it goes too."`
	Test   hookTest   `cmd:"" help:"Call a phone server and say what came of it; nothing changes there."`
}

type hookAdd struct {
	Name      string   `arg:"" help:"What the hook is called."`
	Kamailio  string   `xor:"kind" required:"" placeholder:"URL" help:"Where a Kamailio takes JSON-RPC by HTTP."`
	Webhook   string   `xor:"kind" required:"" placeholder:"URL" help:"Where anything else takes a signed POST."`
	Tenant    []string `placeholder:"HOST" help:"The tenant that it is for. May be repeated (all tenants, those that come too)."`
	Bearer    string   `xor:"secret" placeholder:"FILE" help:"The file with the bearer token that the Kamailio wants; - for standard input."`
	Basic     string   `xor:"secret" placeholder:"FILE" help:"The file with the user:password that the Kamailio wants; - for standard input."`
	PlainHTTP bool     `name:"plain-http" help:"Use http on networks that are not private."`
}

func (c *hookAdd) Run(p *program) error {
	secret, err := c.secret(p)
	if err != nil {
		return err
	}
	// As the store keeps it.
	h := hook.Hook{Name: c.Name, Kind: hook.Kamailio, URL: c.Kamailio, PlainHTTP: c.PlainHTTP, AllTenants: c.Tenant == nil, Created: time.Now().UTC().Truncate(time.Microsecond)}
	if c.Webhook != "" {
		h.Kind, h.URL = hook.Webhook, c.Webhook
	}
	if h, err = hook.New(h); err != nil {
		return err
	}
	return p.with(func(f *folder) error {
		for _, host := range c.Tenant {
			t, err := f.tenantOf(p.ctx, host)
			if err != nil {
				return err
			}
			h.Tenants = append(h.Tenants, t.ID)
		}
		hook.NewSealer(f.seal).Seal(&h, secret)
		err := p.recorded(f, audit.Event{Action: audit.HookAdd, Hook: c.Name}, func() error { return f.store.AddHook(p.ctx, h) })
		if err == nil && h.Kind == hook.Webhook {
			_, err = fmt.Fprintln(p.stdout, secret.Reveal())
		}
		return err
	})
}

// secret is what the command makes or is given.
func (c *hookAdd) secret(p *program) (hook.Secret, error) {
	given := c.Bearer + c.Basic
	switch {
	case c.Webhook != "" && given != "":
		return "", fault.Field("secret", "a webhook is signed with a secret that is made for it and printed; --bearer and --basic are for a Kamailio")
	case c.Webhook != "":
		return hook.NewWebhookSecret(), nil
	case given == "":
		return "", nil
	}
	text, err := p.secretFile(given)
	if err != nil {
		return "", err
	}
	if c.Bearer != "" {
		return hook.BearerSecret(text)
	}
	return hook.BasicSecret(text)
}

// secretFile is the first line of a file or of standard input, and the only one.
func (p *program) secretFile(path string) (string, error) {
	from := p.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	}
	const most = 4096
	text, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s is too long for a secret (%d bytes)", path, most)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), err
}

type hookRemove struct {
	Name string `arg:"" help:"The hook's name."`
}

func (c *hookRemove) Run(p *program) error {
	return p.with(func(f *folder) error {
		return p.recorded(f, audit.Event{Action: audit.HookRemove, Hook: c.Name}, func() error { return f.store.RemoveHook(p.ctx, c.Name) })
	})
}

type hookTest struct {
	Name string `arg:"" help:"The hook's name."`
}

func (c *hookTest) Run(p *program) error {
	return p.with(func(f *folder) error {
		list, err := f.store.Hooks(p.ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(h hook.State) bool { return h.Name == c.Name })
		if i < 0 {
			return fault.New(fault.NotFound, "there is no hook %s; see: dialtone directory hook list", c.Name)
		}
		secret, err := hook.NewSealer(f.seal).Open(list[i].Hook)
		if err != nil {
			return err
		}
		client := callout.New(time.Now)
		defer client.Close()
		return p.recorded(f, audit.Event{Action: audit.HookTest, Hook: c.Name}, func() error {
			said, err := client.Test(p.ctx, list[i].Hook, secret)
			if err != nil {
				return fault.New(fault.Conflict, "%s at %s: %v", c.Name, list[i].URL, err)
			}
			_, err = fmt.Fprintf(p.stdout, "%s at %s: %s\n", c.Name, list[i].URL, said)
			return err
		})
	})
}

type hookList struct {
	JSON bool `name:"json" help:"Print one JSON array."`
}

// shownHook is a hook as commands print it. There is no secret in it.
type shownHook struct {
	Name      string     `json:"name"`
	Kind      hook.Kind  `json:"kind"`
	URL       string     `json:"url"`
	PlainHTTP bool       `json:"plain_http,omitempty"`
	Everyone  bool       `json:"all_tenants"`
	Tenants   []string   `json:"tenants"`
	Created   time.Time  `json:"created"`
	Waiting   int64      `json:"waiting"`
	Oldest    *time.Time `json:"oldest"`
	GivenUp   int64      `json:"given_up"`
	Failed    *time.Time `json:"failed"`
	Why       string     `json:"error"`
}

func (c *hookList) Run(p *program) error {
	return p.with(func(f *folder) error {
		list, err := f.shownHooks(p.ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			out := json.NewEncoder(p.stdout)
			out.SetIndent("", "  ")
			return out.Encode(list)
		}
		out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "NAME\tKIND\tTENANTS\tWAITING\tOLDEST\tGIVEN UP\tLAST ERROR\tURL")
		for _, h := range list {
			tenants := strings.Join(h.Tenants, ",")
			if h.Everyone {
				tenants = "all"
			} else if tenants == "" {
				tenants = "none any more"
			}
			oldest, failed := "-", "-"
			if h.Oldest != nil {
				oldest = time.Since(*h.Oldest).Round(time.Second).String()
			}
			if h.Failed != nil {
				failed = h.Failed.Format(time.RFC3339) + " " + h.Why
			}
			fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n", h.Name, h.Kind, tenants, h.Waiting, oldest, h.GivenUp, printable(failed), h.URL)
		}
		return out.Flush()
	})
}

// printable keeps what a phone server answered from writing to the terminal as it likes.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}

func (f *folder) shownHooks(ctx context.Context) ([]shownHook, error) {
	list, err := f.store.Hooks(ctx)
	if err != nil {
		return nil, err
	}
	tenants, _, err := f.store.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	shown := make([]shownHook, len(list))
	for i, h := range list {
		s := shownHook{
			Name: h.Name, Kind: h.Kind, URL: h.URL, PlainHTTP: h.PlainHTTP, Everyone: h.AllTenants, Tenants: []string{}, Created: h.Created,
			Waiting: h.Waiting, GivenUp: h.GivenUp, Why: h.LastError,
		}
		for _, t := range tenants {
			if slices.Contains(h.Tenants, t.ID) {
				s.Tenants = append(s.Tenants, t.Host)
			}
		}
		if !h.Oldest.IsZero() {
			s.Oldest = &list[i].Oldest
		}
		if !h.LastFailure.IsZero() {
			s.Failed = &list[i].LastFailure
		}
		shown[i] = s
	}
	return shown, nil
}
