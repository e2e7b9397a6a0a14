// Package web is what people and programs touch: the endpoints of the published contract, and the pages.
//
// # One table, one way out
//
// Every route stands in one table (Site.routes). A request goes through the same gates in the contract's order: host, path,
// method, and then its handler. Handlers return errors; Site.fail is the only place where an error becomes an answer: JSON
// for the endpoints, a page for a browser that asked for one. Pages are rendered whole before the first byte is sent.
//
// # What a browser may do with it
//
// Pages load nothing from elsewhere, run no inline script and cannot be framed (see setHeaders). Requests that change
// something are refused when a browser says that another site made them, unless the tenant lists that site; programs,
// which send neither Origin nor Sec-Fetch-Site, are not concerned. A password field has no name, so that no failure of
// script can send it.
//
// # What phones are given
//
// A person who is signed in may have a phone set up (package provision) and gets credentials for TURN servers (package turn). Both
// are for pages of this host alone: another site can neither ask nor read the answer. A link for a phone is in the page that made it
// and nowhere else; its token stands in the query of the address, which no log of ours has, and is not spent by programs that only
// look.
//
// # Where a request comes from
//
// It comes from the TCP peer. Forwarding headers count only where the peer is a proxy that the operator has named.
package web
