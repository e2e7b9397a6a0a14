// Package hook notifies phone servers of changes to accounts and tenants.
//
// A phone server keeps state of its own: registrations, credentials that it looked up a moment ago,
// a list of domains. When an account is disabled, that state must be removed. So an operator adds a
// hook for each server, and each change adds a notification for every hook that it concerns.
//
// # Guarantees
//
// The stores write notifications in the transaction of the change. There is no change without its
// notifications, and no notification of a change that was rolled back. Without hooks, nothing is
// written.
//
// Delivery is at least once, across crashes at any moment. A notification can arrive late,
// twice, or after a newer one. It names what has changed and never contains the new state: a
// server that gets one drops its state of the user, and looks up the user when it next needs
// to. So an account that was disabled and enabled again stays enabled, however late the
// notification arrives.
//
// A notification that could not be delivered for three days is abandoned.
//
// # How it works
//
//	change --one transaction--> notification --claim--> call --success--> removed
//	                                 ^                   |
//	                                 +----- back-off ----+---- 3 days ---> abandoned
//
// Each server process of a platform runs a Dispatcher. Changes of its own process wake it; it polls
// for those of commands and of other processes. A notification is claimed for a few seconds longer
// than the time limit of a call. If the claim ends without a result, any Dispatcher may claim it
// again. Each hook is processed separately, so that a server that hangs does not delay others.
//
// The package has no I/O. The transports are in the packages below it: kamailio and webhook.
package hook
