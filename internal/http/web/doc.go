// Package web serves the public site: the endpoints of the published contract, and the pages.
//
// # Guarantees
//
// Pages load nothing from elsewhere, run no inline script and cannot be framed (see setHeaders).
// Requests that change something are refused when a browser says that another site made them,
// unless the tenant lists that site. Programs send neither Origin nor Sec-Fetch-Site and are not
// affected. A password field has no name, so no failure of a script can send it.
//
// # How it works
//
// Every route is in one table (Site.routes). A request is checked in the contract's order: host,
// path, method, and then by its handler. Handlers return errors, and Site.fail is the only place
// where an error becomes an answer: JSON for the endpoints, a page for a browser that asks for one.
// Pages are rendered completely before the first byte is sent.
//
// Everything that takes a proof of the password is a handler made by proved, which reads the form,
// authenticates, and sends the challenge.
//
// A person who is signed in may have a phone set up (package provision) and gets credentials for
// TURN servers (package turn). Both are for pages of this host alone: another site can neither make
// the request nor read the answer. A link for a phone is only on the page that made it. Its token
// is in the query of the address, which we do not log, and programs that only look at a link do not
// spend it.
//
// A request comes from its TCP peer. Forwarding headers count only if the peer is a proxy that the
// operator has named.
package web
