package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// enums maps types with a fixed set of values to these values.
var enums = map[reflect.Type][]string{
	reflect.TypeFor[account.Role]():        texts(account.Roles),
	reflect.TypeFor[account.State]():       append(texts(states), string(account.Closed)),
	reflect.TypeFor[i18n.Tag]():            texts(i18n.Tags),
	reflect.TypeFor[operator.Scope]():      texts(operator.Scopes),
	reflect.TypeFor[operator.BulkAction](): texts(operator.BulkActions),
	reflect.TypeFor[operator.BulkState](): texts([]operator.BulkState{operator.BulkCounting, operator.BulkReady,
		operator.BulkRunning, operator.BulkDone, operator.BulkCancelled, operator.BulkUnconfirmed,
		operator.BulkFailed}),
	reflect.TypeFor[digest.Algorithm](): {string(digest.MD5), string(digest.SHA256)},
	reflect.TypeFor[tenant.Activation](): texts([]tenant.Activation{
		tenant.ActivationLink, tenant.ActivationConfirm}),
	reflect.TypeFor[tenant.RequireFactor](): texts([]tenant.RequireFactor{tenant.RequireNone, tenant.RequireAdmin}),
	reflect.TypeFor[tenant.Signups]():       texts([]tenant.Signups{tenant.SignupsOpen, tenant.SignupsClosed}),
}

// object is a JSON object.
type object = map[string]any

// document returns the OpenAPI document of operations.
func document(operations []operation) []byte {
	s := schemas{}
	s.of(reflect.TypeFor[Error]())
	paths := object{}
	for _, o := range operations {
		item, _ := paths[o.path].(object)
		if item == nil {
			item = object{}
			paths[o.path] = item
		}
		item[strings.ToLower(o.method)] = o.describe(s)
	}
	b, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Dialtone: the API for operators", "version": "1",
			"description": "Operations with stable IDs. New members and operations may be added at any time, so " +
				"ignore " +
				"members of answers that you do not know. A list has the members items and next: a page may be empty " +
				"though " +
				"next is a cursor, and next is null at the end.",
		},
		"paths": paths,
		"components": object{
			"schemas":         s,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
		},
		"security": []object{{"token": []string{}}},
	})
	if err != nil {
		panic("admin: the document always marshals: " + err.Error())
	}
	return append(b, '\n')
}

// failures returns the statuses with which an operation may fail.
func (o operation) failures() []int {
	kinds := []fault.Kind{fault.Invalid, fault.Unauthorized, fault.Forbidden, fault.NotFound, fault.Limited,
		fault.Internal, fault.Overloaded}
	if o.method != http.MethodGet {
		kinds = append(kinds, fault.Conflict)
	}
	if o.conditional {
		kinds = append(kinds, fault.Changed)
	}
	if o.key {
		kinds = append(kinds, fault.Mismatch)
	}
	var list []int
	for _, k := range kinds {
		list = append(list, answer.Kinds()[k].Status)
	}
	slices.Sort(list)
	return list
}

// describe returns the operation object for the OpenAPI document.
func (o operation) describe(s schemas) object {
	text := o.summary + " Needs the scope " + string(o.scope)
	if o.installation {
		text += " and a token for all tenants"
	}
	d := object{"operationId": o.id, "summary": o.summary, "description": text + ".", "x-scope": o.scope}
	parameters := []object{}
	for _, segment := range o.segments {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			parameters = append(parameters, object{
				"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true,
				"schema": object{"type": "string"},
			})
		}
	}
	for _, p := range o.query {
		q := object{"name": p.name, "in": "query", "description": p.doc, "schema": p.schema()}
		if p.kind == "words" {
			q["style"], q["explode"] = "form", false
		}
		parameters = append(parameters, q)
	}
	header := func(name, doc string) {
		parameters = append(parameters, object{
			"name": name, "in": "header", "description": doc, "schema": object{"type": "string"},
		})
	}
	if o.conditional {
		header("If-Match", "An ETag: the change is made only if it still is that of the account or tenant.")
	}
	if o.key {
		header("Idempotency-Key", "For 24 hours, the same request with the same key is carried out once.")
	}
	if len(parameters) > 0 {
		d["parameters"] = parameters
	}
	if o.body != nil {
		d["requestBody"] = object{
			"required": !o.emptyBody,
			"content":  object{"application/json": object{"schema": s.of(reflect.TypeOf(o.body))}},
		}
	}
	success := object{"description": http.StatusText(o.status)}
	if o.answer != nil {
		content := object{"application/json": object{"schema": s.of(reflect.TypeOf(o.answer))}}
		if o.lines {
			content["application/jsonl"] = object{"schema": object{"type": "string"}}
		}
		success["content"] = content
	}
	headers := object{}
	if o.tagged {
		headers["ETag"] = object{"schema": object{"type": "string"}}
	}
	if o.names != "" {
		headers["Location"] = object{"schema": object{"type": "string"}}
	}
	if len(headers) > 0 {
		success["headers"] = headers
	}
	responses := object{strconv.Itoa(o.status): success}
	for _, status := range o.failures() {
		responses[strconv.Itoa(status)] = object{
			"description": http.StatusText(status),
			"content":     object{"application/json": object{"schema": s.of(reflect.TypeFor[Error]())}},
		}
	}
	d["responses"] = responses
	return d
}

func (p parameter) schema() object {
	switch p.kind {
	case "integer":
		return object{"type": "integer", "minimum": p.min, "maximum": p.max}
	case "boolean":
		return object{"type": "boolean"}
	case "words":
		return object{"type": "array", "items": object{"type": "string", "enum": p.words}}
	}
	return object{"type": "string"}
}

// schemas maps the names of Go structs to their schemas.
type schemas map[string]object

// of returns the schema of a type, or a reference to it.
func (s schemas) of(t reflect.Type) object {
	if _, ok := reflect.New(t).Interface().(nullable); ok {
		return orNull(s.of(valueType(t)))
	}
	if t.Kind() == reflect.Pointer {
		return orNull(s.of(t.Elem()))
	}
	if list, ok := enums[t]; ok {
		return object{"type": "string", "enum": list}
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.String:
		return object{"type": "string"}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case t == reflect.TypeFor[[]byte]():
		return object{"type": "string", "contentEncoding": "base64"}
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case t.Kind() == reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case t.Kind() == reflect.Struct:
		s.add(t)
		return object{"$ref": "#/components/schemas/" + t.Name()}
	}
	panic(fmt.Sprintf("admin: %v has no schema", t))
}

// add adds the schema of a struct.
func (s schemas) add(t reflect.Type) {
	if _, ok := s[t.Name()]; ok {
		return
	}
	properties, required := object{}, []string{}
	schema := object{"type": "object", "properties": properties}
	s[t.Name()] = schema // before the members are added, which may have the same type
	for _, m := range membersOf(t) {
		p := s.of(m.typ)
		if !m.required && m.typ.Kind() == reflect.Pointer { // it may be missing, but not null
			p = s.of(m.typ.Elem())
		}
		if m.doc != "" {
			p["description"] = m.doc
		}
		properties[m.name] = p
		if m.required {
			required = append(required, m.name)
		}
	}
	if len(required) > 0 {
		schema["required"] = required
	}
}

// orNull returns a schema that also permits null.
func orNull(schema object) object {
	if kind, ok := schema["type"].(string); ok {
		schema["type"] = []string{kind, "null"}
		if list, ok := schema["enum"].([]string); ok {
			values := []any{nil}
			for _, v := range list {
				values = append(values, v)
			}
			schema["enum"] = values
		}
		return schema
	}
	return object{"anyOf": []object{schema, {"type": "null"}}}
}
