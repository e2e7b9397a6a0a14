package adapter

import (
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/hook/kamailio"
	"dialtone/internal/hook/webhook"
)

// HookTransports returns the transport of each kind of hook.
func HookTransports(client *httpclient.Client) map[hook.Kind]hook.Transport {
	return map[hook.Kind]hook.Transport{
		hook.Kamailio: kamailio.New(client),
		hook.Webhook:  webhook.New(client, time.Now),
	}
}
