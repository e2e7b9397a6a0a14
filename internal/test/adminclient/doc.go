// Package adminclient is a client of the API for operators, made from its OpenAPI document. It shows that programs can
// be made from that, and is used by a test.
package adminclient

import _ "embed"

//go:generate go test dialtone/internal/http/admin -run TestClientIsCurrent -update
//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config config.yaml openapi.json

// Document is the OpenAPI document that the client was made from.
//
//go:embed openapi.json
var Document []byte
