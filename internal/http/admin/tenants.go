package admin

import (
	"cmp"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

// TenantPage is a page of tenants.
type TenantPage struct {
	Items []opjson.Tenant `json:"items"`
	Next  *string         `json:"next" doc:"The cursor of the next page, or null at the end."`
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

// members maps options of the command line to JSON members, where the names differ by more than
// hyphens.
var members = map[string]string{
	"reserve": "reserved", "origin": "origins", "turn-uri": "turn_uris", "turn-life": "turn_seconds",
	"acrobits-cloud-id": "acrobits_cloud", "require-second-factor": "require_factor",
}

// settingError makes an error name the JSON member instead of the option of the command line.
func settingError(err error) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Field == "" {
		return err
	}
	renamed := *e
	renamed.Field = cmp.Or(members[e.Field], strings.ReplaceAll(e.Field, "-", "_"))
	renamed.Message = strings.ReplaceAll(e.Message, e.Field, renamed.Field)
	return &renamed
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
	v := TenantPage{Items: []opjson.Tenant{}, Next: next}
	for _, t := range list {
		v.Items = append(v.Items, opjson.OfTenant(*t, h.deps.Tenants.Address(t.Host)))
	}
	return v, err
}

// page returns the requested part of a list, and the cursor of the next one. The list must be
// sorted by key.
func page[T any](r *request, list []T, key func(T) string) ([]T, *string, error) {
	after, err := r.cursor()
	if err != nil {
		return nil, nil, err
	}
	if after != "" {
		list = slices.DeleteFunc(list, func(v T) bool { return key(v) <= after })
	}
	limit := r.integer("limit", defaultLimit)
	if len(list) <= limit {
		return list, nil, nil
	}
	return list[:limit], cursorAfter(key(list[limit-1])), nil
}

// cursor returns the key after which the requested page starts, or an empty text for the first
// page.
func (r *request) cursor() (string, error) {
	after, err := base64.RawURLEncoding.DecodeString(r.query["cursor"])
	if err != nil || !printable(string(after)) {
		return "", fault.Field("cursor", "this is not a cursor of this list; begin with the first page")
	}
	return string(after), nil
}

// cursorAfter returns the cursor for the page that starts after a key.
func cursorAfter(key string) *string {
	cursor := base64.RawURLEncoding.EncodeToString([]byte(key))
	return &cursor
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
	return opjson.OfTenant(t, h.deps.Tenants.Address(t.Host)), nil
}

func (h *Handler) updateTenant(r *request) (any, error) {
	patch := r.body.(*TenantPatch)
	t, err := h.deps.Operator.SetTenant(r.ctx, r.caller, r.tenant, r.reason,
		func(t tenant.Tenant) (tenant.Tenant, error) { return patch.apply(t), nil })
	return h.answerTenant(r, t, err)
}

// SignupsChange is the body of setSignups.
type SignupsChange struct {
	Signups tenant.Signups `json:"signups"`
	Note    *string        `json:"signups_note,omitempty" doc:"Without it, the note stays. Opening deletes it."`
	Reason  string         `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) getSignups(r *request) (any, error) {
	s, err := h.deps.Operator.Signups(r.ctx, r.caller, r.tenant)
	return opjson.OfSignups(r.tenant.Host, s), err
}

func (h *Handler) setSignups(r *request) (any, error) {
	b := r.body.(*SignupsChange)
	if b.Signups == tenant.SignupsOpen && b.Note != nil && *b.Note != "" {
		return nil, fault.Field("signups_note", "there is a note only while signups are closed")
	}
	s, err := h.deps.Operator.SetSignups(r.ctx, r.caller, r.tenant, b.Signups, b.Note, r.reason)
	return opjson.OfSignups(r.tenant.Host, s), settingError(err)
}

// FreezeChange is the body of setFreeze.
type FreezeChange struct {
	Frozen bool   `json:"frozen"`
	Note   string `json:"note,omitempty" doc:"The text that visitors of all tenants see."`
	Reason string `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) getFreeze(r *request) (any, error) {
	s, err := h.deps.Operator.Signups(r.ctx, r.caller, nil)
	return opjson.OfFreeze(s.Freeze), err
}

func (h *Handler) setFreeze(r *request) (any, error) {
	b := r.body.(*FreezeChange)
	var freeze *tenant.Freeze
	if b.Frozen {
		freeze = &tenant.Freeze{Note: b.Note}
	} else if b.Note != "" {
		return nil, fault.Field("note", "there is a note only while signups are frozen")
	}
	freeze, err := h.deps.Operator.SetFreeze(r.ctx, r.caller, freeze, r.reason)
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Field == "signups-note" {
		return nil, fault.Field("note", "%s", strings.ReplaceAll(e.Message, e.Field, "note"))
	}
	return opjson.OfFreeze(freeze), err
}
