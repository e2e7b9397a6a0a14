// Package web serves the public site: the endpoints of the published contract, and the pages.
//
// # Guarantees
//
// Pages load nothing from other hosts, run no inline scripts and cannot be framed (see setHeaders).
// Requests that change something are refused when a browser says that another site made them,
// unless the tenant lists that site. Programs send neither Origin nor Sec-Fetch-Site and are not
// affected. Password fields have no name attribute, so a failing script cannot cause the form to
// send them.
//
// # How it works
//
// Every route is in one table (Site.routes). A request is checked in the contract's order: host,
// path, method, and then by its handler. Handlers return errors, and Site.fail is the only place
// where an error becomes an answer: JSON for the endpoints, a page for a browser that asks for one.
// Pages are rendered completely before the first byte is sent.
//
// Every request that requires a proof of the password has a handler returned by proved, which reads
// the form, authenticates, and sends the challenge.
//
// A person who is signed in can set up a phone (package provision) and get credentials for TURN
// servers (package turn). Both are only for pages of this host: another site can neither make the
// request nor read the answer. A link for a phone appears only on the page that created it. Its
// token is in the query of the address, which is not logged, and programs that only preview a link
// do not use it up.
//
// The client of a request is its TCP peer. Forwarding headers count only if the peer is a proxy
// that the operator has named.
package web
