package userfile

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// readJSONLines reads one JSON object per line, with the members of PlainColumns and password.
// Others are ignored.
func readJSONLines(in *bufio.Reader, yield Yield) error {
	lines := &lineReader{in: in}
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var o struct {
			User, Username, Realm, Domain, Name, Email, Role, Lang, Password string

			HA1    string `json:"ha1"`
			HA1B   string `json:"ha1b"`
			SHA256 string `json:"ha1_sha256"`
		}
		r := row{line: lines.line}
		if err := json.Unmarshal(line, &o); err != nil {
			r.problem = jsonProblem(line, err)
		}
		r.values = map[string]string{
			"user": o.User, "username": o.Username, "realm": o.Realm, "domain": o.Domain, "name": o.Name,
			"email": o.Email, "role": o.Role, "lang": o.Lang, "password": o.Password, "ha1": o.HA1, "ha1b": o.HA1B,
			"ha1_sha256": o.SHA256,
		}
		if err := readPlain(r, yield); err != nil {
			return err
		}
	}
}

// jsonProblem says what is wrong with a line, without the texts of the error, which may quote a secret.
func jsonProblem(line []byte, err error) string {
	wrong, isType := errors.AsType[*json.UnmarshalTypeError](err)
	start := bytes.TrimSpace(line)[0]
	switch {
	case start == '[':
		return "a JSON array; write each of its objects on a line of its own"
	case isType && wrong.Field == "":
		return "not a JSON object; write one JSON object on each line"
	case isType:
		kind, _, _ := strings.Cut(wrong.Value, " ")
		what := map[string]string{
			"number": "a number", "bool": "true or false", "object": "an object", "array": "an array",
		}[kind]
		return strings.ToLower(wrong.Field) + " is " + cmp.Or(what, "not a text") + "; write it as a text, in quotes"
	case start == '{' && err.Error() == "unexpected end of JSON input":
		return "the JSON object does not end in this line; write each object on one line"
	}
	return "not JSON; write one JSON object on each line, without commas between them"
}
