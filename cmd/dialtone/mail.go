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
	"strconv"
	"strings"
	"time"

	"dialtone/cmd/dialtone/internal/doctor"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/maildns"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

type mailCommand struct {
	List    mailList    `cmd:"" help:"List the messages that were not sent."`
	Show    mailShow    `cmd:"" help:"Show the state of a message."`
	Retry   mailRetry   `cmd:"" help:"Retry a message now, even if it has failed."`
	Discard mailDiscard `cmd:"" help:"Discard an unsent message."`
	DKIM    mailDKIM    `cmd:"" name:"dkim" help:"Manage the DKIM keys that sign messages sent through the relay."`
	Doctor  mailDoctor  `cmd:"" help:"Check the relay, and the sender's DNS records."`
}

// viewMessage returns the view of a message.
func viewMessage(d delivery.Delivery, hosts map[int64]string) opjson.Delivery {
	return opjson.OfDelivery(d, hosts[d.Tenant])
}

// nextAttempt returns the time of the next attempt to send a message, or "-".
func nextAttempt(m opjson.Delivery) string {
	if m.Next == nil {
		return "-"
	}
	return m.Next.Format(time.RFC3339)
}

// hostsByID returns the hosts of all tenants by tenant ID.
func hostsByID(ctx context.Context, in *installation.Installation) (map[int64]string, error) {
	list, _, err := in.Store.Tenants(ctx)
	hosts := make(map[int64]string)
	for _, t := range list {
		hosts[t.ID] = t.Host
	}
	return hosts, err
}

type mailList struct {
	All  bool `help:"Include messages that were sent, written or discarded."`
	JSON bool `name:"json" help:"Print one JSON array."`
}

func (c *mailList) Run(p *program) error {
	states := []delivery.State{delivery.Waiting, delivery.Deferred, delivery.Failed}
	if c.All {
		states = append(states, delivery.Sent, delivery.Written, delivery.Discarded)
	}
	return p.with(func(in *installation.Installation) error {
		hosts, err := hostsByID(p.ctx, in)
		if err != nil {
			return err
		}
		if c.JSON {
			return array(p.stdout, func(each func(any) error) error {
				return in.Store.EachDelivery(p.ctx, states, func(d delivery.Delivery) error {
					return each(viewMessage(d, hosts))
				})
			})
		}
		out := p.table()
		out.Row("ID", "KIND", "STATE", "SINCE", "ATTEMPTS", "NEXT", "EMAIL", "ANSWER")
		err = in.Store.EachDelivery(p.ctx, states, func(d delivery.Delivery) error {
			m := viewMessage(d, hosts)
			return out.Row(m.ID, m.Kind, m.State, m.Since.Format(time.RFC3339), m.Attempts, nextAttempt(m), m.Email,
				m.Answer)
		})
		return errors.Join(err, out.Flush())
	})
}

// parseMessageID parses the ID of a message: from the list, from a Message-ID, or from a file name.
func parseMessageID(text string) (id mailmsg.ID, err error) {
	text, _, _ = strings.Cut(strings.Trim(text, "<>"), "@")
	b, err := hex.DecodeString(strings.TrimSuffix(text, ".eml"))
	if err != nil || len(b) != len(id) {
		return id, fault.New(fault.Invalid,
			"%q is not a message ID; an ID has 32 hex digits, see: dialtone mail list", text)
	}
	return mailmsg.ID(b), nil
}

// messageArg selects a message.
type messageArg struct {
	ID   string `arg:"" help:"The message ID: from the list, from the Message-ID header, or from the file name."`
	JSON bool   `name:"json" help:"Print JSON."`
}

// print prints a message.
func (c messageArg) print(p *program, in *installation.Installation, d delivery.Delivery) error {
	hosts, err := hostsByID(p.ctx, in)
	if err != nil {
		return err
	}
	m := viewMessage(d, hosts)
	header := headerOf(in, d.Message)
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(struct {
			opjson.Delivery
			Header map[string]string `json:"header"`
		}{m, header})
	}
	out := p.table()
	for _, line := range [][2]string{
		{"id", m.ID},
		{"kind", m.Kind},
		{"state", string(m.State)},
		{"answer", m.Answer},
		{"attempts", strconv.Itoa(m.Attempts)},
		{"next", nextAttempt(m)},
		{"since", m.Since.Format(time.RFC3339)},
		{"ended", formatTime(m.Ended)},
		{"expires", m.Expires.Format(time.RFC3339)},
		{"tenant", m.Tenant},
		{"user", m.User},
		{"email", m.Email},
		{"server", m.Server},
	} {
		out.Row(line[0], line[1])
	}
	for _, name := range shownFields {
		if header[name] != "" {
			out.Row(name, header[name])
		}
	}
	return out.Flush()
}

// shownFields are the header fields that are shown. None of them contains the link.
var shownFields = []string{"Date", "From", "To", "Subject", "Message-ID"}

// headerOf returns the shown header fields of a message, or nil if its file is not on this machine.
func headerOf(in *installation.Installation, id mailmsg.ID) map[string]string {
	dir, err := pickup.Open(in.Mail.PickupDir)
	if err != nil {
		return nil
	}
	b, err := dir.Peek(id)
	if err != nil {
		return nil
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	header := make(map[string]string)
	for _, name := range shownFields {
		header[name] = mailmsg.Decode(m.Header.Get(name))
	}
	return header
}

// on calls do with the ID of the message, and prints the result.
func (c messageArg) on(p *program, do func(*installation.Installation, mailmsg.ID) (delivery.Delivery, error)) error {
	id, err := parseMessageID(c.ID)
	if err != nil {
		return err
	}
	return p.with(func(in *installation.Installation) error {
		d, err := do(in, id)
		if err != nil {
			return err
		}
		return c.print(p, in, d)
	})
}

type mailShow struct{ messageArg }

func (c *mailShow) Run(p *program) error {
	return c.on(p, func(in *installation.Installation, id mailmsg.ID) (delivery.Delivery, error) {
		return in.Store.Delivery(p.ctx, id)
	})
}

type mailRetry struct {
	ID   string `arg:"" optional:"" help:"The message ID."`
	All  bool   `help:"Retry all messages that were deferred or have failed."`
	JSON bool   `name:"json" help:"Print JSON."`
	reasonFlag
}

func (c *mailRetry) Run(p *program) error {
	ctx, err := p.withReason(c.Reason)
	switch {
	case err != nil:
		return err
	case c.All == (c.ID != ""):
		return usageError{fault.New(fault.Invalid, "give a message ID or --all, but not both")}
	case c.All:
		return p.with(func(in *installation.Installation) error {
			n, err := in.Store.RetryAll(ctx, time.Now())
			if err == nil && c.JSON {
				err = json.NewEncoder(p.stdout).Encode(map[string]int64{"messages": n})
			} else if err == nil {
				_, err = fmt.Fprintf(p.stdout, "messages to retry: %d\n", n)
			}
			return err
		})
	}
	m := messageArg{c.ID, c.JSON}
	return m.on(p, func(in *installation.Installation, id mailmsg.ID) (delivery.Delivery, error) {
		return in.Store.Retry(ctx, id, time.Now())
	})
}

type mailDiscard struct {
	messageArg
	reasonFlag
}

func (c *mailDiscard) Run(p *program) error {
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	return c.on(p, func(in *installation.Installation, id mailmsg.ID) (delivery.Delivery, error) {
		return in.Store.Discard(ctx, id, "discarded by an operator", time.Now())
	})
}

type mailDoctor struct {
	tenantFlag
	Resolver string `placeholder:"HOST:PORT" help:"DNS server to ask, such as the domain's own (the system's)."`
	JSON     bool   `name:"json" help:"Print one JSON array."`
}

// Help is what "dialtone mail doctor --help" adds.
func (mailDoctor) Help() string {
	return "The command logs in to the relay and reads the sender's SPF, DKIM and DMARC records. It says what to add."
}

// Run fails if a check fails.
func (c *mailDoctor) Run(p *program) error {
	arg := tenantArg{Host: c.Tenant}
	return arg.with(p, func(in *installation.Installation, t *tenant.Tenant, keys *dkim.Keys) error {
		records, err := doctor.CheckSender(p.ctx, in.Mail, t, keys, resolver(c.Resolver))
		if err != nil {
			return err
		}
		found := append([]maildns.Finding{doctor.CheckRelay(p.ctx, in.Mail)}, records...)
		if err := c.print(p, found); err != nil {
			return err
		}
		if in.Mail.Relay != "" && !c.JSON {
			fmt.Fprintln(p.stdout, "note  click tracking: no check can see it; turn it off at the relay "+
				"for these messages, or the tracker gets the links and their tokens; see docs/mail.md")
		}
		if i := slices.IndexFunc(found, func(f maildns.Finding) bool { return !f.OK }); i >= 0 {
			return fault.New(fault.Conflict,
				"messages of %s may be rejected or treated as spam; see TO DO above", t.Host)
		}
		return nil
	})
}

func (c *mailDoctor) print(p *program, found []maildns.Finding) error {
	if c.JSON {
		return arrayOf(p.stdout, found)
	}
	for _, f := range found {
		mark := "ok   "
		if !f.OK {
			mark = "TO DO"
		}
		terminal.PrintLine(p.stdout, mark+" ", f.What+": "+f.Says)
		if f.Add != "" {
			fmt.Fprintf(terminal.To(p.stdout), "      %s\n", maildns.ZoneLine(f.Name, f.Add))
		}
	}
	return nil
}

// resolver returns a resolver that asks a server, or the system's resolver if server is empty.
func resolver(server string) *net.Resolver {
	if server == "" {
		return net.DefaultResolver
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}
	return &net.Resolver{PreferGo: true, Dial: dial}
}
