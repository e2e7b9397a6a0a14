package admin

import (
	"net/http"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/http/answer"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
)

// operation is an operation of the API.
type operation struct {
	// id is the operationId. Programs are generated with it, so it never changes.
	id, method, path, summary string
	scope                     operator.Scope
	// installation marks operations on the whole installation: they need a token for all tenants.
	installation bool
	query        []parameter
	// body is a value of the body's type, or nil. emptyBody means that the body may be missing.
	body      any
	emptyBody bool
	// conditional operations accept If-Match. tagged ones answer with an ETag.
	conditional, tagged bool
	// key operations accept an Idempotency-Key.
	key bool
	// names is the member of the answer that names the created object, which becomes the last
	// element of its path. It may be empty.
	names  string
	status int
	// answer is a value of the answer's type, or nil.
	answer any
	// lines means that the operation can also answer with JSON lines.
	lines bool
	serve func(*request) (any, error)

	segments []string // of path
}

// parameter is a parameter of a query.
type parameter struct {
	name, doc string
	// kind is string, integer, boolean or words.
	kind     string
	min, max int      // of an integer
	words    []string // of words
}

const (
	defaultLimit = 50
	maxLimit     = 500
)

// timeDoc describes a time in a query.
const timeDoc = "2026-03-01, 2026-03-01T12:00:00Z, or a duration before now such as 24h or 7d."

// paging are the parameters of every list.
func paging(others ...parameter) []parameter {
	return append(others,
		parameter{name: "limit", kind: "integer", min: 1, max: maxLimit,
			doc: "How many items to answer with at most. " +
				"Without it, 50."},
		parameter{name: "cursor", kind: "string", doc: "The member next of the previous page."})
}

func texts[T ~string](list []T) (out []string) {
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

var (
	states = []account.State{account.Waiting, account.Active, account.Disabled, account.Leaving}

	reasonParameter = parameter{name: "reason", kind: "string", doc: "Why, for the audit trail."}

	accountFilter = []parameter{
		{name: "state", kind: "words", words: texts(states), doc: "Only accounts in one of these states."},
		{name: "role", kind: "words", words: texts(account.Roles), doc: "Only accounts with one of these roles."},
		{name: "text", kind: "string", doc: "The beginning of the user name, the address or the display name, " +
			"without regard to case."},
		{name: "net", kind: "string", doc: "Only signups from this network, or from that of this address."},
		{name: "since", kind: "string", doc: "Only signups since this time: " + timeDoc},
		{name: "before", kind: "string", doc: "Only signups before this time: " + timeDoc},
		{name: "confirmed", kind: "boolean", doc: "Only accounts that are confirmed, or only those that are not."},
	}
	changeFilter = []parameter{
		{name: "since", kind: "string", doc: "Only changes since this time: " + timeDoc},
		{name: "before", kind: "string", doc: "Only changes before this time: " + timeDoc},
		{name: "user", kind: "string", doc: "Only changes of accounts with this user name."},
		{name: "action", kind: "string", doc: "Only this action, or those that begin with it, if it ends with a dot."},
		{name: "actor", kind: "string", doc: "Only changes by actors with this name."},
		{name: "actor_kind", kind: "words", words: texts([]audit.ActorKind{
			audit.System, audit.Command, audit.Person, audit.Admin, audit.Token}),
			doc: "Only changes by this kind of actor."},
		{name: "net", kind: "string", doc: "Only changes that may have come from this address or network."},
		{name: "newest", kind: "boolean", doc: "Whether the newest change is first. Without it, the oldest is."},
	}
)

// routes returns all operations.
func (h *Handler) routes() []operation {
	const (
		oneTenant  = Root + "tenants/{host}"
		accounts   = oneTenant + "/accounts"
		oneAccount = accounts + "/{user}"
		bulks      = oneTenant + "/bulk"
		get, post  = http.MethodGet, http.MethodPost
		ok, made   = http.StatusOK, http.StatusCreated
	)
	days := []parameter{{name: "days", kind: "integer", min: 1, max: operator.MaxStatsDays,
		doc: "Of how many days, today included. Without it, 30."}}
	list := []operation{
		{id: "listTenants", method: get, path: Root + "tenants", summary: "List the tenants of the token.",
			scope: operator.TenantRead, query: paging(), answer: TenantPage{}, serve: h.listTenants},
		{id: "getTenant", method: get, path: oneTenant, summary: "Show a tenant and its settings.",
			scope: operator.TenantRead, answer: opjson.Tenant{}, tagged: true, serve: h.getTenant},
		{id: "updateTenant", method: http.MethodPatch, path: oneTenant,
			summary: "Change settings of a tenant. Members that are missing stay; null restores a default. Where " +
				"people and phones are sent is for tokens with accounts:write too.",
			scope: operator.TenantWrite, body: TenantPatch{}, answer: opjson.Tenant{}, tagged: true,
			conditional: true,
			serve:       h.updateTenant},
		{id: "getSignups", method: get, path: oneTenant + "/signups", summary: "Show whether people can sign up.",
			scope: operator.TenantRead, answer: opjson.Signups{}, serve: h.getSignups},
		{id: "setSignups", method: http.MethodPut, path: oneTenant + "/signups",
			summary: "Open or close the signups of a tenant.", scope: operator.TenantWrite, body: SignupsChange{},
			answer: opjson.Signups{}, serve: h.setSignups},
		{id: "getFreeze", method: get, path: Root + "freeze", installation: true,
			summary: "Show whether the signups of all tenants are closed.", scope: operator.TenantRead,
			answer: opjson.Freeze{},
			serve:  h.getFreeze},
		{id: "setFreeze", method: http.MethodPut, path: Root + "freeze", installation: true,
			summary: "Close the signups of all tenants at once, or lift that.", scope: operator.TenantWrite,
			body: FreezeChange{}, answer: opjson.Freeze{}, serve: h.setFreeze},

		{id: "listAccounts", method: get, path: accounts, summary: "List accounts, the newest first.",
			scope: operator.AccountsRead, query: paging(accountFilter...), answer: AccountPage{},
			serve: h.listAccounts},
		{id: "createAccount", method: post, path: accounts, summary: "Create an account.",
			scope: operator.AccountsWrite, body: NewAccount{}, key: true, status: made, answer: opjson.Account{},
			tagged: true, names: "user",
			serve: h.createAccount},
		{id: "getAccount", method: get, path: oneAccount,
			summary: "Show an account with its sessions, messages, look-ups and changes. The audit trail records this.",
			scope:   operator.AccountsRead, answer: opjson.AccountDetail{}, tagged: true, serve: h.getAccount},
		{id: "updateAccount", method: http.MethodPatch, path: oneAccount,
			summary: "Change one of the members role, name and email of an account.",
			scope:   operator.AccountsWrite, body: AccountPatch{}, answer: opjson.Account{},
			tagged: true, conditional: true,
			serve: h.updateAccount},
		{id: "deleteAccount", method: http.MethodDelete, path: oneAccount,
			summary: "Delete an account. The name of one that was active stays taken.",
			scope:   operator.AccountsWrite, query: []parameter{reasonParameter}, conditional: true,
			status: http.StatusNoContent, serve: h.deleteAccount},
		{id: "getAccountData", method: get, path: oneAccount + "/data",
			summary: "Show all data about the owner of an account, as the owner sees it. The audit trail records this.",
			scope:   operator.AccountsRead, query: []parameter{reasonParameter}, answer: account.Data{},
			serve: h.getAccountData},
		{id: "listNames", method: get, path: oneTenant + "/names",
			summary: "List the reserved user names of deleted accounts.",
			scope:   operator.AccountsRead, query: paging(), answer: NamePage{}, serve: h.listNames},
		{id: "freeName", method: http.MethodDelete, path: oneTenant + "/names/{user}",
			summary: "Free the name of a deleted account. Its next owner may get calls for the previous one.",
			scope:   operator.AccountsWrite, query: []parameter{reasonParameter},
			status: http.StatusNoContent, serve: h.freeName},
		h.action("enable", "Enable a disabled account. With activate, also activate a waiting account.", EnableBody{},
			h.enableAccount),
		h.action("disable", "Block an account at once.", ReasonBody{}, h.disableAccount),
		h.action("sign-out", "End all sessions of an account.", ReasonBody{}, h.signOutAccount),
		h.action("remove-second-factors", "Remove the second factors of an account.", ReasonBody{}, h.removeFactors),
		h.action("resend", "Send another link to a waiting account, optionally to a corrected address.", ResendBody{},
			h.resendAccount),
		{id: "mailResetLink", method: post, path: oneAccount + "/mail-reset-link", conditional: true,
			summary: "Send a message with a link to choose a new password to the address of an account.",
			scope:   operator.AccountsWrite, body: ReasonBody{}, emptyBody: true, answer: opjson.ResetLink{},
			serve: h.mailResetLink},
		{id: "createResetLink", method: post, path: oneAccount + "/reset-link", conditional: true, key: true,
			summary: "Create a link to choose a new password. The link is a secret.", status: made,
			scope: operator.AccountsWrite, body: ResetLinkBody{}, emptyBody: true, answer: opjson.ResetLink{},
			serve: h.createResetLink},

		{id: "listBulks", method: get, path: bulks, summary: "List the newest bulk changes of accounts.",
			scope: operator.AccountsRead, answer: BulkPage{}, serve: h.listBulks},
		{id: "createBulk", method: post, path: bulks, key: true, status: made,
			summary: "Count the accounts that a bulk change would change. It changes none yet.",
			scope:   operator.AccountsWrite, body: NewBulk{}, answer: opjson.Bulk{}, names: "id", serve: h.createBulk},
		{id: "getBulk", method: get, path: bulks + "/{id}", summary: "Show the progress of a bulk change.",
			scope: operator.AccountsRead, answer: opjson.Bulk{}, serve: h.getBulk},
		{id: "previewBulk", method: get, path: bulks + "/{id}/accounts",
			summary: "List the accounts of a bulk change.",
			scope:   operator.AccountsRead, answer: AccountPage{}, serve: h.previewBulk, query: paging()},
		{id: "runBulk", method: post, path: bulks + "/{id}/run",
			summary: "Start the change of the accounts that were counted.",
			scope:   operator.AccountsWrite, body: RunBulk{}, answer: opjson.Bulk{}, serve: h.runBulk},
		{id: "cancelBulk", method: post, path: bulks + "/{id}/cancel",
			summary: "Cancel a bulk change. Changes made so far stay.", scope: operator.AccountsWrite,
			answer: opjson.Bulk{},
			serve:  h.cancelBulk},

		{id: "listChanges", method: get, path: oneTenant + "/changes", lines: true,
			summary: "List the audit trail of a tenant. As application/jsonl it is complete, which is in the trail " +
				"too.",
			scope: operator.AuditRead, query: paging(changeFilter...), answer: ChangePage{}, serve: h.listChanges},
		{id: "listAllChanges", method: get, path: Root + "changes", installation: true, lines: true,
			summary: "List the audit trail of all tenants and of the installation.",
			scope:   operator.AuditRead, query: paging(changeFilter...), answer: ChangePage{}, serve: h.listChanges},

		{id: "getTenantStats", method: get, path: oneTenant + "/stats",
			summary: "Show counts and backlogs of a tenant.",
			scope:   operator.StatsRead, query: days, answer: opjson.Stats{}, serve: h.getStats},
		{id: "getStats", method: get, path: Root + "stats", installation: true,
			summary: "Show counts and backlogs of all tenants.", scope: operator.StatsRead, query: days,
			answer: opjson.Stats{},
			serve:  h.getStats},
		{id: "listTenantHooks", method: get, path: oneTenant + "/hooks", summary: "List the hooks for a tenant.",
			scope: operator.StatsRead, answer: HookPage{}, serve: h.listHooks},
		{id: "listHooks", method: get, path: Root + "hooks", installation: true,
			summary: "List all hooks and their backlogs.", scope: operator.StatsRead, answer: HookPage{},
			serve: h.listHooks},
		{id: "listMessages", method: get, path: oneTenant + "/messages",
			summary: "List the newest failed, deferred and waiting messages.",
			scope:   operator.AccountsRead, answer: MessagePage{}, serve: h.listMessages},
		{id: "retryMessage", method: post, path: oneTenant + "/messages/{id}/retry",
			summary: "Try to send a message now, even if it has failed.", scope: operator.AccountsWrite,
			body: ReasonBody{}, emptyBody: true, answer: opjson.Delivery{},
			serve: messageAction(h.deps.Operator.RetryMessage)},
		{id: "discardMessage", method: post, path: oneTenant + "/messages/{id}/discard",
			summary: "Do not send a message.", scope: operator.AccountsWrite,
			body: ReasonBody{}, emptyBody: true, answer: opjson.Delivery{},
			serve: messageAction(h.deps.Operator.DiscardMessage)},

		{id: "listTokens", method: get, path: Root + "tokens", summary: "List tokens, without the secrets themselves.",
			scope: operator.TokensWrite, query: paging(), answer: TokenPage{}, serve: h.listTokens},
		{id: "createToken", method: post, path: Root + "tokens", key: true, status: made,
			summary: "Create a token that has at most the rights of this one. Only this answer contains it.",
			scope:   operator.TokensWrite, body: NewToken{}, answer: opjson.MadeToken{}, serve: h.createToken},
		{id: "deleteToken", method: http.MethodDelete, path: Root + "tokens/{name}",
			summary: "Remove a token. All servers refuse it at once.", scope: operator.TokensWrite,
			query: []parameter{reasonParameter}, status: http.StatusNoContent, serve: h.deleteToken},
	}
	for i := range list {
		o := &list[i]
		o.segments = strings.Split(strings.TrimPrefix(o.path, "/"), "/")
		if o.status == 0 {
			o.status = ok
		}
	}
	return list
}

// action returns an operation on one account, which answers with the resulting account.
func (h *Handler) action(verb, summary string, body any, serve func(*request) (account.Account, error)) operation {
	id := ""
	for word := range strings.SplitSeq(verb, "-") {
		id += strings.ToUpper(word[:1]) + word[1:]
	}
	return operation{
		id: strings.ToLower(id[:1]) + id[1:] + "Account", method: http.MethodPost,
		path: Root + "tenants/{host}/accounts/{user}/" + verb, summary: summary, scope: operator.AccountsWrite,
		body: body, emptyBody: true, conditional: true, tagged: true, answer: opjson.Account{},
		serve: func(r *request) (any, error) { return r.account(serve(r)) },
	}
}

// Error is the answer to a request that was refused or failed.
type Error struct {
	answer.Error
	Field string `json:"field,omitempty" doc:"The member, parameter or header that is wrong."`
}

// ReasonBody is the body of an action.
type ReasonBody struct {
	Reason string `json:"reason,omitempty" doc:"Why, for the audit trail and the account's state."`
}
