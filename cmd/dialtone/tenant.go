package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/regularfile"
	"dialtone/internal/tenant"
)

type tenantCommand struct {
	Add      tenantAdd      `cmd:"" help:"Add a tenant: a phone platform on a host name."`
	List     tenantList     `cmd:"" help:"List all tenants."`
	Set      tenantSet      `cmd:"" help:"Change settings of a tenant."`
	Reserved tenantReserved `cmd:"" help:"List the user names that nobody can sign up with."`

	Certificate tenantCertificate `cmd:"" help:"Write the ACME certificate of a tenant to a file."`

	Remove tenantRemove `cmd:"" help:"Remove a tenant."`
}

// tenantOptions are the settings of a tenant. A nil option was not given.
type tenantOptions struct {
	Realm          *string   `placeholder:"NAME" help:"Digest realm (the host). Fixed while the tenant has accounts."`
	PublicURL      *string   `name:"public-url" placeholder:"URL" help:"Where people reach the tenant (https://HOST)."`
	Product        *string   `placeholder:"NAME" help:"Name of the platform for people (the host)."`
	About          *string   `placeholder:"TEXT" help:"What the platform is, and what it costs (none)."`
	Welcome        *string   `placeholder:"TEXT" help:"What people with an account should know (none)."`
	TermsURL       *string   `name:"terms-url" placeholder:"URL" help:"Your terms of use (none)."`
	PrivacyURL     *string   `name:"privacy-url" placeholder:"URL" help:"Your privacy notice (none)."`
	ImprintURL     *string   `name:"imprint-url" placeholder:"URL" help:"Your imprint (none)."`
	Support        *string   `placeholder:"URL" help:"Page or email address where people get help (none)."`
	Logo           *logo     `placeholder:"FILE" help:"Picture next to the name: PNG, JPEG, WebP or SVG (none)."`
	Accent         *string   `placeholder:"#RRGGBB" help:"Colour of links and buttons (#0b6b57)."`
	MailFrom       *string   `name:"mail-from" placeholder:"ADDRESS" help:"Sender of messages (no-reply@HOST)."`
	ReplyTo        *string   `name:"reply-to" placeholder:"ADDRESS" help:"Address for replies (the sender)."`
	MailFooter     *string   `name:"mail-footer" placeholder:"TEXT" help:"Line at the end of messages (none)."`
	SIPServer      *string   `name:"sip-server" placeholder:"HOST[:PORT]" help:"SIP server for softphones (the host)."`
	SIPTransport   *string   `name:"sip-transport" placeholder:"NAME" help:"UDP, TCP, TLS, WS or WSS (TLS)."`
	SIPWebSocket   *string   `name:"sip-websocket" placeholder:"URL" help:"URL for phones in browsers (none)."`
	TURNURI        *textList `name:"turn-uri" placeholder:"URI" help:"TURN server for users (none). Can be repeated."`
	TURNLife       *turnLife `name:"turn-life" placeholder:"TIME" help:"Life of a TURN credential, 1m to 24h (1h)."`
	AcrobitsCloud  *string   `name:"acrobits-cloud-id" placeholder:"ID" help:"Cloud ID of the platform (none)."`
	Origin         *textList `placeholder:"URL" help:"Site whose pages may call the API (none). Can be repeated."`
	Reserve        *textList `placeholder:"NAME" help:"User name that nobody can sign up with (none). Can be repeated."`
	Algorithm      *string   `placeholder:"NAME" help:"Digest algorithm of sign-in: MD5 or SHA-256 (MD5)."`
	SignupsPerHour *int      `name:"signups-per-hour" placeholder:"N" help:"Limit for the tenant; 0 for none (0)."`
	Activation     *string   `placeholder:"MODE" help:"link, or confirm for link and password (link)."`
	RequireFactor  *string   `name:"require-second-factor" placeholder:"WHO" help:"admin or none (none)."`
	Signups        *string   `placeholder:"MODE" help:"open, or closed if nobody can sign up (open)."`
	SignupsNote    *string   `name:"signups-note" placeholder:"TEXT" help:"What visitors read while closed (none)."`
}

// Help is what --help adds for the commands that have these options.
func (tenantOptions) Help() string {
	return "An empty value restores the default, which is in parentheses. A running server sees a change " +
		"within a second.\n\n--about and --welcome are plain text of up to 600 characters, with line breaks. " +
		"The first is for visitors, the second for people who have an account.\n\n--logo is a file of up to " +
		"64 KiB. An SVG must not contain scripts or refer to other files.\n\n--accent is made darker on light " +
		"pages, and lighter on dark ones, as far as text needs to be readable.\n\n--sip-websocket is " +
		"wss://HOST[:PORT][/PATH]. Without it, phones in browsers use the SIP server if the transport is WSS." +
		"\n\n--turn-uri is for signed-in users, such as turn:HOST:3478?transport=udp.\n\n--acrobits-cloud-id " +
		"is the platform's Cloud ID at Acrobits, for the QR code of Cloud Softphone.\n\n--reserve, --origin and " +
		"--turn-uri replace the whole list. --reserve does not touch the built-in names: see dialtone tenant reserved."
}

// apply returns the tenant with the options that were given. It fails with fault.Invalid.
func (o tenantOptions) apply(t tenant.Tenant) (tenant.Tenant, error) {
	set(&t.Realm, o.Realm)
	set(&t.PublicURL, o.PublicURL)
	set(&t.Product, o.Product)
	set(&t.About, o.About)
	set(&t.Welcome, o.Welcome)
	set(&t.TermsURL, o.TermsURL)
	set(&t.PrivacyURL, o.PrivacyURL)
	set(&t.ImprintURL, o.ImprintURL)
	set(&t.Support, o.Support)
	set(&t.Accent, o.Accent)
	if o.Logo != nil {
		t.Logo = tenant.Logo{Data: *o.Logo}
	}
	set(&t.MailFrom, o.MailFrom)
	set(&t.ReplyTo, o.ReplyTo)
	set(&t.MailFooter, o.MailFooter)
	set(&t.SIPServer, o.SIPServer)
	set(&t.SIPTransport, o.SIPTransport)
	set(&t.SIPWebSocket, o.SIPWebSocket)
	set(&t.AcrobitsCloud, o.AcrobitsCloud)
	set(&t.TURNURIs, (*[]string)(o.TURNURI))
	set(&t.TURNSeconds, (*int)(o.TURNLife))
	set(&t.Origins, (*[]string)(o.Origin))
	set(&t.Reserved, (*[]string)(o.Reserve))
	set(&t.SignupsPerHour, o.SignupsPerHour)
	if o.Algorithm != nil {
		t.Algorithm = digest.Algorithm(*o.Algorithm)
	}
	if o.Activation != nil {
		t.Activation = tenant.Activation(*o.Activation)
	}
	if o.RequireFactor != nil {
		t.RequireFactor = tenant.RequireFactor(*o.RequireFactor)
	}
	if o.Signups != nil {
		t.Signups = tenant.Signups(*o.Signups)
		if t.SignupMode() == tenant.SignupsOpen { // so that closing them later does not show an old note
			t.SignupsNote = ""
		}
	}
	set(&t.SignupsNote, o.SignupsNote)
	if _, err := account.NewReserved(t.Reserved); err != nil {
		return t, fault.Field("reserve", "%v", err)
	}
	return tenant.New(t)
}

// textList is a flag that can be repeated, and whose values can be separated by commas. A single
// empty value is an empty list. (For a pointer to a slice, kong keeps only the last value.)
type textList []string

// Decode implements kong.MapperValue.
func (l *textList) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("value", &text); err != nil {
		return err
	}
	if text != "" {
		*l = append(*l, strings.Split(text, ",")...)
	}
	return nil
}

// logo is the content of the file that a flag names, or nothing for an empty name.
type logo []byte

// Decode implements kong.MapperValue.
func (l *logo) Decode(ctx *kong.DecodeContext) error {
	var name string
	if err := ctx.Scan.PopValueInto("file", &name); err != nil || name == "" {
		return err
	}
	f, err := regularfile.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	*l, err = io.ReadAll(io.LimitReader(f, tenant.MaxLogo+1))
	if err == nil && len(*l) == 0 {
		err = fmt.Errorf("%s is empty; give an empty value to remove the logo: --logo=", name)
	}
	return err
}

// turnLife is a time in whole seconds, such as 30m or 1h30m. An empty value is zero, the default.
type turnLife int

// UnmarshalText implements encoding.TextUnmarshaler, for kong.
func (l *turnLife) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = 0
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d%time.Second != 0 || d <= 0 {
		return fmt.Errorf("%q is not a time in whole seconds, such as 30m or 1h", text)
	}
	*l = turnLife(d / time.Second)
	return nil
}

func set[T any](dst *T, value *T) {
	if value != nil {
		*dst = *value
	}
}

type tenantAdd struct {
	Host string `arg:"" help:"The host name."`
	tenantOptions
}

// Run creates a store if there is none, so that a script can prepare a machine before the first
// start of the server.
func (c *tenantAdd) Run(p *program) error {
	// The store keeps microseconds. After a lost reply, it recognizes a repeated insert by Created.
	now := time.Now().UTC().Truncate(time.Microsecond)
	t, err := c.apply(tenant.Tenant{Host: c.Host, Created: now})
	if err != nil {
		return err
	}
	return p.withStore(installation.IfNamed, func(in *installation.Installation) error {
		_, err := in.Store.AddTenant(p.ctx, t)
		return err
	})
}

type tenantSet struct {
	Host string `arg:"" help:"The host name."`
	tenantOptions
	reasonFlag
	ReservedChanges reservedChanges `embed:""`
}

func (c *tenantSet) Run(p *program) error {
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	return p.with(func(in *installation.Installation) error {
		old, err := in.TenantOf(p.ctx, c.Host)
		if err != nil {
			return err
		}
		options := c.tenantOptions
		if len(c.ReservedChanges.Add)+len(c.ReservedChanges.Remove) > 0 {
			list := old.Reserved
			set(&list, (*[]string)(options.Reserve))
			if list, err = c.ReservedChanges.apply(list); err != nil {
				return err
			}
			options.Reserve = (*textList)(&list)
		}
		t, err := options.apply(*old)
		if err != nil {
			return err
		}
		if err := in.Store.SetTenant(ctx, t, time.Now()); err != nil {
			return err
		}
		p.printReplaced(c.tenantOptions, old.Settings, t.Settings)
		return nil
	})
}

type tenantRemove struct {
	Host         string `arg:"" help:"The host name."`
	WithAccounts bool   `name:"with-accounts" help:"Also remove its accounts. This cannot be undone."`
	Yes          bool   `help:"Do not ask for confirmation on a terminal."`
	reasonFlag
}

func (c *tenantRemove) Run(p *program) error {
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	host, err := installation.NormalizeHost(c.Host)
	if err != nil {
		return err
	}
	return p.with(func(in *installation.Installation) error {
		t, err := in.TenantOf(p.ctx, host)
		if err != nil {
			return err
		}
		accounts := 0
		err = in.Store.List(p.ctx, t.ID, time.Now(), func(account.Account) error {
			accounts++
			return nil
		})
		if err != nil {
			return err
		}
		what := "the tenant " + host
		if accounts > 0 {
			what += " and its " + terminal.Counted(accounts, "account")
		}
		if !c.Yes && (accounts == 0 || c.WithAccounts) { // otherwise the store refuses the removal
			if err := p.confirm("remove " + what); err != nil {
				return err
			}
		}
		if err := in.Store.RemoveTenant(ctx, host, c.WithAccounts, time.Now()); err != nil {
			return err
		}
		p.eraseDeleted(in)
		return p.printf("removed %s", what)
	})
}

type tenantList struct {
	JSON bool `name:"json" help:"Print one JSON array."`
}

func (c *tenantList) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		list, _, err := in.Store.Tenants(p.ctx)
		if err != nil {
			return err
		}
		views := opjson.All(list, func(t tenant.Tenant) opjson.Tenant {
			return opjson.OfTenant(t, in.DefaultURL(t.Host))
		})
		if c.JSON {
			return indented(p.stdout, views)
		}
		out := p.table()
		out.Row("HOST", "REALM", "PUBLIC URL")
		for _, t := range views {
			out.Row(t.Host, t.Realm, t.PublicURL)
		}
		return out.Flush()
	})
}
