// Package admin is the API for operators: JSON over HTTP, on the operators' listener and never on the public one.
//
// # What it guarantees
//
// Every request below Root carries a token (operator.Token) as a Bearer token. What belongs to another tenant than the
// token's is answered like something that does not exist. A request is read strictly: unknown and repeated members of a
// body, unknown and repeated parameters, and texts that are not UTF-8 are refused before anything is done.
//
// A request with If-Match changes something only if it is as the client has read it; that is checked in the transaction
// of the change. A POST that makes something can be sent again with the same Idempotency-Key, and is carried out once;
// see operator.Answers.
//
// # How it works
//
// The table of operations (routes.go) is the only list of what there is: requests are matched with it, and the
// OpenAPI document at DocumentPath is made from it and from the Go types of bodies and answers.
//
// # What it is not
//
// It has no rules about accounts and tenants, and does not check scopes beyond the one of an operation: package
// operator does. It is not for browsers: no answer permits a page of another origin to read it.
package admin
