package opjson

import (
	"cmp"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// Tenant is a tenant and its settings. A setting that was not set is empty, or has its default.
type Tenant struct {
	Host           string               `json:"host"`
	Realm          string               `json:"realm"`
	PublicURL      string               `json:"public_url"`
	Created        time.Time            `json:"created"`
	Logo           *Logo                `json:"logo"`
	Product        string               `json:"product" doc:"The name of the platform for people."`
	About          string               `json:"about"`
	Welcome        string               `json:"welcome"`
	TermsURL       string               `json:"terms_url"`
	PrivacyURL     string               `json:"privacy_url"`
	ImprintURL     string               `json:"imprint_url"`
	Support        string               `json:"support"`
	Accent         string               `json:"accent" doc:"A colour: #rrggbb."`
	MailFrom       string               `json:"mail_from"`
	ReplyTo        string               `json:"reply_to"`
	MailFooter     string               `json:"mail_footer"`
	SIPServer      string               `json:"sip_server"`
	SIPTransport   string               `json:"sip_transport"`
	SIPWebSocket   string               `json:"sip_websocket"`
	TURNURIs       []string             `json:"turn_uris"`
	TURNSeconds    int                  `json:"turn_seconds" doc:"The life of a TURN credential."`
	AcrobitsCloud  string               `json:"acrobits_cloud"`
	Origins        []string             `json:"origins"`
	Reserved       []string             `json:"reserved" doc:"User names that nobody can sign up with."`
	Algorithm      digest.Algorithm     `json:"algorithm"`
	SignupsPerHour int                  `json:"signups_per_hour" doc:"0 for no limit."`
	Activation     tenant.Activation    `json:"activation"`
	RequireFactor  tenant.RequireFactor `json:"require_factor"`
	Signups        tenant.Signups       `json:"signups"`
	SignupsNote    string               `json:"signups_note"`
}

// Logo describes the logo of a tenant.
type Logo struct {
	Type  string `json:"type"`
	Bytes int    `json:"bytes"`
}

// OfTenant returns the view of a tenant read from the store. address is its public URL if none was set.
func OfTenant(t tenant.Tenant, address string) Tenant {
	v := Tenant{
		Host: t.Host, Realm: t.Realm, PublicURL: cmp.Or(t.PublicURL, address), Created: t.Created, Product: t.Product,
		About: t.About, Welcome: t.Welcome, TermsURL: t.TermsURL, PrivacyURL: t.PrivacyURL, ImprintURL: t.ImprintURL,
		Support: t.Support, Accent: t.Accent, MailFrom: t.MailFrom, ReplyTo: t.ReplyTo, MailFooter: t.MailFooter,
		SIPServer: t.SIPServer, SIPTransport: t.SIPTransport, SIPWebSocket: t.SIPWebSocket,
		TURNURIs: list(t.TURNURIs), TURNSeconds: int(t.TURNLife() / time.Second), AcrobitsCloud: t.AcrobitsCloud,
		Origins: list(t.Origins), Reserved: list(t.Reserved), Algorithm: t.Challenge(),
		SignupsPerHour: t.SignupsPerHour, Activation: cmp.Or(t.Activation, tenant.ActivationLink),
		RequireFactor: cmp.Or(t.RequireFactor, tenant.RequireNone), Signups: t.SignupMode(), SignupsNote: t.SignupsNote,
	}
	if len(t.Logo.Data) > 0 {
		v.Logo = &Logo{t.Logo.Type, len(t.Logo.Data)}
	}
	return v
}

// Signups is the state of signups at a tenant.
type Signups struct {
	Host    string         `json:"host"`
	Signups tenant.Signups `json:"signups" doc:"The tenant's own setting."`
	Note    string         `json:"signups_note" doc:"The tenant's own note for visitors while signups are closed."`
	Frozen  bool           `json:"frozen" doc:"Whether the signups of all tenants are closed, whatever signups says."`
	Open    bool           `json:"open" doc:"Whether people can sign up."`
	Shown   string         `json:"shown_note" doc:"What visitors read now, or empty for a text of the program."`
}

// OfSignups returns the view of the signups at the tenant with a host.
func OfSignups(host string, s operator.Signups) Signups {
	t := tenant.Tenant{Host: host, Freeze: s.Freeze}
	t.Signups, t.SignupsNote = s.Mode, s.Note
	shown, closed := t.Closed()
	return Signups{host, t.SignupMode(), t.SignupsNote, t.Freeze != nil, !closed, shown}
}

// Freeze reports whether the signups of all tenants are closed.
type Freeze struct {
	Frozen bool   `json:"frozen"`
	Note   string `json:"note" doc:"What visitors of all tenants read, or empty for a text of the program."`
}

// OfFreeze returns the view of a freeze, which may be nil.
func OfFreeze(f *tenant.Freeze) Freeze {
	if f == nil {
		return Freeze{}
	}
	return Freeze{true, f.Note}
}
