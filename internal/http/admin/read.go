package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/fault"
	"dialtone/internal/http/form"
)

const (
	maxQuery = 4 << 10
	// maxBody bounds a body. The longest useful one has a logo of 64 KiB in base64.
	maxBody = 128 << 10
	// maxDepth is how deep objects and arrays in a body may be nested.
	maxDepth = 8
)

// printable reports whether a text is UTF-8 without control characters.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// readQuery returns the parameters that were sent.
func readQuery(u *url.URL, known []parameter) (map[string]string, error) {
	if len(u.RawQuery) > maxQuery {
		return nil, fault.New(fault.Invalid, "the query is longer than %d bytes; shorten it", maxQuery)
	}
	sent, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query is not well-formed; encode every parameter")
	}
	for name := range sent {
		if !slices.ContainsFunc(known, func(p parameter) bool { return p.name == name }) {
			return nil, fault.Field(printableName(name), "this operation has no such parameter")
		}
	}
	values := make(map[string]string)
	var fields []*form.Field
	for _, p := range known {
		fields = append(fields, &form.Field{Name: p.name})
	}
	if err := form.Parse(u.RawQuery, form.Strict, fields...); err != nil {
		return nil, err
	}
	for i, f := range fields {
		if !f.Sent {
			continue
		}
		if err := known[i].check(f.Value); err != nil {
			return nil, err
		}
		values[f.Name] = f.Value
	}
	return values, nil
}

// printableName returns a name for an error, which may be any text.
func printableName(name string) string {
	const limit = 64
	if len(name) > limit || !printable(name) {
		return "?"
	}
	return name
}

// check refuses a value that is not valid for the parameter.
func (p parameter) check(value string) error {
	switch p.kind {
	case "integer":
		n, err := strconv.Atoi(value)
		if err != nil || n < p.min || n > p.max || strconv.Itoa(n) != value {
			return fault.Field(p.name, "this is not a whole number from %d to %d", p.min, p.max)
		}
	case "boolean":
		if value != "true" && value != "false" {
			return fault.Field(p.name, "use true or false")
		}
	case "words":
		for word := range strings.SplitSeq(value, ",") {
			if !slices.Contains(p.words, word) {
				return fault.Field(p.name, "use one or more of %s, with commas between them", strings.Join(p.words,
					", "))
			}
		}
	}
	return nil
}

// integer returns the value of a parameter, or a default if it was not sent.
func (r *request) integer(name string, without int) int {
	if n, err := strconv.Atoi(r.query[name]); err == nil {
		return n
	}
	return without
}

// words returns the values of a parameter.
func words[T ~string](r *request, name string) (list []T) {
	if r.query[name] != "" {
		for word := range strings.SplitSeq(r.query[name], ",") {
			list = append(list, T(word))
		}
	}
	return list
}

// readBody reads the body into r.body and r.reason, and returns it as it was sent.
func (h *Handler) readBody(w http.ResponseWriter, r *request) ([]byte, error) {
	r.reason = r.query["reason"]
	tooLong := fault.New(fault.Invalid, "the body is longer than %d KiB; shorten it", maxBody>>10)
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close")
		return nil, tooLong
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLong
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the body did not arrive completely; send it again")
	}
	if r.op.body == nil {
		if len(raw) > 0 {
			return nil, fault.New(fault.Invalid, "this operation does not accept a body")
		}
		return nil, nil
	}
	into := reflect.New(reflect.TypeOf(r.op.body))
	r.body = into.Interface()
	if len(raw) == 0 && r.op.emptyBody && len(r.Header["Content-Type"]) == 0 {
		return nil, nil
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || len(r.Header["Content-Type"]) > 1 || media != "application/json" ||
		charset != "" && !strings.EqualFold(charset, "utf-8") || r.Header.Get("Content-Encoding") != "" {
		return nil, fault.New(fault.Invalid, "send the body as Content-Type: application/json, in UTF-8 and not "+
			"compressed")
	}
	if err := checkJSON(raw, into.Type()); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, r.body); err != nil {
		return nil, jsonError(err)
	}
	if f := into.Elem().FieldByName("Reason"); f.IsValid() {
		r.reason = f.String()
	}
	return raw, nil
}

func jsonError(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fault.Field(e.Field, "this member cannot be a %s", e.Value)
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	return fault.New(fault.Invalid, "the body is not valid JSON for this operation")
}

// checkJSON refuses input that encoding/json would accept silently: members that the type does not
// have or spells in another case, repeated members, null for a member that cannot be null, and
// texts that are not UTF-8 or contain control characters other than line breaks.
func checkJSON(raw []byte, t reflect.Type) error {
	if !utf8.Valid(raw) {
		return fault.New(fault.Invalid, "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := checkValue(d, t, "", 0); err != nil {
		if _, ok := errors.AsType[*fault.Error](err); ok {
			return err
		}
		return fault.New(fault.Invalid, "the body is not valid JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return fault.New(fault.Invalid, "the body contains text after the JSON value")
	}
	return nil
}

// nullable is implemented by types that accept null, which means their default.
type nullable interface{ nullable() }

// checkValue reads and checks one value of type t. name is the name of its member, for errors.
func checkValue(d *json.Decoder, t reflect.Type, name string, depth int) error {
	if depth > maxDepth {
		return fault.Field(name, "the body is nested too deeply")
	}
	token, err := d.Token()
	if err != nil {
		return err
	}
	_, canBeNull := reflect.New(t).Interface().(nullable)
	t = valueType(t)
	switch v := token.(type) {
	case nil:
		if !canBeNull {
			return fault.Field(name, "this member cannot be null; leave it out")
		}
	case string:
		if list, ok := enums[t]; ok && !slices.Contains(list, v) && !(v == "" && canBeNull) {
			return fault.Field(name, "this is not one of %s", strings.Join(list, ", "))
		}
		if strings.ContainsFunc(v, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\r' }) {
			return fault.Field(name, "the text contains a control character; remove it")
		}
	case json.Delim:
		if v == '[' {
			if t.Kind() != reflect.Slice || t.Elem().Kind() == reflect.Uint8 {
				return fault.Field(name, "this member cannot be an array")
			}
			for d.More() {
				if err := checkValue(d, t.Elem(), name, depth+1); err != nil {
					return err
				}
			}
		} else if err := checkObject(d, t, name, depth); err != nil {
			return err
		}
		_, err := d.Token() // the end
		return err
	}
	return nil
}

func checkObject(d *json.Decoder, t reflect.Type, name string, depth int) error {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return fault.Field(name, "this member cannot be an object")
	}
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		key := fmt.Sprint(token)
		members := membersOf(t)
		i := slices.IndexFunc(members, func(m member) bool { return m.name == key })
		if i < 0 {
			return fault.Field(printableName(key), "this operation has no such member")
		}
		if seen[key] {
			return fault.Field(key, "this member was sent more than once; send it once")
		}
		seen[key] = true
		if err := checkValue(d, members[i].typ, key, depth+1); err != nil {
			return err
		}
	}
	for _, m := range membersOf(t) {
		if m.required && !seen[m.name] {
			return fault.Field(m.name, "this member is missing")
		}
	}
	return nil
}

// setting is a member of a PATCH: it may be missing, and null means the default.
type setting[T any] struct {
	sent  bool
	value T
}

func (*setting[T]) nullable() {}

// UnmarshalJSON implements json.Unmarshaler.
func (s *setting[T]) UnmarshalJSON(b []byte) error {
	s.sent = true
	return json.Unmarshal(b, &s.value)
}

// apply assigns the setting to its target, if it was sent.
func (s setting[T]) apply(to *T) {
	if s.sent {
		*to = s.value
	}
}

func (s setting[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

// valueType returns the type of the JSON value for t, without pointers and setting.
func valueType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := reflect.New(t).Elem().Interface().(interface{ valueType() reflect.Type }); ok {
		return valueType(s.valueType())
	}
	return t
}

// member is a member of an object.
type member struct {
	name, doc string
	typ       reflect.Type
	required  bool // without omitempty or omitzero
}

// membersOf returns the JSON members of a struct, including those of embedded structs, unless a
// member of the struct itself has the same name.
func membersOf(t reflect.Type) (list []member) {
	var embedded []member
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			embedded = append(embedded, membersOf(f.Type)...)
		case f.IsExported() && name != "-":
			if name == "" {
				name = f.Name
			}
			list = append(list, member{name, f.Tag.Get("doc"), f.Type, !strings.Contains(options, "omit")})
		}
	}
	for _, e := range embedded {
		if !slices.ContainsFunc(list, func(m member) bool { return m.name == e.name }) {
			list = append(list, e)
		}
	}
	return list
}
