package admin

import (
	"cmp"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Tenant is a tenant in an answer. A setting that was not set is empty, or has its default.
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

// TenantPage is a page of tenants.
type TenantPage struct {
	Items []TenantName `json:"items"`
	Next  *string      `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// TenantName names a tenant in a list.
type TenantName struct {
	Host      string    `json:"host"`
	Realm     string    `json:"realm"`
	PublicURL string    `json:"public_url"`
	Created   time.Time `json:"created"`
}

// TenantPatch is the body of updateTenant.
type TenantPatch struct {
	Realm          setting[string]               `json:"realm,omitzero"`
	PublicURL      setting[string]               `json:"public_url,omitzero"`
	Logo           setting[[]byte]               `json:"logo,omitzero" doc:"A picture of up to 64 KiB, in base64."`
	Product        setting[string]               `json:"product,omitzero"`
	About          setting[string]               `json:"about,omitzero"`
	Welcome        setting[string]               `json:"welcome,omitzero"`
	TermsURL       setting[string]               `json:"terms_url,omitzero"`
	PrivacyURL     setting[string]               `json:"privacy_url,omitzero"`
	ImprintURL     setting[string]               `json:"imprint_url,omitzero"`
	Support        setting[string]               `json:"support,omitzero"`
	Accent         setting[string]               `json:"accent,omitzero"`
	MailFrom       setting[string]               `json:"mail_from,omitzero"`
	ReplyTo        setting[string]               `json:"reply_to,omitzero"`
	MailFooter     setting[string]               `json:"mail_footer,omitzero"`
	SIPServer      setting[string]               `json:"sip_server,omitzero"`
	SIPTransport   setting[string]               `json:"sip_transport,omitzero"`
	SIPWebSocket   setting[string]               `json:"sip_websocket,omitzero"`
	TURNURIs       setting[[]string]             `json:"turn_uris,omitzero"`
	TURNSeconds    setting[int]                  `json:"turn_seconds,omitzero"`
	AcrobitsCloud  setting[string]               `json:"acrobits_cloud,omitzero"`
	Origins        setting[[]string]             `json:"origins,omitzero"`
	Reserved       setting[[]string]             `json:"reserved,omitzero"`
	Algorithm      setting[digest.Algorithm]     `json:"algorithm,omitzero"`
	SignupsPerHour setting[int]                  `json:"signups_per_hour,omitzero"`
	Activation     setting[tenant.Activation]    `json:"activation,omitzero"`
	RequireFactor  setting[tenant.RequireFactor] `json:"require_factor,omitzero"`
	Reason         string                        `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

// apply returns a tenant with the settings that were sent.
func (p TenantPatch) apply(t tenant.Tenant) tenant.Tenant {
	p.Realm.apply(&t.Realm)
	p.PublicURL.apply(&t.PublicURL)
	if p.Logo.sent {
		t.Logo = tenant.Logo{Data: p.Logo.value}
	}
	p.Product.apply(&t.Product)
	p.About.apply(&t.About)
	p.Welcome.apply(&t.Welcome)
	p.TermsURL.apply(&t.TermsURL)
	p.PrivacyURL.apply(&t.PrivacyURL)
	p.ImprintURL.apply(&t.ImprintURL)
	p.Support.apply(&t.Support)
	p.Accent.apply(&t.Accent)
	p.MailFrom.apply(&t.MailFrom)
	p.ReplyTo.apply(&t.ReplyTo)
	p.MailFooter.apply(&t.MailFooter)
	p.SIPServer.apply(&t.SIPServer)
	p.SIPTransport.apply(&t.SIPTransport)
	p.SIPWebSocket.apply(&t.SIPWebSocket)
	p.TURNURIs.apply(&t.TURNURIs)
	p.TURNSeconds.apply(&t.TURNSeconds)
	p.AcrobitsCloud.apply(&t.AcrobitsCloud)
	p.Origins.apply(&t.Origins)
	p.Reserved.apply(&t.Reserved)
	p.Algorithm.apply(&t.Algorithm)
	p.SignupsPerHour.apply(&t.SignupsPerHour)
	p.Activation.apply(&t.Activation)
	p.RequireFactor.apply(&t.RequireFactor)
	return t
}

// members are the members whose names are not those of the options of the command line.
var members = map[string]string{
	"reserve": "reserved", "origin": "origins", "turn-uri": "turn_uris", "turn-life": "turn_seconds",
	"acrobits-cloud-id": "acrobits_cloud", "require-second-factor": "require_factor",
}

// settingError names the member instead of the option of the command line.
func settingError(err error) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Field == "" {
		return err
	}
	renamed := *e
	renamed.Field = cmp.Or(members[e.Field], strings.ReplaceAll(e.Field, "-", "_"))
	return &renamed
}

// listOf returns a list that is not null in JSON.
func listOf[T any](list []T) []T { return append([]T{}, list...) }

// viewTenant returns a tenant as it is in the store, with the address that it has if none was set.
func viewTenant(t tenant.Tenant, address string) Tenant {
	v := Tenant{
		Host: t.Host, Realm: t.Realm, PublicURL: cmp.Or(t.PublicURL, address), Created: t.Created, Product: t.Product,
		About: t.About, Welcome: t.Welcome, TermsURL: t.TermsURL, PrivacyURL: t.PrivacyURL, ImprintURL: t.ImprintURL,
		Support: t.Support, Accent: t.Accent, MailFrom: t.MailFrom, ReplyTo: t.ReplyTo, MailFooter: t.MailFooter,
		SIPServer: t.SIPServer, SIPTransport: t.SIPTransport, SIPWebSocket: t.SIPWebSocket,
		TURNURIs: listOf(t.TURNURIs), TURNSeconds: int(t.TURNLife() / time.Second), AcrobitsCloud: t.AcrobitsCloud,
		Origins: listOf(t.Origins), Reserved: listOf(t.Reserved), Algorithm: t.Challenge(),
		SignupsPerHour: t.SignupsPerHour, Activation: cmp.Or(t.Activation, tenant.ActivationLink),
		RequireFactor: cmp.Or(t.RequireFactor, tenant.RequireNone), Signups: t.SignupMode(), SignupsNote: t.SignupsNote,
	}
	if len(t.Logo.Data) > 0 {
		v.Logo = &Logo{t.Logo.Type, len(t.Logo.Data)}
	}
	return v
}

func (h *Handler) listTenants(r *request) (any, error) {
	var list []*tenant.Tenant
	for _, t := range h.deps.Tenants.All() {
		if r.caller.Tenant == 0 || r.caller.Tenant == t.ID {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *tenant.Tenant) int { return cmp.Compare(a.Host, b.Host) })
	list, next, err := page(r, list, func(t *tenant.Tenant) string { return t.Host })
	v := TenantPage{Items: []TenantName{}, Next: next}
	for _, t := range list {
		v.Items = append(v.Items, TenantName{t.Host, t.Realm, t.PublicURL, t.Created})
	}
	return v, err
}

// page returns the part of a list that the request asks for, and the cursor of the next one. The list is in the order
// of its keys.
func page[T any](r *request, list []T, key func(T) string) ([]T, *string, error) {
	if cursor := r.query["cursor"]; cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || !printable(string(after)) {
			return nil, nil, fault.Field("cursor", "this is not a cursor of this list; begin with the first page")
		}
		list = slices.DeleteFunc(list, func(v T) bool { return key(v) <= string(after) })
	}
	limit := r.integer("limit", defaultLimit)
	if len(list) <= limit {
		return list, nil, nil
	}
	next := base64.RawURLEncoding.EncodeToString([]byte(key(list[limit-1])))
	return list[:limit], &next, nil
}

func (h *Handler) getTenant(r *request) (any, error) {
	t, err := h.deps.Operator.Tenant(r.ctx, r.caller, r.tenant)
	return h.answerTenant(r, t, err)
}

func (h *Handler) answerTenant(r *request, t tenant.Tenant, err error) (any, error) {
	if err != nil {
		return nil, settingError(err)
	}
	r.setTag(t.Version())
	return viewTenant(t, h.deps.Tenants.Address(t.Host)), nil
}

func (h *Handler) updateTenant(r *request) (any, error) {
	patch := r.body.(*TenantPatch)
	t, err := h.deps.Operator.SetTenant(r.ctx, r.caller, r.tenant, r.reason,
		func(t tenant.Tenant) (tenant.Tenant, error) { return patch.apply(t), nil })
	return h.answerTenant(r, t, err)
}

// Signups says whether people can sign up at a tenant.
type Signups struct {
	Mode   tenant.Signups `json:"mode" doc:"The tenant's own setting."`
	Note   string         `json:"note" doc:"What visitors read while signups are closed, or empty."`
	Frozen bool           `json:"frozen" doc:"Whether the signups of all tenants are closed, whatever mode is."`
}

// SignupsChange is the body of setSignups.
type SignupsChange struct {
	Mode   tenant.Signups `json:"mode"`
	Note   *string        `json:"note,omitempty" doc:"Without it, the note stays."`
	Reason string         `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) getSignups(r *request) (any, error) {
	s, err := h.deps.Operator.Signups(r.ctx, r.caller, r.tenant)
	return Signups{s.Mode, s.Note, s.Freeze != nil}, err
}

func (h *Handler) setSignups(r *request) (any, error) {
	b := r.body.(*SignupsChange)
	s, err := h.deps.Operator.SetSignups(r.ctx, r.caller, r.tenant, b.Mode, b.Note, r.reason)
	return Signups{s.Mode, s.Note, s.Freeze != nil}, settingError(err)
}

// Freeze says whether the signups of all tenants are closed.
type Freeze struct {
	Frozen bool   `json:"frozen"`
	Note   string `json:"note" doc:"What visitors read in place of a tenant's note, or empty."`
}

// FreezeChange is the body of setFreeze.
type FreezeChange struct {
	Frozen bool   `json:"frozen"`
	Note   string `json:"note,omitempty" doc:"What visitors read in place of a tenant's note."`
	Reason string `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) getFreeze(r *request) (any, error) {
	s, err := h.deps.Operator.Signups(r.ctx, r.caller, nil)
	if err != nil || s.Freeze == nil {
		return Freeze{}, err
	}
	return Freeze{true, s.Freeze.Note}, nil
}

func (h *Handler) setFreeze(r *request) (any, error) {
	b := r.body.(*FreezeChange)
	var freeze *tenant.Freeze
	if b.Frozen {
		freeze = &tenant.Freeze{Note: b.Note}
	} else if b.Note != "" {
		return nil, fault.Field("note", "there is a note only while signups are frozen")
	}
	if err := h.deps.Operator.SetFreeze(r.ctx, r.caller, freeze, r.reason); err != nil {
		return nil, settingError(err)
	}
	return Freeze{b.Frozen, b.Note}, nil
}
