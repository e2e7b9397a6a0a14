package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/maildns"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

type mailCommand struct {
	List    mailList    `cmd:"" help:"List messages that are on their way, or failed; those that are sent too with --all."`
	Show    mailShow    `cmd:"" help:"Show what became of one message."`
	Retry   mailRetry   `cmd:"" help:"Try a message again at once, one that failed too."`
	Discard mailDiscard `cmd:"" help:"Be rid of a message that was not sent."`
	DKIM    mailDKIM    `cmd:"" name:"dkim" help:"Look after the keys that messages are signed with when they leave by the relay."`
	Doctor  mailDoctor  `cmd:"" help:"Check the relay's login, and what the DNS says of the sender (SPF, DKIM, DMARC)."`
}

// posted is a message as commands print it. There is no link in it.
type posted struct {
	ID       string         `json:"id"`
	Tenant   string         `json:"tenant"`
	User     string         `json:"user"`
	Email    string         `json:"email"`
	State    delivery.State `json:"state"`
	Since    time.Time      `json:"since"`
	Attempts int            `json:"attempts"`
	Next     *time.Time     `json:"next"`
	Expires  time.Time      `json:"expires"`
	Answer   string         `json:"answer"`
	Server   string         `json:"server"`
}

func post(d delivery.Delivery, hosts map[int64]string) posted {
	p := posted{
		ID: d.Message.String(), Tenant: hosts[d.Tenant], User: d.User, Email: d.Email, State: d.State, Since: d.Since,
		Attempts: d.Attempts, Expires: d.Expires, Answer: d.Answer, Server: d.Node,
	}
	if d.State.Open() {
		p.Next = &d.Due
	}
	return p
}

func (p posted) next() string {
	if p.Next == nil {
		return "-"
	}
	return p.Next.Format(time.RFC3339)
}

// hosts are the tenants' hosts by their ids.
func (f *folder) hosts(ctx context.Context) (map[int64]string, error) {
	list, _, err := f.store.Tenants(ctx)
	hosts := make(map[int64]string)
	for _, t := range list {
		hosts[t.ID] = t.Host
	}
	return hosts, err
}

type mailList struct {
	All  bool `help:"Those that were sent or discarded too."`
	JSON bool `name:"json" help:"Print one JSON array."`
}

func (c *mailList) Run(p *program) error {
	states := []delivery.State{delivery.Waiting, delivery.Deferred, delivery.Failed}
	if c.All {
		states = append(states, delivery.Sent, delivery.Discarded)
	}
	return p.with(func(f *folder) error {
		hosts, err := f.hosts(p.ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return f.store.EachDelivery(p.ctx, states, func(d delivery.Delivery) error { return each(post(d, hosts)) })
			})
		}
		out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(out, "ID\tSTATE\tSINCE\tATTEMPTS\tNEXT\tEMAIL\tANSWER")
		err = f.store.EachDelivery(p.ctx, states, func(d delivery.Delivery) error {
			m := post(d, hosts)
			_, err := fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.ID, m.State, m.Since.Format(time.RFC3339), m.Attempts, m.next(), m.Email, m.Answer)
			return err
		})
		return errors.Join(err, out.Flush())
	})
}

// messageID is the id of a message that an operator typed, or copied from a Message-ID or the name of a file.
func messageID(text string) (id mailmsg.ID, err error) {
	text, _, _ = strings.Cut(strings.Trim(text, "<>"), "@")
	b, err := hex.DecodeString(strings.TrimSuffix(text, ".eml"))
	if err != nil || len(b) != len(id) {
		return id, fault.New(fault.Invalid, "%q is not the id of a message, which has 32 hex digits; see: dialtone mail list", text)
	}
	return mailmsg.ID(b), nil
}

// which says which message is meant.
type which struct {
	ID   string `arg:"" help:"The message's id: that of the list, the Message-ID or the file's name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// result prints the message that a command ends with.
func (w which) result(p *program, f *folder, d delivery.Delivery) error {
	hosts, err := f.hosts(p.ctx)
	if err != nil {
		return err
	}
	m := post(d, hosts)
	header := f.headerOf(d.Message)
	if w.JSON {
		return json.NewEncoder(p.stdout).Encode(struct {
			posted
			Header map[string]string `json:"header"`
		}{m, header})
	}
	out := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "id\t%s\nstate\t%s\nanswer\t%s\nattempts\t%d\nnext\t%s\nsince\t%s\nexpires\t%s\ntenant\t%s\nuser\t%s\nemail\t%s\nserver\t%s\n",
		m.ID, m.State, m.Answer, m.Attempts, m.next(), m.Since.Format(time.RFC3339), m.Expires.Format(time.RFC3339), m.Tenant, m.User, m.Email, m.Server)
	for _, name := range shownHeader {
		if header[name] != "" {
			fmt.Fprintf(out, "%s\t%s\n", name, header[name])
		}
	}
	return out.Flush()
}

// shownHeader is what is shown of a message's header; none of it has the link.
var shownHeader = []string{"Date", "From", "To", "Subject", "Message-ID"}

// headerOf is the header of a message whose file is on this machine, or empty.
func (f *folder) headerOf(id mailmsg.ID) map[string]string {
	box, err := pickup.Open(f.Mail.PickupDir)
	if err != nil {
		return nil
	}
	b, err := box.Peek(id)
	if err != nil {
		return nil
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	header := make(map[string]string)
	for _, name := range shownHeader {
		header[name] = mailmsg.Decode(m.Header.Get(name))
	}
	return header
}

// on does something with the message that is meant.
func (w which) on(p *program, do func(*folder, mailmsg.ID) (delivery.Delivery, error)) error {
	id, err := messageID(w.ID)
	if err != nil {
		return err
	}
	return p.with(func(f *folder) error {
		d, err := do(f, id)
		if err != nil {
			return err
		}
		return w.result(p, f, d)
	})
}

type mailShow struct{ which }

func (c *mailShow) Run(p *program) error {
	return c.on(p, func(f *folder, id mailmsg.ID) (delivery.Delivery, error) { return f.store.Delivery(p.ctx, id) })
}

type mailRetry struct {
	ID   string `arg:"" optional:"" help:"The message's id."`
	All  bool   `help:"All that were put off or have failed."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *mailRetry) Run(p *program) error {
	switch {
	case c.All == (c.ID != ""):
		return fault.New(fault.Invalid, "give the id of a message, or --all")
	case c.All:
		return p.with(func(f *folder) error {
			var n int64
			err := p.audited(f, audit.MessageRetry, "", func() (err error) {
				n, err = f.store.RetryAll(p.ctx, time.Now())
				return err
			})
			if err == nil && c.JSON {
				err = json.NewEncoder(p.stdout).Encode(map[string]int64{"messages": n})
			} else if err == nil {
				_, err = fmt.Fprintf(p.stdout, "%d messages are tried again\n", n)
			}
			return err
		})
	}
	return which{c.ID, c.JSON}.on(p, func(f *folder, id mailmsg.ID) (d delivery.Delivery, err error) {
		err = p.audited(f, audit.MessageRetry, "", func() (err error) {
			d, err = f.store.Retry(p.ctx, id, time.Now())
			return err
		})
		return d, err
	})
}

type mailDiscard struct{ which }

func (c *mailDiscard) Run(p *program) error {
	return c.on(p, func(f *folder, id mailmsg.ID) (d delivery.Delivery, err error) {
		err = p.audited(f, audit.MessageDiscard, "", func() (err error) {
			d, err = f.store.Discard(p.ctx, id, "an operator discarded it", time.Now())
			return err
		})
		return d, err
	})
}

type mailDKIM struct {
	Add    dkimAdd    `cmd:"" help:"Make a key, and print the record that the DNS is to have."`
	List   dkimList   `cmd:"" help:"List a tenant's keys and their records."`
	Remove dkimRemove `cmd:"" help:"Remove a key. Messages are not signed with it from a few seconds on; leave its record in the DNS for a week."`
}

// signingKey is a key as commands print it: its public part.
type signingKey struct {
	Selector  string         `json:"selector"`
	Algorithm dkim.Algorithm `json:"algorithm"`
	Created   time.Time      `json:"created"`
	Name      string         `json:"name"`
	Record    string         `json:"record"`
}

func signingKeyOf(t *tenant.Tenant, k dkim.Public) signingKey {
	return signingKey{k.Selector, k.Algorithm, k.Created, k.Selector + "._domainkey." + senderDomain(t), k.Record}
}

// senderDomain is the domain that a tenant's messages come from.
func senderDomain(t *tenant.Tenant) string {
	from := t.Sender()
	return from[strings.LastIndexByte(from, '@')+1:]
}

// zone is a TXT record as a zone file has it, in strings of at most 255 bytes (RFC 1035 §3.3.14).
func zone(name, text string) string {
	var parts []string
	for part := range slices.Chunk([]byte(text), 255) {
		parts = append(parts, `"`+string(part)+`"`)
	}
	return fmt.Sprintf("%s. IN TXT %s", name, strings.Join(parts, " "))
}

// atHost says which tenant is meant.
type atHost struct {
	Host string `arg:"" help:"The tenant's host name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (w atHost) with(p *program, do func(*folder, *tenant.Tenant, *dkim.Keys) error) error {
	return p.with(func(f *folder) error {
		t, err := f.tenantOf(p.ctx, w.Host)
		if err != nil {
			return err
		}
		return do(f, t, dkim.NewKeys(f.store, f.seal))
	})
}

type dkimAdd struct {
	atHost
	Selector  string `required:"" help:"What the key is called in the DNS, such as dialtone2026."`
	Algorithm string `enum:"rsa,ed25519" default:"rsa" help:"rsa, which everybody can check, or ed25519 besides one of rsa."`
}

func (c *dkimAdd) Run(p *program) error {
	return c.with(p, func(f *folder, t *tenant.Tenant, keys *dkim.Keys) error {
		var k dkim.Public
		err := p.audited(f, audit.DKIMAdd, t.Host, func() (err error) {
			k, err = keys.Add(p.ctx, t.ID, c.Selector, dkim.Algorithm(c.Algorithm), time.Now())
			return err
		})
		if err != nil {
			return err
		}
		s := signingKeyOf(t, k)
		if c.JSON {
			return json.NewEncoder(p.stdout).Encode(s)
		}
		_, err = fmt.Fprintln(p.stdout, zone(s.Name, s.Record))
		return err
	})
}

type dkimList struct{ atHost }

func (c *dkimList) Run(p *program) error {
	return c.with(p, func(_ *folder, t *tenant.Tenant, keys *dkim.Keys) error {
		list, err := keys.List(p.ctx, t.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				for _, k := range list {
					if err := each(signingKeyOf(t, k)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		for _, k := range list {
			s := signingKeyOf(t, k)
			fmt.Fprintf(p.stdout, "; %s, %s, of %s\n%s\n", s.Selector, s.Algorithm, s.Created.Format(time.RFC3339), zone(s.Name, s.Record))
		}
		return nil
	})
}

type dkimRemove struct {
	Host     string `arg:"" help:"The tenant's host name."`
	Selector string `required:"" help:"Which key."`
}

func (c *dkimRemove) Run(p *program) error {
	return atHost{Host: c.Host}.with(p, func(f *folder, t *tenant.Tenant, _ *dkim.Keys) error {
		return p.audited(f, audit.DKIMRemove, t.Host, func() error { return f.store.RemoveSigningKey(p.ctx, t.ID, c.Selector) })
	})
}

type mailDoctor struct {
	where
	Resolver string `placeholder:"HOST:PORT" help:"The DNS server to ask, such as one of the domain's own (the system's)."`
	JSON     bool   `name:"json" help:"Print one JSON array."`
}

// Run exits with status 1 where something is to be done.
func (c *mailDoctor) Run(p *program) error {
	return atHost{Host: c.Tenant}.with(p, func(f *folder, t *tenant.Tenant, keys *dkim.Keys) error {
		public, err := keys.List(p.ctx, t.ID)
		if err != nil {
			return err
		}
		var list []maildns.Key
		for _, k := range public {
			list = append(list, maildns.Key{Selector: k.Selector, Record: k.Record})
		}
		found := []maildns.Finding{f.examineRelay(p.ctx)}
		host, _, _ := net.SplitHostPort(f.Mail.Relay.Parts().Address)
		found = append(found, maildns.Examine(p.ctx, resolver(c.Resolver), senderDomain(t), host, list)...)
		if err := c.print(p, found); err != nil {
			return err
		}
		if i := slices.IndexFunc(found, func(f maildns.Finding) bool { return !f.OK }); i >= 0 {
			return fault.New(fault.Conflict, "messages of %s may not arrive, or be taken for spam", t.Host)
		}
		return nil
	})
}

func (c *mailDoctor) print(p *program, found []maildns.Finding) error {
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(found)
	}
	for _, f := range found {
		mark := "ok   "
		if !f.OK {
			mark = "TO DO"
		}
		fmt.Fprintf(p.stdout, "%s %s: %s\n", mark, f.What, f.Says)
		if f.Add != "" {
			fmt.Fprintf(p.stdout, "      %s\n", zone(f.Name, f.Add))
		}
	}
	return nil
}

// examineRelay connects to the relay and logs in.
func (f *folder) examineRelay(ctx context.Context) maildns.Finding {
	found := maildns.Finding{What: "relay"}
	if f.Mail.Relay == "" {
		found.OK, found.Says = true, "there is none: your mail server takes the messages from "+f.Mail.PickupDir
		return found
	}
	r, err := f.relay()
	if err == nil {
		found.Says, err = r.Check(ctx)
	}
	if err != nil {
		found.Says = err.Error()
		return found
	}
	found.OK, found.Says = true, f.Mail.Relay.Parts().Address+" lets us in: "+found.Says
	return found
}

// resolver is the system's, or one that asks a server.
func resolver(server string) *net.Resolver {
	if server == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
}
