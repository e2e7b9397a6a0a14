// Package admin is the API for operators: JSON over HTTP, on the operators' listener and never on the public one.
//
// # What it guarantees
//
// Every request below Root carries a token (operator.Token) as a Bearer token. Objects of a tenant
// that the token is not for are treated as if they did not exist. Requests are read strictly:
// unknown and repeated members of a body, unknown and repeated parameters, and texts that are not
// UTF-8 are refused before anything is done.
//
// A request with If-Match changes an object only if it is still the version that the client has
// read; the transaction of the change checks that. A POST that creates something can be repeated
// with the same Idempotency-Key, and is carried out once; see operator.Answers.
//
// # How it works
//
// The table of operations (routes.go) is the only list of operations: it routes requests, and the
// OpenAPI document at DocumentPath is generated from it and from the Go types of bodies and
// answers.
//
// # What it is not
//
// It contains no rules about accounts and tenants, and checks only the scope of an operation:
// package operator checks the rest. It is not for browsers: no answer permits a page of another
// origin to read it.
package admin
